#include "udp-run.h"

#include <cstring>

#include "checksum.h"

namespace passt {

constexpr int32_t ether = 14, udpHeader = 8;
constexpr int32_t header4 = ether + 20 + udpHeader, header6 = ether + 40 + udpHeader;
constexpr int32_t packetMax = 65535;
constexpr uint8_t protocolUdp = 17;

static void put16(uint8_t* at, int32_t value) {
  at[0] = static_cast<uint8_t>(value >> 8);
  at[1] = static_cast<uint8_t>(value);
}

/** @returns bytes of all headers of a UDP datagram without options or extension headers, 0 for another frame */
static int32_t headersOf(const uint8_t* frame, int32_t length) {
  if (length > header4 && frame[12] == 0x08 && frame[13] == 0x00) {
    const bool plain = frame[ether] == 0x45 && frame[ether + 9] == protocolUdp && (frame[ether + 6] & 0x3f) == 0 &&
                       frame[ether + 7] == 0;
    return plain ? header4 : 0;
  }
  if (length > header6 && frame[12] == 0x86 && frame[13] == 0xdd) return frame[ether + 6] == protocolUdp ? header6 : 0;
  return 0;
}

/** Whether headers of a length are those of one flow: the same but for lengths, identification and checksums. */
static bool sameFlow(const uint8_t* a, const uint8_t* b, int32_t header) {
  if (header == header4) {
    // Up to the type of service; time to live, protocol; addresses and ports.
    return memcmp(a, b, ether + 2) == 0 && memcmp(a + ether + 6, b + ether + 6, 4) == 0 &&
           memcmp(a + ether + 12, b + ether + 12, 12) == 0;
  }
  // Up to the flow label; next header, hop limit, addresses and ports.
  return memcmp(a, b, ether + 4) == 0 && memcmp(a + ether + 6, b + ether + 6, 2 + 32 + 4) == 0;
}

bool findUdpRun(const Engine& engine, int32_t row, int32_t to, UdpRun* run) {
  constexpr int32_t cut = frameSegmentTcp4 | frameSegmentTcp6;
  const int32_t length = engine.column(columnLength)[row];
  run->frame = engine.rowBytes(row, 0, length);
  if (!run->frame || to - row < udpRunMin || (engine.column(columnFlags)[row] & cut)) return false;
  run->header = headersOf(run->frame, length);
  if (run->header == 0) return false;
  run->each = length - run->header;
  const int32_t most = (packetMax + ether - run->header) / run->each;
  int32_t end = row + (most < udpRunMax ? most : udpRunMax);
  if (end > to) end = to;
  run->rows = 0;
  for (int32_t next = row; next < end; next++) {
    const int32_t bytes = engine.column(columnLength)[next];
    uint8_t* const frame = engine.rowBytes(next, 0, bytes);
    if (!frame || bytes <= run->header || bytes > length || (engine.column(columnFlags)[next] & cut) ||
        headersOf(frame, bytes) != run->header || !sameFlow(run->frame, frame, run->header)) {
      break;
    }
    run->pieces[run->rows++] = {frame + run->header, static_cast<size_t>(bytes - run->header)};
    // A shorter one can only be the last.
    if (bytes < length) break;
  }
  return run->rows >= udpRunMin;
}

void joinUdpRun(const UdpRun& run) {
  int32_t bytes = udpHeader;
  for (int32_t i = 0; i < run.rows; i++) bytes += static_cast<int32_t>(run.pieces[i].iov_len);
  uint8_t* const ip = run.frame + ether;
  uint8_t* const udp = run.frame + run.header - udpHeader;
  uint8_t words[4] = {0, protocolUdp};
  put16(words + 2, bytes);
  uint64_t pseudo = 0;
  if (run.header == header4) {
    put16(ip + 2, 20 + bytes);
    put16(ip + 10, 0);
    store16(ip + 10, static_cast<uint16_t>(~foldSum(sumBytesScalar(ip, 20, 0))));
    pseudo = sumBytesScalar(ip + 12, 8, 0);
  } else {
    put16(ip + 4, bytes);
    pseudo = sumBytesScalar(ip + 8, 32, 0);
  }
  put16(udp + 4, bytes);
  store16(udp + 6, foldSum(sumBytesScalar(words, sizeof words, pseudo)));
}

}  // namespace passt
