#include "transmit.h"

#include <cstring>

#include "checksum.h"
#include "pcap.h"

namespace passt {

/** Padding of frames that lie partly in the arena. */
static const uint8_t zeros[frameLengthMin] = {};

/** Offsets of the fields that cutting changes (RFC 791 section 3.1, RFC 8200 section 3, RFC 9293 section 3.1). */
constexpr int32_t etherHeader = 14;
constexpr int32_t ipv4TotalLength = 2, ipv4Checksum = 10, ipv4Source = 12;
constexpr int32_t ipv6PayloadLength = 4, ipv6Source = 8, ipv6Header = 40;
constexpr int32_t tcpSequence = 4, tcpOffset = 12, tcpFlags = 13, tcpChecksum = 16;
constexpr int32_t tcpFin = 0x01, tcpPush = 0x08;
constexpr uint8_t protocolTcp = 6;

static void put16(uint8_t* at, uint32_t value) {
  at[0] = static_cast<uint8_t>(value >> 8);
  at[1] = static_cast<uint8_t>(value);
}
static void put32(uint8_t* at, uint32_t value) {
  put16(at, value >> 16);
  put16(at + 2, value);
}
static uint32_t take32(const uint8_t* at) {
  return uint32_t{at[0]} << 24 | uint32_t{at[1]} << 16 | uint32_t{at[2]} << 8 | at[3];
}

/** Whether a frame that is not to be cut may have this length. */
static bool legal(int32_t frame) { return frame >= etherHeader && frame <= frameLengthMax; }

/** Length of a frame on the medium, prefix included. */
static int32_t onWire(int32_t frame) { return prefixBytes + (frame < frameLengthMin ? frameLengthMin : frame); }

void Transmit::clear() {
  row_ = rxFrameMax;
  frame_ = 0;
  head_ = tail_ = 0;
  scratchUsed_ = 0;
}

void Transmit::consume(size_t bytes) {
  while (bytes > 0 && head_ < tail_) {
    iovec& first = pieces_[head_];
    if (bytes < first.iov_len) {
      first.iov_base = static_cast<uint8_t*>(first.iov_base) + bytes;
      first.iov_len -= bytes;
      return;
    }
    bytes -= first.iov_len;
    head_++;
  }
}

int64_t Transmit::pending(const Engine& engine, int32_t to) const {
  int64_t bytes = 0;
  for (size_t i = head_; i < tail_; i++) bytes += static_cast<int64_t>(pieces_[i].iov_len);
  for (int32_t row = row_; row < to; row++) {
    const int32_t done = row == row_ ? frame_ : 0;
    Cut cut;
    if (!(engine.column(columnFlags)[row] & (frameSegmentTcp4 | frameSegmentTcp6))) {
      const int32_t length = engine.column(columnLength)[row];
      if (legal(length)) bytes += onWire(length);
    } else if (cutOf(engine, row, &cut)) {
      for (int32_t i = done; i < cut.frames; i++) {
        const int32_t left = cut.payload - i * cut.mss;
        bytes += onWire(cut.header + (left < cut.mss ? left : cut.mss));
      }
    }
  }
  return bytes;
}

void Transmit::piece(const uint8_t* at, int32_t length, bool merge) {
  if (merge && tail_ > head_) {
    iovec& last = pieces_[tail_ - 1];
    if (static_cast<uint8_t*>(last.iov_base) + last.iov_len == at) {
      last.iov_len += static_cast<size_t>(length);
      return;
    }
  }
  pieces_[tail_++] = {const_cast<uint8_t*>(at), static_cast<size_t>(length)};
}

void Transmit::plain(Engine& engine) {
  const int32_t length = engine.column(columnLength)[row_];
  const int32_t wire = legal(length) ? onWire(length) : 0;
  uint8_t* const frame = legal(length) ? engine.rowBytes(row_, 0, wire - prefixBytes) : nullptr;
  const bool sane = frame && engine.column(columnOffset)[row_] >= prefixBytes;
  if (!sane ||
      ((engine.column(columnFlags)[row_] & frameNeedsChecksum) &&
       !finishChecksum(frame, length, engine.column(columnChecksumStart)[row_],
                       engine.column(columnChecksumOffset)[row_]))) {
    refused++;
    return;
  }
  if (length < frameLengthMin) memset(frame + length, 0, static_cast<size_t>(frameLengthMin - length));
  put32(frame - prefixBytes, static_cast<uint32_t>(wire - prefixBytes));
  piece(frame - prefixBytes, wire, true);
  if (engine.pcap) engine.pcap->frame(frame, static_cast<size_t>(wire - prefixBytes));
}

bool cutOf(const Engine& engine, int32_t row, Cut* cut) {
  const int32_t flags = engine.column(columnFlags)[row];
  const int32_t length = engine.column(columnLength)[row];
  cut->v6 = flags & frameSegmentTcp6;
  cut->tcp = engine.column(columnChecksumStart)[row];
  cut->mss = engine.column(columnSegmentSize)[row];
  const uint8_t* const frame = engine.rowBytes(row, 0, length);
  if (!frame || cut->mss <= 0) return false;
  const int32_t tcpMin = etherHeader + (cut->v6 ? ipv6Header : 20);
  if (cut->tcp < tcpMin || cut->tcp > etherHeader + 60 || cut->tcp + 20 > length) return false;
  if (!cut->v6 && cut->tcp != etherHeader + (frame[etherHeader] & 0x0f) * 4) return false;
  cut->header = cut->tcp + (frame[cut->tcp + tcpOffset] >> 4) * 4;
  if (cut->header < cut->tcp + 20 || cut->header > headerMax || cut->header > length) return false;
  cut->payload = length - cut->header;
  cut->frames = cut->payload == 0 ? 1 : (cut->payload - 1) / cut->mss + 1;
  const int32_t largest = cut->payload < cut->mss ? cut->payload : cut->mss;
  return cut->header + largest <= frameLengthMax;
}

/** @returns false when the pieces ran out before the row was done. */
bool Transmit::segments(Engine& engine, const Cut& cut) {
  uint8_t* const whole = engine.rowBytes(row_, 0, cut.header + cut.payload);
  const int32_t ip = etherHeader;
  const uint32_t sequence = take32(whole + cut.tcp + tcpSequence);

  // Sums that are the same for each frame: addresses and protocol of the pseudo-header; the IPv4 header without what
  // changes in it.
  const uint8_t protocol[2] = {0, protocolTcp};
  uint64_t pseudo = load16(protocol);
  pseudo = cut.v6 ? sumBytesScalar(whole + ip + ipv6Source, 32, pseudo) : sumBytesScalar(whole + ip + ipv4Source, 8, pseudo);

  for (; frame_ < cut.frames; frame_++) {
    if (tail_ + 3 > pieceMax || scratchUsed_ == pieceMax / 2) return false;
    uint8_t* const prefix = scratch_[scratchUsed_++];
    uint8_t* const header = prefix + prefixBytes;
    const int32_t from = frame_ * cut.mss;
    const int32_t left = cut.payload - from;
    const int32_t bytes = left < cut.mss ? left : cut.mss;
    const int32_t length = cut.header + bytes;
    const bool last = left <= cut.mss;

    memcpy(header, whole, static_cast<size_t>(cut.header));
    uint8_t* const tcp = header + cut.tcp;
    put32(tcp + tcpSequence, sequence + static_cast<uint32_t>(from));
    if (!last) tcp[tcpFlags] &= static_cast<uint8_t>(~(tcpFin | tcpPush));
    if (cut.v6) {
      put16(header + ip + ipv6PayloadLength, static_cast<uint32_t>(length - ip - ipv6Header));
    } else {
      put16(header + ip + ipv4TotalLength, static_cast<uint32_t>(length - ip));
      put16(header + ip + ipv4Checksum, 0);
      const uint64_t sum = sumBytesScalar(header + ip, static_cast<size_t>(cut.tcp - ip), 0);
      store16(header + ip + ipv4Checksum, static_cast<uint16_t>(~foldSum(sum)));
    }
    uint8_t tcpLength[2];
    put16(tcpLength, static_cast<uint32_t>(length - cut.tcp));
    put16(tcp + tcpChecksum, 0);
    uint64_t sum = sumBytesScalar(tcp, static_cast<size_t>(cut.header - cut.tcp), pseudo + load16(tcpLength));
    sum = sumBytes(whole + cut.header + from, static_cast<size_t>(bytes), sum);
    store16(tcp + tcpChecksum, static_cast<uint16_t>(~foldSum(sum)));

    const int32_t wire = onWire(length);
    put32(prefix, static_cast<uint32_t>(wire - prefixBytes));
    const size_t first = tail_;
    piece(prefix, prefixBytes + cut.header, false);
    if (bytes > 0) piece(whole + cut.header + from, bytes, false);
    if (wire > prefixBytes + length) piece(zeros, wire - prefixBytes - length, false);
    if (engine.pcap) engine.pcap->frame(pieces_ + first, tail_ - first, prefixBytes);
  }
  frame_ = 0;
  return true;
}

void Transmit::prepare(Engine& engine, int32_t to) {
  if (head_ < tail_) return;
  head_ = tail_ = 0;
  scratchUsed_ = 0;
  while (row_ < to && tail_ < pieceMax) {
    if (engine.column(columnFlags)[row_] & (frameSegmentTcp4 | frameSegmentTcp6)) {
      Cut cut;
      if (!cutOf(engine, row_, &cut)) {
        refused++;
      } else if (!segments(engine, cut)) {
        return;
      }
    } else {
      plain(engine);
    }
    row_++;
  }
}

}  // namespace passt
