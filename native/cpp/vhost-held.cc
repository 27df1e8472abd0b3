/**
 * Frames from the guest whose payload stays where it is: the kernel copies it from the guest's buffers into a socket, and nobody else does.
 *
 * Of a large segment only the headers are copied. Its chain is _held_ until the engine has sent the payload, and so are all that
 * were taken after it, for chains are given back in the order in which they were taken: what the used index shows is always all
 * that was taken up to there, which is what a front-end goes by after our end. They go back with the next call that takes or places
 * anything, at the latest with the `flush` at the end of the turn; so between two turns nothing is held.
 *
 * The guest may change its payload meanwhile; it is nothing but payload.
 */
#include <cerrno>
#include <cstring>

#include "vhost-link.h"

namespace passt {

/** Pieces of a held frame at most: a system call gathers 1,024. */
constexpr int32_t framePiecesMax = 64;
static_assert(framePiecesMax <= gatherMax / 2);

bool holdFrame(VhostLink& link, const Chain& chain, int32_t row) {
  HeldFrames& held = link.held;
  if (chain.readable > framePiecesMax || held.pieceCount + chain.readable > HeldFrames::pieceMax) return false;
  held.frames[row] = {held.pieceCount, chain.readable};
  memcpy(held.pieces + held.pieceCount, link.pieces, sizeof *link.pieces * static_cast<size_t>(chain.readable));
  held.pieceCount += chain.readable;
  return true;
}

void giveBackLater(VhostLink& link, int32_t ring, const Chain& chain) {
  HeldFrames& held = link.held;
  held.chains[held.chainCount++] = {ring, chain.ticket};
  link.state[stateOwing] = 1;
}

void giveBackHeld(VhostLink& link) {
  HeldFrames& held = link.held;
  if (held.chainCount == 0) return;
  uint32_t touched = 0;
  for (int32_t i = 0; i < held.chainCount; i++) {
    const HeldFrames::Held& one = held.chains[i];
    Ring& ring = link.rings[one.ring];
    if (!ring.running()) continue;
    ring.giveBack(link.memory, one.ticket, 0);
    touched |= 1u << one.ring;
  }
  for (int32_t i = 0; i < ringMax; i++)
    if (touched & (1u << i)) link.rings[i].publish(link.memory);
  forgetHeld(link);
}

void forgetHeld(VhostLink& link) {
  link.held.chainCount = 0;
  link.held.pieceCount = 0;
  link.state[stateOwing] = link.lent.starving;
}

int32_t VhostLink::payloadPieces(int32_t row, int32_t from, int32_t length, iovec* to, int32_t most) {
  if (row < 0 || row >= rxFrameMax || from < 0 || length < 0) return -EINVAL;
  const HeldFrames::Frame& frame = held.frames[row];
  if (frame.first + frame.count > held.pieceCount) return -EINVAL;
  auto skip = static_cast<size_t>(headerBytes) + static_cast<size_t>(from);
  auto left = static_cast<size_t>(length);
  int32_t count = 0;
  for (int32_t i = frame.first; left > 0; i++) {
    if (i == frame.first + frame.count) return -EINVAL;
    const iovec& piece = held.pieces[i];
    if (skip >= piece.iov_len) {
      skip -= piece.iov_len;
      continue;
    }
    if (count == most) return -ENOBUFS;
    const size_t here = piece.iov_len - skip < left ? piece.iov_len - skip : left;
    to[count++] = {static_cast<uint8_t*>(piece.iov_base) + skip, here};
    left -= here;
    skip = 0;
  }
  return count;
}

void VhostLink::payloadMissing() {
  memory.tear();
  state[stateMore] = 1;
}

}  // namespace passt
