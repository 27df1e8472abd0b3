/** A split virtqueue, the driver's side (VIRTIO 1.2 section 2.7). */
#pragma once

#include "virtqueue.h"

class SplitQueue final : public Virtqueue {
 public:
  SplitQueue(uint8_t* memory, uint16_t entries, bool eventIndex) : Virtqueue(memory, entries, eventIndex) {}

  void offer(uint16_t slot, const BufferPart* parts, int count, uint8_t* table, uint64_t tableAddress) override;
  using Virtqueue::offer;
  void publish() override;
  bool take(UsedBuffer* used) override;
  void wantNoCall() override;
  bool wantCall() override;
  uint32_t base() const override { return 0; }

 private:
  bool kickWanted() override;
  uint16_t usedIndex() const;

  uint16_t offered_ = 0;
  uint16_t published_ = 0;
  uint16_t kicked_ = 0;
  uint16_t taken_ = 0;
};
