/**
 * The internet checksum (RFC 1071) over payload-sized data.
 *
 * Sums are kept in the machine's own byte order over the 16-bit words as they lie in memory: the one's-complement sum
 * does not depend on byte order (RFC 1071 section 2 B), so a folded sum may be stored into a header as it is. An odd
 * last byte counts as if a zero byte followed it.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace passt {

/** Unfolded sum of `length` bytes on top of `start`; fits 64 bits with room to spare for any length below 4 GiB. */
using SumBytes = uint64_t (*)(const uint8_t* bytes, size_t length, uint64_t start);

uint64_t sumBytesScalar(const uint8_t* bytes, size_t length, uint64_t start);

/** The fastest form that this processor runs, chosen once. */
extern const SumBytes sumBytes;

struct ChecksumForm {
  const char* name;
  SumBytes sum;
};
constexpr size_t checksumFormMax = 2;

/** The forms that run here. The first is the portable one, which the others are checked against. */
size_t checksumForms(ChecksumForm* out);

/** Folds to 16 bits with end-around carry. */
inline uint16_t foldSum(uint64_t sum) {
  sum = (sum >> 32) + (sum & 0xffffffff);
  sum = (sum >> 32) + (sum & 0xffffffff);
  sum = (sum >> 16) + (sum & 0xffff);
  sum = (sum >> 16) + (sum & 0xffff);
  return static_cast<uint16_t>((sum >> 16) + (sum & 0xffff));
}

inline uint16_t load16(const uint8_t* at) {
  uint16_t value;
  memcpy(&value, at, 2);
  return value;
}
inline void store16(uint8_t* at, uint16_t value) { memcpy(at, &value, 2); }

/** Completes a checksum as FRAME_NEEDS_CHECKSUM says (packages/core/src/frames.ts); false if it would not lie within the
 * frame. */
inline bool finishChecksum(uint8_t* frame, int32_t length, int32_t start, int32_t offset) {
  constexpr int32_t udpChecksum = 6;
  if (start < 0 || offset < 0 || start > length || offset > length - start - 2) return false;
  uint16_t sum = static_cast<uint16_t>(~foldSum(sumBytes(frame + start, static_cast<size_t>(length - start), 0)));
  // Zero means "no checksum" in UDP (RFC 768); its other representation stands for it.
  if (sum == 0 && offset == udpChecksum) sum = 0xffff;
  store16(frame + start + offset, sum);
  return true;
}

}  // namespace passt
