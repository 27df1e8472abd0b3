#include "relay.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "tap.h"

static constexpr size_t LENGTH_BYTES = 4;
static constexpr size_t FRAME_BYTES_MIN = 14;
static constexpr size_t FRAME_BYTES_MAX = 65535;

// Sends everything. False when the other end is gone.
static bool sendAll(int socket, const uint8_t* from, size_t length, RelayCounters& counters) {
  while (length > 0) {
    const ssize_t sent = send(socket, from, length, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EPIPE || errno == ECONNRESET) return false;
      fail("sending to the socket");
    }
    counters.calls.fetch_add(1, std::memory_order_relaxed);
    from += sent;
    length -= static_cast<size_t>(sent);
  }
  return true;
}

void relayTapToSocket(int tap, int socket, size_t batchBytes, RelayCounters& counters) {
  std::vector<uint8_t> buffer(std::max(batchBytes, LENGTH_BYTES + FRAME_BYTES_MAX));
  for (;;) {
    pollfd ready{.fd = tap, .events = POLLIN, .revents = 0};
    if (poll(&ready, 1, -1) < 0 && errno != EINTR) fail("waiting for the tap");

    size_t used = 0;
    uint64_t frames = 0;
    while (buffer.size() - used >= LENGTH_BYTES + FRAME_BYTES_MAX) {
      const ssize_t got = read(tap, &buffer[used + LENGTH_BYTES], FRAME_BYTES_MAX);
      if (got < 0) {
        if (errno == EAGAIN || errno == EINTR) break;
        fail("reading the tap");
      }
      const uint32_t length = htonl(static_cast<uint32_t>(got));
      memcpy(&buffer[used], &length, LENGTH_BYTES);
      used += LENGTH_BYTES + static_cast<size_t>(got);
      frames++;
    }
    if (used == 0) continue;
    counters.frames.fetch_add(frames, std::memory_order_relaxed);
    counters.bytes.fetch_add(used - frames * LENGTH_BYTES, std::memory_order_relaxed);
    if (!sendAll(socket, buffer.data(), used, counters)) return;
  }
}

// Writes the whole frames at the start of the buffer; returns how many bytes they took.
static size_t writeFrames(int tap, const uint8_t* from, size_t length, RelayCounters& counters) {
  size_t done = 0;
  while (length - done >= LENGTH_BYTES) {
    uint32_t word;
    memcpy(&word, from + done, LENGTH_BYTES);
    const size_t frameBytes = ntohl(word);
    if (frameBytes < FRAME_BYTES_MIN || frameBytes > FRAME_BYTES_MAX) {
      errno = 0;
      fail("bad frame length from the socket: " + std::to_string(frameBytes));
    }
    if (length - done - LENGTH_BYTES < frameBytes) break;
    // A tap refuses a frame when it is down or out of memory: to a guest that is a lost frame, not the end.
    if (write(tap, from + done + LENGTH_BYTES, frameBytes) < 0) {
      counters.drops.fetch_add(1, std::memory_order_relaxed);
    } else {
      counters.frames.fetch_add(1, std::memory_order_relaxed);
      counters.bytes.fetch_add(frameBytes, std::memory_order_relaxed);
    }
    done += LENGTH_BYTES + frameBytes;
  }
  return done;
}

void relaySocketToTap(int tap, int socket, size_t batchBytes, RelayCounters& counters) {
  std::vector<uint8_t> buffer(std::max(batchBytes, LENGTH_BYTES + FRAME_BYTES_MAX));
  size_t held = 0;
  for (;;) {
    const ssize_t got = recv(socket, &buffer[held], buffer.size() - held, 0);
    if (got == 0) return;
    if (got < 0) {
      if (errno == EINTR) continue;
      if (errno == ECONNRESET) return;
      fail("receiving from the socket");
    }
    counters.calls.fetch_add(1, std::memory_order_relaxed);
    held += static_cast<size_t>(got);
    const size_t done = writeFrames(tap, buffer.data(), held, counters);
    held -= done;
    memmove(buffer.data(), &buffer[done], held);
  }
}
