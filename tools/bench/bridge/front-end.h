// The machine's part of vhost-user: a guest's memory, which the back-end maps, and the messages that hand it over together with
// a pair of queues.
#pragma once

#include <cstdint>
#include <memory>

#include "virtqueue.h"

// Feature bits that matter here (VIRTIO 1.2 sections 5.1.3 and 6).
constexpr uint64_t FEATURE_CSUM = uint64_t{1} << 0;
constexpr uint64_t FEATURE_HOST_TSO4 = uint64_t{1} << 11;
constexpr uint64_t FEATURE_HOST_TSO6 = uint64_t{1} << 12;
constexpr uint64_t FEATURE_HOST_ECN = uint64_t{1} << 13;
constexpr uint64_t FEATURE_HOST_USO = uint64_t{1} << 56;

// Of virtio's header, with the number of buffers.
constexpr uint32_t VNET_HEADER_BYTES = 12;
// What a buffer towards the host holds: a frame of 64 KiB behind virtio's header.
constexpr uint32_t TRANSMIT_BYTES = 68 << 10;
// What a buffer of the guest's driver holds: a page, several for a frame.
constexpr uint32_t RECEIVE_BYTES = 4096;

struct FrontEnd {
  int control;
  uint64_t features;
  std::unique_ptr<Virtqueue> receive;
  std::unique_ptr<Virtqueue> transmit;

  uint8_t* receiveSlot(uint16_t slot) const { return memory + receiveAt + uint64_t{RECEIVE_BYTES} * slot; }
  uint8_t* transmitSlot(uint16_t slot) const { return memory + transmitAt + uint64_t{TRANSMIT_BYTES} * slot; }
  // Where the guest has a place of its memory.
  uint64_t address(const uint8_t* place) const { return GUEST_BASE + static_cast<uint64_t>(place - memory); }

  static constexpr uint64_t GUEST_BASE = 0x100000;
  uint8_t* memory;
  uint64_t receiveAt;
  uint64_t transmitAt;
};

// Negotiates over a connected socket, as QEMU does: all that the driver of Linux knows and the back-end offers, with both queues
// running and empty. `entries`: of each queue, a power of two. Ends the process on failure.
FrontEnd setUp(int control, uint16_t entries);
