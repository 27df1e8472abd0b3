#include "vhost-ring.h"

#include <unistd.h>

#include <cerrno>

#include "vhost-inflight.h"

namespace passt {

/** Where a packed ring begins: with its first entry, in the first round. */
constexpr uint16_t packedStart = PackedPlace::wrapBit;

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

void Ring::setLayout(bool packed, bool eventIndex) {
  parts_.eventIndex = eventIndex;
  if (packed == packed_) return;
  packed_ = packed;
  parts_.size = 0;
  parts_.device = nullptr;
  addressed_ = false;
  split_.setBase(0);
  packedQueue_.setBase(packedStart);
}

int32_t Ring::setSize(uint32_t size) {
  if (size == 0 || size > sizeMax || (!packed_ && (size & (size - 1)) != 0)) return -EINVAL;
  parts_.size = size;
  parts_.device = nullptr;
  addressed_ = false;
  if (PackedPlace::of(packedQueue_.base()).index >= size) packedQueue_.setBase(packedStart);
  return 0;
}

int32_t Ring::setAddresses(const GuestMemory& memory, const RingAddresses& addresses) {
  const uint64_t driverMask = packed_ ? 3 : 1;
  if ((addresses.descriptors & 15) || (addresses.available & driverMask) || (addresses.used & 3)) return -EINVAL;
  if (parts_.size == 0) return -EINVAL;
  addresses_ = addresses;
  addressed_ = true;
  parts_.logged = addresses.logged;
  parts_.log = addresses.log;
  resolve(memory);
  return parts_.device ? 0 : -EFAULT;
}

void Ring::resolve(const GuestMemory& memory) {
  parts_.device = nullptr;
  if (!addressed_) return;
  const uint32_t size = parts_.size;
  const uint64_t driverBytes = packed_ ? PackedQueue::eventBytes : SplitQueue::driverBytes(size);
  const uint64_t deviceBytes = packed_ ? PackedQueue::eventBytes : SplitQueue::deviceBytes(size);
  parts_.descriptors = memory.userAt(addresses_.descriptors, descriptorBytes * size);
  parts_.driver = memory.userAt(addresses_.available, driverBytes);
  uint8_t* const device = memory.userAt(addresses_.used, deviceBytes);
  // A region may begin at any byte of a file that is mapped by pages.
  const auto misaligned = [](const void* at, uintptr_t mask) { return reinterpret_cast<uintptr_t>(at) & mask; };
  if (!parts_.descriptors || !parts_.driver || !device) return;
  if (misaligned(parts_.descriptors, 15) || misaligned(parts_.driver, packed_ ? 3 : 1) || misaligned(device, 3)) return;
  parts_.device = device;
}

int32_t Ring::setBase(uint16_t base) {
  if (packed_ && parts_.size > 0 && PackedPlace::of(base).index >= parts_.size) return -EINVAL;
  if (packed_) packedQueue_.setBase(base);
  else split_.setBase(base);
  broken_ = false;
  return 0;
}

int32_t Ring::beginInflight() {
  if (!parts_.inflight || inflightBegun_ || !running()) return 0;
  if (parts_.size > inflightEntries_) return -EINVAL;
  uint16_t at = base();
  const int32_t error = inflight::begin(parts_, packed_, &at);
  if (error) return error;
  inflightBegun_ = true;
  return at == base() ? 0 : setBase(at);
}

void Ring::stop() {
  setKick(-1);
  setCall(-1);
  setError(-1);
  split_.stop();
  inflightBegun_ = false;
}

void Ring::reset() {
  stop();
  parts_.size = 0;
  parts_.device = nullptr;
  addressed_ = false;
  parts_.inflight = nullptr;
  split_.setBase(0);
  packedQueue_.setBase(packedStart);
  enabled = false;
}

void Ring::damage() {
  broken_ = true;
  if (error_ >= 0) signal(error_);
}

void Ring::publish(GuestMemory& memory) {
  const bool wake = packed_ ? packedQueue_.publish(memory) : split_.publish(memory);
  if (wake && call_ >= 0) signal(call_);
}

}  // namespace passt
