/**
 * The machine's part of vhost-user: a guest's memory, which the back-end maps, and the messages that hand it over together with pairs of
 * queues.
 *
 * ```
 *   memory   [ queue 0 | queue 1 | … | control ] [ buffers of queue 0 | … of queue 1 | … ]
 * ```
 */
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "virtqueue.h"

/** Feature bits (VIRTIO 1.2 sections 5.1.3 and 6). */
constexpr uint64_t featureBit(int number) { return uint64_t{1} << number; }
constexpr uint64_t FEATURE_CSUM = featureBit(0), FEATURE_HOST_TSO4 = featureBit(11), FEATURE_HOST_TSO6 = featureBit(12),
                   FEATURE_HOST_ECN = featureBit(13), FEATURE_HOST_USO = featureBit(56);
constexpr uint64_t FEATURE_MERGEABLE = featureBit(15), FEATURE_CONTROL_QUEUE = featureBit(17),
                   FEATURE_MULTIQUEUE = featureBit(22), FEATURE_INDIRECT = featureBit(28),
                   FEATURE_EVENT_INDEX = featureBit(29), FEATURE_PROTOCOL = featureBit(30),
                   FEATURE_VERSION_1 = featureBit(32), FEATURE_PACKED = featureBit(34);

/** Of virtio's header, with the number of buffers. */
constexpr uint32_t VNET_HEADER_BYTES = 12;
/** What a buffer towards the host holds, and one for any frame: 64 KiB behind virtio's header. */
constexpr uint32_t TRANSMIT_BYTES = 68 << 10;
/** How far apart these begin: at different places of their pages, as a kernel's do. Some processors copy up to fifteen times slower to a place
 * that lies up to 31 bytes behind its source's, modulo a page (AMD's `rep movsb`); with one place for all, streams of whole pages meet that
 * always or never. */
constexpr uint32_t TRANSMIT_STRIDE = TRANSMIT_BYTES + (4 << 10), SHIFT_BYTES = 64, SHIFTS = 64;
/** What a buffer of a driver that merges them holds: a page, several for a frame. */
constexpr uint32_t RECEIVE_BYTES = 4096;
/** What GET_QUEUE_NUM is answered by at most. */
constexpr int PAIRS_MAX = 8;
/** Requests that are made after the negotiation. */
constexpr uint32_t REQUEST_QUEUE_NUM = 17;

struct Wishes {
  /** Of these, what the back-end offers is taken. */
  uint64_t features;
  /** Of each queue: a power of two, at most Virtqueue::ENTRIES_MAX. */
  uint16_t entries;
  /** More than one needs FEATURE_MULTIQUEUE. */
  int pairs = 1;
};

struct FrontEnd {
  int control = -1;
  uint64_t features = 0;
  int pairs = 1;
  /** Even ones receive, odd ones transmit. */
  std::vector<std::unique_ptr<Virtqueue>> queues;
  /** Of commands, if FEATURE_CONTROL_QUEUE was negotiated. */
  std::unique_ptr<Virtqueue> commands;
  uint8_t* memory = nullptr;
  uint32_t receiveBytes = RECEIVE_BYTES;

  static constexpr uint64_t GUEST_BASE = 0x100000;

  bool has(uint64_t feature) const { return (features & feature) == feature; }
  /** Where a slot's bytes lie: receiveBytes or TRANSMIT_BYTES of them. */
  uint8_t* receiveSlot(int pair, uint16_t slot) const { return buffers(pair) + uint64_t{receiveBytes} * slot; }
  uint8_t* transmitSlot(int pair, uint16_t slot) const {
    const uint64_t shift = SHIFT_BYTES * (slot % SHIFTS);
    return buffers(pair) + uint64_t{receiveBytes} * entries() + uint64_t{TRANSMIT_STRIDE} * slot + shift;
  }
  /** TRANSMIT_BYTES for commands and their answers. */
  uint8_t* commandArea() const { return buffers(pairs); }
  /** Where the guest has a place of its memory. */
  uint64_t address(const uint8_t* place) const { return GUEST_BASE + static_cast<uint64_t>(place - memory); }

  uint16_t entries() const { return queues[0]->entries(); }

 private:
  uint8_t* buffers(int pair) const {
    const auto sections = static_cast<uint64_t>(2 * pairs + 1);
    const uint64_t each = (uint64_t{receiveBytes} + TRANSMIT_STRIDE) * entries();
    return memory + sections * Virtqueue::SECTION_BYTES + each * static_cast<uint64_t>(pair);
  }
};

/** Negotiates over a connected socket, as QEMU does, and starts all queues, empty. Ends the process on failure. */
FrontEnd setUp(int control, const Wishes& wishes);

/** Sends a message, with a descriptor if there is one. */
void sendMessage(int control, uint32_t request, const void* payload, uint32_t bytes, int fd = -1, uint32_t flags = 0);
/** The payload of the next reply. */
std::vector<uint8_t> readReply(int control);
/** A request of which the answer is a number. */
uint64_t askNumber(int control, uint32_t request);
