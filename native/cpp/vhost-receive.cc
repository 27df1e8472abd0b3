/**
 * Frames from the guest: chains of the transmit queues, copied into the receive area and given back at once; of large segments only the
 * headers are copied (vhost-held.cc).
 */
#include <cerrno>
#include <cstring>

#include "pcap.h"
#include "vhost-link.h"

namespace passt {

/** One batch, at most, as over a tap; frames begin on a cache line. */
constexpr size_t batchBytesMax = 384 << 10;
constexpr size_t frameAlignment = 64;
static_assert(batchBytesMax + rxFrameMax * frameAlignment + superFrameMax <= rxArenaBytes, "a batch fits the area");

/** Frames that are shorter are copied whole. */
constexpr int32_t heldBytesMin = 4096;
/** Bytes that are copied of those that are held: more than any headers of TCP take. */
constexpr int32_t heldWindowBytes = 256;

/** Whether a frame is of TCP, without anything between the IP header and the segment, and begins no connection: then nobody looks behind its
 * headers. @param frame as much of it as is held */
static bool isSegment(const uint8_t* frame) {
  const int type = frame[12] << 8 | frame[13];
  const uint8_t* const packet = frame + etherHeaderBytes;
  // No fragments of IPv4 (RFC 791 section 3.1); of IPv6 they have an extension header.
  constexpr int flagsByte = 13, syn = 2;
  if (type == 0x0800) {
    const bool whole = packet[0] >> 4 == 4 && packet[9] == 6 && (packet[6] & 0x3f) == 0 && packet[7] == 0;
    return whole && !(packet[(packet[0] & 15) * 4 + flagsByte] & syn);
  }
  return type == 0x86dd && packet[0] >> 4 == 6 && packet[6] == 6 && !(packet[40 + flagsByte] & syn);
}

/** Copies the beginning of a chain's frame behind virtio's header: `length` bytes. */
static void copyFrame(const VhostLink& link, uint8_t* header, uint8_t* to, int32_t length) {
  auto headerLeft = static_cast<size_t>(link.headerBytes);
  auto left = static_cast<size_t>(length);
  for (const iovec* piece = link.pieces; left > 0; piece++) {
    const auto* from = static_cast<const uint8_t*>(piece->iov_base);
    size_t bytes = piece->iov_len;
    const size_t ofHeader = bytes < headerLeft ? bytes : headerLeft;
    memcpy(header, from, ofHeader);
    header += ofHeader;
    headerLeft -= ofHeader;
    bytes -= ofHeader;
    if (bytes > left) bytes = left;
    memcpy(to, from + ofHeader, bytes);
    to += bytes;
    left -= bytes;
  }
}

/** Takes a chain's frame into the receive area, or only its headers, and describes it in a row.
 * @returns bytes taken of the area, 0: it is dropped */
static size_t takeFrame(VhostLink& link, int32_t pair, const Chain& chain, int32_t row, size_t at) {
  Engine& engine = link.engine;
  const auto before = static_cast<size_t>(link.headerBytes);
  if (chain.readableBytes < before + etherHeaderBytes || chain.readableBytes > before + superFrameMax) return 0;
  const auto length = static_cast<int32_t>(chain.readableBytes - before);
  uint8_t header[vnetHeaderMax];
  uint8_t* const frame = engine.arena + at;
  int32_t window = length < heldBytesMin || engine.pcap ? length : heldWindowBytes;
  copyFrame(link, header, frame, window);
  if (window < length && !(isSegment(frame) && holdFrame(link, chain, row))) {
    window = length;
    copyFrame(link, header, frame, window);
  }
  // A copy, which the driver can't change any more.
  VnetHeader vnet;
  memcpy(&vnet, header, sizeof vnet);
  int32_t flags = 0;
  int32_t segment = 0;
  if (!takeVnetHeader(vnet, length, &flags, &segment)) return 0;
  if (link.receiverCount > 1) link.steering.sent(Steering::hashOf(engine.arena + at, window), pair);
  engine.column(columnOffset)[row] = static_cast<int32_t>(at);
  engine.column(columnLength)[row] = length;
  engine.column(columnWindow)[row] = window;
  engine.column(columnFlags)[row] = window < length ? flags | frameElsewhere : flags;
  engine.column(columnSegmentSize)[row] = segment;
  if (engine.pcap) {
    if (flags & frameNeedsChecksum) {
      engine.pcap->unfinished(engine.arena + at, static_cast<size_t>(length), vnet.checksumStart, vnet.checksumOffset);
    } else {
      engine.pcap->frame(engine.arena + at, static_cast<size_t>(length));
    }
  }
  return static_cast<size_t>(window);
}

/** @returns frames, or -EFAULT after memory has turned out not to be there: the client was dropped */
static int32_t receive(VhostLink& link) {
  Engine& engine = link.engine;
  if (!engine.arena) return -EBADF;
  giveBackHeld(link);
  int32_t rows = 0;
  size_t at = 0;
  size_t batch = 0;
  bool more = serveControl(link);
  bool broken = false;
  // Frames that are dropped count too: the turn must end.
  int32_t chains = 0;
  bool full = false;
  for (int32_t i = 0; i < pairMax && !full; i++) {
    const int32_t pair = (link.turn + i) % pairMax;
    Ring& ring = link.rings[2 * pair + 1];
    if (!ring.running()) continue;
    ring.wantNoKick(link.memory);
    for (;;) {
      if (chains == rxFrameMax || batch >= batchBytesMax) {
        more = full = true;
        link.turn = (pair + 1) % pairMax;
        break;
      }
      Chain chain;
      const Taken taken = ring.take(link.memory, &chain, link.pieces, pieceMax);
      if (taken == Taken::nothing) {
        if (ring.broken() || !ring.wantKick(link.memory)) break;
        ring.wantNoKick(link.memory);
        continue;
      }
      chains++;
      // A ring that is not enabled is emptied (vhost-user's protocol, "Ring states").
      const size_t bytes = taken == Taken::chain && ring.enabled ? takeFrame(link, pair, chain, rows, at) : 0;
      if (bytes > 0) {
        batch += static_cast<size_t>(engine.column(columnLength)[rows++]);
        at = (at + bytes + frameAlignment - 1) & ~(frameAlignment - 1);
      } else if (ring.enabled) {
        link.state[stateBadFrames]++;
      }
      // In the order in which they were taken.
      if (link.held.pieceCount > 0) {
        giveBackLater(link, 2 * pair + 1, chain);
      } else {
        ring.giveBack(link.memory, chain.ticket, 0);
      }
    }
    ring.publish(link.memory);
    broken |= ring.broken();
  }
  if (rows > 0) link.steering.tick();
  tellLogged(link);
  if (engine.pcap) engine.pcap->flush();
  if (broken) ringsChanged(link);
  link.state[stateMore] = more;
  if (link.memory.torn()) {
    dropClient(link);
    return -EFAULT;
  }
  return rows;
}

void defineReceive(napi_env env, napi_value object, VhostLink* link) {
  defineHot<receive>(env, object, "receive", link);
}

}  // namespace passt
