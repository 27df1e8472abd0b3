#include "vhost-relay.h"

#include <linux/if_tun.h>
#include <poll.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "tap.h"

// As the kernel names them since 6.2.
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

static constexpr size_t BULK_BYTES = 64 << 10;
// As many frames as NAPI handles before it refills the queue.
static constexpr int BUDGET = 64;
// More than 64 KiB in pages.
static constexpr uint16_t PIECES_MAX = 20;

static constexpr size_t ETHER_BYTES = 14;

// virtio's header (VIRTIO 1.2 section 5.1.6); the kernel's own description of it is no C++.
struct VnetHeader {
  uint8_t flags;
  uint8_t gsoType;
  uint16_t headerLength;
  uint16_t gsoSize;
  uint16_t checksumStart;
  uint16_t checksumOffset;
  uint16_t buffers;
};
static_assert(sizeof(VnetHeader) == VNET_HEADER_BYTES);
static constexpr uint8_t NEEDS_CHECKSUM = 1;
static constexpr uint8_t DATA_VALID = 2;

uint64_t driverFeatures() {
  // What a guest's driver is glad of: checksums and segments of all kinds, to the guest too.
  constexpr uint64_t guestOffloads =
      featureBit(1) | featureBit(7) | featureBit(8) | featureBit(9) | featureBit(54) | featureBit(55);
  return FEATURE_CSUM | FEATURE_HOST_TSO4 | FEATURE_HOST_TSO6 | FEATURE_HOST_ECN | FEATURE_HOST_USO | guestOffloads |
         FEATURE_MERGEABLE | FEATURE_EVENT_INDEX | FEATURE_VERSION_1;
}

unsigned int tapOffloads(uint64_t features) {
  if (!(features & FEATURE_CSUM)) return 0;
  unsigned int offloads = TUN_F_CSUM;
  if (features & FEATURE_HOST_TSO4) offloads |= TUN_F_TSO4;
  if (features & FEATURE_HOST_TSO6) offloads |= TUN_F_TSO6;
  if (features & FEATURE_HOST_ECN) offloads |= TUN_F_TSO_ECN;
  if (features & FEATURE_HOST_USO) offloads |= TUN_F_USO4 | TUN_F_USO6;
  return offloads;
}

void relayTapToQueue(int tap, FrontEnd& front, int pair, RelayCounters& counters) {
  Virtqueue& queue = *front.queues[static_cast<size_t>(2 * pair + 1)];
  // The last one that came back is the first to be used again: it is still in the cache.
  std::vector<uint16_t> free;
  for (uint16_t slot = queue.entries(); slot > 0; slot--) free.push_back(static_cast<uint16_t>(slot - 1));
  const auto reclaim = [&] {
    UsedBuffer used;
    while (queue.take(&used)) free.push_back(used.slot);
  };
  queue.wantNoCall();
  for (;;) {
    pollfd ready{.fd = tap, .events = POLLIN, .revents = 0};
    if (poll(&ready, 1, -1) < 0 && errno != EINTR) fail("waiting for the tap");
    for (bool empty = false; !empty;) {
      size_t bulk = 0;
      while (bulk < BULK_BYTES) {
        reclaim();
        if (free.empty()) break;
        uint8_t* const slot = front.transmitSlot(pair, free.back());
        const ssize_t got = read(tap, slot, TRANSMIT_BYTES);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
          empty = true;
          break;
        }
        if (got < 0) fail("reading the tap");
        queue.offer(free.back(), front.address(slot), static_cast<uint32_t>(got), false);
        free.pop_back();
        queue.publish();
        bulk += static_cast<size_t>(got);
        counters.frames.fetch_add(1, std::memory_order_relaxed);
        counters.bytes.fetch_add(static_cast<uint64_t>(got) - VNET_HEADER_BYTES, std::memory_order_relaxed);
      }
      queue.kick();
      counters.calls.fetch_add(1, std::memory_order_relaxed);
      while (free.empty()) {
        if (queue.wantCall()) queue.waitForCall();
        queue.wantNoCall();
        reclaim();
      }
    }
  }
}

// A tap does not know "the checksum was verified", which a driver would pass on to its kernel; but "it is still to be finished" is
// believed as well where the frame ends its way.
static void believeChecksum(uint8_t* at, size_t bytes) {
  VnetHeader header;
  memcpy(&header, at, sizeof header);
  if ((header.flags & NEEDS_CHECKSUM) || !(header.flags & DATA_VALID)) return;
  const uint8_t* const packet = at + sizeof header + ETHER_BYTES;
  if (bytes < sizeof header + ETHER_BYTES + 40) return;
  const bool v6 = packet[0] >> 4 == 6;
  const uint8_t protocol = v6 ? packet[6] : packet[9];
  if (protocol != 6 && protocol != 17) return;
  header.flags = NEEDS_CHECKSUM;
  header.checksumStart = static_cast<uint16_t>(ETHER_BYTES + (v6 ? 40 : size_t{4} * (packet[0] & 15)));
  header.checksumOffset = protocol == 6 ? 16 : 6;
  memcpy(at, &header, sizeof header);
}

static void writeFrame(int tap, const iovec* pieces, int count, RelayCounters& counters) {
  auto* const first = static_cast<uint8_t*>(pieces[0].iov_base);
  believeChecksum(first, pieces[0].iov_len);
  const ssize_t written = writev(tap, pieces, count);
  // A tap refuses a frame when it is down or out of memory: to a guest that is a lost frame, not the end.
  if (written < 0) {
    counters.drops.fetch_add(1, std::memory_order_relaxed);
  } else {
    counters.frames.fetch_add(1, std::memory_order_relaxed);
    counters.bytes.fetch_add(static_cast<uint64_t>(written) - VNET_HEADER_BYTES, std::memory_order_relaxed);
  }
}

void relayQueueToTap(int tap, FrontEnd& front, int pair, RelayCounters& counters) {
  Virtqueue& queue = *front.queues[static_cast<size_t>(2 * pair)];
  const auto offer = [&](uint16_t slot) {
    queue.offer(slot, front.address(front.receiveSlot(pair, slot)), RECEIVE_BYTES, true);
  };
  for (uint16_t slot = 0; slot < queue.entries(); slot++) offer(slot);
  queue.publish();
  queue.kick();
  for (;;) {
    int frames = 0;
    for (UsedBuffer used; frames < BUDGET && queue.take(&used); frames++) {
      iovec pieces[PIECES_MAX];
      uint16_t slots[PIECES_MAX];
      uint16_t count = 1;
      memcpy(&count, front.receiveSlot(pair, used.slot) + 10, sizeof count);
      bool whole = count > 0 && count <= PIECES_MAX && used.written >= VNET_HEADER_BYTES + ETHER_BYTES;
      for (uint16_t i = 0; whole; i++) {
        if (used.written > RECEIVE_BYTES) whole = false;
        slots[i] = used.slot;
        pieces[i] = {front.receiveSlot(pair, used.slot), used.written};
        if (i + 1 == count) break;
        if (!queue.take(&used)) whole = false;
      }
      if (!whole) {
        errno = 0;
        fail("the device filled buffers in a way that makes no frame");
      }
      writeFrame(tap, pieces, count, counters);
      for (uint16_t i = 0; i < count; i++) offer(slots[i]);
    }
    if (frames > 0) {
      queue.publish();
      queue.kick();
      counters.calls.fetch_add(1, std::memory_order_relaxed);
    }
    if (frames == BUDGET) continue;
    if (queue.wantCall()) queue.waitForCall();
    queue.wantNoCall();
  }
}
