#include "vhost-channel.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "descriptor-message.h"

namespace passt {

void VhostChannel::clear() {
  for (int32_t i = 0; i < count_; i++) {
    // seccomp[vhost-user]: close
    if (descriptors_[i] >= 0) ::close(descriptors_[i]);
  }
  count_ = 0;
  got_ = 0;
}

int VhostChannel::take(int32_t index) {
  const int fd = look(index);
  if (fd >= 0) descriptors_[index] = -1;
  return fd;
}

/** Keeps the descriptors that came with a part of a message. @returns false if there are too many */
bool VhostChannel::collect(msghdr& header) {
  bool whole = !(header.msg_flags & MSG_CTRUNC);
  for (cmsghdr* control = CMSG_FIRSTHDR(&header); control; control = CMSG_NXTHDR(&header, control)) {
    if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int fd = -1;
      memcpy(&fd, CMSG_DATA(control) + i * sizeof fd, sizeof fd);
      if (count_ < descriptorMax) {
        descriptors_[count_++] = fd;
      } else {
        ::close(fd);
        whole = false;
      }
    }
  }
  return whole;
}

int32_t VhostChannel::send(int fd, const uint8_t* bytes, size_t length, int descriptor) {
  const DescriptorMessage message(bytes, length, descriptor);
  // seccomp[vhost-user]: sendmsg
  const ssize_t sent = sendmsg(fd, message.header(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent < 0) return -errno;
  return static_cast<size_t>(sent) == length ? 0 : -EAGAIN;
}

int32_t VhostChannel::read(int fd, uint8_t* message) {
  for (;;) {
    size_t whole = headerBytes;
    if (got_ >= headerBytes) {
      uint32_t size = 0;
      memcpy(&size, message + 8, sizeof size);
      if (size > payloadMax) return -EMSGSIZE;
      whole += size;
    }
    if (got_ >= headerBytes && got_ == whole) return static_cast<int32_t>(whole);
    iovec piece = {message + got_, whole - got_};
    // Room for one more than a message may have, to notice it.
    alignas(cmsghdr) char control[CMSG_SPACE((descriptorMax + 1) * sizeof(int))];
    msghdr header{};
    header.msg_iov = &piece;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    // seccomp[vhost-user]: recvmsg
    const ssize_t got = recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno == EAGAIN ? 0 : -errno;
    if (!collect(header)) return -E2BIG;
    if (got == 0) return -ECONNRESET;
    got_ += static_cast<size_t>(got);
  }
}

}  // namespace passt
