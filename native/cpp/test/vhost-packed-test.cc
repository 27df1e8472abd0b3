/** Packed rings: what a driver of its own makes available comes out, whatever the lengths of chains and the order of use; and what a hostile
 * one writes does no harm. */
#include <fcntl.h>

#include <atomic>
#include <cerrno>
#include <thread>
#include <utility>
#include <vector>

#include "vhost-guest.h"

using namespace passt;

/** No power of two, which packed rings need not be; and small, so that it wraps often. */
constexpr uint32_t entries = 13;
constexpr uint64_t ringAt = 0, driverAt = 4096, deviceAt = 8192, tablesAt = 12288, buffersAt = 16384;
constexpr uint32_t availableFlag = 1 << 7, usedFlag = 1 << 15;

static void start(Ring& ring, GuestMemory& memory, const Guest& guest, uint32_t count, bool eventIndex) {
  CHECK(memory.add(guest.fd, guestAt, memoryBytes, userAt, 0) == 0);
  ring.setLayout(true, eventIndex);
  RingAddresses at;
  at.descriptors = userAt + ringAt;
  at.available = userAt + driverAt;
  at.used = userAt + deviceAt;
  at.logged = true;
  CHECK(ring.setSize(count) == 0 && ring.setAddresses(memory, at) == 0);
  CHECK(ring.setBase(static_cast<uint16_t>(count)) == -EINVAL);
  CHECK(ring.setBase(0x8000) == 0);
  ring.setKick(dup(guest.fd));
  CHECK(ring.running());
}

/** A driver that keeps the rules. */
struct Driver {
  struct Sent {
    uint32_t length = 0;
    uint32_t entries = 0;
    bool out = false;
  };
  Guest& guest;
  uint32_t next = 0, usedNext = 0, free = entries;
  bool wrap = true, usedWrap = true;
  /** By identifier; none is in use if `entries` is zero. */
  Sent sent[entries];

  explicit Driver(Guest& guest) : guest(guest) {}

  void descriptor(uint64_t table, uint32_t at, uint32_t length, uint32_t id, uint32_t flags) {
    // The address tells what it is: checked when it comes back.
    guest.descriptor(table, at, guestAt + buffersAt + 512 * id, length, id, flags);
  }
  static uint32_t turn(bool on) { return on ? availableFlag : usedFlag; }

  /** Makes a chain available. @returns its identifier */
  uint32_t offer(uint32_t count, bool indirect, bool writable) {
    uint32_t id = 0;
    while (sent[id].entries > 0) id++;
    const uint32_t write = writable ? 2 : 0;
    sent[id] = {7 * count + id, indirect ? 1 : count, writable};
    const uint32_t first = next;
    uint32_t firstFlags = 0;
    for (uint32_t i = 0; i < sent[id].entries; i++) {
      uint32_t flags = turn(wrap) | (indirect ? 4 : write) | (i + 1 < sent[id].entries ? 1 : 0);
      if (indirect) {
        for (uint32_t j = 0; j < count; j++) {
          descriptor(tablesAt + 256 * id, j, j + 1 == count ? 7 + id : 7, id, write);
        }
        guest.descriptor(ringAt, next, guestAt + tablesAt + 256 * id, 16 * count, id, flags);
      } else {
        descriptor(ringAt, next, i + 1 == count ? 7 + id : 7, id, flags);
      }
      if (i == 0) {
        firstFlags = flags;
        guest.put16(ringAt + 16 * next + 14, turn(!wrap));
      }
      next = next + 1 == entries ? 0 : next + 1;
      if (next == 0) wrap = !wrap;
    }
    guest.put16(ringAt + 16 * first + 14, firstFlags);
    free -= sent[id].entries;
    return id;
  }

  /** Takes a used chain back. @returns its identifier, -1: none */
  int32_t take(uint32_t* written) {
    const uint8_t* const at = guest.memory + ringAt + 16 * usedNext;
    uint16_t id, flags;
    memcpy(&id, at + 12, 2);
    memcpy(&flags, at + 14, 2);
    if (((flags & availableFlag) != 0) != usedWrap || ((flags & usedFlag) != 0) != usedWrap) return -1;
    memcpy(written, at + 8, 4);
    CHECK(id < entries && sent[id].entries > 0);
    CHECK(((flags & 2) != 0) == (*written > 0));
    usedNext += sent[id].entries;
    if (usedNext >= entries) {
      usedNext -= entries;
      usedWrap = !usedWrap;
    }
    free += sent[id].entries;
    sent[id] = {};
    return id;
  }
};

/** Chains of all kinds, used in any order, in batches, for many rounds; and the driver is woken exactly when it wants to be. */
static void orders(uint32_t rounds, bool eventIndex) {
  Guest guest;
  GuestMemory memory;
  CHECK(memory.reserve() == 0);
  Ring ring;
  start(ring, memory, guest, entries, eventIndex);
  Driver driver(guest);
  int pair[2];
  CHECK(pipe2(pair, O_NONBLOCK | O_CLOEXEC) == 0);
  ring.setCall(dup(pair[1]));
  const auto woken = [&] {
    uint64_t word;
    bool any = false;
    while (read(pair[0], &word, sizeof word) > 0) any = true;
    return any;
  };
  CHECK(woken());
  iovec pieces[16];
  for (uint32_t i = 0; i < rounds; i++) {
    while (driver.free > 0 && number(5) > 0) {
      const bool indirect = number(3) == 0;
      const uint32_t most = indirect ? 8 : driver.free < 6 ? driver.free : 6;
      driver.offer(1 + number(most), indirect, number(2));
    }
    CHECK(ring.wantKick(memory) == (driver.free < entries));
    std::vector<Chain> taken;
    Chain chain;
    while (ring.take(memory, &chain, pieces, 16) == Taken::chain) {
      checkPieces(memory, chain, pieces, 16);
      const uint32_t id = chain.ticket & 0xffff;
      CHECK(id < entries && driver.sent[id].entries == chain.ticket >> 16);
      CHECK(chain.readableBytes + chain.writableBytes == driver.sent[id].length);
      CHECK((driver.sent[id].out ? chain.readable : chain.writable) == 0);
      CHECK(pieces[0].iov_base == memory.userAt(userAt + buffersAt + 512 * id, 1));
      taken.push_back(chain);
    }
    CHECK(!ring.broken() && !ring.wantKick(memory));
    // In one batch or two, in any order.
    for (size_t left = taken.size(); left > 0;) {
      const size_t batch = 1 + number(static_cast<uint32_t>(left));
      const uint32_t kind = number(3);
      const uint32_t place = number(entries);
      // A place within the batch, or not; in the round that the driver will be in there.
      const bool round = place >= driver.usedNext ? driver.usedWrap : !driver.usedWrap;
      guest.put16(driverAt, place | (round ? 0x8000 : 0));
      guest.put16(driverAt + 2, kind);
      const uint32_t from = driver.usedNext;
      uint32_t covered = 0;
      std::vector<std::pair<uint32_t, uint32_t>> expected;
      for (size_t j = 0; j < batch; j++, left--) {
        const size_t which = number(static_cast<uint32_t>(left));
        const Chain one = taken[which];
        taken[which] = taken[left - 1];
        const uint32_t written = number(2) * number(100);
        ring.giveBack(memory, one.ticket, written);
        covered += one.ticket >> 16;
        expected.push_back({one.ticket & 0xffff, written});
        uint32_t seen;
        CHECK(driver.take(&seen) == -1);
      }
      ring.publish(memory);
      const uint32_t distance = (place + entries - from) % entries;
      CHECK(woken() == (kind == 0 || (kind == 2 && (!eventIndex || distance < covered))));
      for (const auto& [id, written] : expected) {
        uint32_t seen;
        CHECK(driver.take(&seen) == static_cast<int32_t>(id) && seen == written);
      }
      uint32_t seen;
      CHECK(driver.take(&seen) == -1);
    }
    CHECK(driver.free == entries && (ring.base() & 0x7fff) == driver.next && ((ring.base() & 0x8000) != 0) == driver.wrap);
    if (number(20) == 0) {
      // Stops, and starts where it was.
      const uint16_t base = ring.base();
      ring.stop();
      CHECK(!ring.running() && ring.setBase(base) == 0);
      ring.setKick(dup(guest.fd));
      ring.setCall(dup(pair[1]));
      CHECK(ring.running() && woken());
    }
  }
  close(pair[0]);
  close(pair[1]);
}

static void malformed() {
  struct Case {
    uint64_t address;
    uint32_t length, flags;
  };
  const Case cases[] = {
      {guestAt + memoryBytes - 5, 6, 0},         // beyond memory
      {guestAt - 1, 6, 0},                       // before it
      {~uint64_t{0} - 3, 100, 0},                // beyond all addresses
      {guestAt + buffersAt, 0xffffffff, 0},      // longer than memory
      {guestAt + buffersAt, 15, 4},              // a table that is no multiple
      {guestAt + buffersAt, 0, 4},               // an empty table
      {guestAt + buffersAt, 16 * 2000, 4},       // a table that is too long
      {0x10, 16, 4},                             // a table nowhere
      {~uint64_t{0} - 15, 0xfffffff0, 4},        // a table beyond all addresses
      {guestAt + ringAt, 16, 4},                 // a table in a table: itself
      {guestAt + buffersAt, 10, 2 | 1},          // the next one is for reading
  };
  for (const Case& one : cases) {
    Guest guest;
    GuestMemory memory;
    CHECK(memory.reserve() == 0);
    Ring ring;
    start(ring, memory, guest, entries, false);
    guest.descriptor(ringAt, 0, one.address, one.length, 3, one.flags | availableFlag);
    guest.descriptor(ringAt, 1, guestAt + buffersAt, 1, 5, availableFlag);
    iovec pieces[2000];
    Chain chain;
    CHECK(ring.take(memory, &chain, pieces, 2000) == Taken::malformed && ring.running());
    const uint32_t count = one.flags & 1 ? 2 : 1;
    CHECK(chain.ticket == (count << 16 | (count == 2 ? 5 : 3)));
    ring.giveBack(memory, chain.ticket, 0);
    ring.publish(memory);
    CHECK(ring.base() == (0x8000 | count));
  }
  // Without an end: of the ring, or of what is looked at.
  for (const uint32_t count : {entries, 3000u}) {
    Guest guest;
    GuestMemory memory;
    CHECK(memory.reserve() == 0);
    Ring ring;
    start(ring, memory, guest, count == entries ? entries : 200, false);
    for (uint32_t i = 0; i < 200; i++) guest.descriptor(ringAt, i, guestAt + buffersAt, 1, 3, availableFlag | 1);
    iovec pieces[2000];
    Chain chain;
    CHECK(ring.take(memory, &chain, pieces, 2000) == Taken::nothing && ring.broken() && !ring.running());
    CHECK(ring.setBase(0x8000) == 0 && ring.running());
  }
  // A base beyond a smaller ring does not survive.
  Guest guest;
  GuestMemory memory;
  CHECK(memory.reserve() == 0);
  Ring ring;
  start(ring, memory, guest, 100, true);
  CHECK(ring.setBase(99) == 0 && ring.setSize(10) == 0 && ring.base() == 0x8000);
}

/** Anything at all, while another thread writes at the same time. */
static void scribbled(uint32_t rounds) {
  Guest guest;
  Guest log;
  GuestMemory memory;
  CHECK(memory.reserve() == 0);
  Ring ring;
  start(ring, memory, guest, entries, true);
  CHECK(memory.startLog(log.fd, memoryBytes, 0) == 0);
  std::atomic<bool> stop{false};
  const uint32_t seed = state;
  std::thread other([&] {
    uint32_t x = seed ^ 0x9e3779b9;
    while (!stop) {
      x = x * 1664525 + 1013904223;
      auto* const word = reinterpret_cast<uint32_t*>(guest.memory + (x >> 8) % (buffersAt + 4096) / 4 * 4);
      __atomic_store_n(word, x % 7 == 0 ? x : (x % 100) << (x >> 20 & 16), __ATOMIC_RELAXED);
    }
  });
  iovec pieces[64];
  for (uint32_t i = 0; i < rounds; i++) {
    const PackedPlace place = PackedPlace::of(ring.base());
    const uint32_t flags = number(8) | (number(8) ? (place.wrap ? availableFlag : usedFlag) : number(65536));
    const uint64_t address = guestAt + number(memoryBytes + 1000);
    guest.descriptor(number(2) ? ringAt : buffersAt, number(4) ? place.index : number(entries), address,
                     number(4) ? 16 * number(20) : state, number(65536), flags);
    const uint32_t position = ring.position();
    Chain chain;
    const Taken taken = ring.take(memory, &chain, pieces, 64);
    if (taken == Taken::chain) checkPieces(memory, chain, pieces, 64);
    if (taken != Taken::nothing && number(4) == 0) ring.rewind(position);
    else if (taken != Taken::nothing) ring.giveBack(memory, chain.ticket, number(2000));
    if (ring.running() && number(3) == 0) ring.publish(memory);
    if (ring.running() && number(3) == 0) ring.wantKick(memory);
    if (ring.running() && number(3) == 0) ring.wantNoKick(memory);
    if (ring.broken()) CHECK(ring.setBase(static_cast<uint16_t>(number(entries) | (number(2) ? 0x8000 : 0))) == 0);
  }
  stop = true;
  other.join();
}

/** What is written into the ring itself is noted for migration by where the guest has it. */
static void logged() {
  Guest guest;
  Guest log;
  GuestMemory memory;
  CHECK(memory.reserve() == 0);
  Ring ring;
  start(ring, memory, guest, entries, true);
  CHECK(memory.startLog(log.fd, memoryBytes, 0) == 0);
  Driver driver(guest);
  driver.offer(1, false, true);
  iovec pieces[4];
  Chain chain;
  const auto noted = [&](uint64_t at) {
    const uint64_t page = (guestAt + at) / 4096;
    const uint8_t bit = static_cast<uint8_t>(1 << (page & 7));
    const bool was = log.memory[page / 8] & bit;
    log.memory[page / 8] &= static_cast<uint8_t>(~bit);
    return was;
  };
  CHECK(ring.take(memory, &chain, pieces, 4) == Taken::chain);
  CHECK(!noted(ringAt) && !noted(deviceAt));
  ring.giveBack(memory, chain.ticket, 7);
  noted(ringAt);
  ring.publish(memory);
  CHECK(noted(ringAt) && !noted(deviceAt));
  ring.wantKick(memory);
  CHECK(noted(deviceAt) && !noted(ringAt) && !noted(driverAt));
}

/** A ring that is started anew from what its predecessor has left in the file, at any moment of a batch. */
static void inflight() {
  for (uint32_t left = 0; left < 3; left++) {
    Guest guest;
    GuestMemory memory;
    CHECK(memory.reserve() == 0);
    alignas(8) uint8_t part[4096] = {};
    Ring ring;
    start(ring, memory, guest, entries, false);
    ring.setInflight(part, entries);
    CHECK(ring.beginInflight() == 0 && part[8] == 1 && part[10] == entries);
    Driver driver(guest);
    iovec pieces[16];
    Chain chain;
    uint32_t written;
    for (uint32_t i = 0; i < 7; i++) {
      driver.offer(3, false, true);
      CHECK(ring.take(memory, &chain, pieces, 16) == Taken::chain);
      ring.giveBack(memory, chain.ticket, 5);
      ring.publish(memory);
      CHECK(driver.take(&written) >= 0);
    }
    const uint16_t before = ring.base();
    driver.offer(2, false, true);
    CHECK(ring.take(memory, &chain, pieces, 16) == Taken::chain);
    ring.giveBack(memory, chain.ticket, 5);
    uint16_t expected = before;
    if (left > 0) {
      const uint8_t old[] = {part[18], part[19], part[21]};
      ring.publish(memory);
      expected = ring.base();
      if (left == 2) {
        // It ended between showing the batch and noting that.
        memcpy(part + 18, old, 2);
        part[21] = old[2];
      }
    } else {
      // It ended before showing the batch, which it has announced.
      const PackedPlace to = PackedPlace::of(ring.base());
      memcpy(part + 16, &to.index, 2);
      part[20] = to.wrap;
    }
    Ring next;
    GuestMemory again;
    CHECK(again.reserve() == 0);
    start(next, again, guest, entries, false);
    next.setInflight(part, entries);
    CHECK(next.beginInflight() == 0 && next.base() == expected);
    CHECK(next.take(again, &chain, pieces, 16) == (left == 0 ? Taken::chain : Taken::nothing));
    // What another back-end has in flight, and what is of another queue.
    part[32 + 32 * 3] = 1;
    Ring other;
    GuestMemory third;
    CHECK(third.reserve() == 0);
    start(other, third, guest, entries - 1, false);
    other.setInflight(part, entries - 2);
    CHECK(other.beginInflight() == -EINVAL);
    other.setInflight(part, entries);
    CHECK(other.beginInflight() == -EINVAL);
    next.setInflight(part, entries);
    CHECK(next.beginInflight() == -EBUSY);
  }
}

void packedRings(uint32_t rounds) {
  for (const bool eventIndex : {false, true}) orders(rounds / 4, eventIndex);
  malformed();
  logged();
  inflight();
  scribbled(rounds);
}
