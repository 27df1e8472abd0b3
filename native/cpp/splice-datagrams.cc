/**
 * Datagrams from one UDP socket to another, in batches. Equally long ones that follow each other leave as one message
 * that the kernel cuts (udp(7), UDP_SEGMENT): it passes the network stack once.
 */
#include <netinet/in.h>
#include <netinet/udp.h>

#include <cerrno>

#include "address.h"
#include "addon.h"
#include "engine.h"
#include "splice.h"

namespace passt {

/** Most datagrams in one message (UDP_MAX_SEGMENTS of older kernels), the fewest that pay, and the longest message. */
static constexpr int32_t segmentsMax = 64;
static constexpr int32_t segmentsMin = 2;
static constexpr size_t messageBytesMax = 65507 - 20;
static constexpr size_t controlBytes = CMSG_SPACE(sizeof(int));

/** Throws away what the error queue holds: there is nobody to tell (ip(7), IP_RECVERR). */
static void emptyErrorQueue(int fd) {
  uint8_t control[256];
  for (;;) {
    msghdr message{};
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    if (recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) return;
  }
}

/** What a datagram's message says of its parts: their length, if the kernel merged several (UDP_GRO). */
static size_t partBytes(const msghdr& message, size_t whole) {
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(const_cast<msghdr*>(&message), c)) {
    if (c->cmsg_level != SOL_UDP || c->cmsg_type != UDP_GRO) continue;
    int bytes = 0;
    memcpy(&bytes, CMSG_DATA(c), sizeof bytes);
    if (bytes > 0 && static_cast<size_t>(bytes) < whole) return static_cast<size_t>(bytes);
  }
  return whole;
}

static void setSegment(msghdr& message, uint8_t* control, size_t bytes) {
  message.msg_control = control;
  message.msg_controllen = CMSG_SPACE(sizeof(uint16_t));
  cmsghdr* const c = CMSG_FIRSTHDR(&message);
  c->cmsg_level = SOL_UDP;
  c->cmsg_type = UDP_SEGMENT;
  c->cmsg_len = CMSG_LEN(sizeof(uint16_t));
  const uint16_t size = static_cast<uint16_t>(bytes);
  memcpy(CMSG_DATA(c), &size, sizeof size);
}

namespace {

/** What was read: `iovecs` hold the datagrams, `parts` their lengths, or those of the parts of merged ones. */
struct Batch {
  int32_t count = 0;
  size_t parts[Splicer::datagramMax];
  /** Datagrams, those within merged ones included. */
  int32_t datagrams = 0;
};

}  // namespace

static int32_t receive(Engine& engine, Splicer& splicer, int fd, int32_t count, Batch& batch) {
  alignas(cmsghdr) uint8_t control[Splicer::datagramMax][controlBytes];
  for (int32_t i = 0; i < count; i++) {
    engine.iovecs[i] = {splicer.scratch + i * Splicer::datagramBytes, Splicer::datagramBytes};
    msghdr& header = engine.messages[i].msg_hdr;
    header = {};
    header.msg_iov = &engine.iovecs[i];
    header.msg_iovlen = 1;
    header.msg_control = control[i];
    header.msg_controllen = controlBytes;
  }
  const int got = recvmmsg(fd, engine.messages, static_cast<unsigned>(count), MSG_DONTWAIT, nullptr);
  if (got < 0) {
    const int32_t error = -errno;
    if (error != -EAGAIN) emptyErrorQueue(fd);
    return error;
  }
  batch.count = got;
  for (int i = 0; i < got; i++) {
    const size_t whole = engine.messages[i].msg_len;
    engine.iovecs[i].iov_len = whole;
    batch.parts[i] = partBytes(engine.messages[i].msg_hdr, whole);
    batch.datagrams += whole == 0 ? 1 : static_cast<int32_t>((whole + batch.parts[i] - 1) / batch.parts[i]);
  }
  return got;
}

/** Sends the batch from its datagram `first` on. @param merge whether to send runs of equal ones as one message
 * @returns datagrams dealt with, or -errno of the first */
static int32_t transmit(Engine& engine, int fd, const Batch& batch, int32_t first, bool merge) {
  alignas(cmsghdr) uint8_t control[Splicer::datagramMax][controlBytes];
  int32_t lengths[Splicer::datagramMax];
  unsigned messages = 0;
  for (int32_t i = first; i < batch.count;) {
    const size_t bytes = engine.iovecs[i].iov_len;
    int32_t run = 1;
    msghdr& header = engine.messages[messages].msg_hdr;
    header = {};
    header.msg_iov = &engine.iovecs[i];
    if (batch.parts[i] < bytes) {
      setSegment(header, control[messages], batch.parts[i]);
    } else if (merge && bytes > 0) {
      size_t total = bytes;
      while (run < segmentsMax && i + run < batch.count && engine.iovecs[i + run].iov_len == bytes &&
             batch.parts[i + run] == bytes && total + bytes <= messageBytesMax) {
        total += bytes;
        run++;
      }
      if (run < segmentsMin) run = 1;
      else setSegment(header, control[messages], bytes);
    }
    header.msg_iovlen = static_cast<size_t>(run);
    lengths[messages++] = run;
    i += run;
  }
  const int sent = sendmmsg(fd, engine.messages, messages, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent < 0) return -errno;
  int32_t done = 0;
  for (int i = 0; i < sent; i++) done += lengths[i];
  return done;
}

static int32_t spliceDatagrams(Engine& engine, int32_t from, int32_t to, int32_t count) {
  Splicer* const splicer = engine.splicer;
  if (!splicer) return -EBADF;
  if (count < 1 || count > Splicer::datagramMax) return -EINVAL;
  Batch batch;
  const int32_t got = receive(engine, *splicer, from, count, batch);
  if (got < 0) return got;
  splicer->result[0] = 0;
  int32_t bytes = 0;
  bool merge = true;
  bool retried = false;
  for (int32_t at = 0; at < got && to >= 0;) {
    const int32_t sent = transmit(engine, to, batch, at, merge);
    if (sent > 0) {
      for (int32_t i = at; i < at + sent; i++) bytes += static_cast<int32_t>(engine.iovecs[i].iov_len);
      splicer->result[0] += sent;
      at += sent;
      retried = false;
      continue;
    }
    // The target's queue is full: more of the same would only meet the same.
    if (sent == -EAGAIN || sent == -ENOBUFS) break;
    if (merge && (sent == -EIO || sent == -EINVAL || sent == -EMSGSIZE || sent == -EOPNOTSUPP)) {
      merge = false;
      continue;
    }
    // A connected socket hands out the error that an earlier datagram met; this one has not been tried then.
    if (!retried) {
      emptyErrorQueue(to);
      retried = true;
      continue;
    }
    retried = false;
    at++;
  }
  splicer->result[1] = bytes;
  return got;
}

static int32_t peekAddresses(Engine& engine, int32_t fd) {
  sockaddr_storage address;
  alignas(cmsghdr) uint8_t control[CMSG_SPACE(sizeof(in6_pktinfo)) + CMSG_SPACE(sizeof(in_pktinfo))];
  msghdr message{};
  message.msg_name = &address;
  message.msg_namelen = sizeof address;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t length = recvmsg(fd, &message, MSG_DONTWAIT | MSG_PEEK | MSG_TRUNC);
  if (length < 0) {
    const int32_t error = -errno;
    if (error != -EAGAIN) emptyErrorQueue(fd);
    return error;
  }
  toRecord(reinterpret_cast<sockaddr*>(&address), engine.address + addressRemote);
  int32_t* const local = engine.address + addressLocal;
  socklen_t size = sizeof address;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) < 0) return -errno;
  toRecord(reinterpret_cast<sockaddr*>(&address), local);
  destinationOf(message, local);
  return static_cast<int32_t>(length);
}

/** Lets the kernel hand over datagrams that it got as one as one. */
static int32_t wantMerged(Engine&, int32_t fd) {
  const int on = 1;
  // seccomp[pasta]: setsockopt(_, SOL_UDP, UDP_GRO)
  return setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof on) == 0 ? 0 : -errno;
}

void bindSpliceDatagrams(napi_env env, napi_value object, Engine* engine) {
  defineHot<spliceDatagrams>(env, object, "spliceDatagrams", engine);
  defineHot<peekAddresses>(env, object, "peekAddresses", engine);
  defineHot<wantMerged>(env, object, "wantMerged", engine);
}

}  // namespace passt
