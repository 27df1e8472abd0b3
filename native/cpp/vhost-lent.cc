/**
 * Frames to the guest whose payload the kernel copies from a socket into the guest's buffers, and nobody else does.
 *
 * ```
 *   lendRows      chains → rows        buffers are there before anything is read: without them data waits in its socket
 *   roomPieces       [ …… | payload ]     where the kernel writes, behind room for the headers
 *   roomFilled                            chains that the payload did not need are put back
 *   placeLent    [ headers | payload ] → used ring
 * ```
 *
 * All rows before lent ones are placed by then, and nothing is taken after them before they are placed or put back. So chains
 * are given back in the order in which they were taken (vhost-held.cc tells why), and between two turns nothing is lent.
 *
 * With several pairs of queues, a row's is known once its headers are, which is too late. So a flow's rows are lent on the pair where its last lent ones
 * belonged; where that has changed meanwhile, these are the last ones that arrive on the other.
 *
 * A driver that has no buffers is _starving_ us: the link is blocked, without a frame that waits, until it has supplied enough for more than
 * a small segment. What "enough" is depends on its queue: what it has left is all that we can hope for if that is half of its queue.
 */
#include <algorithm>
#include <cstring>

#include "vhost-link.h"

namespace passt {

/** Rows that are shorter are copied. */
constexpr int32_t lentBytesMin = 4096;
/** Room that is worth being filled while the driver owes us buffers. */
constexpr uint64_t roomBytesMin = 16 << 10;
/** Room without which a row can't be a segment. */
constexpr uint64_t segmentRoomMin = 512;
/** Pieces of a chain at most. */
constexpr int32_t chainPiecesMax = 64;
/** How often we look again because a driver has added buffers meanwhile. */
constexpr int32_t looksMax = 4;

/** Puts chains of lent rows back, from one of the rows on. */
static void putBack(LentRows& lent, int32_t from) {
  if (from < lent.count && lent.ring->running()) lent.ring->rewind(lent.rows[from].position);
  lent.count = from;
}

void putLentBack(VhostLink& link) {
  putBack(link.lent, link.lent.next);
  forgetLent(link);
}

void forgetLent(VhostLink& link) { link.lent.count = link.lent.next = 0; }

/** How much of the room that a row needs was found: all of it; what the driver has; more than we can describe, or something that makes no sense. */
enum class Room { whole, part, odd };

/** Takes chains until they have room for `bytes`. */
static Room takeRoom(VhostLink& link, Ring& ring, uint64_t bytes, LentRow* row) {
  LentRows& lent = link.lent;
  row->position = ring.position();
  row->chains = row->pieces = 0;
  row->room = 0;
  while (row->room < bytes) {
    const int32_t pieces = row->firstPiece + row->pieces;
    const int32_t chains = row->firstChain + row->chains;
    if (chains == LentRows::chainMax || pieces > LentRows::pieceMax - chainPiecesMax) return Room::odd;
    if (row->chains == 1 && !link.has(featureMergeable)) return Room::odd;
    Chain chain;
    const Taken taken = ring.take(link.memory, &chain, lent.pieces + pieces, chainPiecesMax);
    if (taken == Taken::nothing) return Room::part;
    if (taken == Taken::malformed || chain.readable > 0 || chain.writableBytes == 0) return Room::odd;
    lent.chains[chains] = {chain.ticket, chain.writableBytes, ring.position()};
    row->chains++;
    row->pieces += chain.writable;
    row->room += chain.writableBytes;
  }
  return Room::whole;
}

/** Whether a part of the room is worth being filled. */
static bool isEnough(const VhostLink& link, const Ring& ring, const LentRow& row) {
  if (row.room < static_cast<uint64_t>(link.headerBytes) + segmentRoomMin) return false;
  return row.room >= roomBytesMin || static_cast<uint32_t>(row.chains) * 2 >= ring.size();
}

bool isStarving(VhostLink& link, Ring& ring) {
  LentRows& lent = link.lent;
  for (int32_t i = 0; i < looksMax && lent.starving; i++) {
    LentRow row = {};
    const Room room = takeRoom(link, ring, roomBytesMin, &row);
    if (ring.broken()) break;
    ring.rewind(row.position);
    if (room != Room::part || isEnough(link, ring, row)) break;
    if (!ring.wantKick(link.memory)) return true;
    ring.wantNoKick(link.memory);
  }
  lent.starving = false;
  return false;
}

/** The receive queue of a flow's next rows. */
static Ring& expectedRing(VhostLink& link, int32_t flow) {
  if (link.receiverCount == 1) return link.rings[2 * link.receivers[0]];
  const auto key = static_cast<uint32_t>(flow);
  const int32_t last = link.lent.pairs[key % LentRows::flowMax];
  const int32_t pair = link.receives(last) ? last : link.receivers[key % static_cast<uint32_t>(link.receiverCount)];
  return link.rings[2 * pair];
}

bool receivesLent(const VhostLink& link) {
  return link.lent.ring && link.receives(static_cast<int32_t>(link.lent.ring - link.rings) / 2);
}

/** Lends rows for payload that `peekIntoFrames` reads next.
 * @param count rows from `row` on, which is the next to be committed, with room for `bytes` each, headers included
 * @returns how many there are room for; a single one may have less, which its window tells. 0: there is none, and the link is blocked */
static int32_t lendRows(VhostLink& link, int32_t row, int32_t count, int32_t bytes, int32_t flow) {
  Engine& engine = link.engine;
  LentRows& lent = link.lent;
  if (!engine.arena || row < rxFrameMax || count < 0 || count > frameMax - row || bytes < 0) return -EINVAL;
  giveBackHeld(link);
  if (bytes < lentBytesMin || engine.pcap) return count;
  if (!link.has(featureGuestChecksum | featureGuestTso4 | featureGuestTso6)) return count;
  if (link.receiverCount == 0) return count;
  Ring* const ring = &expectedRing(link, flow);
  const auto wait = [&link](Ring* on) {
    link.lent.ring = on;
    link.lent.starving = true;
    link.state[stateOwing] = link.state[stateBlocked] = 1;
    return 0;
  };
  // Those that were lent before are filled by now, or will not be.
  if (Ring* const full = sendRows(link, row)) return full->broken() ? count : wait(full);
  putLentBack(link);
  if (ring->broken()) return count;

  lent.ring = ring;
  lent.flow = flow;
  lent.row = row;
  const uint64_t wanted = static_cast<uint64_t>(link.headerBytes) + static_cast<uint64_t>(bytes);
  int32_t* const flags = engine.column(columnFlags) + row;
  LentRow next = {};
  for (int32_t i = 0; i < std::min(count, LentRows::rowMax); i++) {
    const Room room = takeRoom(link, *ring, wanted, &next);
    if (ring->broken()) return count;
    if (room == Room::whole || (room == Room::part && i == 0 && isEnough(link, *ring, next))) {
      const uint64_t granted = next.room - static_cast<uint64_t>(link.headerBytes);
      if (room == Room::part) engine.column(columnWindow)[row] = static_cast<int32_t>(granted);
      flags[i] |= frameElsewhere;
      lent.rows[lent.count++] = next;
      next.firstChain += next.chains;
      next.firstPiece += next.pieces;
      if (room == Room::whole) continue;
      break;
    }
    ring->rewind(next.position);
    if (i > 0) break;
    // What makes no sense is `deliver`'s to throw away.
    return room == Room::odd ? count : wait(ring);
  }
  return lent.count;
}

/** The lent row of a number; null if it is none. */
static LentRow* lentRow(VhostLink& link, int32_t row) {
  LentRows& lent = link.lent;
  const int32_t index = row - lent.row;
  if (index < lent.next || index >= lent.count) return nullptr;
  return link.engine.column(columnFlags)[row] & frameElsewhere ? lent.rows + index : nullptr;
}

int32_t VhostLink::roomPieces(int32_t row, int32_t from, int32_t length, iovec* to, int32_t most) {
  const LentRow* const found = row < 0 || row >= frameMax ? nullptr : lentRow(*this, row);
  if (!found || from < 0 || length < 0) return -EINVAL;
  auto skip = static_cast<size_t>(headerBytes) + static_cast<size_t>(from);
  auto left = static_cast<size_t>(length);
  int32_t count = 0;
  for (int32_t i = found->firstPiece; left > 0; i++) {
    if (i == found->firstPiece + found->pieces || count == most) return -EINVAL;
    const iovec& piece = lent.pieces[i];
    if (skip >= piece.iov_len) {
      skip -= piece.iov_len;
      continue;
    }
    const size_t here = std::min(piece.iov_len - skip, left);
    to[count++] = {static_cast<uint8_t*>(piece.iov_base) + skip, here};
    left -= here;
    skip = 0;
  }
  return count;
}

void VhostLink::roomFilled(int32_t row, int32_t from, int32_t each, int32_t bytes) {
  for (; bytes > 0; row++) {
    LentRow* const filled = lentRow(*this, row);
    if (!filled) return;
    const int32_t here = std::min(bytes, each);
    bytes -= here;
    if (bytes > 0) continue;
    // The last one: what it does not need goes back, and all behind it.
    const uint64_t needed = static_cast<uint64_t>(headerBytes + from + here);
    uint64_t room = 0;
    int32_t chains = 0;
    while (chains < filled->chains && room < needed) room += lent.chains[filled->firstChain + chains++].room;
    const int32_t index = static_cast<int32_t>(filled - lent.rows);
    putBack(lent, index + 1);
    if (chains < filled->chains && lent.ring->running()) {
      lent.ring->rewind(lent.chains[filled->firstChain + chains - 1].end);
      filled->chains = chains;
      filled->room = room;
    }
    return;
  }
  putLentBack(*this);
}

bool placeLent(VhostLink& link, const Ring& own, int32_t row, const uint8_t* frame, int32_t header, int32_t length,
               const VnetHeader& vnet) {
  LentRows& lent = link.lent;
  lent.pairs[static_cast<uint32_t>(lent.flow) % LentRows::flowMax] = static_cast<uint8_t>((&own - link.rings) / 2);
  LentRow* const found = lentRow(link, row);
  if (!found) return false;
  Ring& ring = *lent.ring;
  auto left = static_cast<uint64_t>(link.headerBytes + length);
  if (found->room < left) return false;
  uint16_t buffers = 0;
  for (uint64_t room = 0; room < left; buffers++) room += lent.chains[found->firstChain + buffers].room;

  uint8_t headers[vnetHeaderMax];
  memcpy(headers, &vnet, sizeof vnet);
  memcpy(headers + vnetHeaderBytes, &buffers, sizeof buffers);
  const iovec* piece = lent.pieces + found->firstPiece;
  size_t used = 0;
  const auto put = [&](const uint8_t* from, size_t bytes) {
    while (bytes > 0) {
      const size_t part = std::min(bytes, piece->iov_len - used);
      memcpy(static_cast<uint8_t*>(piece->iov_base) + used, from, part);
      from += part;
      bytes -= part;
      used += part;
      if (used < piece->iov_len) continue;
      piece++;
      used = 0;
    }
  };
  put(headers, static_cast<size_t>(link.headerBytes));
  put(frame, static_cast<size_t>(header));
  if (link.memory.logging()) {
    const iovec* noted = lent.pieces + found->firstPiece;
    for (uint64_t rest = left; rest > 0; noted++) {
      const uint64_t part = std::min<uint64_t>(rest, noted->iov_len);
      link.memory.written(static_cast<const uint8_t*>(noted->iov_base), part);
      rest -= part;
    }
  }
  for (int32_t i = 0; i < found->chains; i++) {
    const LentChain& chain = lent.chains[found->firstChain + i];
    const uint64_t written = std::min(left, chain.room);
    ring.giveBack(link.memory, chain.ticket, static_cast<uint32_t>(written));
    left -= written;
  }
  lent.next = row - lent.row + 1;
  return true;
}

void defineLent(napi_env env, napi_value object, VhostLink* link) {
  defineHot<lendRows>(env, object, "lendRows", link);
}

}  // namespace passt
