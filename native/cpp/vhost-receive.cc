/**
 * Frames from the guest: chains of the transmit queues, copied whole into the receive area and given back at once.
 */
#include <cerrno>
#include <cstring>

#include "pcap.h"
#include "vhost-link.h"

namespace passt {

/** One batch, at most, as over a tap; frames begin on a cache line. */
constexpr size_t batchBytesMax = 384 << 10;
constexpr size_t frameAlignment = 64;
static_assert(batchBytesMax + frameAlignment + superFrameMax <= rxArenaBytes, "a batch fits the area");

/** Copies a chain's frame into the receive area, and describes it in a row. @returns bytes of the frame, 0: it is dropped */
static size_t takeFrame(VhostLink& link, int32_t pair, const Chain& chain, int32_t row, size_t at) {
  Engine& engine = link.engine;
  const auto before = static_cast<size_t>(link.headerBytes);
  if (chain.readableBytes < before + etherHeaderBytes || chain.readableBytes > before + superFrameMax) return 0;
  const auto length = static_cast<int32_t>(chain.readableBytes - before);
  uint8_t header[vnetHeaderMax];
  size_t headerGot = 0;
  uint8_t* to = engine.arena + at;
  for (int32_t i = 0; i < chain.readable; i++) {
    const auto* from = static_cast<const uint8_t*>(link.pieces[i].iov_base);
    size_t bytes = link.pieces[i].iov_len;
    if (headerGot < before) {
      const size_t part = bytes < before - headerGot ? bytes : before - headerGot;
      memcpy(header + headerGot, from, part);
      headerGot += part;
      from += part;
      bytes -= part;
    }
    memcpy(to, from, bytes);
    to += bytes;
  }
  // A copy, which the driver can't change any more.
  VnetHeader vnet;
  memcpy(&vnet, header, sizeof vnet);
  int32_t flags = 0;
  int32_t segment = 0;
  if (!takeVnetHeader(vnet, length, &flags, &segment)) return 0;
  if (link.receiverCount > 1) link.steering.sent(Steering::hashOf(engine.arena + at, length), pair);
  engine.column(columnOffset)[row] = static_cast<int32_t>(at);
  engine.column(columnLength)[row] = length;
  engine.column(columnWindow)[row] = length;
  engine.column(columnFlags)[row] = flags;
  engine.column(columnSegmentSize)[row] = segment;
  if (engine.pcap) {
    if (flags & frameNeedsChecksum) {
      engine.pcap->unfinished(engine.arena + at, static_cast<size_t>(length), vnet.checksumStart, vnet.checksumOffset);
    } else {
      engine.pcap->frame(engine.arena + at, static_cast<size_t>(length));
    }
  }
  return static_cast<size_t>(length);
}

/** @returns frames, or -EFAULT after memory has turned out not to be there: the client was dropped */
static int32_t receive(VhostLink& link) {
  Engine& engine = link.engine;
  if (!engine.arena) return -EBADF;
  int32_t rows = 0;
  size_t at = 0;
  bool more = false;
  bool broken = false;
  // Frames that are dropped count too: the turn must end.
  int32_t chains = 0;
  for (int32_t i = 0; i < pairMax && !more; i++) {
    const int32_t pair = (link.turn + i) % pairMax;
    Ring& ring = link.rings[2 * pair + 1];
    if (!ring.running()) continue;
    ring.wantNoKick(link.memory);
    for (;;) {
      if (chains == rxFrameMax || at >= batchBytesMax) {
        more = true;
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
        rows++;
        at = (at + bytes + frameAlignment - 1) & ~(frameAlignment - 1);
      } else if (ring.enabled) {
        link.state[stateBadFrames]++;
      }
      ring.giveBack(link.memory, chain.ticket, 0);
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
