#include "split-queue.h"

#include <cstring>

#include "fail.h"
#include "queue-memory.h"

namespace {

struct Descriptor {
  uint64_t address;
  uint32_t length;
  uint16_t flags, next;
};
constexpr uint16_t NEXT = 1, WRITABLE = 2, INDIRECT = 4;
constexpr uint16_t NO_INTERRUPT = 1, NO_NOTIFY = 1;
/** Of both rings: flags and index come first. */
constexpr uint64_t RING = 4;
constexpr uint64_t USED_BYTES = 8;

/** @param first the number of the first entry */
void putChain(uint8_t* table, uint16_t first, const BufferPart* parts, int count) {
  for (int i = 0; i < count; i++) {
    const auto at = static_cast<uint16_t>(first + i);
    const bool last = i + 1 == count;
    const auto flags = static_cast<uint16_t>((parts[i].writable ? WRITABLE : 0) | (last ? 0 : NEXT));
    const auto next = static_cast<uint16_t>(last ? 0 : at + 1);
    const Descriptor descriptor = {parts[i].address, parts[i].bytes, flags, next};
    memcpy(table + sizeof descriptor * at, &descriptor, sizeof descriptor);
  }
}

}  // namespace

void SplitQueue::offer(uint16_t slot, const BufferPart* parts, int count, uint8_t* table, uint64_t tableAddress) {
  if (table) {
    putChain(table, 0, parts, count);
    const Descriptor descriptor = {tableAddress, tableBytes(count), INDIRECT, 0};
    memcpy(descriptors() + sizeof descriptor * slot, &descriptor, sizeof descriptor);
  } else {
    putChain(descriptors(), slot, parts, count);
  }
  storeWord(available() + RING + 2 * (offered_ % entries_), slot);
  offered_++;
}

void SplitQueue::publish() {
  releaseWord(available() + 2, offered_);
  published_ = offered_;
}

bool SplitQueue::kickWanted() {
  if (kicked_ == published_) return false;
  fullFence();
  const bool wanted = eventIndex_ ? hasPassed(loadWord(used() + RING + USED_BYTES * entries_), published_, kicked_)
                                  : !(loadWord(used()) & NO_NOTIFY);
  kicked_ = published_;
  return wanted;
}

uint16_t SplitQueue::usedIndex() const { return loadWord(used() + 2, __ATOMIC_ACQUIRE); }

bool SplitQueue::take(UsedBuffer* buffer) {
  if (taken_ == usedIndex()) return false;
  uint32_t element[2];
  memcpy(element, used() + RING + USED_BYTES * (taken_ % entries_), sizeof element);
  taken_++;
  if (element[0] >= entries_) refuse("the device gave back a buffer that it never had");
  *buffer = {static_cast<uint16_t>(element[0]), element[1]};
  return true;
}

void SplitQueue::wantNoCall() {
  // With the event index silence is what holds once the event has passed.
  if (!eventIndex_) storeWord(available(), NO_INTERRUPT);
}

bool SplitQueue::wantCall() {
  if (eventIndex_) {
    storeWord(available() + RING + 2 * entries_, taken_);
  } else {
    storeWord(available(), 0);
  }
  fullFence();
  return taken_ == usedIndex();
}
