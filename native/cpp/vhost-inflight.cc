#include "vhost-inflight.h"

#include <cerrno>

namespace passt::inflight {

constexpr uint64_t splitHeader = 16, splitEntry = 16, packedHeader = 32, packedEntry = 32;
/** As other back-ends have it. */
constexpr uint64_t alignment = 64;

constexpr uint64_t versionOffset = 8, entriesOffset = 10, freeOffset = 12;
constexpr uint16_t version = 1;

/** Of an entry of a packed ring: the next free one. */
constexpr uint64_t packedNext = 2;

uint64_t queueBytes(uint32_t entries, bool packed) {
  const uint64_t bytes = packed ? packedHeader + packedEntry * entries : splitHeader + splitEntry * entries;
  return (bytes + alignment - 1) & ~(alignment - 1);
}

static void makeEmpty(uint8_t* part, uint32_t entries, bool packed, uint16_t base) {
  store16(part + entriesOffset, static_cast<uint16_t>(entries));
  if (packed) {
    const PackedPlace at = PackedPlace::of(base);
    packedPublishes(part, at);
    packedPublished(part, at);
    store16(part + freeOffset, 0);
    store16(part + freeOffset + 2, 0);
    for (uint32_t i = 0; i < entries; i++) {
      store16(part + packedHeader + packedEntry * i + packedNext, static_cast<uint16_t>(i + 1));
    }
  } else {
    splitPublished(part, base);
  }
  __atomic_store_n(reinterpret_cast<uint16_t*>(part + versionOffset), version, __ATOMIC_RELEASE);
}

/** Where a packed ring was left: a batch that was about to be shown has been if its first entry is used. */
static PackedPlace leftAt(const QueueParts& parts) {
  uint8_t* const part = parts.inflight;
  PackedPlace to = {load16(part + 16), part[20] != 0};
  const PackedPlace from = {load16(part + 18), part[21] != 0};
  if (to.index == from.index && to.wrap == from.wrap) return to;
  if (from.index < parts.size) {
    const uint16_t flags = load16(parts.descriptors + descriptorBytes * from.index + 14, __ATOMIC_ACQUIRE);
    const bool available = flags & 1 << 7, used = flags & 1 << 15;
    if (available != from.wrap || used != from.wrap) to = from;
  }
  packedPublishes(part, to);
  packedPublished(part, to);
  return to;
}

int32_t begin(const QueueParts& parts, bool packed, uint16_t* base) {
  uint8_t* const part = parts.inflight;
  const uint16_t found = load16(part + versionOffset, __ATOMIC_ACQUIRE);
  if (found == 0) {
    makeEmpty(part, parts.size, packed, *base);
    return 0;
  }
  if (found != version || load16(part + entriesOffset) != static_cast<uint16_t>(parts.size)) return -EINVAL;
  const uint64_t header = packed ? packedHeader : splitHeader, entry = packed ? packedEntry : splitEntry;
  for (uint32_t i = 0; i < parts.size; i++)
    if (part[header + entry * i] != 0) return -EBUSY;
  *base = packed ? leftAt(parts).word() : load16(parts.device + 2);
  return 0;
}

}  // namespace passt::inflight
