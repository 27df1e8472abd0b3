#include "tcp.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <thread>
#include <vector>

#include "meter.h"

// As iperf3's default for TCP.
static constexpr size_t SINK_BYTES = 128 << 10;

static void noDelay(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

// Threads of the echo server: a connection per transaction must not cost a thread per transaction.
static constexpr int ECHO_THREADS = 64;

static int acceptOne(int listener) {
  for (;;) {
    const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd >= 0) return fd;
    if (errno != EINTR && errno != ECONNABORTED) fail("accepting");
  }
}

static int connectTo(const Endpoint& to) {
  const int fd = socket(to.family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  if (connect(fd, reinterpret_cast<const sockaddr*>(&to.address), to.length) != 0) fail("connecting");
  noDelay(fd);
  return fd;
}

// Sends and receives all of the bytes. False when the other end closed.
static bool sendAll(int fd, const char* from, size_t length) {
  while (length > 0) {
    const ssize_t sent = send(fd, from, length, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EPIPE || errno == ECONNRESET) return false;
      fail("sending");
    }
    from += sent;
    length -= static_cast<size_t>(sent);
  }
  return true;
}

static bool receiveAll(int fd, char* to, size_t length) {
  while (length > 0) {
    const ssize_t got = recv(fd, to, length, 0);
    if (got == 0) return false;
    if (got < 0) {
      if (errno == EINTR) continue;
      if (errno == ECONNRESET) return false;
      fail("receiving");
    }
    to += got;
    length -= static_cast<size_t>(got);
  }
  return true;
}

// Counts what the connection brings until it ends.
static void drain(int fd) {
  std::vector<char> buffer(SINK_BYTES);
  for (;;) {
    const ssize_t got = recv(fd, buffer.data(), buffer.size(), 0);
    if (got > 0) {
      counted.fetch_add(static_cast<uint64_t>(got), std::memory_order_relaxed);
    } else if (got == 0 || errno != EINTR) {
      break;
    }
  }
  close(fd);
}

void serveTcpSink(int listener) {
  for (;;) std::thread(drain, acceptOne(listener)).detach();
}

// Echoes until the connection ends.
static void echo(int fd) {
  noDelay(fd);
  char buffer[64 << 10];
  for (;;) {
    const ssize_t got = recv(fd, buffer, sizeof(buffer), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0 || !sendAll(fd, buffer, static_cast<size_t>(got))) break;
  }
  close(fd);
}

void serveTcpEcho(int listener) {
  const auto work = [listener] {
    for (;;) echo(acceptOne(listener));
  };
  for (int index = 1; index < ECHO_THREADS; index++) std::thread(work).detach();
  work();
  _exit(0);
}

void sendTcpBulk(const Endpoint& to, size_t bytes) {
  const int fd = connectTo(to);
  const std::vector<char> buffer(bytes, 'x');
  while (sendAll(fd, buffer.data(), buffer.size())) {
  }
  close(fd);
}

void runTcpTransactions(const Endpoint& to, size_t bytes) {
  const int fd = connectTo(to);
  std::vector<char> buffer(bytes, 'x');
  for (;;) {
    const uint64_t began = nowNs();
    if (!sendAll(fd, buffer.data(), bytes) || !receiveAll(fd, buffer.data(), bytes)) fail("the connection ended");
    recordLatency(nowNs() - began);
    counted.fetch_add(1, std::memory_order_relaxed);
  }
}

void runTcpConnections(const Endpoint& to, size_t bytes) {
  std::vector<char> buffer(bytes, 'x');
  for (;;) {
    const uint64_t began = nowNs();
    const int fd = connectTo(to);
    if (!sendAll(fd, buffer.data(), bytes) || !receiveAll(fd, buffer.data(), bytes)) fail("a connection ended early");
    close(fd);
    recordLatency(nowNs() - began);
    counted.fetch_add(1, std::memory_order_relaxed);
  }
}

void serveTcpSource(int listener, size_t bytes) {
  for (;;) {
    std::thread(
        [bytes](int fd) {
          const std::vector<char> buffer(bytes, 'x');
          while (sendAll(fd, buffer.data(), buffer.size())) {
          }
          close(fd);
        },
        acceptOne(listener))
        .detach();
  }
}

void runTcpGet(const Endpoint& to) { drain(connectTo(to)); }

// One connection of a burst, from the first step to the last.
static int beginBurst(const Endpoint& to, int events) {
  const int fd = socket(to.family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) fail("socket");
  if (connect(fd, reinterpret_cast<const sockaddr*>(&to.address), to.length) != 0 && errno != EINPROGRESS) {
    fail("connecting");
  }
  epoll_event event{.events = EPOLLOUT, .data = {.fd = fd}};
  if (epoll_ctl(events, EPOLL_CTL_ADD, fd, &event) != 0) fail("epoll");
  return fd;
}

void runTcpBursts(const Endpoint& to, int connections) {
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  const int events = epoll_create1(EPOLL_CLOEXEC);
  std::array<epoll_event, 256> ready;
  for (;;) {
    const uint64_t began = nowNs();
    for (int index = 0; index < connections; index++) beginBurst(to, events);
    for (int left = connections; left > 0;) {
      const int count = epoll_wait(events, ready.data(), ready.size(), -1);
      for (int index = 0; index < count; index++) {
        const int fd = ready[index].data.fd;
        char byte = 'x';
        if (ready[index].events & EPOLLOUT) {
          epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
          if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1) fail("a connection of the burst failed");
          epoll_ctl(events, EPOLL_CTL_MOD, fd, &event);
        } else {
          if (recv(fd, &byte, 1, 0) != 1) fail("a connection of the burst ended early");
          close(fd);
          left--;
        }
      }
    }
    recordLatency(nowNs() - began);
    counted.fetch_add(static_cast<uint64_t>(connections), std::memory_order_relaxed);
  }
}
