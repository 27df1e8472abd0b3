/**
 * A vhost-user front-end, and a guest's driver, that do what they like: messages that are right, nearly right and wrong, with descriptors of all
 * kinds, while two threads write into the guest's memory: into rings and descriptors above all, and now and then the file becomes shorter.
 *
 * usage: front-end SOCKET SEED. Ends with 0 when it has done all that it wanted, however often the back-end has ended the connection.
 */
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "../../../native/cpp/descriptor-message.h"

namespace {

uint64_t state;
uint32_t number(uint32_t below) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return static_cast<uint32_t>(state >> 32) % below;
}
bool oneIn(uint32_t n) { return number(n) == 0; }

constexpr uint64_t memoryBytes = 2 << 20, guestBase = 0x100000, userBase = 0x7f0000000000;
constexpr uint64_t ringBytes = 16384, buffersAt = 20 * ringBytes;
constexpr uint64_t packedFeature = uint64_t{1} << 34;
constexpr uint64_t controlFeature = uint64_t{1} << 17, multiqueueFeature = uint64_t{1} << 22;
/** Where the control queue is with multiqueue: after the pairs that the back-end has. */
constexpr uint32_t lastRing = 16;
/** Commands for the control queue lie at the beginning of the buffers. */
constexpr uint64_t commandBytes = 16, commands = 4096;

const char* path;
int control = -1;
int memoryFd = -1;
uint8_t* memory;
uint64_t features;
uint32_t entries[lastRing + 1];
/** Our ends of the kicks. */
int kicks[lastRing + 1];
std::vector<int> kept;

uint64_t interesting() {
  static const uint64_t values[] = {0, 1, 2, 3, 4, 7, 8, 15, 16, 255, 256, 257, 4096, 32768, 65535, 65536,
                                    0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, ~uint64_t{0}, ~uint64_t{0} - 4095,
                                    guestBase, userBase, userBase + memoryBytes - 1, memoryBytes};
  return oneIn(3) ? state : values[number(sizeof values / sizeof *values)];
}

int anyDescriptor() {
  int pair[2];
  switch (number(6)) {
    case 0: return eventfd(number(3), EFD_CLOEXEC | (oneIn(2) ? EFD_NONBLOCK : 0));
    case 1: return open("/dev/null", O_RDWR | O_CLOEXEC);
    case 2: return dup(memoryFd);
    case 3: {
      const int fd = memfd_create("fuzz", MFD_CLOEXEC);
      if (ftruncate(fd, number(100000)) < 0) abort();
      return fd;
    }
    case 4:
      if (pipe2(pair, O_CLOEXEC) < 0) abort();
      if (oneIn(2) && write(pair[1], memory, 1 + number(5000)) < 0) abort();
      if (oneIn(2)) close(pair[1]);
      else kept.push_back(pair[1]);
      return pair[0];
    default:
      if (pipe2(pair, O_CLOEXEC) < 0) abort();
      if (oneIn(2)) close(pair[0]);
      else kept.push_back(pair[0]);
      return pair[1];
  }
}

void connectAgain() {
  if (control >= 0) close(control);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  for (int i = 0; i < 2000; i++) {
    control = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(control, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return;
    close(control);
    usleep(1000);
  }
  abort();
}

/** @returns whether the connection is still there */
bool send(uint32_t request, uint32_t flags, const void* payload, uint32_t bytes, uint32_t size, std::vector<int> fds = {}) {
  uint8_t out[1024];
  const uint32_t head[] = {request, flags, size};
  memcpy(out, head, 12);
  memcpy(out + 12, payload, bytes);
  const passt::DescriptorMessage message(out, 12 + bytes, fds.data(), fds.size());
  const bool sent = sendmsg(control, message.header(), MSG_NOSIGNAL) >= 0;
  for (const int fd : fds) close(fd);
  return sent;
}
bool words(uint32_t request, std::vector<uint32_t> payload, std::vector<int> fds = {}) {
  return send(request, oneIn(3) ? 9 : 1, payload.data(), static_cast<uint32_t>(4 * payload.size()),
              static_cast<uint32_t>(4 * payload.size()), fds);
}
bool longs(uint32_t request, std::vector<uint64_t> payload, std::vector<int> fds = {}) {
  return send(request, oneIn(3) ? 9 : 1, payload.data(), static_cast<uint32_t>(8 * payload.size()),
              static_cast<uint32_t>(8 * payload.size()), fds);
}
void drain() {
  uint8_t in[4096];
  while (recv(control, in, sizeof in, MSG_DONTWAIT) > 0) {
  }
}

/** One of the rings that are mostly there. */
uint32_t someRing() { return oneIn(5) ? lastRing : number(4); }

/** What a front-end that keeps the rules would send. */
bool setUp() {
  const uint64_t protocol = state & 0x9b21f;
  if (!longs(16, {protocol})) return false;
  features = uint64_t{1} << 30 | uint64_t{1} << 32 | (oneIn(2) ? packedFeature : 0);
  for (const uint32_t bit : {0, 1, 2, 3, 15, 17, 22, 23, 26, 28, 29}) features |= oneIn(2) ? uint64_t{1} << bit : 0;
  if (features & 2) features |= oneIn(2) ? uint64_t{0x180} : 0;
  if (features & 1) features |= oneIn(2) ? uint64_t{0x1800} : 0;
  if (!longs(2, {features})) return false;
  if (!longs(5, {1, guestBase, memoryBytes, userBase, 0}, {dup(memoryFd)})) return false;
  if (oneIn(4) && !longs(6, {4096, 0}, {dup(memoryFd)})) return false;
  std::vector<uint32_t> rings = {0, 1};
  const bool multiqueue = (features & multiqueueFeature) && (protocol & 1);
  if (multiqueue ? oneIn(2) : oneIn(9)) rings.insert(rings.end(), {2, 3});
  if (features & controlFeature) rings.push_back(multiqueue ? lastRing : 2);
  for (const uint32_t i : rings) {
    entries[i] = features & packedFeature ? 1 + number(300) : 1u << number(9);
    const uint64_t at = userBase + i * ringBytes;
    if (kicks[i] >= 0) close(kicks[i]);
    kicks[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!words(8, {i, entries[i]}) || !words(10, {i, features & packedFeature ? 0x8000u : 0u}) ||
        !longs(9, {i | (oneIn(2) ? uint64_t{1} << 32 : 0), at, at + 8192, at + 12288, guestBase + i * ringBytes + 8192}) ||
        !longs(13, {i}, {eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)}) || !longs(12, {i}, {dup(kicks[i])}) ||
        !words(18, {i, 1})) {
      return false;
    }
  }
  return true;
}

bool anything() {
  uint8_t payload[600];
  const uint32_t count = number(oneIn(8) ? 70 : 6);
  for (uint32_t i = 0; i < count; i++) {
    const uint64_t value = interesting();
    memcpy(payload + 8 * i, &value, 8);
  }
  uint32_t bytes = 8 * count;
  if (oneIn(4) && bytes > 0) bytes -= number(8);
  std::vector<int> fds;
  for (uint32_t i = oneIn(2) ? 0 : number(oneIn(9) ? 13 : 3); i > 0; i--) fds.push_back(anyDescriptor());
  const uint32_t request = oneIn(9) ? static_cast<uint32_t>(state) : number(45);
  const uint32_t flags = oneIn(20) ? static_cast<uint32_t>(state) : oneIn(2) ? 9 : 1;
  return send(request, flags, payload, bytes, oneIn(20) ? static_cast<uint32_t>(interesting()) : bytes, fds);
}

/** Right in form. */
bool plausible() {
  const uint32_t ring = oneIn(9) ? number(20) : someRing();
  const auto address = [] { return userBase + (number(memoryBytes / 16) * 16) + (oneIn(9) ? number(16) : 0); };
  switch (number(17)) {
    case 0: return words(8, {ring, 1u << number(16)});
    case 1: return longs(9, {ring | uint64_t{number(2)} << 32, address(), address(), address(), interesting()});
    case 2: return words(10, {ring, number(oneIn(2) ? 65536 : 64)});
    case 3: return words(11, {ring, 0});
    case 4: return longs(12, {ring | (oneIn(9) ? 256u : 0u)}, {anyDescriptor()});
    case 5: return oneIn(2) ? longs(13, {ring}, {anyDescriptor()}) : longs(13, {ring | 256});
    case 6: return longs(14, {ring}, {anyDescriptor()});
    case 7: return words(18, {ring, number(2)});
    case 8: return longs(37, {0, guestBase + memoryBytes * number(5), memoryBytes >> number(3), userBase + memoryBytes * number(5), 0}, {dup(memoryFd)});
    case 9: return longs(38, {0, guestBase + memoryBytes * number(5), memoryBytes >> number(3), userBase + memoryBytes * number(5), 0});
    case 10: return longs(6, {number(70000), number(3) * 8}, {anyDescriptor()});
    case 11: return words(31, {0, 0, 0, 0, (1 + number(16)) | (1u << number(9)) << 16});
    case 12: return words(32, {number(2000000), 0, number(4096) / 8 * 8, 0, (1 + number(16)) | (1u << number(9)) << 16}, {anyDescriptor()});
    case 13: return words(42, {number(2), 0}, {anyDescriptor()});
    case 14: return words(43, {});
    case 15: return words(24, {number(12), 4, 0, 0});
    default: return longs(5, {1 + uint64_t{number(3) == 0}, guestBase, memoryBytes >> number(4), userBase, 0}, {dup(memoryFd)});
  }
}

std::atomic<bool> stop{false};

void put(uint64_t at, uint64_t value, size_t bytes) { memcpy(memory + at, &value, bytes); }

/** Descriptors and indices, mostly sane, and anything. */
class Scribbler {
 public:
  Scribbler(uint64_t seed, bool packed) : x(seed | 1), packed(packed) {}

  void run() {
    while (!stop) {
      ring = (draw(5) == 0 ? lastRing : draw(4)) * ringBytes;
      if (draw(50) == 0) put(draw(buffersAt + 65536) & ~uint64_t{7}, x, 8);
      else if (draw(3) == 0) command();
      else anything();
      index();
      if (draw(200) == 0) usleep(10);
    }
  }

 private:
  uint64_t x;
  const bool packed;
  uint64_t ring = 0;

  uint64_t draw(uint64_t below) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return (x >> 20) % below;
  }

  void descriptor(uint64_t i, uint64_t address, uint64_t bytes, uint64_t flags, uint64_t next) {
    const uint64_t at = ring + 16 * i;
    put(at, address, 8);
    put(at + 8, bytes, 4);
    if (packed) {
      put(at + 12, next, 2);
      put(at + 14, (draw(2) ? 0x80 : 0x8000) | flags, 2);
    } else {
      put(at + 12, flags, 2);
      put(at + 14, next, 2);
    }
  }

  void anything() {
    const uint64_t address = draw(9) == 0 ? x : guestBase + buffersAt + draw(memoryBytes - buffersAt);
    const uint64_t bytes = draw(9) == 0 ? x : draw(2) ? 16 * draw(9) : draw(70000);
    descriptor(draw(300), address, bytes, draw(4) == 0 ? draw(8) : 2 * draw(2), packed ? x : draw(300));
  }

  /** What the control queue is for (VIRTIO 1.2 section 5.1.6.5), and room for the answer; harmless in other queues. */
  void command() {
    const uint64_t at = buffersAt + commandBytes * draw(commands), i = draw(9) == 0 ? draw(300) : draw(4);
    // Class, command, and what is said to it.
    put(at, draw(7) | draw(3) << 8 | draw(12) << 16 | draw(2) * x << 32, 8);
    descriptor(i, guestBase + at, draw(9) == 0 ? draw(70000) : draw(12), 1, i + 1);
    descriptor(i + 1, guestBase + at + commandBytes, draw(3), 2, i);
    if (!packed) put(ring + 12288 + 4 + 2 * draw(256), i, 2);
  }

  /** Seldom wrong: a ring that is broken stays so. */
  void index() {
    if (packed) {
      put(ring + 8192 + 2 * draw(2), draw(4), 2);
      return;
    }
    put(ring + 12288 + 4 + 2 * draw(256), draw(99) == 0 ? x : draw(300), 2);
    const uint64_t used = *reinterpret_cast<volatile uint16_t*>(memory + ring + 8194);
    put(ring + 12288 + 2, draw(999) == 0 ? x : used + draw(9), 2);
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  path = argv[1];
  state = strtoull(argv[2], nullptr, 10) * 0x9e3779b97f4a7c15 | 1;
  signal(SIGPIPE, SIG_IGN);
  memset(kicks, -1, sizeof kicks);
  memoryFd = memfd_create("guest", MFD_CLOEXEC);
  if (ftruncate(memoryFd, memoryBytes) < 0) return 2;
  void* const mapped = mmap(nullptr, memoryBytes, PROT_READ | PROT_WRITE, MAP_SHARED, memoryFd, 0);
  if (mapped == MAP_FAILED) return 2;
  memory = static_cast<uint8_t*>(mapped);
  Scribbler ofSplit(state, false), ofPacked(~state, true);
  std::thread split([&] { ofSplit.run(); }), packed([&] { ofPacked.run(); });
  for (uint32_t connection = 0; connection < 4; connection++) {
    connectAgain();
    bool there = oneIn(8) || setUp();
    const bool gentle = oneIn(2);
    for (uint32_t step = 0; step < 150 && there; step++) {
      const uint32_t what = number(10);
      if (what < (gentle ? 1 : 3)) there = plausible();
      else if (what == 3 && !gentle) there = anything();
      else if (const int kick = kicks[someRing()]; kick >= 0) eventfd_write(kick, 1);
      if (oneIn(3)) usleep(100);
      drain();
    }
    for (const int fd : kept) close(fd);
    kept.clear();
  }
  stop = true;
  split.join();
  packed.join();
  // A file that becomes shorter under those who have mapped it.
  connectAgain();
  if (setUp()) {
    if (ftruncate(memoryFd, static_cast<off_t>(number(memoryBytes))) < 0) return 2;
    for (const int kick : kicks)
      if (kick >= 0) eventfd_write(kick, 1);
    usleep(2000);
  }
  return 0;
}
