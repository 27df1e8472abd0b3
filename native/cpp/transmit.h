/**
 * Turns rows of the frame table into bytes for a medium without offloads: finishes checksums, cuts large TCP segments
 * (what a network card calls TSO), pads short frames, and puts a length prefix before each frame.
 *
 * ```
 *   rows      [ headroom | Ethernet IP TCP | payload …………………………… ]        one row, FRAME_SEGMENT_TCP4, mss m
 *   pieces    [ len hdr' ]→scratch [ m bytes ]→arena  [ len hdr'' ]→scratch [ m bytes ]→arena  …
 * ```
 *
 * Payload is never copied. Plain rows that follow each other in the arena become one piece, prefix included.
 */
#pragma once

#include <sys/uio.h>

#include <cstdint>

#include "engine.h"

namespace passt {

/** Bytes before each frame on a stream: its length, big-endian. */
constexpr int32_t prefixBytes = 4;

/** Ethernet, IPv4 or IPv6 header with options, TCP header with options. */
constexpr int32_t headerMax = 14 + 60 + 60;

/** How a large TCP segment is cut. */
struct Cut {
  int32_t header;   // bytes of all headers
  int32_t tcp;      // where the TCP header begins
  int32_t payload;  // bytes
  int32_t mss;
  int32_t frames;
  bool v6;
};
/** Reads from a row how it is to be cut. @returns false if its columns make no sense */
bool cutOf(const Engine& engine, int32_t row, Cut* cut);

class Transmit {
 public:
  /** Prepares rows [from, to), as many as fit the pieces, in order.
   * Where a row is cut and the pieces run out, the next call goes on within it. */
  void prepare(Engine& engine, int32_t to);
  /** Takes `bytes` off the front of what is prepared: the medium has them. */
  void consume(size_t bytes);
  /** Forgets everything, for a guest that is gone or when all is sent. */
  void clear();

  const iovec* pieces() const { return pieces_ + head_; }
  size_t pieceCount() const { return tail_ - head_; }
  /** Next row to prepare. */
  int32_t row() const { return row_; }
  /** Whether a part of it is prepared already. */
  bool inRow() const { return frame_ > 0; }
  /** Passes over rows that went another way. */
  void skip(int32_t rows) { row_ += rows; }
  /** Bytes that prepared pieces hold, and those that rows up to `to` will become. */
  int64_t pending(const Engine& engine, int32_t to) const;
  /** Rows that could not be sent because their columns contradict each other. */
  int32_t refused = 0;

 private:
  void plain(Engine& engine);
  bool segments(Engine& engine, const Cut& cut);
  void piece(const uint8_t* at, int32_t length, bool merge);

  /** Rounded up. */
  static constexpr int32_t scratchBytes = prefixBytes + headerMax + 2;
  static constexpr size_t pieceMax = 1024;

  int32_t row_ = rxFrameMax;
  /** Frames of row_ that are already prepared. */
  int32_t frame_ = 0;
  size_t head_ = 0;
  size_t tail_ = 0;
  size_t scratchUsed_ = 0;
  iovec pieces_[pieceMax];
  /** A cut frame takes two pieces, sometimes a third for padding. */
  uint8_t scratch_[pieceMax / 2][scratchBytes];
};

}  // namespace passt
