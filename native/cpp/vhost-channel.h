/**
 * vhost-user's messages as bytes and descriptors: a header of twelve bytes (request, flags, size, each 32 bits), a payload of
 * `size` bytes, and up to eight descriptors that come with any part of it (SCM_RIGHTS).
 *
 * What a message means is TypeScript's (packages/transport-vhost). Descriptors never leave native code: it names
 * them by their place in the message, and those that nobody has taken are closed with it.
 */
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>

namespace passt {

class VhostChannel {
 public:
  static constexpr size_t headerBytes = 12;
  /** Largest payload that is taken: the longest known is 268 bytes (SET_CONFIG), SET_MEM_TABLE of eight regions 264. */
  static constexpr size_t payloadMax = 500;
  static constexpr size_t messageMax = headerBytes + payloadMax;
  static constexpr int32_t descriptorMax = 8;

  VhostChannel() = default;
  VhostChannel(const VhostChannel&) = delete;
  VhostChannel& operator=(const VhostChannel&) = delete;
  ~VhostChannel() { clear(); }

  /** Reads on, never beyond the end of a message.
   * @param message where it goes: `messageMax` bytes
   * @returns its length, 0 as long as it is not whole, or -errno: ECONNRESET at the end of the stream, EMSGSIZE for a size
   * beyond `payloadMax`, E2BIG for too many descriptors */
  int32_t read(int fd, uint8_t* message);
  /** Sends a reply at once. @param descriptor goes with it; -1: none @returns 0 or -errno; -EAGAIN if it is not taken whole */
  static int32_t send(int fd, const uint8_t* bytes, size_t length, int descriptor);
  /** Begins another message. Descriptors that were not taken are closed. */
  void clear();

  int32_t descriptorCount() const { return count_; }
  /** A descriptor of the message, which is the caller's from then on; -1 if there is none, or it was taken. */
  int take(int32_t index);
  /** The same, and it stays the message's. */
  int look(int32_t index) const { return index >= 0 && index < count_ ? descriptors_[index] : -1; }

 private:
  bool collect(msghdr& header);

  size_t got_ = 0;
  int descriptors_[descriptorMax] = {-1, -1, -1, -1, -1, -1, -1, -1};
  int32_t count_ = 0;
};

}  // namespace passt
