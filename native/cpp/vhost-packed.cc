#include "vhost-packed.h"

#include "vhost-inflight.h"

namespace passt {

/** Flags of descriptors besides those of vhost-chain.h (VIRTIO 1.2 section 2.8.13). */
constexpr uint16_t descriptorAvailable = 1 << 7, descriptorUsed = 1 << 15;

/** Event suppression (section 2.8.14). */
constexpr uint64_t eventPlace = 0, eventFlags = 2;
constexpr uint16_t eventsOn = 0, eventsOff = 1, eventsAtPlace = 2;

constexpr uint64_t lengthOffset = 8, idOffset = 12, flagsOffset = 14;

struct PackedDescriptor {
  uint64_t address;
  uint32_t length;
  uint16_t id;
  uint16_t flags;
};
static_assert(sizeof(PackedDescriptor) == descriptorBytes);

/** Tickets: identifier and number of entries of a chain; there may be 2^15 of these. */
constexpr uint32_t ticketEntriesShift = 16;

void PackedQueue::setBase(uint16_t word) {
  next_ = seen_ = used_ = published_ = PackedPlace::of(word);
  pending_ = false;
}

bool PackedQueue::available(PackedPlace at) const {
  const uint16_t flags = load16(entry(at.index) + flagsOffset, __ATOMIC_ACQUIRE);
  return ((flags & descriptorAvailable) != 0) == at.wrap && ((flags & descriptorUsed) != 0) != at.wrap;
}

/** Adds the descriptors of an indirect table: all of them, in their order (section 2.8.7). */
bool PackedQueue::table(const GuestMemory& memory, uint64_t address, uint32_t length, ChainPieces& buffers) const {
  uint64_t end = 0;
  if (length == 0 || length % descriptorBytes != 0 || length > descriptorBytes * stepsMax) return false;
  if (__builtin_add_overflow(address, length, &end)) return false;
  for (uint64_t at = address; at < end; at += descriptorBytes) {
    uint64_t bytes = descriptorBytes;
    const uint8_t* const there = memory.guestAt(at, &bytes);
    if (!there || bytes < descriptorBytes) return false;
    const auto descriptor = readOnce<PackedDescriptor>(there);
    if (descriptor.flags & descriptorIndirect) return false;
    if (!buffers.add(descriptor.address, descriptor.length, descriptor.flags & descriptorWrite)) return false;
  }
  return true;
}

Taken PackedQueue::take(const GuestMemory& memory, Chain* chain, iovec* pieces, int32_t most, bool* broken) {
  if (!available(next_)) {
    seen_ = next_;
    return Taken::nothing;
  }
  *chain = {};
  ChainPieces buffers(memory, chain, pieces, most);
  bool sane = true;
  uint32_t at = next_.index;
  const uint32_t entriesMax = parts_.size < stepsMax ? parts_.size : stepsMax;
  for (uint32_t entries = 1; entries <= entriesMax; entries++) {
    const auto descriptor = readOnce<PackedDescriptor>(entry(at));
    if (!sane) {
      // Its end is looked for all the same.
    } else if (descriptor.flags & descriptorIndirect) {
      // A table is all of a chain (section 2.8.7).
      sane = entries == 1 && !(descriptor.flags & descriptorNext) &&
             table(memory, descriptor.address, descriptor.length, buffers);
    } else {
      sane = buffers.add(descriptor.address, descriptor.length, descriptor.flags & descriptorWrite);
    }
    if (descriptor.flags & descriptorNext) {
      at = at + 1 == parts_.size ? 0 : at + 1;
      continue;
    }
    next_.pass(entries, parts_.size);
    chain->ticket = descriptor.id | entries << ticketEntriesShift;
    return sane ? Taken::chain : Taken::malformed;
  }
  *broken = true;
  return Taken::nothing;
}

void PackedQueue::giveBack(GuestMemory& memory, uint32_t ticket, uint32_t written) {
  uint8_t* const at = entry(used_.index);
  const auto id = static_cast<uint16_t>(ticket);
  auto flags = static_cast<uint16_t>(used_.wrap ? descriptorAvailable | descriptorUsed : 0);
  // The length is of use only then (section 2.8.4).
  if (written > 0) flags |= descriptorWrite;
  memcpy(at + lengthOffset, &written, sizeof written);
  memcpy(at + idOffset, &id, sizeof id);
  if (pending_) {
    // Seen only once the first entry of the batch is.
    store16(at + flagsOffset, flags);
  } else {
    pending_ = true;
    firstFlags_ = flags;
  }
  // The ring's address is the front-end's: unlike `device` it has none in the guest's that we were told.
  if (parts_.logged && memory.logging()) memory.written(at, descriptorBytes);
  used_.pass(ticket >> ticketEntriesShift, parts_.size);
}

bool PackedQueue::wantsCall(PackedPlace before) const {
  const uint16_t flags = load16(parts_.driver + eventFlags, __ATOMIC_ACQUIRE);
  if (flags == eventsOff) return false;
  if (flags != eventsAtPlace || !parts_.eventIndex) return true;
  const auto event = PackedPlace::of(load16(parts_.driver + eventPlace));
  // Whether the batch went past the event: all three counted from where the ring began, or began again.
  const auto size = static_cast<int32_t>(parts_.size);
  const int32_t to = used_.index;
  const int32_t from = before.index - (before.wrap == used_.wrap && before.index < used_.index ? 0 : size);
  const int32_t wanted = event.index - (event.wrap == used_.wrap ? 0 : size);
  return from <= wanted && wanted < to;
}

bool PackedQueue::publish(GuestMemory& memory) {
  if (!pending_) return false;
  uint8_t* const at = entry(published_.index);
  if (parts_.inflight) inflight::packedPublishes(parts_.inflight, used_);
  __atomic_store_n(reinterpret_cast<uint16_t*>(at + flagsOffset), firstFlags_, __ATOMIC_RELEASE);
  if (parts_.logged && memory.logging()) memory.written(at, descriptorBytes);
  const PackedPlace before = published_;
  published_ = used_;
  pending_ = false;
  if (parts_.inflight) inflight::packedPublished(parts_.inflight, used_);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  return wantsCall(before);
}

void PackedQueue::wantNoKick(GuestMemory& memory) {
  store16(parts_.device + eventFlags, eventsOff);
  if (parts_.logged && memory.logging()) memory.written(parts_.device, eventBytes);
}

bool PackedQueue::wantKick(GuestMemory& memory) {
  if (parts_.eventIndex) store16(parts_.device + eventPlace, seen_.word());
  // After the place that they tell of.
  __atomic_store_n(reinterpret_cast<uint16_t*>(parts_.device + eventFlags),
                   parts_.eventIndex ? eventsAtPlace : eventsOn, __ATOMIC_RELEASE);
  if (parts_.logged && memory.logging()) memory.written(parts_.device, eventBytes);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  return available(seen_);
}

}  // namespace passt
