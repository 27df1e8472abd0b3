/**
 * A virtqueue, the device's side, of either layout (vhost-split.h, vhost-packed.h): its place in guest memory, its descriptors to
 * kick and to call, and whether it runs.
 *
 * What the driver writes is checked where it is read. A ring whose content leaves nothing to go on with is `broken` until it
 * is set up anew.
 */
#pragma once

#include "vhost-chain.h"
#include "vhost-packed.h"
#include "vhost-split.h"

namespace passt {

/** Where a ring's parts are, in the front-end's addresses; and where the log finds its used ring, in the guest's. */
struct RingAddresses {
  uint64_t descriptors = 0;
  /** The driver's event suppression, of a packed one. */
  uint64_t available = 0;
  /** The device's event suppression, of a packed one. */
  uint64_t used = 0;
  uint64_t log = 0;
  bool logged = false;
};

class Ring {
 public:
  /** Entries at most (VIRTIO 1.2 sections 2.7 and 2.8). */
  static constexpr uint32_t sizeMax = 32768;

  Ring() = default;
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  ~Ring();

  // ---- set up by the front-end

  /** What was negotiated. A ring whose layout changes has to be set up anew. */
  void setLayout(bool packed, bool eventIndex);
  /** @returns 0, or -EINVAL: too many, or, split, not a power of two */
  int32_t setSize(uint32_t size);
  /** @returns 0, -EINVAL if misaligned, -EFAULT if not in memory */
  int32_t setAddresses(const GuestMemory& memory, const RingAddresses& addresses);
  /** Finds the parts again after the memory has changed; a ring that is not there any more stops. */
  void resolve(const GuestMemory& memory);
  /** Sets where to go on. @param base split: an index; packed: an index and the wrap counter in bit 15
   * @returns 0, or -EINVAL if beyond the ring */
  int32_t setBase(uint16_t base);
  /** Keeps track in a part of a file, for so many entries; null: no longer. It is looked at when the ring starts. */
  void setInflight(uint8_t* part, uint32_t entries) {
    inflightEntries_ = entries;
    parts_.inflight = part;
    inflightBegun_ = false;
  }
  /** Begins with that part, if there is one, once the ring can run. @returns 0 or -errno, as inflight::begin */
  int32_t beginInflight();
  uint16_t base() const { return packed_ ? packedQueue_.base() : split_.base(); }
  void setKick(int fd);
  void setCall(int fd);
  void setError(int fd);
  /** Stops: as after GET_VRING_BASE; descriptors are closed, sizes and addresses stay. */
  void stop();
  /** As a ring that was never set up. */
  void reset();

  bool enabled = false;
  int kick() const { return kick_; }
  /** Whether buffers can be taken. */
  bool running() const { return kick_ >= 0 && parts_.device != nullptr && !broken_; }
  bool broken() const { return broken_; }
  uint32_t size() const { return parts_.size; }

  // ---- the data path; only while running()

  /** Takes the next chain, and describes it by at most `most` pieces of memory, the readable ones first. */
  Taken take(const GuestMemory& memory, Chain* chain, iovec* pieces, int32_t most) {
    bool broken = false;
    const Taken taken = packed_ ? packedQueue_.take(memory, chain, pieces, most, &broken)
                                : split_.take(memory, chain, pieces, most, &broken);
    if (broken) damage();
    return taken;
  }
  /** Where `take` goes on; `rewind` goes back to it, if nothing was given back since. */
  uint32_t position() const { return packed_ ? packedQueue_.position() : split_.position(); }
  void rewind(uint32_t position) { packed_ ? packedQueue_.rewind(position) : split_.rewind(position); }
  /** Gives a chain back with `written` bytes; the driver sees it after `publish`. */
  void giveBack(GuestMemory& memory, uint32_t ticket, uint32_t written) {
    packed_ ? packedQueue_.giveBack(memory, ticket, written) : split_.giveBack(memory, ticket, written);
  }
  /** Shows the driver what was given back, and wakes it if it wants to be. */
  void publish(GuestMemory& memory);
  /** Asks not to be told of new buffers. A hint. */
  void wantNoKick(GuestMemory& memory) { packed_ ? packedQueue_.wantNoKick(memory) : split_.wantNoKick(memory); }
  /** Asks to be told of buffers that come after those that have been seen. @returns whether there are some already */
  bool wantKick(GuestMemory& memory) { return packed_ ? packedQueue_.wantKick(memory) : split_.wantKick(memory); }

 private:
  void setFd(int* slot, int fd);
  void damage();

  QueueParts parts_;
  SplitQueue split_{parts_};
  PackedQueue packedQueue_{parts_};
  bool packed_ = false;
  bool broken_ = false;
  bool inflightBegun_ = false;
  uint32_t inflightEntries_ = 0;
  RingAddresses addresses_;
  bool addressed_ = false;
  int kick_ = -1;
  int call_ = -1;
  int error_ = -1;
};

}  // namespace passt
