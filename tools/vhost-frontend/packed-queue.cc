#include "packed-queue.h"

#include <cstring>

#include "fail.h"
#include "queue-memory.h"

namespace {

struct Descriptor {
  uint64_t address;
  uint32_t length;
  uint16_t slot, flags;
};
constexpr uint16_t NEXT = 1, WRITABLE = 2, INDIRECT = 4, AVAIL = 1 << 7, USED_FLAG = 1 << 15;
constexpr uint64_t FLAGS_AT = 14;
/** Of event suppression: a place, then one of these. */
constexpr uint16_t ENABLE = 0, DISABLE = 1, AT_PLACE = 2;

}  // namespace

void PackedQueue::Place::pass(uint32_t entries, uint32_t size) {
  uint32_t to = index + entries;
  if (to >= size) {
    to -= size;
    wrap = !wrap;
  }
  index = static_cast<uint16_t>(to);
}

void PackedQueue::put(const BufferPart& part, uint16_t slot, uint16_t flags) {
  flags = static_cast<uint16_t>(flags | (part.writable ? WRITABLE : 0) | (next_.wrap ? AVAIL : USED_FLAG));
  const Descriptor descriptor = {part.address, part.bytes, slot, flags};
  uint8_t* const at = entry(next_.index);
  memcpy(at, &descriptor, FLAGS_AT);
  if (pending_) {
    storeWord(at + FLAGS_AT, flags);
  } else {
    pending_ = true;
    pendingIndex_ = next_.index;
    pendingFlags_ = flags;
  }
  next_.pass(1, entries_);
  unkicked_++;
}

void PackedQueue::offer(uint16_t slot, const BufferPart* parts, int count, uint8_t* table, uint64_t tableAddress) {
  if (table) {
    for (int i = 0; i < count; i++) {
      const Descriptor descriptor = {parts[i].address, parts[i].bytes, 0, parts[i].writable ? WRITABLE : uint16_t{0}};
      memcpy(table + sizeof descriptor * static_cast<size_t>(i), &descriptor, sizeof descriptor);
    }
    put({tableAddress, tableBytes(count), false}, slot, INDIRECT);
    lengths_[slot] = 1;
    return;
  }
  for (int i = 0; i < count; i++) put(parts[i], slot, i + 1 < count ? NEXT : 0);
  lengths_[slot] = static_cast<uint16_t>(count);
}

void PackedQueue::publish() {
  if (pending_) releaseWord(entry(pendingIndex_) + FLAGS_AT, pendingFlags_);
  pending_ = false;
}

bool PackedQueue::kickWanted() {
  if (unkicked_ == 0) return false;
  fullFence();
  const uint16_t before = static_cast<uint16_t>(next_.index - unkicked_);
  unkicked_ = 0;
  const uint16_t flags = loadWord(used() + 2);
  if (flags != AT_PLACE || !eventIndex_) return flags != DISABLE;
  const uint16_t word = loadWord(used());
  auto event = static_cast<uint16_t>(word & 0x7fff);
  if ((word >> 15 != 0) != next_.wrap) event = static_cast<uint16_t>(event - entries_);
  return hasPassed(event, next_.index, before);
}

bool PackedQueue::isUsed() const {
  const uint16_t flags = loadWord(entry(taken_.index) + FLAGS_AT, __ATOMIC_ACQUIRE);
  const bool available = flags & AVAIL, used = flags & USED_FLAG;
  return available == used && used == taken_.wrap;
}

bool PackedQueue::take(UsedBuffer* buffer) {
  if (!isUsed()) return false;
  Descriptor descriptor;
  memcpy(&descriptor, entry(taken_.index), sizeof descriptor);
  if (descriptor.slot >= entries_ || lengths_[descriptor.slot] == 0) {
    refuse("the device gave back a buffer that it never had");
  }
  taken_.pass(lengths_[descriptor.slot], entries_);
  lengths_[descriptor.slot] = 0;
  *buffer = {descriptor.slot, descriptor.flags & WRITABLE ? descriptor.length : 0};
  return true;
}

void PackedQueue::wantNoCall() { storeWord(available() + 2, DISABLE); }

bool PackedQueue::wantCall() {
  if (eventIndex_) {
    storeWord(available(), taken_.word());
    // The place before the flag that makes it count.
    releaseWord(available() + 2, AT_PLACE);
  } else {
    storeWord(available() + 2, ENABLE);
  }
  fullFence();
  return !isUsed();
}
