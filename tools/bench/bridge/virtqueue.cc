#include "virtqueue.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "tap.h"

namespace {

struct Descriptor {
  uint64_t address;
  uint32_t length;
  uint16_t flags;
  uint16_t next;
};

constexpr uint16_t WRITABLE = 2;
constexpr uint16_t NO_INTERRUPT = 1;
constexpr uint16_t NO_NOTIFY = 1;
constexpr uint64_t RING = 4;
constexpr uint64_t USED_BYTES = 8;

uint16_t load(const uint8_t* at, int order) {
  return order == __ATOMIC_ACQUIRE ? __atomic_load_n(reinterpret_cast<const uint16_t*>(at), __ATOMIC_ACQUIRE)
                                   : __atomic_load_n(reinterpret_cast<const uint16_t*>(at), __ATOMIC_RELAXED);
}
void store(uint8_t* at, uint16_t value) {
  __atomic_store_n(reinterpret_cast<uint16_t*>(at), value, __ATOMIC_RELAXED);
}

}  // namespace

Virtqueue::Virtqueue(uint8_t* memory, uint16_t entries)
    : memory_(memory),
      entries_(entries),
      kickFd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      callFd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (kickFd_ < 0 || callFd_ < 0) fail("eventfd");
}

void Virtqueue::offer(uint16_t slot, uint64_t address, uint32_t bytes, bool writable) {
  const Descriptor descriptor = {address, bytes, writable ? WRITABLE : uint16_t{0}, 0};
  memcpy(descriptors() + sizeof descriptor * slot, &descriptor, sizeof descriptor);
  store(available() + RING + 2 * (offered_ % entries_), slot);
  offered_++;
}

void Virtqueue::publish() {
  __atomic_store_n(reinterpret_cast<uint16_t*>(available() + 2), offered_, __ATOMIC_RELEASE);
  published_ = offered_;
}

void Virtqueue::kick() {
  if (kicked_ == published_) return;
  // Between our index and what the device says about notifications (VIRTIO 1.2 section 2.7.13.4.1).
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  bool wanted;
  if (eventIndex) {
    const uint16_t event = load(used() + RING + USED_BYTES * entries_, __ATOMIC_RELAXED);
    wanted = static_cast<uint16_t>(published_ - event - 1) < static_cast<uint16_t>(published_ - kicked_);
  } else {
    wanted = !(load(used(), __ATOMIC_RELAXED) & NO_NOTIFY);
  }
  kicked_ = published_;
  const uint64_t one = 1;
  if (wanted && write(kickFd_, &one, sizeof one) < 0 && errno != EAGAIN) fail("kicking");
}

uint16_t Virtqueue::usedIndex() const { return load(used() + 2, __ATOMIC_ACQUIRE); }

bool Virtqueue::take(UsedBuffer* buffer) {
  if (taken_ == usedIndex()) return false;
  uint32_t element[2];
  memcpy(element, used() + RING + USED_BYTES * (taken_ % entries_), sizeof element);
  taken_++;
  if (element[0] >= entries_) {
    errno = 0;
    fail("the device gave back a buffer that it never had");
  }
  *buffer = {static_cast<uint16_t>(element[0]), element[1]};
  return true;
}

void Virtqueue::wantNoCall() {
  // With the event index silence is what holds once the event has passed.
  if (!eventIndex) store(available(), NO_INTERRUPT);
}

bool Virtqueue::wantCall() {
  if (eventIndex) {
    store(available() + RING + 2 * entries_, taken_);
  } else {
    store(available(), 0);
  }
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  return taken_ == usedIndex();
}

void Virtqueue::waitForCall() {
  pollfd ready{.fd = callFd_, .events = POLLIN, .revents = 0};
  if (poll(&ready, 1, -1) < 0 && errno != EINTR) fail("waiting for the device");
  uint64_t count;
  if (read(callFd_, &count, sizeof count) < 0 && errno != EAGAIN) fail("reading an eventfd");
}
