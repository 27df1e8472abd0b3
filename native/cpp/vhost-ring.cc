#include "vhost-ring.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace passt {

/** Flags of descriptors and rings (VIRTIO 1.2 sections 2.7.5, 2.7.6 and 2.7.8). */
constexpr uint16_t descriptorNext = 1, descriptorWrite = 2, descriptorIndirect = 4;
constexpr uint16_t availableNoInterrupt = 1;
constexpr uint16_t usedNoNotify = 1;

/** Offsets within both rings, and bytes of their parts. */
constexpr uint64_t ringFlags = 0, ringIndex = 2, ringEntries = 4, eventBytes = 2;
constexpr uint64_t descriptorBytes = 16, availableBytes = 2, usedBytes = 8;

static uint16_t load16(const uint8_t* at, int order) {
  return order == __ATOMIC_ACQUIRE ? __atomic_load_n(reinterpret_cast<const uint16_t*>(at), __ATOMIC_ACQUIRE)
                                   : __atomic_load_n(reinterpret_cast<const uint16_t*>(at), __ATOMIC_RELAXED);
}
static void store16(uint8_t* at, uint16_t value) {
  __atomic_store_n(reinterpret_cast<uint16_t*>(at), value, __ATOMIC_RELAXED);
}

/** Copies what the driver may change, so that it is read once. */
template <typename T>
static T readOnce(const uint8_t* at) {
  T value;
  memcpy(&value, at, sizeof value);
  // The compiler must not read memory again in place of the copy.
  asm volatile("" ::: "memory");
  return value;
}

/** Wakes whoever waits for a descriptor, which does not block. */
static void signal(int fd) {
  const uint64_t one = 1;
  // A counter that is full wakes as well, and of what can't be written nobody can be told.
  // seccomp[vhost-user]: write
  if (write(fd, &one, sizeof one) < 0) return;
}

Ring::~Ring() { reset(); }

void Ring::setFd(int* slot, int fd) {
  if (*slot >= 0) ::close(*slot);
  *slot = fd;
}
void Ring::setKick(int fd) {
  setFd(&kick_, fd);
  // With the kick a ring starts.
  broken_ = false;
}
void Ring::setCall(int fd) {
  setFd(&call_, fd);
  // Whoever waits may have missed what an earlier descriptor told, or another back-end.
  if (fd >= 0) signal(fd);
}
void Ring::setError(int fd) { setFd(&error_, fd); }

int32_t Ring::setSize(uint32_t size) {
  if (size == 0 || size > sizeMax || (size & (size - 1)) != 0) return -EINVAL;
  size_ = size;
  addressed_ = false;
  used_ = nullptr;
  return 0;
}

int32_t Ring::setAddresses(const GuestMemory& memory, const RingAddresses& addresses) {
  if ((addresses.descriptors & 15) || (addresses.available & 1) || (addresses.used & 3)) return -EINVAL;
  if (size_ == 0) return -EINVAL;
  addresses_ = addresses;
  addressed_ = true;
  resolve(memory);
  return used_ ? 0 : -EFAULT;
}

void Ring::resolve(const GuestMemory& memory) {
  used_ = nullptr;
  if (!addressed_) return;
  descriptors_ = memory.userAt(addresses_.descriptors, descriptorBytes * size_);
  available_ = memory.userAt(addresses_.available, ringEntries + availableBytes * size_ + eventBytes);
  uint8_t* const used = memory.userAt(addresses_.used, ringEntries + usedBytes * size_ + eventBytes);
  // A region may begin at any byte of a file that is mapped by pages.
  const auto misaligned = [](const void* at, uintptr_t mask) { return reinterpret_cast<uintptr_t>(at) & mask; };
  if (!descriptors_ || !available_ || !used || misaligned(available_, 1) || misaligned(used, 3)) return;
  used_ = used;
}

void Ring::setBase(uint16_t base) {
  next_ = seen_ = base;
  fresh_ = true;
  broken_ = false;
}

void Ring::stop() {
  setKick(-1);
  setCall(-1);
  setError(-1);
  fresh_ = true;
}

void Ring::reset() {
  stop();
  size_ = 0;
  addressed_ = false;
  used_ = nullptr;
  next_ = seen_ = 0;
  enabled = false;
}

void Ring::damage() {
  broken_ = true;
  if (error_ >= 0) signal(error_);
}

uint16_t Ring::availableIndex(int order) const { return load16(available_ + ringIndex, order); }

Taken Ring::take(const GuestMemory& memory, Chain* chain, iovec* pieces, int32_t most) {
  if (fresh_) {
    // Where the driver has been told that we are: by us before the front-end connected again, or by another back-end.
    usedIndex_ = published_ = load16(used_ + ringIndex, __ATOMIC_RELAXED);
    fresh_ = false;
  }
  if (next_ == seen_) {
    seen_ = availableIndex(__ATOMIC_ACQUIRE);
    if (next_ == seen_) return Taken::nothing;
  }
  if (static_cast<uint16_t>(seen_ - next_) > size_) {
    damage();
    return Taken::nothing;
  }
  const uint16_t head = load16(available_ + ringEntries + availableBytes * (next_ & (size_ - 1)), __ATOMIC_RELAXED);
  if (head >= size_) {
    damage();
    return Taken::nothing;
  }
  next_++;
  *chain = {};
  chain->head = head;
  return walk(memory, chain, pieces, most) ? Taken::chain : Taken::malformed;
}

/** Follows a chain from its head. @returns false if it makes no sense */
bool Ring::walk(const GuestMemory& memory, Chain* chain, iovec* pieces, int32_t most) const {
  int32_t count = 0;
  uint32_t index = chain->head;
  uint32_t entries = size_;
  uint64_t table = 0;
  bool indirect = false;
  for (int32_t steps = 0; steps < stepsMax; steps++) {
    if (index >= entries) return false;
    Descriptor descriptor;
    if (indirect) {
      uint64_t bytes = descriptorBytes;
      const uint8_t* const at = memory.guestAt(table + descriptorBytes * index, &bytes);
      if (!at || bytes < descriptorBytes) return false;
      descriptor = readOnce<Descriptor>(at);
    } else {
      descriptor = readOnce<Descriptor>(descriptors_ + descriptorBytes * index);
    }
    if (descriptor.flags & descriptorIndirect) {
      // A table must be the only one, and the end (VIRTIO 1.2 section 2.7.5.3.1).
      if (indirect || (descriptor.flags & descriptorNext) || descriptor.length % descriptorBytes != 0) return false;
      indirect = true;
      table = descriptor.address;
      entries = static_cast<uint32_t>(descriptor.length / descriptorBytes);
      uint64_t end = 0;
      if (__builtin_add_overflow(table, descriptor.length, &end)) return false;
      index = 0;
      continue;
    }
    const bool writable = descriptor.flags & descriptorWrite;
    // What we read comes before what we write (section 2.7.4.2).
    if (!writable && chain->writable > 0) return false;
    uint64_t end = 0;
    if (__builtin_add_overflow(descriptor.address, descriptor.length, &end)) return false;
    for (uint64_t at = descriptor.address; at < end;) {
      uint64_t bytes = end - at;
      uint8_t* const piece = memory.guestAt(at, &bytes);
      if (!piece || count == most) return false;
      pieces[count++] = {piece, static_cast<size_t>(bytes)};
      at += bytes;
      if (writable) {
        chain->writable++;
        chain->writableBytes += bytes;
      } else {
        chain->readable++;
        chain->readableBytes += bytes;
      }
    }
    if (!(descriptor.flags & descriptorNext)) return true;
    index = descriptor.next;
  }
  return false;
}

void Ring::noteUsed(GuestMemory& memory, uint64_t offset, uint64_t length) const {
  if (addresses_.logged && memory.logging()) memory.writtenAt(addresses_.log + offset, length);
}

void Ring::giveBack(GuestMemory& memory, uint16_t head, uint32_t written) {
  const uint64_t offset = ringEntries + usedBytes * (usedIndex_ & (size_ - 1));
  const UsedElement element = {head, written};
  memcpy(used_ + offset, &element, sizeof element);
  noteUsed(memory, offset, sizeof element);
  usedIndex_++;
}

bool Ring::wantsCall(uint16_t before) const {
  if (call_ < 0) return false;
  if (!eventIndex_) return !(load16(available_ + ringFlags, __ATOMIC_RELAXED) & availableNoInterrupt);
  const uint16_t event = load16(available_ + ringEntries + availableBytes * size_, __ATOMIC_RELAXED);
  // Whether the index has passed the event (section 2.7.7.2): modulo 2^16.
  return static_cast<uint16_t>(usedIndex_ - event - 1) < static_cast<uint16_t>(usedIndex_ - before);
}

void Ring::publish(GuestMemory& memory) {
  if (usedIndex_ == published_) return;
  const uint16_t before = published_;
  __atomic_store_n(reinterpret_cast<uint16_t*>(used_ + ringIndex), usedIndex_, __ATOMIC_RELEASE);
  noteUsed(memory, ringIndex, sizeof(uint16_t));
  published_ = usedIndex_;
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  if (wantsCall(before)) signal(call_);
}

void Ring::wantNoKick() {
  // With the event index silence is what holds once the event has passed.
  if (!eventIndex_) store16(used_ + ringFlags, usedNoNotify);
}

bool Ring::wantKick() {
  if (eventIndex_) {
    store16(used_ + ringEntries + usedBytes * size_, seen_);
  } else {
    store16(used_ + ringFlags, 0);
  }
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  return availableIndex(__ATOMIC_ACQUIRE) != seen_;
}

}  // namespace passt
