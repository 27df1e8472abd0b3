/**
 * Chains of descriptors as pieces of memory: what both layouts of virtqueues have in common (VIRTIO 1.2 sections 2.7 and 2.8).
 *
 * The driver is not trusted, and may write at any moment. So each descriptor is read once and then used from a copy; its address is looked
 * up in the table of guest memory each time; a chain ends after `stepsMax` descriptors, loops or not.
 */
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "vhost-memory.h"

namespace passt {

/** A chain of descriptors, taken from a ring: `readable` pieces, then `writable` ones. */
struct Chain {
  /** By which it is given back. */
  uint32_t ticket = 0;
  int32_t readable = 0;
  int32_t writable = 0;
  uint64_t readableBytes = 0;
  uint64_t writableBytes = 0;
};

enum class Taken { nothing, chain, malformed };

/** Flags of descriptors (VIRTIO 1.2 sections 2.7.5 and 2.8.13). */
constexpr uint16_t descriptorNext = 1, descriptorWrite = 2, descriptorIndirect = 4;
constexpr uint64_t descriptorBytes = 16;

/** Descriptors of one chain that are looked at: as many as system calls gather from, which is why no driver makes more. */
constexpr uint32_t stepsMax = 1024;

/** Copies what the driver may change, so that it is read once. */
template <typename T>
T readOnce(const uint8_t* at) {
  T value;
  memcpy(&value, at, sizeof value);
  // The compiler must not read memory again in place of the copy.
  asm volatile("" ::: "memory");
  return value;
}

inline uint16_t load16(const uint8_t* at, int order = __ATOMIC_RELAXED) {
  return order == __ATOMIC_ACQUIRE ? __atomic_load_n(reinterpret_cast<const uint16_t*>(at), __ATOMIC_ACQUIRE)
                                   : __atomic_load_n(reinterpret_cast<const uint16_t*>(at), __ATOMIC_RELAXED);
}
inline void store16(uint8_t* at, uint16_t value) {
  __atomic_store_n(reinterpret_cast<uint16_t*>(at), value, __ATOMIC_RELAXED);
}

/** Collects the pieces of one chain. */
class ChainPieces {
 public:
  ChainPieces(const GuestMemory& memory, Chain* chain, iovec* pieces, int32_t most)
      : memory_(memory), chain_(chain), pieces_(pieces), most_(most) {}

  /** Adds the buffer of a descriptor. @returns false if it makes no sense */
  bool add(uint64_t address, uint32_t length, bool writable) {
    // What we read comes before what we write (section 2.7.4.2).
    if (!writable && chain_->writable > 0) return false;
    uint64_t end = 0;
    if (__builtin_add_overflow(address, length, &end)) return false;
    for (uint64_t at = address; at < end;) {
      uint64_t bytes = end - at;
      uint8_t* const piece = memory_.guestAt(at, &bytes);
      if (!piece || count_ == most_) return false;
      pieces_[count_++] = {piece, static_cast<size_t>(bytes)};
      at += bytes;
      if (writable) {
        chain_->writable++;
        chain_->writableBytes += bytes;
      } else {
        chain_->readable++;
        chain_->readableBytes += bytes;
      }
    }
    return true;
  }

 private:
  const GuestMemory& memory_;
  Chain* chain_;
  iovec* pieces_;
  int32_t most_;
  int32_t count_ = 0;
};

/** Where the parts of a queue lie in our memory, and what was negotiated for it. */
struct QueueParts {
  uint32_t size = 0;
  uint8_t* descriptors = nullptr;
  /** The available ring; the driver's event suppression. */
  const uint8_t* driver = nullptr;
  /** The used ring; the device's event suppression. */
  uint8_t* device = nullptr;
  bool eventIndex = false;
  /** Whether what we write into the queue itself is noted for migration, and where the guest has `device`. */
  bool logged = false;
  uint64_t log = 0;
  /** Its part of the file that outlives us (vhost-inflight.h); null: there is none. */
  uint8_t* inflight = nullptr;
};

}  // namespace passt
