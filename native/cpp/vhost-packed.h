/**
 * A packed virtqueue, the device's side (VIRTIO 1.2 section 2.8): with indirect descriptors and the event index.
 *
 * ```
 *   descriptors   [ address length id flags ] …     the driver makes them available, we write used ones over them
 *   driver        [ off_wrap | flags ]              when the driver wants to be told
 *   device        [ off_wrap | flags ]              when we want to be
 * ```
 *
 * Both sides go around the one ring, and flip their wrap counter at its end. A descriptor is available when its flag AVAIL equals the driver's
 * counter and USED does not; it is used when both equal ours. A chain lies in consecutive entries; its identifier is that of the last one. When
 * it is used, one entry is written, at the place where we are in the order of use, and as many are passed over as the chain had.
 * Identifiers are the driver's, and mean nothing to us: chains may be given back in any order.
 *
 * A batch becomes visible at once: its first entry's flags are written last, and the driver looks at entries in their order.
 *
 * A chain whose buffers make no sense is given back empty. One that does not end within the ring, or `stepsMax`, leaves nothing to go on with. What
 * the driver writes into entries that it has made available already changes, at worst, what we make of its own buffers.
 *
 * Memory barriers
 * ---------------
 *   - The flags of a chain's first entry are read with acquire semantics before the rest of it (the driver writes them last).
 *   - The flags of a batch's first used entry are written with release semantics after all the others, and after the buffers' bytes.
 *   - Between that and reading the driver's event suppression, and between asking for notifications and reading the flags of
 *     the next entry again, there is a full fence, as for split virtqueues (vhost-split.h).
 */
#pragma once

#include "vhost-chain.h"

namespace passt {

/** A place in the ring: an index below 2^15, and the wrap counter in bit 15; as in messages and in event suppression. */
struct PackedPlace {
  static constexpr uint16_t wrapBit = 0x8000;

  uint16_t index = 0;
  bool wrap = true;

  static PackedPlace of(uint16_t word) { return {static_cast<uint16_t>(word & ~wrapBit), (word & wrapBit) != 0}; }
  uint16_t word() const { return static_cast<uint16_t>(index | (wrap ? wrapBit : 0)); }
  /** Passes over some entries, at most all. */
  void pass(uint32_t entries, uint32_t size) {
    uint32_t to = index + entries;
    if (to >= size) {
      to -= size;
      wrap = !wrap;
    }
    index = static_cast<uint16_t>(to);
  }
};

class PackedQueue {
 public:
  explicit PackedQueue(const QueueParts& parts) : parts_(parts) {}

  /** Bytes of `driver` and of `device`. */
  static constexpr uint64_t eventBytes = 4;

  /** The entry to go on with, below the size: nothing is in flight between batches, so it is the next to be used, too. */
  void setBase(uint16_t word);
  uint16_t base() const { return next_.word(); }

  /** As Ring's. @param broken becomes true when there is nothing to go on with */
  Taken take(const GuestMemory& memory, Chain* chain, iovec* pieces, int32_t most, bool* broken);
  uint32_t position() const { return next_.word(); }
  void rewind(uint32_t position) { next_ = PackedPlace::of(static_cast<uint16_t>(position)); }
  void giveBack(GuestMemory& memory, uint32_t ticket, uint32_t written);
  /** @returns whether the driver wants to be woken */
  bool publish(GuestMemory& memory);
  void wantNoKick(GuestMemory& memory);
  bool wantKick(GuestMemory& memory);
  /** The next entry to be used. */
  PackedPlace used() const { return used_; }

 private:
  uint8_t* entry(uint32_t index) const { return parts_.descriptors + descriptorBytes * index; }
  bool available(PackedPlace at) const;
  bool table(const GuestMemory& memory, uint64_t address, uint32_t length, ChainPieces& buffers) const;
  bool wantsCall(PackedPlace before) const;

  const QueueParts& parts_;
  PackedPlace next_;
  /** Where `take` has found nothing: beyond `next_` after `rewind`, when what there was did not suffice. */
  PackedPlace seen_;
  PackedPlace used_;
  /** Where the batch that the driver has not been shown yet begins, and the flags that will show it. */
  PackedPlace published_;
  uint16_t firstFlags_ = 0;
  bool pending_ = false;
};

}  // namespace passt
