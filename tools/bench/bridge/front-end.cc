#include "front-end.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "tap.h"

namespace {

enum Request : uint32_t {
  GET_FEATURES = 1,
  SET_FEATURES = 2,
  SET_OWNER = 3,
  SET_MEM_TABLE = 5,
  SET_VRING_NUM = 8,
  SET_VRING_ADDR = 9,
  SET_VRING_BASE = 10,
  SET_VRING_KICK = 12,
  SET_VRING_CALL = 13,
  GET_PROTOCOL_FEATURES = 15,
  SET_PROTOCOL_FEATURES = 16,
  SET_VRING_ENABLE = 18,
};

constexpr uint64_t bit(int number) { return uint64_t{1} << number; }

constexpr uint64_t MERGEABLE = bit(15), EVENT_INDEX = bit(29), PROTOCOL_FEATURES = bit(30), VERSION_1 = bit(32);
// What a guest's driver is glad of: checksums and segments of all kinds, to the guest too.
constexpr uint64_t GUEST_OFFLOADS = bit(1) | bit(7) | bit(8) | bit(9) | bit(54) | bit(55);
constexpr uint64_t KNOWN = FEATURE_CSUM | FEATURE_HOST_TSO4 | FEATURE_HOST_TSO6 | FEATURE_HOST_ECN | FEATURE_HOST_USO |
                           GUEST_OFFLOADS | MERGEABLE | EVENT_INDEX | PROTOCOL_FEATURES | VERSION_1;
constexpr uint64_t REPLY_ACK = bit(3);
constexpr uint32_t VERSION = 1, NEED_REPLY = 8;
constexpr uint32_t HEADER_BYTES = 12;

void send(int control, uint32_t request, const void* payload, uint32_t bytes, int fd = -1, uint32_t flags = 0) {
  struct {
    uint32_t request, flags, size;
    uint8_t payload[64];
  } message = {request, VERSION | flags, bytes, {}};
  memcpy(message.payload, payload, bytes);
  iovec piece = {&message, HEADER_BYTES + bytes};
  alignas(cmsghdr) char rights[CMSG_SPACE(sizeof fd)] = {};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  if (fd >= 0) {
    header.msg_control = rights;
    header.msg_controllen = sizeof rights;
    cmsghdr* const control = CMSG_FIRSTHDR(&header);
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(control), &fd, sizeof fd);
  }
  if (sendmsg(control, &header, MSG_NOSIGNAL) < 0) fail("a message to the back-end");
}

void set(int control, uint32_t request, uint64_t value, int fd = -1) { send(control, request, &value, 8, fd); }

void setState(int control, uint32_t request, uint32_t queue, uint32_t value) {
  const uint32_t words[] = {queue, value};
  send(control, request, words, sizeof words);
}

uint64_t reply(int control) {
  uint8_t message[HEADER_BYTES + 8];
  const ssize_t got = recv(control, message, sizeof message, MSG_WAITALL);
  if (got >= 0 && got != sizeof message) {
    errno = 0;
    fail("the back-end has ended the connection");
  }
  if (got < 0) fail("a reply of the back-end");
  uint64_t value;
  memcpy(&value, message + HEADER_BYTES, sizeof value);
  return value;
}

uint64_t get(int control, uint32_t request) {
  send(control, request, nullptr, 0);
  return reply(control);
}

void start(int control, uint32_t index, const Virtqueue& queue) {
  setState(control, SET_VRING_NUM, index, queue.entries());
  setState(control, SET_VRING_BASE, index, 0);
  const auto user = [](const uint8_t* place) { return reinterpret_cast<uint64_t>(place); };
  const uint64_t addresses[] = {index, user(queue.descriptors()), user(queue.used()), user(queue.available()), 0};
  send(control, SET_VRING_ADDR, addresses, sizeof addresses);
  set(control, SET_VRING_CALL, index, queue.callFd());
  set(control, SET_VRING_KICK, index, queue.kickFd());
  setState(control, SET_VRING_ENABLE, index, 1);
}

}  // namespace

FrontEnd setUp(int control, uint16_t entries) {
  FrontEnd front{};
  front.control = control;
  front.receiveAt = 2 * Virtqueue::SECTION_BYTES;
  front.transmitAt = front.receiveAt + uint64_t{RECEIVE_BYTES} * entries;
  const uint64_t bytes = front.transmitAt + uint64_t{TRANSMIT_BYTES} * entries;
  const int fd = memfd_create("guest", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(bytes)) != 0) fail("the guest's memory");
  void* const mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) fail("mapping the guest's memory");
  front.memory = static_cast<uint8_t*>(mapped);
  front.receive = std::make_unique<Virtqueue>(front.memory, entries);
  front.transmit = std::make_unique<Virtqueue>(front.memory + Virtqueue::SECTION_BYTES, entries);

  front.features = get(control, GET_FEATURES) & KNOWN;
  if ((front.features & (MERGEABLE | VERSION_1)) != (MERGEABLE | VERSION_1)) {
    errno = 0;
    fail("the back-end does not know what this guest needs: VERSION_1 and MRG_RXBUF");
  }
  const uint64_t protocol = get(control, GET_PROTOCOL_FEATURES) & REPLY_ACK;
  set(control, SET_PROTOCOL_FEATURES, protocol);
  send(control, SET_OWNER, nullptr, 0);
  set(control, SET_FEATURES, front.features);
  front.receive->eventIndex = front.transmit->eventIndex = front.features & EVENT_INDEX;
  const uint64_t table[] = {1, FrontEnd::GUEST_BASE, bytes, reinterpret_cast<uint64_t>(front.memory), 0};
  send(control, SET_MEM_TABLE, table, sizeof table, fd, protocol ? NEED_REPLY : 0);
  if (protocol && reply(control) != 0) {
    errno = 0;
    fail("the back-end refuses the guest's memory");
  }
  close(fd);
  start(control, 0, *front.receive);
  start(control, 1, *front.transmit);
  return front;
}
