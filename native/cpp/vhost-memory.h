/**
 * The guest's memory: files that the front-end hands over, mapped into one reservation of address space.
 *
 * ```
 *   reservation   [ region 0 | …nothing… | region 1 | dirty log | …nothing…………………………………… ]      PROT_NONE where nothing is
 * ```
 *
 * The reservation is made when the link is made, before system calls are restricted; what follows only ever maps over parts of
 * it (MAP_FIXED), shared files over nothing and nothing over shared files. So the address space that the process uses does not grow
 * while it runs, and a filter can tell these calls from others by their flags.
 *
 * Nothing that comes from the guest becomes a pointer but through `guestAt` and `userAt`, which look into the table each
 * time. A front-end that makes its file shorter under our feet gets zeros to read (the handler of SIGBUS puts empty memory in the
 * place of the region), and loses its connection: `torn`.
 */
#pragma once

#include <csignal>
#include <cstddef>
#include <cstdint>

namespace passt {

class GuestMemory {
 public:
  /** Regions at most: what front-ends have (QEMU has up to 509 with memory hot-plug; most have two). */
  static constexpr int32_t regionMax = 64;

  GuestMemory() = default;
  GuestMemory(const GuestMemory&) = delete;
  GuestMemory& operator=(const GuestMemory&) = delete;
  ~GuestMemory();

  /** Takes address space. @returns 0 or -errno */
  int32_t reserve();

  /** Maps a region; `fd` may be closed afterwards. @param guest where the guest has it @param user where the front-end has it
   * @param offset where it begins in its file
   * @returns 0 or -errno: EINVAL for numbers that make no sense, EEXIST if it overlaps another, ENOSPC without a free slot, EFBIG
   * if the file is shorter, ENOMEM without room in the reservation */
  int32_t add(int fd, uint64_t guest, uint64_t size, uint64_t user, uint64_t offset);
  /** Takes a region away. @returns 0, or -ENOENT */
  int32_t remove(uint64_t guest, uint64_t size, uint64_t user);
  /** Takes all regions away. */
  void clear();

  /** Memory at an address of the guest's; null if there is none. @param length in: bytes that are wanted; out: those of them that
   * lie in one piece */
  uint8_t* guestAt(uint64_t address, uint64_t* length) const {
    const Region* region = last_;
    if (!region || address - region->guest >= region->size) {
      region = find(address);
      if (!region) return nullptr;
      last_ = region;
    }
    const uint64_t from = address - region->guest;
    if (*length > region->size - from) *length = region->size - from;
    return region->host + from;
  }
  /** Memory at an address of the front-end's, `length` bytes in one piece; null if it is not all there. */
  uint8_t* userAt(uint64_t address, uint64_t length) const;

  /** Whether a mapped file has turned out to be shorter than it was. */
  bool torn() const { return torn_ != 0; }
  /** The same was found out in another way: a system call could not use it. */
  void tear() { torn_ = 1; }

  /** Has writes noted in a file of one bit for each page of 4 KiB. @returns 0 or -errno, as `add` */
  int32_t startLog(int fd, uint64_t size, uint64_t offset);
  void stopLog();
  bool logging() const { return log_ != nullptr; }
  /** Notes that memory, which `guestAt` has given, was written. */
  void written(const uint8_t* at, uint64_t length);
  /** The same by its address. */
  void writtenAt(uint64_t guest, uint64_t length);
  /** Whether anything was noted since the last call. */
  bool takeNoted() {
    const bool noted = noted_;
    noted_ = false;
    return noted;
  }

  /** Maps a file that is no memory of the guest's in the place of the last one. @returns 0 or -errno, as `add` */
  int32_t mapInflight(int fd, uint64_t size, uint64_t offset, uint8_t** at);
  void unmapInflight() { empty(inflightPlace_); }

  /** For the handler of SIGBUS: puts empty memory in the place of what is mapped at `at`. @returns whether it is ours */
  static bool mendAny(const void* at);

 private:
  /** A part of the reservation. */
  struct Place {
    uint8_t* at = nullptr;
    size_t bytes = 0;
  };
  struct Region {
    uint64_t guest;
    uint64_t size;
    uint64_t user;
    uint8_t* host;
    Place place;
  };

  const Region* find(uint64_t guest) const;
  int32_t map(int fd, uint64_t size, uint64_t offset, Place* place, uint8_t** first);
  uint8_t* freePlace(size_t bytes, size_t alignment) const;
  void empty(Place& place);
  bool mend(const void* at);

  Place all_;
  Region regions_[regionMax];
  int32_t count_ = 0;
  mutable const Region* last_ = nullptr;
  Place logPlace_;
  Place inflightPlace_;
  uint8_t* log_ = nullptr;
  uint64_t logBytes_ = 0;
  bool noted_ = false;
  volatile sig_atomic_t torn_ = 0;
  /** Another reservation of the process. */
  GuestMemory* next_ = nullptr;
};

}  // namespace passt
