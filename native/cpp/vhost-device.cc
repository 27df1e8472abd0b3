/**
 * What a front-end's messages set up: guest memory, features, rings, and the tracking of buffers in flight.
 *
 * The session (packages/transport-vhost) has checked the order and the form of the messages; numbers are checked here all the same,
 * where they become addresses and sizes.
 */
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "vhost-inflight.h"
#include "vhost-link.h"

namespace passt {

void ringsChanged(VhostLink& link) {
  link.receiverCount = 0;
  link.receiverBits = 0;
  int32_t broken = 0;
  const Ring* const control = controlRing(link);
  const int32_t pairs = control && control->running() ? link.pairsInUse : pairMax;
  for (int32_t i = 0; i < ringMax; i++) {
    const Ring& ring = link.rings[i];
    if (&ring == control) {
      if (ring.running()) link.state[stateMore] = 1;
      broken += ring.broken();
      continue;
    }
    if (i % 2 == 0 && i < 2 * pairs && ring.running() && ring.enabled) {
      link.receivers[link.receiverCount++] = i / 2;
      link.receiverBits |= uint32_t{1} << i / 2;
    }
    broken += ring.broken();
    // What came before it was watched.
    if (i % 2 == 1 && ring.running()) link.state[stateMore] = 1;
  }
  if (broken > link.brokenSeen) link.state[stateBrokenRings] += broken - link.brokenSeen;
  link.brokenSeen = broken;
  const bool connected = link.receiverCount > 0;
  link.state[stateConnected] = connected;
  if (connected) return;
  link.lent.starving = false;
  forgetLent(link);
  link.transmit.clear();
  link.state[stateBlocked] = 0;
}

/** Before a ring closes its kick: the driver holds the same open file, so closing alone would not end the registration. */
static void unwatchKick(const VhostLink& link, const Ring& ring) {
  if (ring.kick() >= 0) epoll_ctl(link.engine.epollFd, EPOLL_CTL_DEL, ring.kick(), nullptr);
}

void resetRings(VhostLink& link) {
  for (Ring& ring : link.rings) {
    unwatchKick(link, ring);
    ring.reset();
  }
  link.steering.clear();
  takeFeatures(link, link.negotiated);
  ringsChanged(link);
  link.state[stateMore] = 0;
}

void forgetDevice(VhostLink& link) {
  forgetHeld(link);
  resetRings(link);
  forgetMigration(link);
  forgetDescriptor(&link.replyFd);
  link.memory.unmapInflight();
  link.memory.clear();
  takeFeatures(link, 0);
  link.headerBytes = vnetHeaderBytes;
}

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

/** setFeatures(bits): what was negotiated. */
static napi_value setFeatures(napi_env env, napi_callback_info info) {
  const Arguments in(env, info);
  auto& link = in.self<VhostLink>();
  takeFeatures(link, in.word64(0));
  const bool counted = link.has(featureVersion1) || link.has(featureMergeable);
  link.headerBytes = vnetHeaderBytes + (counted ? 2 : 0);
  if (!link.has(featureLogAll)) link.memory.stopLog();
  for (Ring& ring : link.rings) ring.setLayout(link.has(featurePacked), link.has(featureEventIndex));
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
  int32_t error = ring->setAddresses(link.memory, addresses);
  if (!error) error = ring->beginInflight();
  ringsChanged(link);
  return in.result(error);
}

static int32_t setRingBase(VhostLink& link, int32_t index, int32_t base) {
  Ring* const ring = ringAt(link, index);
  if (!ring) return -EINVAL;
  const int32_t error = ring->setBase(static_cast<uint16_t>(base));
  ringsChanged(link);
  return error;
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

int32_t takeDescriptor(VhostLink& link, int32_t descriptor) {
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
  const int32_t begun = ring->beginInflight();
  if (begun) {
    unwatchKick(link, *ring);
    ring->setKick(-1);
  }
  ringsChanged(link);
  return begun;
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

/** Bytes to track buffers in, of all queues; 0 for numbers that make no sense. */
static uint64_t inflightBytes(const VhostLink& link, int32_t queues, int32_t entries) {
  const bool sane = queues > 0 && queues <= ringMax && entries > 0 && entries <= static_cast<int32_t>(Ring::sizeMax);
  if (!sane) return 0;
  return static_cast<uint64_t>(queues) * inflight::queueBytes(static_cast<uint32_t>(entries), link.has(featurePacked));
}

/** Makes a file to track buffers in, which goes with the reply. @returns its bytes, or -errno */
static int32_t makeInflight(VhostLink& link, int32_t queues, int32_t entries) {
  const uint64_t bytes = inflightBytes(link, queues, entries);
  if (bytes == 0) return -EINVAL;
  // seccomp[vhost-user]: memfd_create
  const int fd = memfd_create("vhost-inflight", MFD_CLOEXEC);
  if (fd < 0) return -errno;
  // seccomp[vhost-user]: ftruncate
  if (ftruncate(fd, static_cast<off_t>(bytes)) < 0) {
    const int error = errno;
    ::close(fd);
    return -error;
  }
  forgetDescriptor(&link.replyFd);
  link.replyFd = fd;
  return static_cast<int32_t>(bytes);
}

/** setInflight(descriptor, size, offset, queues, entries): tracks buffers in a file from now on. */
static napi_value setInflight(napi_env env, napi_callback_info info) {
  const Arguments in(env, info);
  auto& link = in.self<VhostLink>();
  const int fd = link.channel.look(in.integer(0));
  const uint64_t size = in.word64(1), offset = in.word64(2);
  const int32_t queues = in.integer(3), entries = in.integer(4);
  const uint64_t bytes = inflightBytes(link, queues, entries);
  if (fd < 0) return in.result(-EBADF);
  // Words in it are read and written whole.
  if (bytes == 0 || size < bytes || offset % alignof(uint64_t) != 0) return in.result(-EINVAL);
  for (Ring& ring : link.rings) ring.setInflight(nullptr, 0);
  uint8_t* at = nullptr;
  const int32_t error = link.memory.mapInflight(fd, size, offset, &at);
  const uint64_t each = bytes / static_cast<uint64_t>(queues);
  for (int32_t i = 0; i < queues && !error; i++) {
    link.rings[i].setInflight(at + each * static_cast<uint64_t>(i), static_cast<uint32_t>(entries));
  }
  return in.result(error);
}

void defineDevice(napi_env env, napi_value object, VhostLink* link) {
  defineHot<clearMemory>(env, object, "clearMemory", link);
  define(env, object, "addMemory", addMemory, link);
  define(env, object, "removeMemory", removeMemory, link);
  define(env, object, "setFeatures", setFeatures, link);
  defineHot<setRingSize>(env, object, "setRingSize", link);
  define(env, object, "setRingAddresses", setRingAddresses, link);
  defineHot<setRingBase>(env, object, "setRingBase", link);
  defineHot<stopRing>(env, object, "stopRing", link);
  defineHot<setRingKick>(env, object, "setRingKick", link);
  defineHot<setRingCall>(env, object, "setRingCall", link);
  defineHot<setRingError>(env, object, "setRingError", link);
  defineHot<enableRing>(env, object, "enableRing", link);
  defineHot<makeInflight>(env, object, "makeInflight", link);
  define(env, object, "setInflight", setInflight, link);
  defineHot<resetDevice>(env, object, "resetDevice", link);
}

}  // namespace passt
