/**
 * Frames to the guest: rows of the send area as they are where the driver cuts and finishes them, several datagrams of a flow as one
 * super-frame, or cut and finished by transmit.h.
 */
#include <cerrno>
#include <cstring>

#include "pcap.h"
#include "udp-run.h"
#include "vhost-link.h"
#include "vnet-row.h"

namespace passt {

static bool takesFrames(const Ring& ring) { return ring.running() && ring.enabled; }

/** Whether the driver finishes and cuts a row as it is. */
static bool takesWhole(const VhostLink& link, int32_t row) {
  const int32_t flags = link.engine.column(columnFlags)[row];
  if (flags & frameSegmentTcp4) return link.has(featureGuestChecksum | featureGuestTso4);
  if (flags & frameSegmentTcp6) return link.has(featureGuestChecksum | featureGuestTso6);
  return !(flags & frameNeedsChecksum) || link.has(featureGuestChecksum);
}

static void capture(Pcap* pcap, const uint8_t* frame, int32_t length, const VnetHeader& header) {
  if (!pcap) return;
  if (header.flags & vnetNeedsChecksum) {
    pcap->unfinished(frame, static_cast<size_t>(length), header.checksumStart, header.checksumOffset);
  } else {
    pcap->frame(frame, static_cast<size_t>(length));
  }
}

/** Sends a row as it is. @returns false if it has to wait */
static bool sendRow(VhostLink& link, Ring& ring, int32_t row) {
  Engine& engine = link.engine;
  const int32_t length = engine.column(columnLength)[row];
  uint8_t* const frame = engine.rowBytes(row, 0, length);
  VnetHeader header;
  if (!frame || length < etherHeaderBytes || length > frameLengthMax ||
      !describeRow(engine, row, frame, length, &header)) {
    link.state[stateRefusedRows]++;
    return true;
  }
  if (engine.isElsewhere(row)) {
    const int32_t headers = engine.column(columnPayload)[row];
    if (headers < 0 || headers > length || !placeLent(link, ring, row, frame, headers, length, header)) {
      link.state[stateRefusedRows]++;
    }
    return true;
  }
  putLentBack(link);
  const iovec whole = {frame, static_cast<size_t>(length)};
  if (!deliver(link, ring, header, &whole, 1)) return false;
  capture(engine.pcap, frame, length, header);
  return true;
}

/** Sends datagrams of several rows as one super-frame. @returns false if they have to wait */
static bool sendRun(VhostLink& link, Ring& ring, UdpRun& run, int32_t row) {
  Engine& engine = link.engine;
  uint8_t saved[udpHeadersMax];
  memcpy(saved, run.frame, static_cast<size_t>(run.header));
  joinUdpRun(run);
  VnetHeader header = plainVnetHeader(true, run.header, run.header - 8, 6);
  header.gsoType = vnetGsoUdp;
  header.gsoSize = static_cast<uint16_t>(run.each);
  run.pieces[0].iov_base = run.frame;
  run.pieces[0].iov_len += static_cast<size_t>(run.header);
  putLentBack(link);
  const bool done = deliver(link, ring, header, run.pieces, run.rows);
  // As they were: to be tried again, or to be captured as the guest's sockets see them.
  memcpy(run.frame, saved, static_cast<size_t>(run.header));
  if (!done || !engine.pcap) return done;
  for (int32_t i = row; i < row + run.rows; i++) {
    const int32_t length = engine.column(columnLength)[i];
    const bool unfinished = engine.column(columnFlags)[i] & frameNeedsChecksum;
    capture(engine.pcap, engine.rowBytes(i, 0, length), length, plainVnetHeader(unfinished, 0, run.header - 8, 6));
  }
  return true;
}

/** Sends what transmit.h has prepared for a stream: one frame behind its length at a time. @returns false if some have to wait */
static bool sendPrepared(VhostLink& link, Ring& ring) {
  Transmit& transmit = link.transmit;
  while (transmit.pieceCount() > 0) {
    const iovec* piece = transmit.pieces();
    const auto* const prefix = static_cast<const uint8_t*>(piece->iov_base);
    size_t left = size_t{prefix[0]} << 24 | size_t{prefix[1]} << 16 | size_t{prefix[2]} << 8 | prefix[3];
    const size_t whole = prefixBytes + left;
    // Headers, payload, padding.
    iovec frame[4];
    int32_t count = 0;
    for (size_t skip = prefixBytes; left > 0 && count < 4; piece++, skip = 0) {
      const size_t there = piece->iov_len - skip;
      const size_t here = there < left ? there : left;
      if (here > 0) frame[count++] = {static_cast<uint8_t*>(piece->iov_base) + skip, here};
      left -= here;
    }
    if (!deliver(link, ring, plainVnetHeader(false, 0, 0, 0), frame, count)) return false;
    transmit.consume(whole);
  }
  return true;
}

/** The receive queue for a row, of those that take frames; there is at least one. */
static Ring& receiver(VhostLink& link, int32_t row) {
  if (link.receiverCount == 1) return link.rings[2 * link.receivers[0]];
  const int32_t length = link.engine.column(columnLength)[row];
  const uint8_t* const frame = link.engine.rowBytes(row, 0, length);
  const uint32_t hash = frame ? Steering::hashOf(frame, length) : 0;
  int32_t pair = link.steering.pairOf(hash);
  if (pair < 0 || !link.receives(pair)) pair = link.receivers[hash % static_cast<uint32_t>(link.receiverCount)];
  return link.rings[2 * pair];
}

Ring* sendRows(VhostLink& link, int32_t to) {
  Transmit& transmit = link.transmit;
  const bool runs = link.has(featureGuestChecksum | featureGuestUso4 | featureGuestUso6);
  UdpRun run;
  for (;;) {
    if (transmit.pieceCount() > 0) {
      // What is left of an earlier flush; its queue may be gone by now.
      if (!link.prepared || !takesFrames(*link.prepared)) link.prepared = &link.rings[2 * link.receivers[0]];
      if (!sendPrepared(link, *link.prepared)) return link.prepared;
    }
    const int32_t row = transmit.row();
    if (row >= to) return nullptr;
    Ring& ring = receiver(link, row);
    if (runs && !transmit.inRow() && findUdpRun(link.engine, row, to, &run)) {
      if (!sendRun(link, ring, run, row)) return &ring;
      transmit.skip(run.rows);
    } else if (transmit.inRow() || !takesWhole(link, row)) {
      link.prepared = &ring;
      putLentBack(link);
      transmit.prepare(link.engine, row + 1);
    } else {
      if (!sendRow(link, ring, row)) return &ring;
      transmit.skip(1);
    }
  }
}

/** Shows the driver what was placed, on all queues. */
static void publish(VhostLink& link) {
  for (int32_t i = 0; i < link.receiverCount; i++) link.rings[2 * link.receivers[i]].publish(link.memory);
  tellLogged(link);
}

/** Sends rows up to, not including, `to`. @returns bytes that still wait. */
static int32_t flush(VhostLink& link, int32_t to) {
  Engine& engine = link.engine;
  if (!engine.arena || to < rxFrameMax || to > frameMax) return -EINVAL;
  Transmit& transmit = link.transmit;
  giveBackHeld(link);
  const Ring* full = nullptr;
  while (link.receiverCount > 0) {
    full = sendRows(link, to);
    putLentBack(link);
    publish(link);
    if (!full || !full->broken()) break;
    // What was for it goes to another.
    ringsChanged(link);
  }
  // The next `receive` finds it out.
  if (link.memory.torn()) link.state[stateMore] = 1;
  link.state[stateRefusedRows] += transmit.refused;
  transmit.refused = 0;
  if (engine.pcap) engine.pcap->flush();
  if (!full || link.receiverCount == 0) {
    transmit.clear();
    const bool starving = receivesLent(link) && isStarving(link, *link.lent.ring);
    if (link.lent.ring && link.lent.ring->broken()) ringsChanged(link);
    link.lent.starving = starving;
    link.state[stateOwing] = link.state[stateBlocked] = starving;
    return 0;
  }
  link.state[stateBlocked] = 1;
  const int64_t pending = transmit.pending(engine, to);
  return pending <= 0 ? 1 : pending < INT32_MAX ? static_cast<int32_t>(pending) : INT32_MAX;
}

void defineSend(napi_env env, napi_value object, VhostLink* link) { defineHot<flush>(env, object, "flush", link); }

}  // namespace passt
