/**
 * A split virtqueue, the device's side (VIRTIO 1.2 section 2.7): with indirect descriptors and the event index.
 *
 * ```
 *   driver        [ flags | idx | ring of heads | used_event  ]              the driver writes, we read
 *   descriptors   [ address length flags next ] …                            the driver writes, we read
 *   device        [ flags | idx | ring of (head, length) | avail_event ]     we write, the driver reads
 * ```
 *
 * A head or index is compared with the size of the queue; what we need to remember is never read back from where the driver can write it.
 * A chain that makes no sense is given back empty. An `idx` that is ahead by more than the queue holds, or a head beyond it, leaves
 * nothing to go on with.
 *
 * Memory barriers
 * ---------------
 *   - `avail.idx` is read with acquire semantics before the heads and descriptors that it announces.
 *   - `used.idx` is written with release semantics after the elements that it announces, and after the buffers' bytes.
 *   - Between writing `used.idx` and reading `avail.flags` or `used_event`, and between asking for notifications and
 *     reading `avail.idx` again, there is a full fence: each side stores, then loads what the other one stores, and at least one
 *     of them must see it (VIRTIO 1.2 sections 2.7.10 and 2.7.13.4.1). Without it both could go to sleep.
 */
#pragma once

#include "vhost-chain.h"

namespace passt {

class SplitQueue {
 public:
  explicit SplitQueue(const QueueParts& parts) : parts_(parts) {}

  /** Bytes of the parts of a queue of `size` entries. */
  static uint64_t driverBytes(uint32_t size) { return 6 + uint64_t{2} * size; }
  static uint64_t deviceBytes(uint32_t size) { return 6 + uint64_t{8} * size; }

  /** The entry of the available ring to go on with. */
  void setBase(uint16_t base);
  uint16_t base() const { return next_; }
  /** What was given back is to be read from memory, before the next chain is taken. */
  void stop() { fresh_ = true; }

  /** As Ring's. @param broken becomes true when there is nothing to go on with */
  Taken take(const GuestMemory& memory, Chain* chain, iovec* pieces, int32_t most, bool* broken);
  uint32_t position() const { return next_; }
  void rewind(uint32_t position) { next_ = static_cast<uint16_t>(position); }
  void giveBack(GuestMemory& memory, uint32_t ticket, uint32_t written);
  /** @returns whether the driver wants to be woken */
  bool publish(GuestMemory& memory);
  void wantNoKick(GuestMemory& memory);
  bool wantKick(GuestMemory& memory);
  /** Entries of the used ring that were filled, modulo 2^16; only after a chain was taken. */
  uint16_t usedIndex() const { return usedIndex_; }

 private:
  uint16_t availableIndex(int order) const;
  bool walk(const GuestMemory& memory, Chain* chain, iovec* pieces, int32_t most) const;
  bool wantsCall(uint16_t before) const;
  void note(GuestMemory& memory, uint64_t offset, uint64_t length) const;

  const QueueParts& parts_;
  /** Next entry of the available ring to take; how far it is known to be filled. */
  uint16_t next_ = 0;
  uint16_t seen_ = 0;
  /** Next entry of the used ring to fill; how far the driver has been shown it, and was told. */
  uint16_t usedIndex_ = 0;
  uint16_t published_ = 0;
  bool fresh_ = true;
};

}  // namespace passt
