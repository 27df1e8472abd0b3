#include "pcap.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <ctime>
#include <new>

#include "addon.h"
#include "checksum.h"
#include "engine.h"

namespace passt {

/** Longest frame that is recorded whole; also the file's declared snapshot length. */
constexpr size_t snapLength = 65535;

Pcap* Pcap::open(const char* path) {
  const int fd = ::open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  return fd < 0 ? nullptr : begin(fd);
}

Pcap* Pcap::begin(int fd) {
  Pcap* const pcap = new (std::nothrow) Pcap(fd);
  if (!pcap) {
    ::close(fd);
    errno = ENOMEM;
    return nullptr;
  }
  pcap->append32(0xa1b2c3d4);
  pcap->append32(2 | 4 << 16);  // version 2.4: two 16-bit fields
  pcap->append32(0);            // time stamps are UTC
  pcap->append32(0);            // accuracy, by custom 0
  pcap->append32(snapLength);
  pcap->append32(1);  // LINKTYPE_ETHERNET
  pcap->flush();
  return pcap;
}

Pcap::~Pcap() {
  flush();
  if (fd_ < 0) return;
  // seccomp[capture]: fsync
  fsync(fd_);
  ::close(fd_);
}

void Pcap::flush() {
  size_t done = 0;
  while (fd_ >= 0 && done < used_) {
    // seccomp: write
    const ssize_t written = write(fd_, buffer_ + done, used_ - done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      ::close(fd_);
      fd_ = -1;
      break;
    }
    done += static_cast<size_t>(written);
  }
  used_ = 0;
}

void Pcap::append(const void* bytes, size_t length) {
  memcpy(buffer_ + used_, bytes, length);
  used_ += length;
}

void Pcap::append32(uint32_t value) {
  const uint8_t bytes[4] = {uint8_t(value), uint8_t(value >> 8), uint8_t(value >> 16), uint8_t(value >> 24)};
  append(bytes, sizeof bytes);
}

/** Begins a record. @returns the bytes of the frame that belong to it */
size_t Pcap::record(size_t length) {
  const size_t recorded = length < snapLength ? length : snapLength;
  if (used_ + 16 + recorded > capacity) flush();
  timespec time{};
  clock_gettime(CLOCK_REALTIME, &time);
  append32(static_cast<uint32_t>(time.tv_sec));
  append32(static_cast<uint32_t>(time.tv_nsec / 1000));
  append32(static_cast<uint32_t>(recorded));
  append32(static_cast<uint32_t>(length));
  return recorded;
}

void Pcap::frame(const uint8_t* bytes, size_t length) { append(bytes, record(length)); }

void Pcap::unfinished(const uint8_t* bytes, size_t length, int32_t start, int32_t offset) {
  const size_t recorded = record(length);
  uint8_t* const copy = buffer_ + used_;
  append(bytes, recorded);
  if (recorded == length) finishChecksum(copy, static_cast<int32_t>(length), start, offset);
}

void Pcap::frame(const iovec* pieces, size_t count, size_t skip) {
  size_t length = 0;
  for (size_t i = 0; i < count; i++) length += pieces[i].iov_len;
  if (length < skip || length - skip > snapLength) return;
  record(length - skip);
  for (size_t i = 0; i < count; i++) {
    const size_t from = i == 0 ? skip : 0;
    append(static_cast<const uint8_t*>(pieces[i].iov_base) + from, pieces[i].iov_len - from);
  }
}

static int32_t closeCapture(Engine& engine) {
  delete engine.pcap;
  engine.pcap = nullptr;
  return 0;
}

/** openCapture(path): starts recording the guest's frames, replacing an earlier capture. @returns 0 or -errno. */
static napi_value openCapture(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  auto& engine = arguments.self<Engine>();
  closeCapture(engine);
  engine.pcap = Pcap::open(arguments.text(0).c_str());
  return arguments.result(engine.pcap ? 0 : -errno);
}

/** Whether writes to a file never wait for somebody, and are allowed. */
static bool isWritableFile(int fd) {
  struct stat file;
  // seccomp[control]: fstat newfstatat fcntl(_, F_GETFL)
  if (fstat(fd, &file) < 0 || !S_ISREG(file.st_mode)) return false;
  const int flags = fcntl(fd, F_GETFL);
  return flags >= 0 && (flags & O_ACCMODE) != O_RDONLY && !(flags & O_PATH);
}

static int32_t captureTo(Engine& engine, int32_t fd) {
  if (!isWritableFile(fd)) {
    ::close(fd);
    return -EINVAL;
  }
  closeCapture(engine);
  engine.pcap = Pcap::begin(fd);
  return engine.pcap ? 0 : -errno;
}

void bindPcap(napi_env env, napi_value object, Engine* engine) {
  define(env, object, "openCapture", openCapture, engine);
  defineHot<captureTo>(env, object, "captureTo", engine);
  defineHot<closeCapture>(env, object, "closeCapture", engine);
}

}  // namespace passt
