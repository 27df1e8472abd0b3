/**
 * virtio's header in front of a frame: what is left to do to the frame, or what it stands for (VIRTIO 1.2 section
 * 5.1.6, without num_buffers). tun(4) puts it before each frame of a device with IFF_VNET_HDR, in the machine's byte
 * order.
 *
 * On the way from the guest it is input like any other: a process with a packet socket chooses its fields.
 */
#pragma once

#include <cstdint>
#include <cstring>

#include "engine.h"

namespace passt {

struct VnetHeader {
  uint8_t flags;
  uint8_t gsoType;
  /** Bytes of Ethernet, IP and transport header; a hint how to lay the frame out in memory. */
  uint16_t headerLength;
  /** Payload bytes of each frame that this one is cut into. */
  uint16_t gsoSize;
  uint16_t checksumStart;
  uint16_t checksumOffset;
};
constexpr int32_t vnetHeaderBytes = sizeof(VnetHeader);
static_assert(vnetHeaderBytes == 10);

/** Numbers of linux/virtio_net.h; the last ones are missing from older releases of it. */
constexpr uint8_t vnetNeedsChecksum = 1;
constexpr uint8_t vnetGsoNone = 0, vnetGsoTcp4 = 1, vnetGsoTcp6 = 4, vnetGsoUdp = 5;
/** Added to a TCP type: the first segment carries CWR. */
constexpr uint8_t vnetGsoEcn = 0x80;

constexpr int32_t etherHeaderBytes = 14;
/** Longest frame of a guest that sends super-frames: an IP packet of 65,535 bytes, with a VLAN tag. */
constexpr int32_t superFrameMax = etherHeaderBytes + 4 + 65535;

/** Most datagrams in one UDP super-frame: Linux's UDP_MAX_SEGMENTS; and the longest headers in front of them. */
constexpr int32_t udpSegmentsMax = 128;
constexpr int32_t udpHeadersMax = 14 + 60 + 8;

/**
 * Takes the header of a frame from the guest.
 *
 * Most of it needs no look. Nobody here checks or sums up what a guest sends, so a checksum that is not finished is as
 * good as one that is. A TCP super-frame is one large segment, whose lengths are checked like any segment's. Only for
 * UDP the header says something that the frame does not: where one datagram ends and the next begins.
 *
 * @param length bytes of the frame
 * @returns false for a frame that must be dropped
 */
inline bool takeVnetHeader(const VnetHeader& header, int32_t length, int32_t* flags, int32_t* segmentSize) {
  *flags = header.flags & vnetNeedsChecksum ? frameNeedsChecksum : 0;
  *segmentSize = 0;
  switch (header.gsoType & ~vnetGsoEcn) {
    case vnetGsoNone:
    case vnetGsoTcp4:
    case vnetGsoTcp6:
      return true;
    case vnetGsoUdp:
      // Thousands of datagrams of a byte each would be work out of proportion.
      if (header.gsoSize == 0 || length > header.gsoSize * udpSegmentsMax + udpHeadersMax) return false;
      *flags |= frameSegmentUdp;
      *segmentSize = header.gsoSize;
      return true;
    default:
      return false;
  }
}

/** Header of a frame that needs nothing, or has its checksum finished by the guest's kernel. */
inline VnetHeader plainVnetHeader(bool needsChecksum, int32_t headerLength, int32_t start, int32_t offset) {
  VnetHeader header{};
  header.headerLength = static_cast<uint16_t>(headerLength);
  if (needsChecksum) {
    header.flags = vnetNeedsChecksum;
    header.checksumStart = static_cast<uint16_t>(start);
    header.checksumOffset = static_cast<uint16_t>(offset);
  }
  return header;
}

}  // namespace passt
