/**
 * A vhost-user front-end without a machine: driver and virtqueues in a file of memory, frames on standard input and output.
 *
 * usage: vhost-frontend SOCKET FEATURES [PAIRS]     FEATURES in hexadecimal: of these, what the back-end offers, packed queues included; PAIRS of
 *                                                   queues, with the feature for several
 *
 * On both pipes everything follows four bytes: for what it is, and three for its length, big-endian.
 *
 * ```
 *   0 to 7   a frame on that pair of queues, behind virtio's header (twelve bytes, or ten without VERSION_1 and MRG_RXBUF). A length of zero on
 *            standard input is answered by one on standard output, when all frames before it are in the queue, and all that came meanwhile
 *            has been written
 *   254      a message: its request (four bytes, little-endian) and payload; answered by the payload of the back-end's reply
 *   255      a command for the control queue: bytes of room for the answer, bytes of each piece that the command is in (0: one piece), the
 *            command; answered by the answer
 * ```
 */
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "fail.h"
#include "front-end.h"

using Bytes = std::vector<uint8_t>;

void fail(const std::string& what) {
  if (errno != 0) {
    perror(what.c_str());
  } else {
    fprintf(stderr, "vhost-frontend: %s\n", what.c_str());
  }
  exit(1);
}

namespace {

constexpr uint8_t MESSAGE = 254, COMMAND = 255;
constexpr uint16_t ENTRIES = 1024;
/** Of a command, so that its pieces fit the queue. */
constexpr size_t COMMAND_BYTES_MAX = 4096;
constexpr int PIECES_MAX = 64;

FrontEnd front;
/** Slots of transmit queues that are free. */
std::vector<uint16_t> freeSlots[PAIRS_MAX];

void exactly(int fd, uint8_t* bytes, size_t length, bool out) {
  while (length > 0) {
    const ssize_t done = out ? write(fd, bytes, length) : read(fd, bytes, length);
    if (done > 0) {
      bytes += done;
      length -= static_cast<size_t>(done);
    } else if (done == 0) {
      exit(0);
    } else if (errno == EAGAIN) {
      pollfd wait = {fd, static_cast<short>(out ? POLLOUT : POLLIN), 0};
      poll(&wait, 1, -1);
    } else if (errno != EINTR) {
      fail(out ? "write" : "read");
    }
  }
}

void put(uint8_t what, const Bytes& bytes) {
  const auto length = static_cast<uint32_t>(bytes.size());
  uint8_t prefix[4] = {what, uint8_t(length >> 16), uint8_t(length >> 8), uint8_t(length)};
  exactly(1, prefix, 4, true);
  exactly(1, const_cast<uint8_t*>(bytes.data()), length, true);
}

void supply(int pair, uint16_t slot) {
  front.queues[size_t(2 * pair)]->offer(slot, front.address(front.receiveSlot(pair, slot)), front.receiveBytes, true);
}

/** Writes out what has come. */
void drain(int pair) {
  Virtqueue& queue = *front.queues[size_t(2 * pair)];
  UsedBuffer used;
  for (bool more = true; more; more = !queue.wantCall()) {
    while (queue.take(&used)) {
      Bytes frame;
      uint16_t left = 1;
      for (bool first = true;; first = false) {
        const uint8_t* const at = front.receiveSlot(pair, used.slot);
        if (used.written > front.receiveBytes) refuse("the device has written beyond a buffer");
        frame.insert(frame.end(), at, at + used.written);
        if (first && front.has(FEATURE_MERGEABLE) && used.written >= VNET_HEADER_BYTES) memcpy(&left, at + 10, 2);
        supply(pair, used.slot);
        if (--left == 0) break;
        if (!queue.take(&used)) refuse("a part of a frame");
      }
      // Before it waits for a reader.
      queue.publish();
      queue.wantCall();
      queue.kickAnyway();
      put(static_cast<uint8_t>(pair), frame);
    }
  }
}

void drainAll() {
  for (int pair = 0; pair < front.pairs; pair++) drain(pair);
}

void reclaim(int pair) {
  Virtqueue& queue = *front.queues[size_t(2 * pair + 1)];
  UsedBuffer used;
  do {
    while (queue.take(&used)) freeSlots[pair].push_back(used.slot);
  } while (!queue.wantCall());
}

void transmit(int pair, const Bytes& frame) {
  Virtqueue& queue = *front.queues[size_t(2 * pair + 1)];
  std::vector<uint16_t>& free = freeSlots[pair];
  for (reclaim(pair); free.empty(); reclaim(pair)) queue.waitForCall(10);
  const uint16_t slot = free.back();
  free.pop_back();
  uint8_t* const at = front.transmitSlot(pair, slot);
  memcpy(at, frame.data(), frame.size());
  const uint64_t address = front.address(at);
  const auto length = static_cast<uint32_t>(frame.size());
  if (front.has(FEATURE_INDIRECT) && slot % 2 == 0 && length > 40) {
    // In three parts, of which the first ends within virtio's header.
    const BufferPart parts[] = {{address, 5, false}, {address + 5, 28, false}, {address + 33, length - 33, false}};
    const uint64_t table = TRANSMIT_BYTES - 64;
    queue.offer(slot, parts, 3, at + table, address + table);
  } else {
    queue.offer(slot, address, length, false);
  }
  queue.publish();
  queue.kickAnyway();
}

void carryOut(const Bytes& order) {
  if (!front.commands || order.size() < 2 || order.size() > COMMAND_BYTES_MAX) exit(2);
  Virtqueue& queue = *front.commands;
  uint8_t* const area = front.commandArea();
  const uint32_t room = order[0];
  const auto length = static_cast<uint32_t>(order.size() - 2);
  memcpy(area, order.data() + 2, length);
  uint8_t* const answer = area + COMMAND_BYTES_MAX;
  memset(answer, 0xee, 256);
  BufferPart parts[PIECES_MAX];
  int count = 0;
  const uint32_t each = order[1] > 0 ? order[1] : length;
  for (uint32_t done = 0; done < length; done += each) {
    if (count == PIECES_MAX - 1) exit(2);
    parts[count++] = {front.address(area + done), each < length - done ? each : length - done, false};
  }
  if (room > 0) parts[count++] = {front.address(answer), room, true};
  queue.offer(0, parts, count);
  queue.publish();
  queue.kickAnyway();
  UsedBuffer used;
  while (!queue.take(&used)) {
    if (queue.wantCall()) queue.waitForCall(10);
  }
  if (used.written > room) refuse("the device has written beyond the answer");
  put(COMMAND, Bytes(answer, answer + used.written));
}

void takeOrder() {
  uint8_t prefix[4];
  exactly(0, prefix, 4, false);
  Bytes bytes(size_t{prefix[1]} << 16 | size_t{prefix[2]} << 8 | prefix[3]);
  if (bytes.size() > TRANSMIT_BYTES - 64) exit(2);
  exactly(0, bytes.data(), bytes.size(), false);
  if (prefix[0] == MESSAGE) {
    if (bytes.size() < 4) exit(2);
    uint32_t request;
    memcpy(&request, bytes.data(), 4);
    sendMessage(front.control, request, bytes.data() + 4, static_cast<uint32_t>(bytes.size() - 4));
    put(MESSAGE, readReply(front.control));
  } else if (prefix[0] == COMMAND) {
    carryOut(bytes);
  } else if (prefix[0] >= front.pairs) {
    exit(2);
  } else if (bytes.empty()) {
    drainAll();
    put(0, {});
  } else {
    transmit(prefix[0], bytes);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int pairs = argc > 3 ? atoi(argv[3]) : 1;
  if (argc < 3 || argc > 4 || pairs < 1 || pairs > PAIRS_MAX) {
    fprintf(stderr, "usage: vhost-frontend SOCKET FEATURES [PAIRS]\n");
    return 2;
  }
  const int control = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
  if (connect(control, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) fail(argv[1]);
  front = setUp(control, {strtoull(argv[2], nullptr, 16), ENTRIES, pairs});
  for (int pair = 0; pair < pairs; pair++) {
    for (uint16_t i = 0; i < ENTRIES; i++) {
      supply(pair, i);
      freeSlots[pair].push_back(i);
    }
    Virtqueue& queue = *front.queues[size_t(2 * pair)];
    queue.publish();
    queue.wantCall();
    queue.kickAnyway();
  }
  // The last of its messages has been attended to when this one is answered.
  askNumber(control, REQUEST_QUEUE_NUM);
  put(0, {});

  for (;;) {
    pollfd wait[2 + PAIRS_MAX] = {{0, POLLIN, 0}, {control, POLLIN, 0}};
    for (int pair = 0; pair < pairs; pair++) wait[2 + pair] = {front.queues[size_t(2 * pair)]->callFd(), POLLIN, 0};
    if (poll(wait, static_cast<nfds_t>(2 + pairs), -1) < 0 && errno != EINTR) fail("poll");
    if (wait[1].revents) return 3;
    for (int pair = 0; pair < pairs; pair++) front.queues[size_t(2 * pair)]->calm();
    drainAll();
    if (wait[0].revents) takeOrder();
  }
}
