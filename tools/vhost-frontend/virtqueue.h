/**
 * A virtqueue, the driver's side, of either layout: what a guest's kernel does with a network card's queue. The test's front-end (main.cc)
 * and the benchmark's (tools/bench/bridge) drive the back-end with these.
 *
 * Buffers have numbers, their _slots_, as many as the queue has entries; where a slot's bytes lie is the caller's business.
 */
#pragma once

#include <cstdint>
#include <memory>

/** A buffer that the device has used. */
struct UsedBuffer {
  uint16_t slot;
  uint32_t written;
};

/** A part of a buffer, at an address of the guest's. Those that the device may write come last. */
struct BufferPart {
  uint64_t address;
  uint32_t bytes;
  bool writable;
};

class Virtqueue {
 public:
  /** Where the queue's parts lie in its section of zeros. */
  static constexpr uint64_t SECTION_BYTES = 64 << 10, AVAILABLE = 0x5000, USED = 0x8000;
  static constexpr uint16_t ENTRIES_MAX = 1024;
  /** Bytes of an indirect table of so many parts. */
  static constexpr uint32_t tableBytes(int parts) { return 16 * static_cast<uint32_t>(parts); }

  /** @param memory the queue's section @param entries a power of two, up to ENTRIES_MAX */
  static std::unique_ptr<Virtqueue> make(uint8_t* memory, uint16_t entries, bool packed, bool eventIndex);
  virtual ~Virtqueue() = default;
  Virtqueue(const Virtqueue&) = delete;
  Virtqueue& operator=(const Virtqueue&) = delete;

  /** Offers a buffer; the device sees it after `publish`. Of a split queue, several parts take the entries of as many slots, from `slot` on.
   * @param table, at `tableAddress` for the guest: where to put the parts instead of into the queue */
  virtual void offer(uint16_t slot, const BufferPart* parts, int count, uint8_t* table = nullptr,
                     uint64_t tableAddress = 0) = 0;
  void offer(uint16_t slot, uint64_t address, uint32_t bytes, bool writable) {
    const BufferPart part = {address, bytes, writable};
    offer(slot, &part, 1);
  }
  /** Shows the device what was offered. */
  virtual void publish() = 0;
  /** Tells the device of what was published since the last time, if it wants to be told. */
  void kick() {
    if (kickWanted()) kickAnyway();
  }
  void kickAnyway();

  /** The next buffer that the device has used; false if there is none. */
  virtual bool take(UsedBuffer* used) = 0;
  /** Asks not to be called; a hint. */
  virtual void wantNoCall() = 0;
  /** Asks to be called when the device uses more than has been taken. False if it already has. */
  virtual bool wantCall() = 0;
  /** Sleeps until called. @param timeoutMs -1: for ever */
  void waitForCall(int timeoutMs = -1);
  /** Forgets calls that have come. */
  void calm();

  uint8_t* descriptors() const { return memory_; }
  /** Of a packed queue, the driver's and the device's event suppression. */
  uint8_t* available() const { return memory_ + AVAILABLE; }
  uint8_t* used() const { return memory_ + USED; }
  uint16_t entries() const { return entries_; }
  /** What SET_VRING_BASE says of a queue that was never used. */
  virtual uint32_t base() const = 0;
  int kickFd() const { return kickFd_; }
  int callFd() const { return callFd_; }

 protected:
  Virtqueue(uint8_t* memory, uint16_t entries, bool eventIndex);
  /** Whether the device wants to be told of what was published since this was last asked. */
  virtual bool kickWanted() = 0;

  uint8_t* const memory_;
  const uint16_t entries_;
  const bool eventIndex_;

 private:
  int kickFd_;
  int callFd_;
};
