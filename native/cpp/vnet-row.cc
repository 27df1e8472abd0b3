#include "vnet-row.h"

#include "transmit.h"

namespace passt {

/** Frames from which on it pays to tell the kernel where the headers end: it then puts payload into pages. */
constexpr int32_t largeFrameMin = 2048;

/** Bytes of the headers that the kernel should lay out apart from the payload, 0: it need not. */
static int32_t headerHint(const Engine& engine, int32_t row, const uint8_t* frame, int32_t length) {
  if (length < largeFrameMin) return 0;
  if (!(engine.column(columnFlags)[row] & frameNeedsChecksum)) return etherHeaderBytes + 20 + 8;
  const int32_t start = engine.column(columnChecksumStart)[row];
  // The field's place tells the protocol: 16 in TCP, whose header tells its own length; 6 in UDP.
  const int32_t transport = engine.column(columnChecksumOffset)[row] == 16 ? (frame[start + 12] >> 4) * 4 : 8;
  return start + transport;
}

bool describeRow(const Engine& engine, int32_t row, const uint8_t* frame, int32_t length, VnetHeader* header) {
  const int32_t flags = engine.column(columnFlags)[row];
  if (flags & (frameSegmentTcp4 | frameSegmentTcp6)) {
    Cut cut;
    if (!cutOf(engine, row, &cut)) return false;
    *header = plainVnetHeader(true, cut.header, cut.tcp, 16);
    if (cut.frames > 1) {
      header->gsoType = cut.v6 ? vnetGsoTcp6 : vnetGsoTcp4;
      header->gsoSize = static_cast<uint16_t>(cut.mss);
    }
    return true;
  }
  const bool needsChecksum = flags & frameNeedsChecksum;
  const int32_t start = engine.column(columnChecksumStart)[row];
  const int32_t offset = engine.column(columnChecksumOffset)[row];
  if (needsChecksum && (start < etherHeaderBytes || offset < 0 || start > length || offset > length - start - 2)) {
    return false;
  }
  *header = plainVnetHeader(needsChecksum, headerHint(engine, row, frame, length), start, offset);
  return header->headerLength <= length;
}

}  // namespace passt
