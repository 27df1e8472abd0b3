/**
 * One frame into the buffers of a receive queue: as many as it takes, if the driver merges buffers, or one.
 */
#include <cstring>

#include "vhost-link.h"

namespace passt {

enum class Placed { yes, noBuffers, dropped };

/** Puts a frame, which lies in pieces, behind virtio's header into buffers of a ring. */
static Placed place(VhostLink& link, Ring& ring, const VnetHeader& vnet, const iovec* frame, int32_t count) {
  auto left = static_cast<uint64_t>(link.headerBytes);
  for (int32_t i = 0; i < count; i++) left += frame[i].iov_len;
  const bool mergeable = link.has(featureMergeable);
  const uint32_t position = ring.position();
  int32_t chains = 0;
  int32_t pieces = 0;
  bool malformed = false;
  for (uint64_t got = 0; got < left && !malformed; chains++) {
    if (chains == pieceMax || pieces == pieceMax || (chains == 1 && !mergeable)) {
      // Buffers too small for any use: they go back, or we would wait for better ones for ever.
      malformed = true;
      break;
    }
    Chain chain;
    const Taken taken = ring.take(link.memory, &chain, link.pieces + pieces, pieceMax - pieces);
    if (taken == Taken::nothing) {
      if (!ring.broken()) ring.rewind(position);
      return Placed::noBuffers;
    }
    link.tickets[chains] = chain.ticket;
    link.room[chains] = chain.writableBytes;
    malformed = taken == Taken::malformed || chain.readable > 0 || chain.writableBytes == 0;
    pieces += chain.writable;
    got += chain.writableBytes;
  }
  if (malformed) {
    for (int32_t i = 0; i < chains; i++) ring.giveBack(link.memory, link.tickets[i], 0);
    return Placed::dropped;
  }

  uint8_t header[vnetHeaderMax];
  memcpy(header, &vnet, sizeof vnet);
  const auto buffers = static_cast<uint16_t>(mergeable ? chains : 1);
  memcpy(header + vnetHeaderBytes, &buffers, sizeof buffers);
  const iovec* piece = link.pieces;
  size_t used = 0;
  const auto put = [&](const uint8_t* from, size_t bytes) {
    while (bytes > 0) {
      const size_t part = bytes < piece->iov_len - used ? bytes : piece->iov_len - used;
      auto* const to = static_cast<uint8_t*>(piece->iov_base) + used;
      memcpy(to, from, part);
      if (link.memory.logging()) link.memory.written(to, part);
      from += part;
      bytes -= part;
      used += part;
      if (used < piece->iov_len) continue;
      piece++;
      used = 0;
    }
  };
  put(header, static_cast<size_t>(link.headerBytes));
  for (int32_t i = 0; i < count; i++) put(static_cast<const uint8_t*>(frame[i].iov_base), frame[i].iov_len);
  for (int32_t i = 0; i < chains; i++) {
    const uint64_t written = left < link.room[i] ? left : link.room[i];
    ring.giveBack(link.memory, link.tickets[i], static_cast<uint32_t>(written));
    left -= written;
  }
  return Placed::yes;
}

/** A ring without buffers tells when there are some. @returns whether there are some by now */
static bool awaitBuffers(VhostLink& link, Ring& ring) { return ring.running() && ring.wantKick(link.memory); }

bool deliver(VhostLink& link, Ring& ring, const VnetHeader& vnet, const iovec* frame, int32_t count) {
  for (;;) {
    switch (place(link, ring, vnet, frame, count)) {
      case Placed::yes:
        return true;
      case Placed::dropped:
        link.state[stateLostFrames]++;
        return true;
      case Placed::noBuffers:
        break;
    }
    // What was placed before must be seen, or the driver may wait for it before it supplies more.
    ring.publish(link.memory);
    if (!awaitBuffers(link, ring)) return false;
    ring.wantNoKick(link.memory);
  }
}

}  // namespace passt
