// A split virtqueue, the driver's side (VIRTIO 1.2 section 2.7): what a guest's kernel does with a network card's queue.
#pragma once

#include <cstdint>
#include <vector>

// A buffer that the device has used.
struct UsedBuffer {
  uint16_t slot;
  uint32_t written;
};

class Virtqueue {
 public:
  static constexpr uint64_t SECTION_BYTES = 64 << 10;

  // `memory`: where the queue's three parts lie, SECTION_BYTES of zeros. `entries`: a power of two, at most 1024.
  Virtqueue(uint8_t* memory, uint16_t entries);

  // Offers the buffer of a slot, one descriptor long, at an address of the guest's. The device sees it after `publish`.
  void offer(uint16_t slot, uint64_t address, uint32_t bytes, bool writable);
  // Shows the device what was offered.
  void publish();
  // Tells the device of what was published since the last time, if it wants to be told.
  void kick();

  // The next buffer that the device has used; false if there is none.
  bool take(UsedBuffer* used);
  // Asks not to be called; a hint.
  void wantNoCall();
  // Asks to be called when the device uses more than has been taken. False if it already has.
  bool wantCall();
  // Sleeps until called.
  void waitForCall();

  uint8_t* descriptors() const { return memory_; }
  uint8_t* available() const { return memory_ + AVAILABLE; }
  uint8_t* used() const { return memory_ + USED; }
  uint16_t entries() const { return entries_; }
  int kickFd() const { return kickFd_; }
  int callFd() const { return callFd_; }

  // Whether the event index was negotiated.
  bool eventIndex = false;

 private:
  static constexpr uint64_t AVAILABLE = 0x5000;
  static constexpr uint64_t USED = 0x8000;

  uint16_t usedIndex() const;

  uint8_t* memory_;
  uint16_t entries_;
  int kickFd_;
  int callFd_;
  uint16_t offered_ = 0;
  uint16_t published_ = 0;
  uint16_t kicked_ = 0;
  uint16_t taken_ = 0;
};
