/**
 * A message to a UNIX socket that carries descriptors (unix(7), SCM_RIGHTS). Without a source file, because the launcher and programs of the tests
 * send such messages as well.
 */
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstring>

namespace passt {

class DescriptorMessage {
 public:
  static constexpr size_t descriptorMax = 16;

  /** What sendmsg takes, as long as the bytes and this object are there. @param count of descriptors, at most descriptorMax */
  DescriptorMessage(const void* bytes, size_t length, const int* descriptors, size_t count)
      : piece_{const_cast<void*>(bytes), length} {
    header_.msg_iov = &piece_;
    header_.msg_iovlen = 1;
    if (count == 0) return;
    header_.msg_control = control_;
    header_.msg_controllen = CMSG_SPACE(count * sizeof *descriptors);
    cmsghdr* const rights = CMSG_FIRSTHDR(&header_);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(count * sizeof *descriptors);
    memcpy(CMSG_DATA(rights), descriptors, count * sizeof *descriptors);
  }
  /** @param descriptor negative: none */
  DescriptorMessage(const void* bytes, size_t length, int descriptor)
      : DescriptorMessage(bytes, length, &descriptor, descriptor >= 0 ? 1 : 0) {}
  // The header points into the object.
  DescriptorMessage(const DescriptorMessage&) = delete;
  DescriptorMessage& operator=(const DescriptorMessage&) = delete;

  const msghdr* header() const { return &header_; }

 private:
  iovec piece_;
  msghdr header_{};
  alignas(cmsghdr) char control_[CMSG_SPACE(descriptorMax * sizeof(int))] = {};
};

}  // namespace passt
