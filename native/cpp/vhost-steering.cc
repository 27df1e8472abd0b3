#include "vhost-steering.h"

#include <cstring>

namespace passt {

constexpr int32_t etherBytes = 14, ipv4Bytes = 20, ipv6Bytes = 40, portsBytes = 4;
constexpr uint8_t protocolTcp = 6, protocolUdp = 17;

/** Spreads each bit over the whole word (the finalizer of MurmurHash3). */
static uint64_t mix(uint64_t x) {
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccd;
  x ^= x >> 33;
  x *= 0xc4ceb9fe1a85ec53;
  return x ^ x >> 33;
}
static uint64_t word(const uint8_t* at, size_t bytes) {
  uint64_t value = 0;
  memcpy(&value, at, bytes);
  return value;
}

uint32_t Steering::hashOf(const uint8_t* frame, int32_t length) {
  if (length < etherBytes + ipv4Bytes) return 0;
  const uint8_t* const ip = frame + etherBytes;
  const int type = frame[12] << 8 | frame[13];
  int32_t ports = 0;
  uint8_t protocol = 0;
  uint64_t source = 0, destination = 0;
  if (type == 0x0800) {
    const int32_t header = (ip[0] & 15) * 4;
    protocol = ip[9];
    const bool fragment = (ip[6] & 0x3f) != 0 || ip[7] != 0;
    if (header >= ipv4Bytes && !fragment) ports = etherBytes + header;
    source = word(ip + 12, 4);
    destination = word(ip + 16, 4);
  } else if (type == 0x86dd && length >= etherBytes + ipv6Bytes) {
    // Behind extension headers, fragments' among them, no ports are looked for.
    protocol = ip[6];
    ports = etherBytes + ipv6Bytes;
    source = mix(word(ip + 8, 8)) + word(ip + 16, 8);
    destination = mix(word(ip + 24, 8)) + word(ip + 32, 8);
  } else {
    return 0;
  }
  if (ports > 0 && (protocol == protocolTcp || protocol == protocolUdp) && length >= ports + portsBytes) {
    source = mix(source) ^ word(frame + ports, 2);
    destination = mix(destination) ^ word(frame + ports + 2, 2);
  }
  // A sum: the same when both ends change places.
  const uint64_t both = mix(mix(source) + mix(destination) + protocol);
  const auto hash = static_cast<uint32_t>(both ^ both >> 32);
  return hash != 0 ? hash : 1;
}

void Steering::clear() { memset(slots_, 0, sizeof slots_); }

}  // namespace passt
