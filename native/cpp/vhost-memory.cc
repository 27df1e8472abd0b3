#include "vhost-memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace passt {

/** Address space to reserve, and what is still of use where less is to be had (39-bit address spaces, resource limits). */
constexpr size_t reservationMax = size_t{1} << 42;
constexpr size_t reservationMin = size_t{1} << 30;
constexpr uint64_t logPageBytes = 4096;

/** Largest alignment that a file asks for: huge pages of 1 GiB. */
constexpr uint64_t alignmentMax = 1 << 30;

/** All of the process. */
static GuestMemory* reservations = nullptr;
static struct sigaction formerAction;

static void onBusError(int, siginfo_t* info, void*) {
  if (GuestMemory::mendAny(info->si_addr)) return;
  // Not ours: the instruction runs again, and whoever was asked before is asked.
  sigaction(SIGBUS, &formerAction, nullptr);
}

static void catchBusErrors() {
  static bool done = false;
  if (done) return;
  done = true;
  struct sigaction action {};
  action.sa_sigaction = onBusError;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGBUS, &action, &formerAction);
}

int32_t GuestMemory::reserve() {
  catchBusErrors();
  for (size_t bytes = reservationMax; bytes >= reservationMin; bytes /= 2) {
    void* const at = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) continue;
    all_ = {static_cast<uint8_t*>(at), bytes};
    next_ = reservations;
    reservations = this;
    return 0;
  }
  return -ENOMEM;
}

GuestMemory::~GuestMemory() {
  for (GuestMemory** link = &reservations; *link; link = &(*link)->next_) {
    if (*link != this) continue;
    *link = next_;
    break;
  }
  if (all_.at) munmap(all_.at, all_.bytes);
}

void GuestMemory::empty(Place& place) {
  if (place.bytes > 0) {
    // seccomp[vhost-user]: mmap(_, _, PROT_NONE, MAP_PRIVATE+MAP_ANONYMOUS+MAP_NORESERVE+MAP_FIXED)
    mmap(place.at, place.bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  }
  place = {};
}

uint8_t* GuestMemory::freePlace(size_t bytes, size_t alignment) const {
  const auto from = reinterpret_cast<uintptr_t>(all_.at);
  const uintptr_t end = from + all_.bytes;
  const auto align = [alignment](uintptr_t at) { return (at + alignment - 1) & ~(alignment - 1); };
  uintptr_t at = align(from);
  // A page stays free behind each place: what runs over its end faults.
  const auto pass = [&](const Place& place) {
    const auto begins = reinterpret_cast<uintptr_t>(place.at);
    if (place.bytes == 0 || at + bytes < begins || at > begins + place.bytes) return false;
    at = align(begins + place.bytes + logPageBytes);
    return true;
  };
  for (bool moved = true; moved;) {
    moved = pass(logPlace_);
    moved |= pass(inflightPlace_);
    for (int32_t i = 0; i < count_; i++) moved |= pass(regions_[i].place);
  }
  return at <= end && bytes <= end - at ? reinterpret_cast<uint8_t*>(at) : nullptr;
}

int32_t GuestMemory::map(int fd, uint64_t size, uint64_t offset, Place* place, uint8_t** first) {
  struct stat file;
  // seccomp[vhost-user]: fstat newfstatat(_, _, _, AT_EMPTY_PATH)
  if (fstat(fd, &file) < 0) return -errno;
  uint64_t end = 0;
  if (size == 0 || __builtin_add_overflow(offset, size, &end) || end > INT64_MAX - alignmentMax) return -EINVAL;
  if (S_ISREG(file.st_mode) && end > static_cast<uint64_t>(file.st_size)) return -EFBIG;
  // Files of huge pages are mapped by whole ones, and say how large they are.
  auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const auto block = static_cast<uint64_t>(file.st_blksize);
  if (block > page && block <= alignmentMax && (block & (block - 1)) == 0) page = block;
  const uint64_t start = offset & ~(page - 1);
  const uint64_t bytes = (end - start + page - 1) & ~(page - 1);
  uint8_t* const at = bytes <= all_.bytes ? freePlace(bytes, page) : nullptr;
  if (!at) return -ENOMEM;
  // seccomp[vhost-user]: mmap(_, _, PROT_READ+PROT_WRITE, MAP_SHARED+MAP_FIXED)
  if (mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, static_cast<off_t>(start)) == MAP_FAILED) {
    const int error = errno;
    Place failed = {at, bytes};
    empty(failed);
    return -error;
  }
  *place = {at, bytes};
  *first = at + (offset - start);
  return 0;
}

static bool overlap(uint64_t a, uint64_t b, uint64_t sizeA, uint64_t sizeB) { return a - b < sizeB || b - a < sizeA; }

int32_t GuestMemory::add(int fd, uint64_t guest, uint64_t size, uint64_t user, uint64_t offset) {
  uint64_t end = 0;
  if (size == 0 || __builtin_add_overflow(guest, size, &end) || __builtin_add_overflow(user, size, &end)) {
    return -EINVAL;
  }
  if (count_ == regionMax) return -ENOSPC;
  for (int32_t i = 0; i < count_; i++) {
    const Region& other = regions_[i];
    if (overlap(guest, other.guest, size, other.size) || overlap(user, other.user, size, other.size)) return -EEXIST;
  }
  Region region = {guest, size, user, nullptr, {}};
  const int32_t error = map(fd, size, offset, &region.place, &region.host);
  if (error) return error;
  regions_[count_++] = region;
  return 0;
}

int32_t GuestMemory::remove(uint64_t guest, uint64_t size, uint64_t user) {
  for (int32_t i = 0; i < count_; i++) {
    Region& region = regions_[i];
    if (region.guest != guest || region.size != size || region.user != user) continue;
    empty(region.place);
    region = regions_[--count_];
    last_ = nullptr;
    return 0;
  }
  return -ENOENT;
}

void GuestMemory::clear() {
  for (int32_t i = 0; i < count_; i++) empty(regions_[i].place);
  count_ = 0;
  last_ = nullptr;
  torn_ = 0;
}

const GuestMemory::Region* GuestMemory::find(uint64_t guest) const {
  for (int32_t i = 0; i < count_; i++)
    if (guest - regions_[i].guest < regions_[i].size) return &regions_[i];
  return nullptr;
}

uint8_t* GuestMemory::userAt(uint64_t address, uint64_t length) const {
  for (int32_t i = 0; i < count_; i++) {
    const Region& region = regions_[i];
    const uint64_t from = address - region.user;
    if (from < region.size) return length <= region.size - from ? region.host + from : nullptr;
  }
  return nullptr;
}

int32_t GuestMemory::startLog(int fd, uint64_t size, uint64_t offset) {
  stopLog();
  const int32_t error = map(fd, size, offset, &logPlace_, &log_);
  if (error) return error;
  logBytes_ = size;
  return 0;
}

int32_t GuestMemory::mapInflight(int fd, uint64_t size, uint64_t offset, uint8_t** at) {
  empty(inflightPlace_);
  return map(fd, size, offset, &inflightPlace_, at);
}

void GuestMemory::stopLog() {
  empty(logPlace_);
  log_ = nullptr;
  logBytes_ = 0;
  noted_ = false;
}

void GuestMemory::written(const uint8_t* at, uint64_t length) {
  for (int32_t i = 0; i < count_; i++) {
    const Region& region = regions_[i];
    const auto from = static_cast<uint64_t>(at - region.host);
    if (at < region.host || from >= region.size) continue;
    writtenAt(region.guest + from, length);
    return;
  }
}

void GuestMemory::writtenAt(uint64_t guest, uint64_t length) {
  if (!log_ || length == 0) return;
  const uint64_t last = (guest + length - 1) / logPageBytes;
  for (uint64_t page = guest / logPageBytes; page <= last && page / 8 < logBytes_; page++) {
    // The front-end takes bits out meanwhile.
    __atomic_fetch_or(log_ + page / 8, static_cast<uint8_t>(1 << (page & 7)), __ATOMIC_RELAXED);
    noted_ = true;
  }
}

bool GuestMemory::mendAny(const void* at) {
  for (GuestMemory* memory = reservations; memory; memory = memory->next_)
    if (memory->mend(at)) return true;
  return false;
}

bool GuestMemory::mend(const void* at) {
  const auto* const byte = static_cast<const uint8_t*>(at);
  if (!all_.at || byte < all_.at || byte >= all_.at + all_.bytes) return false;
  const auto mendPlace = [byte](const Place& place) {
    // The whole of it: a mapping of huge pages can't be cut at any page.
    // seccomp[vhost-user]: mmap(_, _, PROT_READ+PROT_WRITE, MAP_PRIVATE+MAP_ANONYMOUS+MAP_NORESERVE+MAP_FIXED)
    constexpr int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    return place.bytes > 0 && byte >= place.at && byte < place.at + place.bytes &&
           mmap(place.at, place.bytes, PROT_READ | PROT_WRITE, flags, -1, 0) != MAP_FAILED;
  };
  bool mended = mendPlace(logPlace_) || mendPlace(inflightPlace_);
  for (int32_t i = 0; i < count_ && !mended; i++) mended = mendPlace(regions_[i].place);
  if (mended) torn_ = 1;
  return mended;
}

}  // namespace passt
