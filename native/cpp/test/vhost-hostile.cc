/**
 * Rings, memory and messages of vhost-user (vhost-ring.h, vhost-memory.h, vhost-channel.h) against a guest and a front-end that write
 * what they like, without Node: so that sanitizers can watch (src/vhost-hostile.test.ts).
 *
 * usage: vhost-hostile ROUNDS SEED. Ends with 1, and a line, at the first thing that must not be.
 */
#include <fcntl.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <thread>
#include <utility>

#include "../descriptor-message.h"
#include "../vhost-channel.h"
#include "vhost-guest.h"

using namespace passt;

uint32_t state;

static RingAddresses addresses() {
  RingAddresses at;
  at.descriptors = userAt + descriptors;
  at.available = userAt + available;
  at.used = userAt + used;
  return at;
}

static void start(Ring& ring, GuestMemory& memory, const Guest& guest) {
  CHECK(memory.add(guest.fd, guestAt, memoryBytes, userAt, 0) == 0);
  CHECK(ring.setSize(size) == 0 && ring.setAddresses(memory, addresses()) == 0);
  ring.setBase(0);
  ring.setKick(dup(guest.fd));
  CHECK(ring.running());
}

/** What is sane comes out as it went in: chains, tables, both directions. */
static void sane() {
  Guest guest;
  GuestMemory memory;
  CHECK(memory.reserve() == 0);
  Ring ring;
  start(ring, memory, guest);
  guest.descriptor(descriptors, 3, guestAt + buffers, 100, 1, 5);
  guest.descriptor(descriptors, 5, guestAt + buffers + 1000, 50, 1 | 2, 6);
  guest.descriptor(descriptors, 6, guestAt + buffers + 2000, 7, 2, 0);
  guest.offer(0, 3);
  guest.descriptor(buffers + 4096, 0, guestAt + buffers, 33, 1, 1);
  guest.descriptor(buffers + 4096, 1, guestAt + buffers + 64, 44, 0, 0);
  guest.descriptor(descriptors, 9, guestAt + buffers + 4096, 32, 4, 0);
  guest.offer(1, 9);
  iovec pieces[16];
  Chain chain;
  CHECK(ring.take(memory, &chain, pieces, 16) == Taken::chain);
  CHECK(chain.ticket == 3 && chain.readable == 1 && chain.writable == 2);
  CHECK(chain.readableBytes == 100 && chain.writableBytes == 57);
  checkPieces(memory, chain, pieces, 16);
  ring.giveBack(memory, chain.ticket, 57);
  CHECK(ring.take(memory, &chain, pieces, 16) == Taken::chain);
  CHECK(chain.ticket == 9 && chain.readable == 2 && chain.readableBytes == 77);
  CHECK(ring.take(memory, &chain, pieces, 16) == Taken::nothing && !ring.broken());
  ring.giveBack(memory, 9, 0);
  ring.publish(memory);
  const uint8_t expected[] = {0, 0, 2, 0, 3, 0, 0, 0, 57, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0};
  CHECK(memcmp(guest.memory + used, expected, sizeof expected) == 0);
  CHECK(!ring.wantKick(memory));
  guest.offer(2, 3);
  CHECK(ring.wantKick(memory));
}

/** What is not, one by one. */
static void malformed() {
  struct Case {
    uint64_t address;
    uint32_t length, flags, next;
  };
  const Case cases[] = {
      {guestAt + buffers, 10, 1, 0},                     // a loop
      {guestAt + buffers, 10, 1, size},                  // beyond the queue
      {guestAt + memoryBytes - 5, 6, 0, 0},              // beyond memory
      {guestAt - 1, 6, 0, 0},                            // before it
      {~uint64_t{0} - 3, 100, 0, 0},                     // beyond all addresses
      {guestAt + buffers, 0xffffffff, 0, 0},             // longer than memory
      {guestAt + buffers, 15, 4, 0},                     // a table that is no multiple
      {guestAt + buffers, 0, 4, 0},                      // an empty table
      {guestAt + buffers, 16, 4 | 1, 0},                 // a table that goes on
      {0x10, 16, 4, 0},                                  // a table nowhere
      {~uint64_t{0} - 15, 0xfffffff0, 4, 0},             // a table beyond all addresses
      {guestAt + descriptors, 16, 4, 0},                 // a table in a table: itself
  };
  for (const Case& one : cases) {
    Guest guest;
    GuestMemory memory;
    CHECK(memory.reserve() == 0);
    Ring ring;
    start(ring, memory, guest);
    guest.descriptor(descriptors, 0, one.address, one.length, one.flags, one.next);
    guest.offer(0, 0);
    iovec pieces[2000];
    Chain chain;
    CHECK(ring.take(memory, &chain, pieces, 2000) == Taken::malformed);
    CHECK(ring.running());
  }
  for (const auto& [index, head] : {std::pair<uint32_t, uint32_t>{size + 1, 0}, {1, size}, {1, 65535}}) {
    Guest guest;
    GuestMemory memory;
    CHECK(memory.reserve() == 0);
    Ring ring;
    start(ring, memory, guest);
    guest.put16(available + 4, head);
    guest.put16(available + 2, index);
    iovec pieces[4];
    Chain chain;
    CHECK(ring.take(memory, &chain, pieces, 4) == Taken::nothing && ring.broken() && !ring.running());
    ring.setBase(0);
    CHECK(ring.running());
  }
}

/** Anything at all, while another thread writes at the same time. */
static void scribbled(uint32_t rounds) {
  Guest guest;
  GuestMemory memory;
  CHECK(memory.reserve() == 0);
  Ring ring;
  start(ring, memory, guest);
  std::atomic<bool> stop{false};
  const uint32_t seed = state;
  std::thread other([&] {
    uint32_t x = seed ^ 0x9e3779b9;
    while (!stop) {
      x = x * 1664525 + 1013904223;
      auto* const word = reinterpret_cast<uint32_t*>(guest.memory + (x >> 8) % (buffers + 4096) / 4 * 4);
      __atomic_store_n(word, x % 7 == 0 ? x : x % 100, __ATOMIC_RELAXED);
    }
  });
  iovec pieces[64];
  for (uint32_t i = 0; i < rounds; i++) {
    ring.setLayout(false, number(2));
    const uint64_t address = guestAt + number(memoryBytes + 1000);
    guest.descriptor(number(2) ? descriptors : buffers, number(size), address, number(4) ? number(200) : state,
                     number(8), number(size + 2));
    guest.put16(available + 2, ring.position() + number(size + (number(50) == 0 ? 2 : 0)));
    const uint32_t position = ring.position();
    Chain chain;
    const Taken taken = ring.take(memory, &chain, pieces, 64);
    if (taken == Taken::chain) checkPieces(memory, chain, pieces, 64);
    if (taken != Taken::nothing && number(4) == 0) ring.rewind(position);
    else if (taken != Taken::nothing) ring.giveBack(memory, chain.ticket, number(2000));
    if (ring.running() && number(3) == 0) ring.publish(memory);
    if (ring.running() && number(3) == 0) ring.wantKick(memory);
    if (ring.broken()) ring.setBase(static_cast<uint16_t>(number(65536)));
  }
  stop = true;
  other.join();
}

/** A file that becomes shorter: zeros, and it is told. */
static void torn() {
  Guest guest;
  GuestMemory memory;
  CHECK(memory.reserve() == 0);
  Ring ring;
  start(ring, memory, guest);
  CHECK(memory.userAt(userAt, memoryBytes) && !memory.userAt(userAt, memoryBytes + 1) && !memory.userAt(userAt - 1, 1));
  guest.memory[memoryBytes - 1] = 7;
  CHECK(memory.userAt(userAt + memoryBytes - 1, 1)[0] == 7 && !memory.torn());
  CHECK(ftruncate(guest.fd, 4096) == 0);
  volatile uint8_t* const last = memory.userAt(userAt + memoryBytes - 1, 1);
  CHECK(*last == 0 && memory.torn());
  *last = 1;
  iovec pieces[4];
  Chain chain;
  ring.take(memory, &chain, pieces, 4);
  memory.clear();
  ring.resolve(memory);
  CHECK(!ring.running() && !memory.torn());
}

/** Regions that make no sense, and the log. */
static void regions() {
  Guest guest;
  GuestMemory memory;
  CHECK(memory.reserve() == 0);
  CHECK(memory.add(guest.fd, 0, 0, 0, 0) == -EINVAL);
  CHECK(memory.add(guest.fd, ~uint64_t{0}, 2, 0, 0) == -EINVAL);
  CHECK(memory.add(guest.fd, 0, 4096, ~uint64_t{0}, 0) == -EINVAL);
  CHECK(memory.add(guest.fd, 0, 4096, 0, ~uint64_t{0}) == -EINVAL);
  CHECK(memory.add(guest.fd, 0, memoryBytes + 1, 0, 0) == -EFBIG);
  CHECK(memory.add(guest.fd, 0, memoryBytes, 0, 1) == -EFBIG);
  CHECK(memory.add(0x7fff, 0, 4096, 0, 0) == -EBADF);
  for (uint32_t i = 0; i < 64; i++) CHECK(memory.add(guest.fd, 8192 * i, 4096, 8192 * i, 100) == 0);
  CHECK(memory.add(guest.fd, 8192 * 64, 1, 8192 * 64, 0) == -ENOSPC);
  CHECK(memory.remove(8192, 4096, 0) == -ENOENT && memory.remove(8192, 4096, 8192) == 0);
  CHECK(memory.add(guest.fd, 4095, 1, 0x10000000, 0) == -EEXIST);
  CHECK(memory.add(guest.fd, 4096, 4097, 0x10000000, 0) == 0);
  guest.memory[100] = 42;
  uint64_t length = 10000;
  CHECK(memory.guestAt(4095, &length) && length == 1);
  CHECK(*memory.userAt(0, 1) == 42);

  Guest log;
  CHECK(memory.startLog(log.fd, 2, 4096) == 0);
  memory.writtenAt(4096 * 3 - 1, 2);
  memory.writtenAt(4096 * 15, 1);
  memory.writtenAt(4096 * 16, 1);
  memory.writtenAt(~uint64_t{0} - 5, 5);
  CHECK(log.memory[4096] == 0x0c && log.memory[4097] == 0x80 && log.memory[4098] == 0);
  CHECK(memory.takeNoted() && !memory.takeNoted());
  memory.stopLog();
  CHECK(!memory.logging());
}

static int lowestFree() {
  const int fd = dup(0);
  close(fd);
  return fd;
}

/** Messages in pieces, too long, and with descriptors that nobody wants. */
static void messages() {
  const int before = lowestFree();
  for (int count = 0; count <= 12; count++) {
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    VhostChannel channel;
    uint8_t message[VhostChannel::messageMax];
    const uint32_t bytes[] = {5, 1, 4, 0xabcd, 1, 1};
    CHECK(channel.read(ends[0], message) == 0);
    int fds[12];
    for (int& fd : fds) fd = 0;
    const DescriptorMessage part(bytes, 7, fds, count);
    CHECK(sendmsg(ends[1], part.header(), 0) == 7);
    const int32_t got = channel.read(ends[0], message);
    if (count > VhostChannel::descriptorMax) {
      CHECK(got == -E2BIG);
    } else {
      CHECK(got == 0);
      CHECK(send(ends[1], reinterpret_cast<const uint8_t*>(bytes) + 7, 17, 0) == 17);
      CHECK(channel.read(ends[0], message) == 16 && memcmp(message, bytes, 16) == 0);
      CHECK(channel.descriptorCount() == count && channel.look(count) == -1 && channel.take(-1) == -1);
      if (count > 0) {
        const int taken = channel.take(0);
        CHECK(taken >= 0 && channel.take(0) == -1);
        close(taken);
      }
    }
    channel.clear();
    close(ends[0]);
    close(ends[1]);
  }
  int ends[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  VhostChannel channel;
  uint8_t message[VhostChannel::messageMax];
  const uint32_t bytes[] = {5, 1, VhostChannel::payloadMax + 1};
  CHECK(send(ends[1], bytes, sizeof bytes, 0) == sizeof bytes && channel.read(ends[0], message) == -EMSGSIZE);
  channel.clear();
  close(ends[1]);
  CHECK(channel.read(ends[0], message) == -ECONNRESET);
  close(ends[0]);
  CHECK(lowestFree() == before);
}

int main(int argc, char** argv) {
  const uint32_t rounds = argc > 1 ? static_cast<uint32_t>(atol(argv[1])) : 1000;
  state = argc > 2 ? static_cast<uint32_t>(atol(argv[2])) | 1 : 1;
  sane();
  malformed();
  torn();
  regions();
  messages();
  scribbled(rounds);
  packedRings(rounds);
  printf("nothing\n");
}
