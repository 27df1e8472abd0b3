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

/** Sends rows up to `to`, as far as there are buffers. @returns whether all are sent */
static bool sendRows(VhostLink& link, Ring& ring, int32_t to) {
  Transmit& transmit = link.transmit;
  const bool runs = link.has(featureGuestChecksum | featureGuestUso4 | featureGuestUso6);
  UdpRun run;
  for (;;) {
    if (!sendPrepared(link, ring)) return false;
    const int32_t row = transmit.row();
    if (row >= to) return true;
    if (runs && !transmit.inRow() && findUdpRun(link.engine, row, to, &run)) {
      if (!sendRun(link, ring, run, row)) return false;
      transmit.skip(run.rows);
    } else if (transmit.inRow() || !takesWhole(link, row)) {
      transmit.prepare(link.engine, row + 1);
    } else {
      if (!sendRow(link, ring, row)) return false;
      transmit.skip(1);
    }
  }
}

/** The receive queue for frames to the guest: the first that runs. */
static Ring* receiver(VhostLink& link) {
  for (int32_t pair = 0; pair < pairMax; pair++) {
    Ring& ring = link.rings[2 * pair];
    if (ring.running() && ring.enabled) return &ring;
  }
  return nullptr;
}

/** Sends rows up to, not including, `to`. @returns bytes that still wait. */
static int32_t flush(VhostLink& link, int32_t to) {
  Engine& engine = link.engine;
  if (!engine.arena || to < rxFrameMax || to > frameMax) return -EINVAL;
  Transmit& transmit = link.transmit;
  Ring* const ring = receiver(link);
  if (!ring) {
    transmit.clear();
    return 0;
  }
  const bool done = sendRows(link, *ring, to);
  ring->publish(link.memory);
  tellLogged(link);
  // The next `receive` finds it out.
  if (link.memory.torn()) link.state[stateMore] = 1;
  link.state[stateRefusedRows] += transmit.refused;
  transmit.refused = 0;
  if (engine.pcap) engine.pcap->flush();
  if (done || ring->broken()) {
    transmit.clear();
    link.state[stateBlocked] = 0;
    if (ring->broken()) ringsChanged(link);
    return 0;
  }
  link.state[stateBlocked] = 1;
  const int64_t pending = transmit.pending(engine, to);
  return pending <= 0 ? 1 : pending < INT32_MAX ? static_cast<int32_t>(pending) : INT32_MAX;
}

void defineSend(napi_env env, napi_value object, VhostLink* link) { defineHot<flush>(env, object, "flush", link); }

}  // namespace passt
