#include "front-end.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "../../native/cpp/descriptor-message.h"
#include "fail.h"

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
  GET_QUEUE_NUM = REQUEST_QUEUE_NUM,
  SET_VRING_ENABLE = 18,
};

/** Protocol features: MQ, REPLY_ACK, CONFIG. */
constexpr uint64_t MULTIQUEUE = 1 << 0, REPLY_ACK = 1 << 3, CONFIG = 1 << 9;
constexpr uint32_t VERSION = 1, NEED_REPLY = 8;
constexpr uint32_t HEADER_BYTES = 12, PAYLOAD_BYTES_MAX = 1024;

void receiveExactly(int control, void* to, size_t bytes) {
  if (bytes == 0) return;
  const ssize_t got = recv(control, to, bytes, MSG_WAITALL);
  if (got < 0) fail("a reply of the back-end");
  if (got != static_cast<ssize_t>(bytes)) refuse("the back-end has ended the connection");
}

void set(int control, uint32_t request, uint64_t value, int fd = -1) { sendMessage(control, request, &value, 8, fd); }

void setState(int control, uint32_t request, uint32_t queue, uint32_t value) {
  const uint32_t words[] = {queue, value};
  sendMessage(control, request, words, sizeof words);
}

void start(int control, uint32_t index, const Virtqueue& queue) {
  setState(control, SET_VRING_NUM, index, queue.entries());
  setState(control, SET_VRING_BASE, index, queue.base());
  const auto user = [](const uint8_t* place) { return reinterpret_cast<uint64_t>(place); };
  const uint64_t addresses[] = {index, user(queue.descriptors()), user(queue.used()), user(queue.available()), 0};
  sendMessage(control, SET_VRING_ADDR, addresses, sizeof addresses);
  set(control, SET_VRING_CALL, index, queue.callFd());
  set(control, SET_VRING_KICK, index, queue.kickFd());
  setState(control, SET_VRING_ENABLE, index, 1);
}

}  // namespace

void sendMessage(int control, uint32_t request, const void* payload, uint32_t bytes, int fd, uint32_t flags) {
  struct {
    uint32_t request, flags, size;
    uint8_t payload[PAYLOAD_BYTES_MAX];
  } message = {request, VERSION | flags, bytes, {}};
  if (bytes > PAYLOAD_BYTES_MAX) refuse("a message that is too long");
  if (bytes > 0) memcpy(message.payload, payload, bytes);
  const passt::DescriptorMessage whole(&message, HEADER_BYTES + bytes, fd);
  if (sendmsg(control, whole.header(), MSG_NOSIGNAL) < 0) fail("a message to the back-end");
}

std::vector<uint8_t> readReply(int control) {
  uint32_t header[3];
  receiveExactly(control, header, sizeof header);
  if (header[2] > PAYLOAD_BYTES_MAX) refuse("a reply that is too long");
  std::vector<uint8_t> payload(header[2]);
  receiveExactly(control, payload.data(), payload.size());
  return payload;
}

uint64_t askNumber(int control, uint32_t request) {
  sendMessage(control, request, nullptr, 0);
  const std::vector<uint8_t> payload = readReply(control);
  uint64_t value;
  if (payload.size() != sizeof value) refuse("a reply that is no number");
  memcpy(&value, payload.data(), sizeof value);
  return value;
}

FrontEnd setUp(int control, const Wishes& wishes) {
  FrontEnd front;
  front.control = control;
  front.pairs = wishes.pairs;
  front.features = askNumber(control, GET_FEATURES) & (wishes.features | FEATURE_PROTOCOL);
  const uint64_t protocol = askNumber(control, GET_PROTOCOL_FEATURES) & (MULTIQUEUE | REPLY_ACK | CONFIG);
  set(control, SET_PROTOCOL_FEATURES, protocol);
  const uint64_t pairsMax = protocol & MULTIQUEUE ? askNumber(control, GET_QUEUE_NUM) : 1;
  if (static_cast<uint64_t>(wishes.pairs) > (front.has(FEATURE_MULTIQUEUE) ? pairsMax : 1)) {
    refuse("the back-end has fewer pairs of queues");
  }
  front.receiveBytes = front.has(FEATURE_MERGEABLE) ? RECEIVE_BYTES : TRANSMIT_BYTES;

  const auto sections = static_cast<uint64_t>(2 * wishes.pairs + 1);
  const uint64_t each = (uint64_t{front.receiveBytes} + TRANSMIT_STRIDE) * wishes.entries;
  const uint64_t bytes = sections * Virtqueue::SECTION_BYTES + each * static_cast<uint64_t>(wishes.pairs) + TRANSMIT_BYTES;
  const int fd = memfd_create("guest", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(bytes)) != 0) fail("the guest's memory");
  void* const mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) fail("mapping the guest's memory");
  front.memory = static_cast<uint8_t*>(mapped);
  const auto make = [&](int section) {
    uint8_t* const at = front.memory + Virtqueue::SECTION_BYTES * static_cast<uint64_t>(section);
    return Virtqueue::make(at, wishes.entries, front.has(FEATURE_PACKED), front.has(FEATURE_EVENT_INDEX));
  };
  for (int i = 0; i < 2 * wishes.pairs; i++) front.queues.push_back(make(i));
  if (front.has(FEATURE_CONTROL_QUEUE)) front.commands = make(2 * wishes.pairs);

  sendMessage(control, SET_OWNER, nullptr, 0);
  set(control, SET_FEATURES, front.features);
  const uint64_t table[] = {1, FrontEnd::GUEST_BASE, bytes, reinterpret_cast<uint64_t>(front.memory), 0};
  sendMessage(control, SET_MEM_TABLE, table, sizeof table, fd, protocol & REPLY_ACK ? NEED_REPLY : 0);
  if (protocol & REPLY_ACK) {
    for (const uint8_t byte : readReply(control)) {
      if (byte != 0) refuse("the back-end refuses the guest's memory");
    }
  }
  for (uint32_t i = 0; i < front.queues.size(); i++) start(control, i, *front.queues[i]);
  // It comes after all pairs that there could be (VIRTIO 1.2 section 5.1.2).
  const uint64_t after = front.has(FEATURE_MULTIQUEUE) ? 2 * pairsMax : 2;
  if (front.commands) start(control, static_cast<uint32_t>(after), *front.commands);
  return front;
}
