/**
 * Datagrams of one flow that follow each other in the frame table, as one super-frame to the guest: what udp(7) calls
 * UDP_SEGMENT, in the other direction. The guest's kernel walks its receive path once, and cuts at the socket.
 *
 * ```
 *   rows   [ headers | datagram ][ headers | datagram ][ headers | datagram ] …    equal headers, equal lengths
 *   frame  [ headers' | datagram   datagram   datagram … ]                         gathered by writev()
 * ```
 */
#pragma once

#include <sys/uio.h>

#include <cstdint>

#include "engine.h"

namespace passt {

/** Most datagrams of a run: UDP_MAX_SEGMENTS of the kernels that first took them. */
constexpr int32_t udpRunMax = 64;
/** Fewest that are worth the cutting. */
constexpr int32_t udpRunMin = 3;

/** Where the parts of a run are. */
struct UdpRun {
  int32_t rows = 0;
  /** Bytes of Ethernet, IP and UDP header. */
  int32_t header = 0;
  /** Bytes of each datagram; the last may have fewer. */
  int32_t each = 0;
  /** The first row's frame, headers and all. */
  uint8_t* frame = nullptr;
  /** All datagrams, the first one behind its headers. */
  iovec pieces[udpRunMax];
};

/** Looks for a run that begins at `row` and ends before `to`. @returns whether it is worth a super-frame */
bool findUdpRun(const Engine& engine, int32_t row, int32_t to, UdpRun* run);

/** Makes the first row's headers those of the whole: lengths, IPv4's checksum, and the pseudo-header's sum in place of the
 * datagram's. */
void joinUdpRun(const UdpRun& run);

}  // namespace passt
