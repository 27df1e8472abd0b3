/**
 * Three forms of one sum: portable, AVX2, NEON. All add 32-bit words into 64-bit lanes, where carries collect: 2^32 words
 * fit before a lane can overflow, far more than any frame has.
 */
#include "checksum.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace passt {

uint64_t sumBytesScalar(const uint8_t* bytes, size_t length, uint64_t start) {
  // 32-bit loads into a 64-bit sum: carries collect in the upper half (RFC 1071 section 2 C, deferred carries).
  uint64_t sum = start;
  while (length >= 16) {
    uint32_t words[4];
    memcpy(words, bytes, 16);
    sum += uint64_t{words[0]} + words[1] + words[2] + words[3];
    bytes += 16;
    length -= 16;
  }
  while (length >= 2) {
    sum += load16(bytes);
    bytes += 2;
    length -= 2;
  }
  if (length == 1) {
    const uint8_t last[2] = {*bytes, 0};
    sum += load16(last);
  }
  return sum;
}

#if defined(__x86_64__)

__attribute__((target("avx2"))) static uint64_t sumBytesAvx2(const uint8_t* bytes, size_t length, uint64_t start) {
  if (length < 64) return sumBytesScalar(bytes, length, start);
  // Each 32-byte load is added as 32-bit lanes split into 64-bit sums: low and high halves of every 64 bits.
  const __m256i low = _mm256_set1_epi64x(0xffffffff);
  __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
  while (length >= 64) {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes));
    const __m256i y = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes + 32));
    a = _mm256_add_epi64(a, _mm256_and_si256(x, low));
    b = _mm256_add_epi64(b, _mm256_srli_epi64(x, 32));
    c = _mm256_add_epi64(c, _mm256_and_si256(y, low));
    d = _mm256_add_epi64(d, _mm256_srli_epi64(y, 32));
    bytes += 64;
    length -= 64;
  }
  a = _mm256_add_epi64(_mm256_add_epi64(a, b), _mm256_add_epi64(c, d));
  uint64_t lanes[4];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), a);
  return sumBytesScalar(bytes, length, start + lanes[0] + lanes[1] + lanes[2] + lanes[3]);
}

static bool hasAvx2() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2");
}
const SumBytes sumBytes = hasAvx2() ? sumBytesAvx2 : sumBytesScalar;

#elif defined(__aarch64__)

static uint64_t sumBytesNeon(const uint8_t* bytes, size_t length, uint64_t start) {
  // Pairwise add and accumulate: 32-bit words into 64-bit lanes, which no frame can overflow.
  uint64x2_t a = vdupq_n_u64(0), b = a, c = a, d = a;
  while (length >= 64) {
    a = vpadalq_u32(a, vreinterpretq_u32_u8(vld1q_u8(bytes)));
    b = vpadalq_u32(b, vreinterpretq_u32_u8(vld1q_u8(bytes + 16)));
    c = vpadalq_u32(c, vreinterpretq_u32_u8(vld1q_u8(bytes + 32)));
    d = vpadalq_u32(d, vreinterpretq_u32_u8(vld1q_u8(bytes + 48)));
    bytes += 64;
    length -= 64;
  }
  a = vaddq_u64(vaddq_u64(a, b), vaddq_u64(c, d));
  return sumBytesScalar(bytes, length, start + vgetq_lane_u64(a, 0) + vgetq_lane_u64(a, 1));
}

// Every aarch64 processor has NEON (Armv8-A makes it part of the base profile for Linux).
const SumBytes sumBytes = sumBytesNeon;

#else
const SumBytes sumBytes = sumBytesScalar;
#endif

size_t checksumForms(ChecksumForm* out) {
  size_t count = 0;
  out[count++] = {"scalar", sumBytesScalar};
#if defined(__x86_64__)
  if (hasAvx2()) out[count++] = {"avx2", sumBytesAvx2};
#elif defined(__aarch64__)
  out[count++] = {"neon", sumBytesNeon};
#endif
  return count;
}

}  // namespace passt
