/**
 * The guest behind vhost-user: its memory is mapped here, and frames are exchanged through its virtqueues, behind virtio's
 * header (vnet-header.h), as over a tap: super-frames whatever the MTU, and checksums that nobody computes.
 *
 * ```
 *   transmit queues   chains → receive area   [ frame ][ frame ] …      copied whole, and given back at once
 *   send area         [ frame ][ frame ] …    → chains of the receive queues, several for one frame if the driver knows how
 * ```
 *
 * Life of a buffer: `Ring::take` copies its descriptors and looks their addresses up; bytes are copied out or in; `giveBack`
 * puts it into the used ring; `publish` shows all of a batch at once, and wakes the driver if it wants to be. No buffer is kept beyond a
 * batch: so a ring can stop at any moment between two of them, and nothing is in flight that a reconnect could lose.
 *
 * The driver's kicks are watched edge-triggered, and their counters never read. While a batch is being taken, no kicks are wanted; then
 * they are wanted again, and the ring is looked at once more. Receive queues are watched too, but kicks are only asked for while frames wait
 * because there are no buffers: `blocked`, as on a full socket.
 *
 * What the driver does not take (no GUEST_CSUM, no GUEST_TSO) is finished and cut by transmit.h, frame by frame.
 *
 * The other half is packages/transport-vhost, which speaks the protocol and calls what is below `set up by the front-end`.
 * Reads first: VIRTIO 1.2 sections 2.7 and 5.1.6; vhost-ring.h, vhost-memory.h.
 */
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <new>

#include "addon.h"
#include "engine.h"
#include "pcap.h"
#include "transmit.h"
#include "udp-run.h"
#include "unix-listener.h"
#include "vhost-channel.h"
#include "vhost-memory.h"
#include "vhost-ring.h"
#include "vnet-header.h"
#include "vnet-row.h"

namespace passt {

/** Pairs of queues at most. */
constexpr int32_t pairMax = 8;
constexpr int32_t ringMax = 2 * pairMax;

/** virtio's header at its longest: with the number of buffers that a frame takes. */
constexpr int32_t vnetHeaderMax = vnetHeaderBytes + 2;

/** One batch, at most, as over a tap; frames begin on a cache line. */
constexpr size_t batchBytesMax = 384 << 10;
constexpr size_t frameAlignment = 64;
static_assert(batchBytesMax + frameAlignment + superFrameMax <= rxArenaBytes, "a batch fits the area");

/** Pieces of guest memory of one frame, at most: of one chain, or of those that the driver gave for a frame. */
constexpr int32_t pieceMax = Ring::stepsMax + 64;

/** Clients that are turned away per call, at most. */
constexpr int acceptMax = 64;

/** Feature bits that the data path depends on (VIRTIO 1.2 sections 5.1.3 and 6). */
constexpr uint64_t featureGuestChecksum = uint64_t{1} << 1;
constexpr uint64_t featureGuestTso4 = uint64_t{1} << 7;
constexpr uint64_t featureGuestTso6 = uint64_t{1} << 8;
constexpr uint64_t featureMergeable = uint64_t{1} << 15;
constexpr uint64_t featureLogAll = uint64_t{1} << 26;
constexpr uint64_t featureEventIndex = uint64_t{1} << 29;
constexpr uint64_t featureVersion1 = uint64_t{1} << 32;
constexpr uint64_t featureGuestUso4 = uint64_t{1} << 54;
constexpr uint64_t featureGuestUso6 = uint64_t{1} << 55;

/** Words that JavaScript reads; see packages/transport-vhost/src/vhost-link.ts. */
enum StateWord : int32_t {
  stateConnected,
  stateMore,
  stateBlocked,
  stateClients,
  stateClientPid,
  stateTurnedAway,
  stateTurnedAwayPid,
  stateRefusedRows,
  stateBadFrames,
  stateLostFrames,
  stateBrokenRings,
  stateMessageBytes,
  stateDescriptors,
  stateWords,
};

struct VhostLink : Owned {
  Engine& engine;
  int32_t* state;
  uint8_t* message;
  uint8_t* reply;
  uint32_t source;
  int listenFd = -1;
  int clientFd = -1;
  bool watched = false;
  int32_t ref = 0;
  uint64_t features = 0;
  /** Of virtio's header: without VERSION_1, only drivers that merge buffers have the number of them (section 5.1.6.1). */
  int32_t headerBytes = vnetHeaderBytes;
  int logFd = -1;
  int32_t brokenSeen = 0;
  /** Transmit queue to begin the next batch with. */
  int32_t turn = 0;
  VhostChannel channel;
  GuestMemory memory;
  /** Even ones receive, odd ones transmit; from the driver's point of view. */
  Ring rings[ringMax];
  Transmit transmit;
  iovec pieces[pieceMax];
  /** The chains of one frame. */
  uint16_t heads[pieceMax];
  uint64_t room[pieceMax];

  VhostLink(Engine& engine, int32_t* state, uint8_t* message, uint8_t* reply, uint32_t source)
      : engine(engine), state(state), message(message), reply(reply), source(source) {}
  ~VhostLink() override {
    if (listenFd >= 0) ::close(listenFd);
    if (clientFd >= 0) ::close(clientFd);
    if (logFd >= 0) ::close(logFd);
  }

  bool has(uint64_t feature) const { return (features & feature) == feature; }
};

/** Brings up to date what depends on the rings. */
static void ringsChanged(VhostLink& link) {
  bool connected = false;
  int32_t broken = 0;
  for (int32_t i = 0; i < ringMax; i++) {
    const Ring& ring = link.rings[i];
    if (i % 2 == 0 && ring.running() && ring.enabled) connected = true;
    broken += ring.broken();
    // What came before it was watched.
    if (i % 2 == 1 && ring.running()) link.state[stateMore] = 1;
  }
  if (broken > link.brokenSeen) link.state[stateBrokenRings] += broken - link.brokenSeen;
  link.brokenSeen = broken;
  link.state[stateConnected] = connected;
  if (connected) return;
  link.transmit.clear();
  link.state[stateBlocked] = 0;
}

// ---- the connection ------------------------------------------------------------------------------------------------

static int32_t watchSocket(VhostLink& link, int fd, uint32_t mask) {
  if (!link.watched || fd < 0) return 0;
  return watchFor(link.engine, fd, link.ref, mask, link.source);
}

/** Before a ring closes its kick: the driver holds the same open file, so closing alone would not end the registration. */
static void unwatchKick(const VhostLink& link, const Ring& ring) {
  if (ring.kick() >= 0) epoll_ctl(link.engine.epollFd, EPOLL_CTL_DEL, ring.kick(), nullptr);
}

static void resetRings(VhostLink& link) {
  for (Ring& ring : link.rings) {
    unwatchKick(link, ring);
    ring.reset();
  }
  ringsChanged(link);
  link.state[stateMore] = 0;
}

static void forgetLog(VhostLink& link) {
  link.memory.stopLog();
  if (link.logFd >= 0) ::close(link.logFd);
  link.logFd = -1;
}

static void dropClient(VhostLink& link) {
  if (link.clientFd < 0) return;
  // Another process may hold the same open file: closing alone would not end the registration.
  if (link.watched) epoll_ctl(link.engine.epollFd, EPOLL_CTL_DEL, link.clientFd, nullptr);
  ::close(link.clientFd);
  link.clientFd = -1;
  link.channel.clear();
  resetRings(link);
  forgetLog(link);
  link.memory.clear();
  link.features = 0;
  link.headerBytes = vnetHeaderBytes;
  // The next client may be waiting already.
  if (link.listenFd >= 0) link.engine.sourceEvents[link.source] |= EPOLLIN;
}

static int32_t attachClient(VhostLink& link, int fd) {
  link.clientFd = fd;
  link.state[stateClients]++;
  link.state[stateClientPid] = peerPid(fd);
  link.engine.sourceEvents[link.source] |= EPOLLIN;
  return watchSocket(link, fd, EPOLLIN);
}

/** Accepts whoever waits: the first becomes the client, others are turned away. */
static void acceptClients(VhostLink& link) {
  // A front-end that comes back may be here before its predecessor's end was read: it is not a second one.
  if (link.listenFd < 0 || (link.clientFd >= 0 && peerGone(link.clientFd))) return;
  for (int i = 0; i < acceptMax; i++) {
    // seccomp[vhost-user]: accept4
    const int fd = accept4(link.listenFd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    if (link.clientFd < 0) {
      attachClient(link, fd);
    } else {
      link.state[stateTurnedAway]++;
      link.state[stateTurnedAwayPid] = peerPid(fd);
      ::close(fd);
    }
  }
}

/** Reads the next message, if there is one; accepts clients.
 * @returns 1: it is there; 0: nothing now; -errno: the client is gone, or has broken the rules, and was dropped */
static int32_t readMessage(VhostLink& link) {
  if (!link.engine.sourceEvents[link.source]) return 0;
  acceptClients(link);
  if (link.clientFd < 0) {
    link.engine.sourceEvents[link.source] = 0;
    return 0;
  }
  const int32_t length = link.channel.read(link.clientFd, link.message);
  if (length < 0) {
    dropClient(link);
    return length;
  }
  if (length == 0) {
    link.engine.sourceEvents[link.source] = 0;
    return 0;
  }
  link.state[stateMessageBytes] = length;
  link.state[stateDescriptors] = link.channel.descriptorCount();
  return 1;
}

/** Ends the handling of a message: sends `bytes` of the reply, if any, and closes descriptors that nobody took.
 * @returns 0, or -errno if the reply could not be sent at once */
static int32_t endMessage(VhostLink& link, int32_t bytes) {
  link.channel.clear();
  if (link.clientFd < 0 || bytes <= 0) return 0;
  if (bytes > static_cast<int32_t>(VhostChannel::messageMax)) return -EINVAL;
  // seccomp[vhost-user]: sendto
  const ssize_t sent = send(link.clientFd, link.reply, static_cast<size_t>(bytes), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent < 0) return -errno;
  return sent == bytes ? 0 : -EAGAIN;
}

// ---- set up by the front-end ---------------------------------------------------------------------------------------

static Ring* ringAt(VhostLink& link, int32_t index) {
  return index >= 0 && index < ringMax ? &link.rings[index] : nullptr;
}

static void resolveRings(VhostLink& link) {
  for (Ring& ring : link.rings) ring.resolve(link.memory);
  ringsChanged(link);
}

static int32_t clearMemory(VhostLink& link) {
  link.memory.clear();
  resolveRings(link);
  return 0;
}

/** addMemory(descriptor, guest, size, user, offset): see GuestMemory::add; the first is the place of a descriptor in
 * the message. */
static napi_value addMemory(napi_env env, napi_callback_info info) {
  const Arguments in(env, info);
  auto& link = in.self<VhostLink>();
  const int fd = link.channel.look(in.integer(0));
  if (fd < 0) return in.result(-EBADF);
  const int32_t error = link.memory.add(fd, in.word64(1), in.word64(2), in.word64(3), in.word64(4));
  if (!error) resolveRings(link);
  return in.result(error);
}

/** removeMemory(guest, size, user) */
static napi_value removeMemory(napi_env env, napi_callback_info info) {
  const Arguments in(env, info);
  auto& link = in.self<VhostLink>();
  const int32_t error = link.memory.remove(in.word64(0), in.word64(1), in.word64(2));
  if (!error) resolveRings(link);
  return in.result(error);
}

/** startLog(descriptor, size, offset) */
static napi_value startLog(napi_env env, napi_callback_info info) {
  const Arguments in(env, info);
  auto& link = in.self<VhostLink>();
  const int fd = link.channel.look(in.integer(0));
  return in.result(fd < 0 ? -EBADF : link.memory.startLog(fd, in.word64(1), in.word64(2)));
}

/** setFeatures(bits): what was negotiated. */
static napi_value setFeatures(napi_env env, napi_callback_info info) {
  const Arguments in(env, info);
  auto& link = in.self<VhostLink>();
  link.features = in.word64(0);
  const bool counted = link.has(featureVersion1) || link.has(featureMergeable);
  link.headerBytes = vnetHeaderBytes + (counted ? 2 : 0);
  if (!link.has(featureLogAll)) link.memory.stopLog();
  for (Ring& ring : link.rings) ring.setEventIndex(link.has(featureEventIndex));
  return in.result(0);
}

static int32_t setRingSize(VhostLink& link, int32_t index, int32_t size) {
  Ring* const ring = ringAt(link, index);
  if (!ring || size < 0) return -EINVAL;
  const int32_t error = ring->setSize(static_cast<uint32_t>(size));
  ringsChanged(link);
  return error;
}

/** setRingAddresses(index, logged, descriptors, used, available, log) */
static napi_value setRingAddresses(napi_env env, napi_callback_info info) {
  const Arguments in(env, info);
  auto& link = in.self<VhostLink>();
  Ring* const ring = ringAt(link, in.integer(0));
  if (!ring) return in.result(-EINVAL);
  RingAddresses addresses;
  addresses.logged = in.integer(1) != 0;
  addresses.descriptors = in.word64(2);
  addresses.used = in.word64(3);
  addresses.available = in.word64(4);
  addresses.log = in.word64(5);
  const int32_t error = ring->setAddresses(link.memory, addresses);
  ringsChanged(link);
  return in.result(error);
}

static int32_t setRingBase(VhostLink& link, int32_t index, int32_t base) {
  Ring* const ring = ringAt(link, index);
  if (!ring) return -EINVAL;
  ring->setBase(static_cast<uint16_t>(base));
  ringsChanged(link);
  return 0;
}

/** Stops a ring. @returns the next entry that it would have taken */
static int32_t stopRing(VhostLink& link, int32_t index) {
  Ring* const ring = ringAt(link, index);
  if (!ring) return -EINVAL;
  unwatchKick(link, *ring);
  ring->stop();
  ringsChanged(link);
  return ring->base();
}

/** Takes a descriptor of the message for us to use, which must not block. @returns it, or -errno */
static int32_t takeDescriptor(VhostLink& link, int32_t descriptor) {
  const int fd = link.channel.take(descriptor);
  if (fd < 0) return -EBADF;
  // seccomp[vhost-user]: fcntl(_, F_GETFL|F_SETFL)
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || ((flags & O_NONBLOCK) == 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)) {
    const int error = errno;
    ::close(fd);
    return -error;
  }
  return fd;
}

/** Starts a ring with the descriptor that kicks it. */
static int32_t setRingKick(VhostLink& link, int32_t index, int32_t descriptor) {
  Ring* const ring = ringAt(link, index);
  const int32_t fd = ring ? takeDescriptor(link, descriptor) : -EINVAL;
  if (fd < 0) return fd;
  // What can't be watched is no eventfd.
  const int32_t error = watchFor(link.engine, fd, link.ref, EPOLLIN | EPOLLET, sourceNone);
  if (error) {
    ::close(fd);
    return error;
  }
  unwatchKick(link, *ring);
  ring->setKick(fd);
  ringsChanged(link);
  return 0;
}

/** Sets what wakes the driver; -1: nothing does. */
static int32_t setRingCall(VhostLink& link, int32_t index, int32_t descriptor) {
  Ring* const ring = ringAt(link, index);
  if (!ring) return -EINVAL;
  const int32_t fd = descriptor < 0 ? -1 : takeDescriptor(link, descriptor);
  if (descriptor >= 0 && fd < 0) return fd;
  ring->setCall(fd);
  return 0;
}

static int32_t setRingError(VhostLink& link, int32_t index, int32_t descriptor) {
  Ring* const ring = ringAt(link, index);
  if (!ring) return -EINVAL;
  const int32_t fd = descriptor < 0 ? -1 : takeDescriptor(link, descriptor);
  if (descriptor >= 0 && fd < 0) return fd;
  ring->setError(fd);
  return 0;
}

static int32_t enableRing(VhostLink& link, int32_t index, int32_t on) {
  Ring* const ring = ringAt(link, index);
  if (!ring) return -EINVAL;
  ring->enabled = on != 0;
  ringsChanged(link);
  return 0;
}

static int32_t resetDevice(VhostLink& link) {
  resetRings(link);
  return 0;
}

/** Sets what is written to when something was logged; -1: nothing is. */
static int32_t setLogFd(VhostLink& link, int32_t descriptor) {
  const int32_t fd = descriptor < 0 ? -1 : takeDescriptor(link, descriptor);
  if (descriptor >= 0 && fd < 0) return fd;
  if (link.logFd >= 0) ::close(link.logFd);
  link.logFd = fd;
  return 0;
}

/** Tells the front-end of a batch's entries in the log. */
static void tellLogged(VhostLink& link) {
  if (!link.memory.takeNoted() || link.logFd < 0) return;
  const uint64_t one = 1;
  if (write(link.logFd, &one, sizeof one) < 0) return;
}

// ---- from the guest ------------------------------------------------------------------------------------------------

/** Copies a chain's frame into the receive area, and describes it in a row. @returns bytes of the frame, 0: it is dropped */
static size_t takeFrame(VhostLink& link, const Chain& chain, int32_t row, size_t at) {
  Engine& engine = link.engine;
  const auto before = static_cast<size_t>(link.headerBytes);
  if (chain.readableBytes < before + etherHeaderBytes || chain.readableBytes > before + superFrameMax) return 0;
  const auto length = static_cast<int32_t>(chain.readableBytes - before);
  uint8_t header[vnetHeaderMax];
  size_t headerGot = 0;
  uint8_t* to = engine.arena + at;
  for (int32_t i = 0; i < chain.readable; i++) {
    const auto* from = static_cast<const uint8_t*>(link.pieces[i].iov_base);
    size_t bytes = link.pieces[i].iov_len;
    if (headerGot < before) {
      const size_t part = bytes < before - headerGot ? bytes : before - headerGot;
      memcpy(header + headerGot, from, part);
      headerGot += part;
      from += part;
      bytes -= part;
    }
    memcpy(to, from, bytes);
    to += bytes;
  }
  // A copy, which the driver can't change any more.
  VnetHeader vnet;
  memcpy(&vnet, header, sizeof vnet);
  int32_t flags = 0;
  int32_t segment = 0;
  if (!takeVnetHeader(vnet, length, &flags, &segment)) return 0;
  engine.column(columnOffset)[row] = static_cast<int32_t>(at);
  engine.column(columnLength)[row] = length;
  engine.column(columnWindow)[row] = length;
  engine.column(columnFlags)[row] = flags;
  engine.column(columnSegmentSize)[row] = segment;
  if (engine.pcap) {
    if (flags & frameNeedsChecksum) {
      engine.pcap->unfinished(engine.arena + at, static_cast<size_t>(length), vnet.checksumStart, vnet.checksumOffset);
    } else {
      engine.pcap->frame(engine.arena + at, static_cast<size_t>(length));
    }
  }
  return static_cast<size_t>(length);
}

/** @returns frames, or -EFAULT after memory has turned out not to be there: the client was dropped */
static int32_t receive(VhostLink& link) {
  Engine& engine = link.engine;
  if (!engine.arena) return -EBADF;
  int32_t rows = 0;
  size_t at = 0;
  bool more = false;
  bool broken = false;
  // Frames that are dropped count too: the turn must end.
  int32_t chains = 0;
  for (int32_t i = 0; i < pairMax && !more; i++) {
    const int32_t pair = (link.turn + i) % pairMax;
    Ring& ring = link.rings[2 * pair + 1];
    if (!ring.running()) continue;
    ring.wantNoKick();
    for (;;) {
      if (chains == rxFrameMax || at >= batchBytesMax) {
        more = true;
        link.turn = (pair + 1) % pairMax;
        break;
      }
      Chain chain;
      const Taken taken = ring.take(link.memory, &chain, link.pieces, pieceMax);
      if (taken == Taken::nothing) {
        if (ring.broken() || !ring.wantKick()) break;
        ring.wantNoKick();
        continue;
      }
      chains++;
      // A ring that is not enabled is emptied (vhost-user's protocol, "Ring states").
      const size_t bytes = taken == Taken::chain && ring.enabled ? takeFrame(link, chain, rows, at) : 0;
      if (bytes > 0) {
        rows++;
        at = (at + bytes + frameAlignment - 1) & ~(frameAlignment - 1);
      } else if (ring.enabled) {
        link.state[stateBadFrames]++;
      }
      ring.giveBack(link.memory, chain.head, 0);
    }
    ring.publish(link.memory);
    broken |= ring.broken();
  }
  tellLogged(link);
  if (engine.pcap) engine.pcap->flush();
  if (broken) ringsChanged(link);
  link.state[stateMore] = more;
  if (link.memory.torn()) {
    dropClient(link);
    return -EFAULT;
  }
  return rows;
}

// ---- to the guest --------------------------------------------------------------------------------------------------

enum class Placed { yes, noBuffers, dropped };

/** Puts a frame, which lies in pieces, behind virtio's header into buffers of a ring. */
static Placed place(VhostLink& link, Ring& ring, const VnetHeader& vnet, const iovec* frame, int32_t count) {
  auto left = static_cast<uint64_t>(link.headerBytes);
  for (int32_t i = 0; i < count; i++) left += frame[i].iov_len;
  const bool mergeable = link.has(featureMergeable);
  const uint16_t position = ring.position();
  int32_t chains = 0;
  int32_t pieces = 0;
  bool malformed = false;
  for (uint64_t got = 0; got < left && !malformed; chains++) {
    if (chains == pieceMax || pieces == pieceMax || (chains == 1 && !mergeable)) {
      // Buffers too small for any use: they go back, or we would wait for better ones for ever.
      malformed = true;
      break;
    }
    Chain chain;
    const Taken taken = ring.take(link.memory, &chain, link.pieces + pieces, pieceMax - pieces);
    if (taken == Taken::nothing) {
      if (!ring.broken()) ring.rewind(position);
      return Placed::noBuffers;
    }
    link.heads[chains] = chain.head;
    link.room[chains] = chain.writableBytes;
    malformed = taken == Taken::malformed || chain.readable > 0 || chain.writableBytes == 0;
    pieces += chain.writable;
    got += chain.writableBytes;
  }
  if (malformed) {
    for (int32_t i = 0; i < chains; i++) ring.giveBack(link.memory, link.heads[i], 0);
    return Placed::dropped;
  }

  uint8_t header[vnetHeaderMax];
  memcpy(header, &vnet, sizeof vnet);
  const auto buffers = static_cast<uint16_t>(mergeable ? chains : 1);
  memcpy(header + vnetHeaderBytes, &buffers, sizeof buffers);
  const iovec* piece = link.pieces;
  size_t used = 0;
  const auto put = [&](const uint8_t* from, size_t bytes) {
    while (bytes > 0) {
      const size_t part = bytes < piece->iov_len - used ? bytes : piece->iov_len - used;
      auto* const to = static_cast<uint8_t*>(piece->iov_base) + used;
      memcpy(to, from, part);
      if (link.memory.logging()) link.memory.written(to, part);
      from += part;
      bytes -= part;
      used += part;
      if (used < piece->iov_len) continue;
      piece++;
      used = 0;
    }
  };
  put(header, static_cast<size_t>(link.headerBytes));
  for (int32_t i = 0; i < count; i++) put(static_cast<const uint8_t*>(frame[i].iov_base), frame[i].iov_len);
  for (int32_t i = 0; i < chains; i++) {
    const uint64_t written = left < link.room[i] ? left : link.room[i];
    ring.giveBack(link.memory, link.heads[i], static_cast<uint32_t>(written));
    left -= written;
  }
  return Placed::yes;
}

/** A ring without buffers tells when there are some. @returns whether there are some by now */
static bool awaitBuffers(Ring& ring) { return ring.running() && ring.wantKick(); }

/** As `place`, again when buffers came meanwhile; counts what is lost. @returns false if the frame has to wait */
static bool deliver(VhostLink& link, Ring& ring, const VnetHeader& vnet, const iovec* frame, int32_t count) {
  for (;;) {
    switch (place(link, ring, vnet, frame, count)) {
      case Placed::yes:
        return true;
      case Placed::dropped:
        link.state[stateLostFrames]++;
        return true;
      case Placed::noBuffers:
        break;
    }
    // What was placed before must be seen, or the driver may wait for it before it supplies more.
    ring.publish(link.memory);
    if (!awaitBuffers(ring)) return false;
    ring.wantNoKick();
  }
}

/** Whether the driver finishes and cuts a row as it is. */
static bool takesWhole(const VhostLink& link, int32_t row) {
  const int32_t flags = link.engine.column(columnFlags)[row];
  if (flags & frameSegmentTcp4) return link.has(featureGuestChecksum | featureGuestTso4);
  if (flags & frameSegmentTcp6) return link.has(featureGuestChecksum | featureGuestTso6);
  return !(flags & frameNeedsChecksum) || link.has(featureGuestChecksum);
}

static void capture(Pcap* pcap, const uint8_t* frame, int32_t length, const VnetHeader& header) {
  if (!pcap) return;
  if (header.flags & vnetNeedsChecksum) {
    pcap->unfinished(frame, static_cast<size_t>(length), header.checksumStart, header.checksumOffset);
  } else {
    pcap->frame(frame, static_cast<size_t>(length));
  }
}

/** Sends a row as it is. @returns false if it has to wait */
static bool sendRow(VhostLink& link, Ring& ring, int32_t row) {
  Engine& engine = link.engine;
  const int32_t length = engine.column(columnLength)[row];
  uint8_t* const frame = engine.rowBytes(row, 0, length);
  VnetHeader header;
  if (!frame || length < etherHeaderBytes || length > frameLengthMax ||
      !describeRow(engine, row, frame, length, &header)) {
    link.state[stateRefusedRows]++;
    return true;
  }
  const iovec whole = {frame, static_cast<size_t>(length)};
  if (!deliver(link, ring, header, &whole, 1)) return false;
  capture(engine.pcap, frame, length, header);
  return true;
}

/** Sends datagrams of several rows as one super-frame. @returns false if they have to wait */
static bool sendRun(VhostLink& link, Ring& ring, UdpRun& run, int32_t row) {
  Engine& engine = link.engine;
  uint8_t saved[udpHeadersMax];
  memcpy(saved, run.frame, static_cast<size_t>(run.header));
  joinUdpRun(run);
  VnetHeader header = plainVnetHeader(true, run.header, run.header - 8, 6);
  header.gsoType = vnetGsoUdp;
  header.gsoSize = static_cast<uint16_t>(run.each);
  run.pieces[0].iov_base = run.frame;
  run.pieces[0].iov_len += static_cast<size_t>(run.header);
  const bool done = deliver(link, ring, header, run.pieces, run.rows);
  // As they were: to be tried again, or to be captured as the guest's sockets see them.
  memcpy(run.frame, saved, static_cast<size_t>(run.header));
  if (!done || !engine.pcap) return done;
  for (int32_t i = row; i < row + run.rows; i++) {
    const int32_t length = engine.column(columnLength)[i];
    const bool unfinished = engine.column(columnFlags)[i] & frameNeedsChecksum;
    capture(engine.pcap, engine.rowBytes(i, 0, length), length, plainVnetHeader(unfinished, 0, run.header - 8, 6));
  }
  return true;
}

/** Sends what transmit.h has prepared for a stream: one frame behind its length at a time. @returns false if some have to wait */
static bool sendPrepared(VhostLink& link, Ring& ring) {
  Transmit& transmit = link.transmit;
  while (transmit.pieceCount() > 0) {
    const iovec* piece = transmit.pieces();
    const auto* const prefix = static_cast<const uint8_t*>(piece->iov_base);
    size_t left = size_t{prefix[0]} << 24 | size_t{prefix[1]} << 16 | size_t{prefix[2]} << 8 | prefix[3];
    const size_t whole = prefixBytes + left;
    // Headers, payload, padding.
    iovec frame[4];
    int32_t count = 0;
    for (size_t skip = prefixBytes; left > 0 && count < 4; piece++, skip = 0) {
      const size_t there = piece->iov_len - skip;
      const size_t here = there < left ? there : left;
      if (here > 0) frame[count++] = {static_cast<uint8_t*>(piece->iov_base) + skip, here};
      left -= here;
    }
    if (!deliver(link, ring, plainVnetHeader(false, 0, 0, 0), frame, count)) return false;
    transmit.consume(whole);
  }
  return true;
}

/** Sends rows up to `to`, as far as there are buffers. @returns whether all are sent */
static bool sendRows(VhostLink& link, Ring& ring, int32_t to) {
  Transmit& transmit = link.transmit;
  const bool runs = link.has(featureGuestChecksum | featureGuestUso4 | featureGuestUso6);
  UdpRun run;
  for (;;) {
    if (!sendPrepared(link, ring)) return false;
    const int32_t row = transmit.row();
    if (row >= to) return true;
    if (runs && !transmit.inRow() && findUdpRun(link.engine, row, to, &run)) {
      if (!sendRun(link, ring, run, row)) return false;
      transmit.skip(run.rows);
    } else if (transmit.inRow() || !takesWhole(link, row)) {
      transmit.prepare(link.engine, row + 1);
    } else {
      if (!sendRow(link, ring, row)) return false;
      transmit.skip(1);
    }
  }
}

/** The receive queue for frames to the guest: the first that runs. */
static Ring* receiver(VhostLink& link) {
  for (int32_t pair = 0; pair < pairMax; pair++) {
    Ring& ring = link.rings[2 * pair];
    if (ring.running() && ring.enabled) return &ring;
  }
  return nullptr;
}

/** Sends rows up to, not including, `to`. @returns bytes that still wait. */
static int32_t flush(VhostLink& link, int32_t to) {
  Engine& engine = link.engine;
  if (!engine.arena || to < rxFrameMax || to > frameMax) return -EINVAL;
  Transmit& transmit = link.transmit;
  Ring* const ring = receiver(link);
  if (!ring) {
    transmit.clear();
    return 0;
  }
  const bool done = sendRows(link, *ring, to);
  ring->publish(link.memory);
  tellLogged(link);
  // The next `receive` finds it out.
  if (link.memory.torn()) link.state[stateMore] = 1;
  link.state[stateRefusedRows] += transmit.refused;
  transmit.refused = 0;
  if (engine.pcap) engine.pcap->flush();
  if (done || ring->broken()) {
    transmit.clear();
    link.state[stateBlocked] = 0;
    if (ring->broken()) ringsChanged(link);
    return 0;
  }
  link.state[stateBlocked] = 1;
  const int64_t pending = transmit.pending(engine, to);
  return pending <= 0 ? 1 : pending < INT32_MAX ? static_cast<int32_t>(pending) : INT32_MAX;
}

// ---- the calls -----------------------------------------------------------------------------------------------------

/** Puts the listening socket and the client, now and later ones, and their kicks into the engine's epoll set under one ref. */
static int32_t watch(VhostLink& link, int32_t ref) {
  link.watched = true;
  link.ref = ref;
  // Edge-triggered: a client that can't be accepted for want of descriptors must not keep the loop spinning.
  const int32_t error = watchSocket(link, link.listenFd, EPOLLIN | EPOLLET);
  return error ? error : watchSocket(link, link.clientFd, EPOLLIN);
}

static int32_t disconnect(VhostLink& link) {
  dropClient(link);
  link.state[stateMore] = 0;
  return 0;
}

static int32_t close(VhostLink& link) {
  disconnect(link);
  if (link.listenFd >= 0) ::close(link.listenFd);
  link.listenFd = -1;
  return 0;
}

/** Takes a connected stream socket that somebody else opened; it is ours from then on. */
static int32_t adopt(VhostLink& link, int32_t fd) {
  if (link.clientFd >= 0) return -EISCONN;
  const int32_t error = prepareStream(fd);
  return error ? error : attachClient(link, fd);
}

static int32_t startListening(VhostLink& link, int fd) {
  link.listenFd = fd;
  // Somebody may wait already.
  link.engine.sourceEvents[link.source] |= EPOLLIN;
  return watchSocket(link, fd, EPOLLIN | EPOLLET);
}

/** Takes a listening socket that somebody else has opened (a service manager); it is ours from then on. */
static int32_t adoptListener(VhostLink& link, int32_t fd) {
  if (link.listenFd >= 0) return -EISCONN;
  const int32_t error = prepareListener(fd);
  return error ? error : startListening(link, fd);
}

/** listen(path): see listenOnPath. */
static napi_value listenOn(napi_env env, napi_callback_info info) {
  const Arguments in(env, info);
  auto& link = in.self<VhostLink>();
  if (link.listenFd >= 0) return in.result(-EISCONN);
  const int32_t fd = listenOnPath(in.text(0));
  return in.result(fd < 0 ? fd : startListening(link, fd));
}

/** createVhostLink(state, message, reply): an object with the calls of one link, or -errno. */
static napi_value createVhostLink(napi_env env, napi_callback_info info) {
  const Arguments in(env, info);
  auto& engine = in.self<Engine>();
  size_t length[3] = {};
  auto* state = static_cast<int32_t*>(in.bytes(0, &length[0]));
  auto* message = static_cast<uint8_t*>(in.bytes(1, &length[1]));
  auto* reply = static_cast<uint8_t*>(in.bytes(2, &length[2]));
  if (!state || length[0] < stateWords * sizeof *state) return in.result(-EINVAL);
  if (!message || length[1] < VhostChannel::messageMax) return in.result(-EINVAL);
  if (!reply || length[2] < VhostChannel::messageMax) return in.result(-EINVAL);
  if (engine.sourceCount == sourceMax) return in.result(-EMFILE);
  for (size_t i = 0; i < 3; i++) {
    napi_ref reference = nullptr;
    if (napi_create_reference(env, in.at(i), 1, &reference) != napi_ok) return in.result(-EINVAL);
  }
  auto* link = new (std::nothrow) VhostLink(engine, state, message, reply, engine.sourceCount);
  if (!link) return in.result(-ENOMEM);
  const int32_t error = link->memory.reserve();
  if (error) {
    delete link;
    return in.result(error);
  }
  engine.sourceCount++;
  engine.own(link);

  napi_value object = nullptr;
  napi_create_object(env, &object);
  define(env, object, "listen", listenOn, link);
  defineHot<adopt>(env, object, "adopt", link);
  defineHot<adoptListener>(env, object, "adoptListener", link);
  defineHot<watch>(env, object, "watch", link);
  defineHot<readMessage>(env, object, "readMessage", link);
  defineHot<endMessage>(env, object, "endMessage", link);
  defineHot<receive>(env, object, "receive", link);
  defineHot<flush>(env, object, "flush", link);
  defineHot<disconnect>(env, object, "disconnect", link);
  defineHot<close>(env, object, "close", link);

  defineHot<clearMemory>(env, object, "clearMemory", link);
  define(env, object, "addMemory", addMemory, link);
  define(env, object, "removeMemory", removeMemory, link);
  define(env, object, "startLog", startLog, link);
  defineHot<setLogFd>(env, object, "setLogFd", link);
  define(env, object, "setFeatures", setFeatures, link);
  defineHot<setRingSize>(env, object, "setRingSize", link);
  define(env, object, "setRingAddresses", setRingAddresses, link);
  defineHot<setRingBase>(env, object, "setRingBase", link);
  defineHot<stopRing>(env, object, "stopRing", link);
  defineHot<setRingKick>(env, object, "setRingKick", link);
  defineHot<setRingCall>(env, object, "setRingCall", link);
  defineHot<setRingError>(env, object, "setRingError", link);
  defineHot<enableRing>(env, object, "enableRing", link);
  defineHot<resetDevice>(env, object, "resetDevice", link);
  return object;
}

void bindVhostLink(napi_env env, napi_value object, Engine* engine) {
  define(env, object, "createVhostLink", createVhostLink, engine);
}

}  // namespace passt
