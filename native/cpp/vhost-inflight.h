/**
 * Tracking of buffers in flight, in a file that the front-end keeps when we end ("Inflight I/O tracking" in vhost-user's specification): so that
 * whoever comes after us knows which buffers were taken and not given back.
 *
 * ```
 *   split    features u64 | version u16 | entries u16 | last_batch_head u16 | used_idx u16 | entries × 16 bytes
 *   packed   features u64 | version u16 | entries u16 | free_head u16 | old_free_head u16 | used_idx u16 | old_used_idx u16 |
 *            used_wrap u8 | old_used_wrap u8 | 10 bytes | entries × 32 bytes
 * ```
 *
 * No buffer of ours is in flight beyond a batch, so entries stay as they are, and what is kept is how far the driver has been shown used
 * buffers. For a split ring that is also in memory. For a packed one it is nowhere else, which is why a front-end can't start one
 * again without this. The old values are those before the batch: what is in the ring tells whether the batch was shown.
 */
#pragma once

#include <cstdint>

#include "vhost-chain.h"
#include "vhost-packed.h"

namespace passt {

namespace inflight {

/** Bytes of the part of one queue. */
uint64_t queueBytes(uint32_t entries, bool packed);

/** Begins with a queue's part, at its start: empty if nobody has used it.
 * @param base where the front-end says to go on; what the part knows better replaces it
 * @returns 0, -EINVAL if it is another queue's, -EBUSY if buffers are in flight, which another back-end has taken */
int32_t begin(const QueueParts& parts, bool packed, uint16_t* base);

inline void splitPublished(uint8_t* part, uint16_t usedIndex) { store16(part + 14, usedIndex); }

/** Before a batch is shown. */
inline void packedPublishes(uint8_t* part, PackedPlace to) {
  store16(part + 16, to.index);
  __atomic_store_n(part + 20, static_cast<uint8_t>(to.wrap), __ATOMIC_RELEASE);
}
/** After it. */
inline void packedPublished(uint8_t* part, PackedPlace to) {
  store16(part + 18, to.index);
  __atomic_store_n(part + 21, static_cast<uint8_t>(to.wrap), __ATOMIC_RELEASE);
}

}  // namespace inflight

}  // namespace passt
