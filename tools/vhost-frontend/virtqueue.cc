#include "virtqueue.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>

#include "fail.h"
#include "packed-queue.h"
#include "split-queue.h"

std::unique_ptr<Virtqueue> Virtqueue::make(uint8_t* memory, uint16_t entries, bool packed, bool eventIndex) {
  if (packed) return std::make_unique<PackedQueue>(memory, entries, eventIndex);
  return std::make_unique<SplitQueue>(memory, entries, eventIndex);
}

Virtqueue::Virtqueue(uint8_t* memory, uint16_t entries, bool eventIndex)
    : memory_(memory),
      entries_(entries),
      eventIndex_(eventIndex),
      kickFd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      callFd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (kickFd_ < 0 || callFd_ < 0) fail("eventfd");
}

void Virtqueue::kickAnyway() {
  const uint64_t one = 1;
  if (write(kickFd_, &one, sizeof one) < 0 && errno != EAGAIN) fail("kicking");
}

void Virtqueue::waitForCall(int timeoutMs) {
  pollfd ready = {callFd_, POLLIN, 0};
  if (poll(&ready, 1, timeoutMs) < 0 && errno != EINTR) fail("waiting for the device");
  calm();
}

void Virtqueue::calm() {
  uint64_t count;
  if (read(callFd_, &count, sizeof count) < 0 && errno != EAGAIN) fail("reading an eventfd");
}
