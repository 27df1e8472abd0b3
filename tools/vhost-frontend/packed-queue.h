/**
 * A packed virtqueue, the driver's side (VIRTIO 1.2 section 2.8). A batch becomes visible by the flags of its first entry, which are written when
 * it is published. Entries are passed over as a chain took them, so the slots' number bounds what is in flight only if each takes one entry.
 */
#pragma once

#include <vector>

#include "virtqueue.h"

class PackedQueue final : public Virtqueue {
 public:
  PackedQueue(uint8_t* memory, uint16_t entries, bool eventIndex)
      : Virtqueue(memory, entries, eventIndex), lengths_(entries) {}

  void offer(uint16_t slot, const BufferPart* parts, int count, uint8_t* table, uint64_t tableAddress) override;
  using Virtqueue::offer;
  void publish() override;
  bool take(UsedBuffer* used) override;
  void wantNoCall() override;
  bool wantCall() override;
  /** Both places are the first entry, with their wrap counters set. */
  uint32_t base() const override { return 0x8000'8000; }

 private:
  /** A place in the ring, and the counter that flips at its end. */
  struct Place {
    uint16_t index = 0;
    bool wrap = true;
    void pass(uint32_t entries, uint32_t size);
    uint16_t word() const { return static_cast<uint16_t>(index | wrap << 15); }
  };

  bool kickWanted() override;
  uint8_t* entry(uint16_t index) const { return descriptors() + 16 * index; }
  void put(const BufferPart& part, uint16_t slot, uint16_t flags);
  bool isUsed() const;

  Place next_;
  Place taken_;
  /** The batch that the device has not been shown yet: its first entry, and the flags that will show it. */
  bool pending_ = false;
  uint16_t pendingIndex_ = 0;
  uint16_t pendingFlags_ = 0;
  /** Entries that were offered and that the device has not been told of. */
  uint16_t unkicked_ = 0;
  /** Entries that the chain of each slot took. */
  std::vector<uint16_t> lengths_;
};
