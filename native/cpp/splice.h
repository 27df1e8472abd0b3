/**
 * From socket to socket: pipes for splice(2), and scratch memory for what is cheaper to copy.
 */
#pragma once

#include <node_api.h>

#include <cstdint>

namespace passt {

struct Engine;

/** Words of the result array, conditions and flags: equal to SPLICE_* and SPLICED_* in packages/core/src/kernel.ts. */
enum SpliceWord : int32_t { splicePipe, splicePending, spliceConditions, spliceWords };
enum SpliceCondition : int32_t {
  splicedSourceEmpty = 1,
  splicedSourceEnd = 2,
  splicedSourceFailed = 4,
  splicedTargetFull = 8,
  splicedTargetFailed = 16,
  splicedNoPipe = 32,
  splicedBulk = 64,
};
enum SpliceFlag : int32_t { spliceBulk = 1, spliceEnding = 2, spliceUrgent = 4 };

/** A pipe with its capacity; `read` is -1 in a free entry that has none. */
struct Pipe {
  int read;
  int write;
  int32_t bytes;
  /** Next free entry, or -1; -2 while in use. */
  int32_t next;
};

class Splicer {
 public:
  /** Returns 0 or -errno. */
  int32_t open();
  ~Splicer();

  /** Takes an empty pipe. @returns its number, or -errno */
  int32_t takePipe();
  /** Gives back an empty pipe. */
  void releasePipe(int32_t number);
  /** Gives back a pipe that may hold something. */
  void dropPipe(int32_t number);
  /** A pipe that is in use; null for any other number. */
  Pipe* pipe(int32_t number) {
    if (number < 0 || number >= used_ || pipes_[number].next != inUse) return nullptr;
    return &pipes_[number];
  }

  int32_t* result = nullptr;
  napi_ref reference = nullptr;
  /** copyBytes for streams; datagrams of a batch lie here as well. */
  uint8_t* scratch = nullptr;

  static constexpr int32_t copyBytes = 64 << 10;
  static constexpr int32_t datagramMax = 64;
  /** Room for the largest datagram, an odd number of cache lines. */
  static constexpr int32_t datagramBytes = 1027 * 64;
  static constexpr int32_t scratchBytes = datagramMax * datagramBytes;

 private:
  static constexpr int32_t inUse = -2;
  /** Two directions for each of as many flows as there can be. */
  static constexpr int32_t pipeMax = 1 << 18;
  /** Open pipes that are kept for the next to come. */
  static constexpr int32_t spareMax = 32;

  int32_t makePipe(Pipe& pipe);

  Pipe* pipes_ = nullptr;
  /** Entries ever used. */
  int32_t used_ = 0;
  /** Free entries with an open pipe, and without. */
  int32_t spare_ = -1;
  int32_t spareCount_ = 0;
  int32_t empty_ = -1;
  /** Capacity to ask for, bytes. */
  int32_t want_ = 0;
};

/** Ends what an engine has of this. */
void closeSplicer(Engine& engine);

}  // namespace passt
