#include "udp.h"

#include <netinet/in.h>
#include <time.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "meter.h"

static constexpr size_t BATCH = 64;
static constexpr size_t DATAGRAM_BYTES_MAX = 65535;
// Large enough that the counting program is not what loses datagrams.
static constexpr int RECEIVE_BUFFER_BYTES = 8 << 20;
// Long against any path measured here, short against a measurement.
static constexpr int ECHO_WAIT_US = 100000;

static void widen(int fd) {
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &RECEIVE_BUFFER_BYTES, sizeof(RECEIVE_BUFFER_BYTES)) != 0) {
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &RECEIVE_BUFFER_BYTES, sizeof(RECEIVE_BUFFER_BYTES));
  }
}

static int connectTo(const Endpoint& to) {
  const int fd = socket(to.family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  if (connect(fd, reinterpret_cast<const sockaddr*>(&to.address), to.length) != 0) fail("connecting");
  return fd;
}

// Errors that a connected datagram socket reports about earlier datagrams, or about a queue that is full.
static bool isPassing(int error) {
  return error == EINTR || error == EAGAIN || error == ENOBUFS || error == ECONNREFUSED;
}

void serveUdpSink(int fd) {
  widen(fd);
  // Only counted: one small buffer takes them all, and the kernel cuts longer ones.
  std::array<char, 64> buffer;
  std::array<iovec, BATCH> vectors;
  std::array<mmsghdr, BATCH> messages{};
  for (size_t index = 0; index < BATCH; index++) {
    vectors[index] = {.iov_base = buffer.data(), .iov_len = buffer.size()};
    messages[index].msg_hdr.msg_iov = &vectors[index];
    messages[index].msg_hdr.msg_iovlen = 1;
  }
  for (;;) {
    const int got = recvmmsg(fd, messages.data(), BATCH, MSG_WAITFORONE, nullptr);
    if (got > 0) {
      counted.fetch_add(static_cast<uint64_t>(got), std::memory_order_relaxed);
    } else if (!isPassing(errno)) {
      fail("receiving");
    }
  }
}

void serveUdpEcho(int fd) {
  widen(fd);
  std::vector<char> buffer(DATAGRAM_BYTES_MAX);
  for (;;) {
    sockaddr_storage from;
    socklen_t length = sizeof(from);
    const ssize_t got = recvfrom(fd, buffer.data(), buffer.size(), 0, reinterpret_cast<sockaddr*>(&from), &length);
    if (got < 0) {
      if (isPassing(errno)) continue;
      fail("receiving");
    }
    sendto(fd, buffer.data(), static_cast<size_t>(got), 0, reinterpret_cast<sockaddr*>(&from), length);
  }
}

// Sleeps until as many datagrams are due as a batch holds.
static void pace(uint64_t began, uint64_t sent, double perSecond) {
  const uint64_t due = began + static_cast<uint64_t>(static_cast<double>(sent) / perSecond * 1e9);
  const uint64_t now = nowNs();
  if (due <= now) return;
  const uint64_t wait = due - now;
  timespec pause{.tv_sec = static_cast<time_t>(wait / 1000000000), .tv_nsec = static_cast<long>(wait % 1000000000)};
  nanosleep(&pause, nullptr);
}

void sendUdpFlood(const Endpoint& to, size_t bytes, double perSecond) {
  const int fd = connectTo(to);
  std::vector<char> payload(bytes, 'x');
  std::array<iovec, BATCH> vectors;
  std::array<mmsghdr, BATCH> messages{};
  for (size_t index = 0; index < BATCH; index++) {
    vectors[index] = {.iov_base = payload.data(), .iov_len = bytes};
    messages[index].msg_hdr.msg_iov = &vectors[index];
    messages[index].msg_hdr.msg_iovlen = 1;
  }
  const uint64_t began = nowNs();
  uint64_t sent = 0;
  for (;;) {
    const int done = sendmmsg(fd, messages.data(), BATCH, 0);
    if (done > 0) {
      sent += static_cast<uint64_t>(done);
    } else if (!isPassing(errno)) {
      fail("sending");
    }
    if (perSecond > 0) pace(began, sent, perSecond);
  }
}

void runUdpTransactions(const Endpoint& to, size_t bytes) {
  const int fd = connectTo(to);
  const timeval wait{.tv_sec = 0, .tv_usec = ECHO_WAIT_US};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
  std::vector<char> buffer(bytes, 'x');
  for (;;) {
    const uint64_t began = nowNs();
    if (send(fd, buffer.data(), bytes, 0) < 0 && !isPassing(errno)) fail("sending");
    if (recv(fd, buffer.data(), bytes, 0) < 0) {
      if (!isPassing(errno)) fail("receiving");
      continue;
    }
    recordLatency(nowNs() - began);
    counted.fetch_add(1, std::memory_order_relaxed);
  }
}
