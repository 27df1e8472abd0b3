#include "vhost-split.h"

#include "vhost-inflight.h"

namespace passt {

/** Flags of rings (VIRTIO 1.2 sections 2.7.6 and 2.7.8). */
constexpr uint16_t availableNoInterrupt = 1;
constexpr uint16_t usedNoNotify = 1;

/** Offsets within both rings, and bytes of their parts. */
constexpr uint64_t ringFlags = 0, ringIndex = 2, ringEntries = 4;
constexpr uint64_t availableBytes = 2, usedBytes = 8;

struct SplitDescriptor {
  uint64_t address;
  uint32_t length;
  uint16_t flags;
  uint16_t next;
};
static_assert(sizeof(SplitDescriptor) == descriptorBytes);

struct UsedElement {
  uint32_t head;
  uint32_t written;
};

void SplitQueue::setBase(uint16_t base) {
  next_ = seen_ = base;
  fresh_ = true;
}

uint16_t SplitQueue::availableIndex(int order) const { return load16(parts_.driver + ringIndex, order); }

Taken SplitQueue::take(const GuestMemory& memory, Chain* chain, iovec* pieces, int32_t most, bool* broken) {
  if (fresh_) {
    // Where the driver has been told that we are: by us before the front-end connected again, or by another back-end.
    usedIndex_ = published_ = load16(parts_.device + ringIndex);
    fresh_ = false;
  }
  if (next_ == seen_) {
    seen_ = availableIndex(__ATOMIC_ACQUIRE);
    if (next_ == seen_) return Taken::nothing;
  }
  const uint32_t mask = parts_.size - 1;
  const uint16_t head = load16(parts_.driver + ringEntries + availableBytes * (next_ & mask));
  if (static_cast<uint16_t>(seen_ - next_) > parts_.size || head >= parts_.size) {
    *broken = true;
    return Taken::nothing;
  }
  next_++;
  *chain = {};
  chain->ticket = head;
  return walk(memory, chain, pieces, most) ? Taken::chain : Taken::malformed;
}

/** Follows a chain from its head. @returns false if it makes no sense */
bool SplitQueue::walk(const GuestMemory& memory, Chain* chain, iovec* pieces, int32_t most) const {
  ChainPieces buffers(memory, chain, pieces, most);
  uint32_t index = chain->ticket;
  uint32_t entries = parts_.size;
  uint64_t table = 0;
  bool indirect = false;
  for (uint32_t steps = 0; steps < stepsMax; steps++) {
    if (index >= entries) return false;
    SplitDescriptor descriptor;
    if (indirect) {
      uint64_t bytes = descriptorBytes;
      const uint8_t* const at = memory.guestAt(table + descriptorBytes * index, &bytes);
      if (!at || bytes < descriptorBytes) return false;
      descriptor = readOnce<SplitDescriptor>(at);
    } else {
      descriptor = readOnce<SplitDescriptor>(parts_.descriptors + descriptorBytes * index);
    }
    if (descriptor.flags & descriptorIndirect) {
      // A table must be the only one, and the end (section 2.7.5.3.1).
      if (indirect || (descriptor.flags & descriptorNext) || descriptor.length % descriptorBytes != 0) return false;
      indirect = true;
      table = descriptor.address;
      entries = static_cast<uint32_t>(descriptor.length / descriptorBytes);
      uint64_t end = 0;
      if (__builtin_add_overflow(table, descriptor.length, &end)) return false;
      index = 0;
      continue;
    }
    if (!buffers.add(descriptor.address, descriptor.length, descriptor.flags & descriptorWrite)) return false;
    if (!(descriptor.flags & descriptorNext)) return true;
    index = descriptor.next;
  }
  return false;
}

void SplitQueue::note(GuestMemory& memory, uint64_t offset, uint64_t length) const {
  if (parts_.logged && memory.logging()) memory.writtenAt(parts_.log + offset, length);
}

void SplitQueue::giveBack(GuestMemory& memory, uint32_t ticket, uint32_t written) {
  const uint64_t offset = ringEntries + usedBytes * (usedIndex_ & (parts_.size - 1));
  const UsedElement element = {ticket, written};
  memcpy(parts_.device + offset, &element, sizeof element);
  note(memory, offset, sizeof element);
  usedIndex_++;
}

bool SplitQueue::wantsCall(uint16_t before) const {
  if (!parts_.eventIndex) return !(load16(parts_.driver + ringFlags) & availableNoInterrupt);
  const uint16_t event = load16(parts_.driver + ringEntries + availableBytes * parts_.size);
  // Whether the index has passed the event (section 2.7.7.2): modulo 2^16.
  return static_cast<uint16_t>(usedIndex_ - event - 1) < static_cast<uint16_t>(usedIndex_ - before);
}

bool SplitQueue::publish(GuestMemory& memory) {
  if (usedIndex_ == published_) return false;
  const uint16_t before = published_;
  __atomic_store_n(reinterpret_cast<uint16_t*>(parts_.device + ringIndex), usedIndex_, __ATOMIC_RELEASE);
  note(memory, ringIndex, sizeof(uint16_t));
  published_ = usedIndex_;
  if (parts_.inflight) inflight::splitPublished(parts_.inflight, usedIndex_);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  return wantsCall(before);
}

void SplitQueue::wantNoKick(GuestMemory& memory) {
  // With the event index silence is what holds once the event has passed.
  if (parts_.eventIndex) return;
  store16(parts_.device + ringFlags, usedNoNotify);
  note(memory, ringFlags, sizeof(uint16_t));
}

bool SplitQueue::wantKick(GuestMemory& memory) {
  const uint64_t offset = parts_.eventIndex ? ringEntries + usedBytes * parts_.size : ringFlags;
  store16(parts_.device + offset, parts_.eventIndex ? seen_ : 0);
  note(memory, offset, sizeof(uint16_t));
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  return availableIndex(__ATOMIC_ACQUIRE) != seen_;
}

}  // namespace passt
