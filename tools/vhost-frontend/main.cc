/**
 * A vhost-user front-end without a machine: driver and virtqueues in a file of memory, frames on standard input and output.
 *
 * usage: vhost-frontend SOCKET FEATURES       FEATURES in hexadecimal; of these, what the back-end offers
 *
 * Each frame follows its length (four bytes, big-endian) and is preceded by virtio's header (twelve bytes, or ten without VERSION_1 and
 * MRG_RXBUF). A length of zero on standard input is answered by one on standard output, when all frames before it are in the queue, and all
 * that came meanwhile has been written.
 */
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

constexpr uint64_t mergeable = 1u << 15, indirect = 1u << 28, eventIndex = 1u << 29, protocolFeatures = 1u << 30;
constexpr uint64_t version1 = uint64_t{1} << 32;
constexpr uint32_t entries = 1024;
constexpr uint64_t slotBytes = 68 << 10, smallBytes = 4096;
constexpr uint64_t ringBytes = 64 << 10;
constexpr uint64_t memoryBytes = 2 * ringBytes + 2 * entries * slotBytes;
constexpr uint64_t guestBase = 0x100000;

[[noreturn]] void fail(const char* what) {
  perror(what);
  exit(1);
}

struct Descriptor {
  uint64_t address;
  uint32_t length;
  uint16_t flags, next;
};
struct Used {
  uint32_t head, written;
};

uint8_t* memory;
int control = -1;

/** One queue, and the memory of its buffers: a slot for each entry. */
struct Queue {
  uint32_t index;
  uint64_t at, slots;
  int kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  uint16_t offered = 0, seen = 0;
  std::vector<uint16_t> free;

  explicit Queue(uint32_t index) : index(index), at(index * ringBytes), slots(2 * ringBytes + index * entries * slotBytes) {
    for (uint32_t i = 0; i < entries; i++) free.push_back(static_cast<uint16_t>(i));
  }
  Descriptor* descriptors() const { return reinterpret_cast<Descriptor*>(memory + at); }
  uint16_t* available() const { return reinterpret_cast<uint16_t*>(memory + at + 0x5000); }
  uint8_t* used() const { return memory + at + 0x8000; }
  uint16_t usedIndex() const { return __atomic_load_n(reinterpret_cast<uint16_t*>(used() + 2), __ATOMIC_ACQUIRE); }
  uint64_t slot(uint16_t i) const { return slots + i * slotBytes; }
  void offer(uint16_t head) {
    available()[2 + offered % entries] = head;
    offered++;
    __atomic_store_n(available() + 1, offered, __ATOMIC_RELEASE);
  }
  /** Kicks always: the back-end may be kicked for nothing. */
  void ring() const {
    const uint64_t one = 1;
    if (write(kick, &one, 8) < 0) fail("kick");
  }
  void wantCalls() const {
    available()[2 + entries] = seen;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
  }
  void calm() const {
    uint64_t count;
    while (read(call, &count, 8) > 0) {
    }
  }
};

void message(uint32_t request, const void* payload, uint32_t size, int fd = -1) {
  struct {
    uint32_t request, flags, size;
    uint8_t payload[64];
  } out = {request, 1, size, {}};
  if (size > 0) memcpy(out.payload, payload, size);
  iovec piece = {&out, 12 + size};
  alignas(cmsghdr) char buffer[CMSG_SPACE(sizeof fd)] = {};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  if (fd >= 0) {
    header.msg_control = buffer;
    header.msg_controllen = sizeof buffer;
    cmsghdr* const rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  }
  if (sendmsg(control, &header, 0) != static_cast<ssize_t>(12 + size)) fail("sendmsg");
}
void message64(uint32_t request, uint64_t value, int fd = -1) { message(request, &value, 8, fd); }
void state(uint32_t request, uint32_t ring, uint32_t value) {
  const uint32_t words[] = {ring, value};
  message(request, words, 8);
}
uint64_t ask(uint32_t request) {
  message(request, nullptr, 0);
  uint8_t reply[20];
  if (recv(control, reply, sizeof reply, MSG_WAITALL) != sizeof reply) fail("reply");
  uint64_t value;
  memcpy(&value, reply + 12, 8);
  return value;
}

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
void put(const std::vector<uint8_t>& bytes) {
  const auto length = static_cast<uint32_t>(bytes.size());
  uint8_t prefix[4] = {uint8_t(length >> 24), uint8_t(length >> 16), uint8_t(length >> 8), uint8_t(length)};
  exactly(1, prefix, 4, true);
  exactly(1, const_cast<uint8_t*>(bytes.data()), length, true);
}

uint64_t features;

void supply(Queue& queue, uint16_t slot) {
  const auto bytes = static_cast<uint32_t>(features & mergeable ? smallBytes : slotBytes);
  queue.descriptors()[slot] = {guestBase + queue.slot(slot), bytes, 2, 0};
  queue.offer(slot);
}

/** Writes out what has come. */
void drain(Queue& queue) {
  while (queue.seen != queue.usedIndex()) {
    std::vector<uint8_t> frame;
    uint16_t left = 1;
    for (bool first = true; left > 0; left--, first = false) {
      Used element;
      memcpy(&element, queue.used() + 4 + sizeof element * (queue.seen % entries), sizeof element);
      const uint8_t* const at = memory + queue.slot(static_cast<uint16_t>(element.head));
      frame.insert(frame.end(), at, at + element.written);
      if (first && (features & mergeable) && element.written >= 12) memcpy(&left, at + 10, 2);
      queue.seen++;
      supply(queue, static_cast<uint16_t>(element.head));
    }
    // Before it waits for a reader.
    queue.wantCalls();
    queue.ring();
    put(frame);
  }
}

void reclaim(Queue& queue) {
  for (; queue.seen != queue.usedIndex(); queue.seen++) {
    Used element;
    memcpy(&element, queue.used() + 4 + sizeof element * (queue.seen % entries), sizeof element);
    queue.free.push_back(static_cast<uint16_t>(element.head));
  }
  queue.wantCalls();
}

void transmit(Queue& queue, const std::vector<uint8_t>& frame) {
  for (reclaim(queue); queue.free.empty(); reclaim(queue)) {
    pollfd wait = {queue.call, POLLIN, 0};
    poll(&wait, 1, 10);
    queue.calm();
  }
  const uint16_t slot = queue.free.back();
  queue.free.pop_back();
  const uint64_t at = queue.slot(slot);
  memcpy(memory + at, frame.data(), frame.size());
  const auto length = static_cast<uint32_t>(frame.size());
  Descriptor& descriptor = queue.descriptors()[slot];
  if ((features & indirect) && slot % 2 == 0 && length > 40) {
    // In three parts, of which the first ends within virtio's header.
    const uint64_t table = at + slotBytes - 64;
    const Descriptor parts[] = {
        {guestBase + at, 5, 1, 1}, {guestBase + at + 5, 28, 1, 2}, {guestBase + at + 33, length - 33, 0, 0}};
    memcpy(memory + table, parts, sizeof parts);
    descriptor = {guestBase + table, sizeof parts, 4, 0};
  } else {
    descriptor = {guestBase + at, length, 0, 0};
  }
  queue.offer(slot);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: vhost-frontend SOCKET FEATURES\n");
    return 2;
  }
  control = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
  if (connect(control, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) fail(argv[1]);
  const int fd = memfd_create("vhost-frontend", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, memoryBytes) < 0) fail("memory");
  void* const mapped = mmap(nullptr, memoryBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) fail("mmap");
  memory = static_cast<uint8_t*>(mapped);

  features = ask(1) & (strtoull(argv[2], nullptr, 16) | protocolFeatures);
  message64(16, ask(15) & 8);
  message(3, nullptr, 0);
  message64(2, features);
  const auto user = reinterpret_cast<uint64_t>(memory);
  const uint64_t table[] = {1, guestBase, memoryBytes, user, 0};
  message(5, table, sizeof table, fd);
  Queue queues[] = {Queue(0), Queue(1)};
  for (uint16_t i = 0; i < entries; i++) supply(queues[0], i);
  for (Queue& queue : queues) {
    queue.wantCalls();
    state(8, queue.index, entries);
    state(10, queue.index, 0);
    const uint64_t at = user + queue.at;
    const uint64_t addresses[] = {queue.index, at, at + 0x8000, at + 0x5000, 0};
    message(9, addresses, sizeof addresses);
    message64(13, queue.index, queue.call);
    message64(12, queue.index, queue.kick);
    state(18, queue.index, 1);
  }
  // The last of its messages has been attended to when this one is answered.
  ask(17);
  put({});

  for (;;) {
    pollfd wait[] = {{0, POLLIN, 0}, {queues[0].call, POLLIN, 0}, {control, POLLIN, 0}};
    if (poll(wait, 3, -1) < 0 && errno != EINTR) fail("poll");
    if (wait[2].revents) return 3;
    queues[0].calm();
    drain(queues[0]);
    if (!wait[0].revents) continue;
    uint8_t prefix[4];
    exactly(0, prefix, 4, false);
    std::vector<uint8_t> frame(size_t{prefix[0]} << 24 | size_t{prefix[1]} << 16 | size_t{prefix[2]} << 8 | prefix[3]);
    if (frame.size() > slotBytes - 64) return 2;
    exactly(0, frame.data(), frame.size(), false);
    if (frame.empty()) {
      drain(queues[0]);
      put({});
    } else {
      transmit(queues[1], frame);
      queues[1].ring();
    }
  }
}
