/**
 * The control queue (VIRTIO 1.2 section 5.1.6.5), for front-ends that hand it over, as crosvm does; QEMU, DPDK and cloud-hypervisor keep it to
 * themselves. It comes after the pairs of queues: after one without multiqueue, else after all.
 *
 * There are two commands that drivers may give with the features that we offer: how many pairs are used, and that a guest has announced itself.
 */
#include <cstring>

#include "vhost-link.h"

namespace passt {

constexpr uint8_t classAnnounce = 3, classMultiqueue = 4;
constexpr uint8_t commandPairs = 0, commandAcknowledge = 0;
constexpr uint8_t answerDone = 0, answerError = 1;
/** Class, command, and what is said to it. */
constexpr size_t commandBytes = 4;
/** Commands in one turn, at most. */
constexpr int32_t commandsMax = 64;

Ring* controlRing(VhostLink& link) {
  if (!link.has(featureControlQueue)) return nullptr;
  return &link.rings[2 * (link.has(featureMultiqueue) ? pairMax : 1)];
}

static bool carryOut(VhostLink& link, const uint8_t* command, size_t bytes) {
  if (command[0] == classAnnounce && command[1] == commandAcknowledge) return true;
  if (command[0] != classMultiqueue || command[1] != commandPairs || bytes < commandBytes) return false;
  const int32_t pairs = command[2] | command[3] << 8;
  if (!link.has(featureMultiqueue) || pairs < 1 || pairs > pairMax) return false;
  link.pairsInUse = pairs;
  ringsChanged(link);
  return true;
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
  *to = got >= 2 && carryOut(link, command, got) ? answerDone : answerError;
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
