/**
 * The control queue (VIRTIO 1.2 section 5.1.6.5), for front-ends that hand it over, as crosvm does; QEMU, DPDK and cloud-hypervisor keep it to
 * themselves. It comes after the pairs of queues: after one without multiqueue, else after all.
 *
 * What drivers may say with the features that we offer: how many pairs are used, which offloads they want at the moment, what the card's MAC
 * address is, and that a guest has announced itself. All of it lasts until a driver begins anew.
 */
#include <cstring>

#include "vhost-link.h"

namespace passt {

constexpr uint8_t classMac = 1, classAnnounce = 3, classMultiqueue = 4, classOffloads = 5;
constexpr uint8_t commandAddress = 1, commandAcknowledge = 0, commandPairs = 0, commandSetOffloads = 0;
constexpr uint8_t answerDone = 0, answerError = 1;
/** Class and command, and what is said to them at most. */
constexpr size_t commandHeaderBytes = 2, commandBytes = 10;
/** Offloads that can be changed: checksum, TSO, ECN, UFO and USO towards the guest, each by the bit of its feature (section 5.1.6.5.6). */
constexpr uint64_t offloadsMask = uint64_t{1} << 1 | uint64_t{1} << 7 | uint64_t{1} << 8 | uint64_t{1} << 9 |
                                  uint64_t{1} << 10 | featureGuestUso4 | featureGuestUso6;
/** Commands in one turn, at most. */
constexpr int32_t commandsMax = 64;

Ring* controlRing(VhostLink& link) {
  if (!link.has(featureControlQueue)) return nullptr;
  return &link.rings[2 * (link.has(featureMultiqueue) ? pairMax : 1)];
}

void takeFeatures(VhostLink& link, uint64_t features) {
  const Ring* const ring = controlRing(link);
  // A driver that begins anew; migration only adds the log.
  if (!ring || !ring->running()) {
    link.offloadsOff = 0;
    link.pairsInUse = 1;
  }
  link.negotiated = features;
  link.features = features & ~link.offloadsOff;
}

static bool setPairs(VhostLink& link, const uint8_t* at) {
  const int32_t pairs = at[0] | at[1] << 8;
  if (!link.has(featureMultiqueue) || pairs < 1 || pairs > pairMax) return false;
  link.pairsInUse = pairs;
  ringsChanged(link);
  return true;
}

static bool setOffloads(VhostLink& link, const uint8_t* at) {
  uint64_t wanted = 0;
  for (int32_t i = 0; i < 8; i++) wanted |= uint64_t{at[i]} << 8 * i;
  const uint64_t had = link.negotiated & offloadsMask;
  if (!link.has(featureControlOffloads) || (wanted & ~had) != 0) return false;
  link.offloadsOff = had & ~wanted;
  link.features = link.negotiated & ~link.offloadsOff;
  return true;
}

/** For who asks for the configuration: frames from the guest tell its address themselves. */
static bool setAddress(VhostLink& link, const uint8_t* at) {
  if (!link.has(featureControlMac)) return false;
  link.state[stateMacHigh] = at[0] << 8 | at[1];
  link.state[stateMacLow] = static_cast<int32_t>(uint32_t{at[2]} << 24 | uint32_t{at[3]} << 16 | at[4] << 8 | at[5]);
  link.state[stateMacs]++;
  return true;
}

static bool carryOut(VhostLink& link, const uint8_t* command, size_t bytes) {
  if (bytes < commandHeaderBytes) return false;
  const uint8_t* const at = command + commandHeaderBytes;
  const size_t said = bytes - commandHeaderBytes;
  switch (command[0]) {
    case classMac:
      return command[1] == commandAddress && said >= 6 && setAddress(link, at);
    case classAnnounce:
      return command[1] == commandAcknowledge;
    case classMultiqueue:
      return command[1] == commandPairs && said >= 2 && setPairs(link, at);
    case classOffloads:
      return command[1] == commandSetOffloads && said >= 8 && setOffloads(link, at);
    default:
      return false;
  }
}

/** @returns bytes written: the answer, if there is room for one */
static uint32_t answer(VhostLink& link, const Chain& chain) {
  uint8_t command[commandBytes] = {};
  size_t got = 0;
  for (int32_t i = 0; i < chain.readable && got < commandBytes; i++) {
    const iovec& piece = link.pieces[i];
    const size_t part = piece.iov_len < commandBytes - got ? piece.iov_len : commandBytes - got;
    memcpy(command + got, piece.iov_base, part);
    got += part;
  }
  if (chain.writable == 0) return 0;
  auto* const to = static_cast<uint8_t*>(link.pieces[chain.readable].iov_base);
  *to = carryOut(link, command, got) ? answerDone : answerError;
  if (link.memory.logging()) link.memory.written(to, 1);
  return 1;
}

bool serveControl(VhostLink& link) {
  Ring* const ring = controlRing(link);
  if (!ring || !ring->running() || !ring->enabled) return false;
  bool more = false;
  ring->wantNoKick(link.memory);
  for (int32_t i = 0;; i++) {
    if (i == commandsMax) {
      more = true;
      break;
    }
    Chain chain;
    const Taken taken = ring->take(link.memory, &chain, link.pieces, pieceMax);
    if (taken == Taken::nothing) {
      if (ring->broken() || !ring->wantKick(link.memory)) break;
      ring->wantNoKick(link.memory);
      continue;
    }
    ring->giveBack(link.memory, chain.ticket, taken == Taken::chain ? answer(link, chain) : 0);
  }
  ring->publish(link.memory);
  if (ring->broken()) ringsChanged(link);
  return more;
}

}  // namespace passt
