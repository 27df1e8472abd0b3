/**
 * A split virtqueue, the device's side (VIRTIO 1.2 section 2.7): with indirect descriptors and the event index.
 *
 * ```
 *   avail   [ flags | idx | ring of heads | used_event  ]   the driver writes, we read
 *   desc    [ address length flags next ] …                 the driver writes, we read
 *   used    [ flags | idx | ring of (head, length) | avail_event ]   we write, the driver reads
 * ```
 *
 * The driver is not trusted, and may write at any moment. So each word is read once and then used from a copy; a head or
 * index is compared with the size of the queue; an address is looked up in the table of guest memory each time; a chain ends
 * after `stepsMax` descriptors, loops or not; what we need to remember is never read back from where the driver can write it.
 * A chain that makes no sense is given back empty. An `idx` that is ahead by more than the queue holds, or a head beyond it, leaves
 * nothing to go on with: the ring is `broken` until it is set up anew.
 *
 * Memory barriers
 * ---------------
 *   - `avail.idx` is read with acquire semantics before the heads and descriptors that it announces.
 *   - `used.idx` is written with release semantics after the elements that it announces, and after the buffers' bytes.
 *   - Between writing `used.idx` and reading `avail.flags` or `used_event`, and between asking for notifications and
 *     reading `avail.idx` again, there is a full fence: each side stores, then loads what the other one stores, and at least one
 *     of them must see it (VIRTIO 1.2 sections 2.7.10 and 2.7.13.4.1). Without it both could go to sleep.
 */
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "vhost-memory.h"

namespace passt {

/** Where a ring's parts are, in the front-end's addresses; and where the log finds its used ring, in the guest's. */
struct RingAddresses {
  uint64_t descriptors = 0;
  uint64_t available = 0;
  uint64_t used = 0;
  uint64_t log = 0;
  bool logged = false;
};

/** A chain of descriptors, taken from the ring: `readable` pieces, then `writable` ones. */
struct Chain {
  uint16_t head = 0;
  int32_t readable = 0;
  int32_t writable = 0;
  uint64_t readableBytes = 0;
  uint64_t writableBytes = 0;
};

enum class Taken { nothing, chain, malformed };

class Ring {
 public:
  /** Entries at most (VIRTIO 1.2 section 2.7). */
  static constexpr uint32_t sizeMax = 32768;
  /** Descriptors of one chain that are looked at: as many as system calls gather from, which is why no driver makes more. */
  static constexpr int32_t stepsMax = 1024;

  ~Ring();

  // ---- set up by the front-end

  /** @returns 0, or -EINVAL: not a power of two, or too many */
  int32_t setSize(uint32_t size);
  /** @returns 0, -EINVAL if misaligned, -EFAULT if not in memory */
  int32_t setAddresses(const GuestMemory& memory, const RingAddresses& addresses);
  /** Finds the parts again after the memory has changed; a ring that is not there any more stops. */
  void resolve(const GuestMemory& memory);
  void setBase(uint16_t base);
  uint16_t base() const { return next_; }
  void setKick(int fd);
  void setCall(int fd);
  void setError(int fd);
  void setEventIndex(bool on) { eventIndex_ = on; }
  /** Stops: as after GET_VRING_BASE; descriptors are closed, sizes and addresses stay. */
  void stop();
  /** As a ring that was never set up. */
  void reset();

  bool enabled = false;
  int kick() const { return kick_; }
  /** Whether buffers can be taken. */
  bool running() const { return kick_ >= 0 && used_ != nullptr && !broken_; }
  bool broken() const { return broken_; }

  // ---- the data path; only while running()

  /** Takes the next chain, and describes it by at most `most` pieces of memory, the readable ones first. */
  Taken take(const GuestMemory& memory, Chain* chain, iovec* pieces, int32_t most);
  /** Where `take` goes on; `rewind` goes back to it, if nothing was given back since. */
  uint16_t position() const { return next_; }
  void rewind(uint16_t position) { next_ = position; }
  /** Gives a chain back with `written` bytes; the driver sees it after `publish`. */
  void giveBack(GuestMemory& memory, uint16_t head, uint32_t written);
  /** Shows the driver what was given back, and wakes it if it wants to be. */
  void publish(GuestMemory& memory);
  /** Asks not to be told of new buffers. A hint. */
  void wantNoKick();
  /** Asks to be told of buffers that come after those that have been seen. @returns whether there are some already */
  bool wantKick();

 private:
  struct Descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags;
    uint16_t next;
  };
  static_assert(sizeof(Descriptor) == 16);
  struct UsedElement {
    uint32_t head;
    uint32_t written;
  };

  uint16_t availableIndex(int order) const;
  bool walk(const GuestMemory& memory, Chain* chain, iovec* pieces, int32_t most) const;
  bool wantsCall(uint16_t before) const;
  void setFd(int* slot, int fd);
  void damage();
  void noteUsed(GuestMemory& memory, uint64_t offset, uint64_t length) const;

  uint32_t size_ = 0;
  RingAddresses addresses_;
  bool addressed_ = false;
  const uint8_t* descriptors_ = nullptr;
  const uint8_t* available_ = nullptr;
  uint8_t* used_ = nullptr;
  bool eventIndex_ = false;
  bool broken_ = false;
  /** Next entry of the available ring to take; how far it is known to be filled. */
  uint16_t next_ = 0;
  uint16_t seen_ = 0;
  /** Next entry of the used ring to fill; how far the driver has been shown it, and was told. */
  uint16_t usedIndex_ = 0;
  uint16_t published_ = 0;
  /** The used index is to be read from memory when the ring starts. */
  bool fresh_ = true;
  int kick_ = -1;
  int call_ = -1;
  int error_ = -1;
};

}  // namespace passt
