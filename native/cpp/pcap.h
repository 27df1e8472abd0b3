/**
 * A capture of the guest's side: classic pcap, the format that every tool reads (version 2.4, microseconds, Ethernet),
 * in little-endian order whatever the machine is.
 *
 * Records collect in a buffer that is written when it is full or when the transport has finished a batch, so a capture
 * costs one write per batch. After an error (a full disk) the capture ends; traffic goes on.
 */
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

namespace passt {

class Pcap {
 public:
  /** Truncates or creates `path`, mode 0600. @returns null with errno set on failure. */
  static Pcap* open(const char* path);
  /** Begins in a file that is open, which is closed in any case. @returns null with errno set on failure. */
  static Pcap* begin(int fd);
  /** Writes what is left and syncs the file. */
  ~Pcap();

  /** Adds a frame that lies in one piece. */
  void frame(const uint8_t* bytes, size_t length);
  /** Adds a frame whose checksum somebody else finishes: recorded as it will be. A super-frame is recorded whole, as a
   * capture in the guest shows it. `start` and `offset` as in the frame table; a frame that they don't fit is recorded
   * as it is. */
  void unfinished(const uint8_t* bytes, size_t length, int32_t start, int32_t offset);
  /** Adds a frame that lies in several pieces, after `skip` bytes of the first. */
  void frame(const iovec* pieces, size_t count, size_t skip);
  /** Writes what has been collected. */
  void flush();

 private:
  explicit Pcap(int fd) : fd_(fd) {}
  size_t record(size_t length);
  void append(const void* bytes, size_t length);
  void append32(uint32_t value);

  static constexpr size_t capacity = 256 << 10;
  int fd_;
  size_t used_ = 0;
  uint8_t buffer_[capacity];
};

}  // namespace passt
