/**
 * Which pair of queues a flow's frames to the guest go to: that on whose transmit queue the guest last sent for the flow, so that both
 * directions are on one of its processors; and before it has, one by the flow's hash. So the frames of a flow stay on one queue, in
 * their order.
 *
 * The hash is the same for both directions, over addresses, and over ports where each frame has them: not for fragments.
 *
 * ```
 *   hash → slot [ whole hash | pair | when ]     of the flow that was there first, until it has been silent for a while
 * ```
 *
 * A flow whose slot is another's goes by its hash. What the guest can make of this is its own disorder.
 */
#pragma once

#include <cstdint>

namespace passt {

class Steering {
 public:
  /** @param frame from its Ethernet header on @returns 0 for what is no flow's (ARP, and what makes no sense) */
  static uint32_t hashOf(const uint8_t* frame, int32_t length);

  /** The guest has sent on a pair. */
  void sent(uint32_t hash, int32_t pair) {
    Slot& slot = slots_[hash % slotCount];
    if (slot.hash != hash && clock_ - slot.when < silence && slot.hash != 0) return;
    slot = {hash, clock_, pair};
  }
  /** @returns the pair on which the guest last sent; -1: not known */
  int32_t pairOf(uint32_t hash) const {
    const Slot& slot = slots_[hash % slotCount];
    return hash != 0 && slot.hash == hash ? slot.pair : -1;
  }
  /** A batch from the guest has been taken. */
  void tick() { clock_++; }
  void clear();

 private:
  static constexpr uint32_t slotCount = 4096;
  /** Batches without a frame of a flow, after which its slot may become another's. */
  static constexpr uint32_t silence = 4096;

  struct Slot {
    uint32_t hash;
    uint32_t when;
    int32_t pair;
  };
  Slot slots_[slotCount] = {};
  uint32_t clock_ = 0;
};

}  // namespace passt
