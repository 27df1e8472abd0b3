/**
 * The guest behind a UNIX stream socket: QEMU's `-netdev stream`. Each frame follows its length, four bytes,
 * big-endian.
 *
 * ```
 *   receive area   [ consumed | complete frames: rows | partial ][ one recv() goes here ]
 *   send area      [ prefix frame ][ prefix frame ] …   rows → pieces → sendmsg(); what does not fit stays
 * ```
 *
 * One client at a time. All that belongs to a client is forgotten with it: a partial frame in either direction never
 * meets the next one. While the medium is full, what has been prepared stays in order and is sent before anything else.
 *
 * Reads first: unix(7), QEMU's net/stream.c for the framing.
 */
#include <sys/socket.h>
#include <unistd.h>

#include <climits>
#include <cstring>
#include <new>

#include "addon.h"
#include "engine.h"
#include "pcap.h"
#include "transmit.h"
#include "unix-listener.h"

namespace passt {

/** Shortest legal frame: an Ethernet header. */
constexpr uint32_t frameBytesMin = 14;

/** One read of the socket, at most. Small enough that the frames are still in a level-2 cache when their payload is
 * written to sockets; large enough that the call itself does not count. */
constexpr size_t readBytesMax = 256 << 10;
static_assert(readBytesMax + prefixBytes + frameLengthMax <= rxArenaBytes, "a partial frame and a read fit the area");

/** Clients that are turned away per call, at most. */
constexpr int acceptMax = 64;

/** Words that JavaScript reads; see packages/transport-unix/src/unix-link.ts. */
enum StateWord : int32_t {
  stateConnected,
  stateMore,
  stateBlocked,
  stateClients,
  stateClientPid,
  stateTurnedAway,
  stateTurnedAwayPid,
  stateRefusedRows,
  stateWords,
};

struct UnixLink : Owned {
  Engine& engine;
  int32_t* state;
  uint32_t source;
  int listenFd = -1;
  int clientFd = -1;
  bool watched = false;
  int32_t ref = 0;
  bool armed = false;
  /** Unread bytes of the receive area. */
  size_t head = 0;
  size_t tail = 0;
  Transmit transmit;

  UnixLink(Engine& engine, int32_t* state, uint32_t source) : engine(engine), state(state), source(source) {}
  ~UnixLink() override {
    if (listenFd >= 0) ::close(listenFd);
    if (clientFd >= 0) ::close(clientFd);
  }
};

static int32_t watchClient(UnixLink& link, bool writable) {
  link.armed = writable;
  if (!link.watched || link.clientFd < 0) return 0;
  return watchFor(link.engine, link.clientFd, link.ref, EPOLLIN | (writable ? uint32_t{EPOLLOUT} : 0), sourceNone);
}

static int32_t watchListener(UnixLink& link) {
  if (!link.watched || link.listenFd < 0) return 0;
  // Edge-triggered: a client that can't be accepted for want of descriptors must not keep the loop spinning.
  return watchFor(link.engine, link.listenFd, link.ref, EPOLLIN | EPOLLET, link.source);
}

/** Takes over a connected socket. */
static int32_t attachClient(UnixLink& link, int fd) {
  // As much as the host allows; the kernel clamps to net.core.wmem_max and rmem_max.
  const int bytes = INT_MAX / 2;
  // seccomp: setsockopt(_, SOL_SOCKET, SO_SNDBUF|SO_RCVBUF)
  setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
  link.clientFd = fd;
  link.head = link.tail = 0;
  link.transmit.clear();
  link.state[stateConnected] = 1;
  link.state[stateMore] = 0;
  link.state[stateBlocked] = 0;
  link.state[stateClients]++;
  link.state[stateClientPid] = peerPid(fd);
  return watchClient(link, false);
}

static void dropClient(UnixLink& link) {
  if (link.clientFd < 0) return;
  // Another process may hold the same open file (a descriptor that was inherited): closing alone would not end the
  // registration.
  if (link.watched) epoll_ctl(link.engine.epollFd, EPOLL_CTL_DEL, link.clientFd, nullptr);
  ::close(link.clientFd);
  link.clientFd = -1;
  link.armed = false;
  link.head = link.tail = 0;
  link.transmit.clear();
  link.state[stateConnected] = 0;
  link.state[stateBlocked] = 0;
  // The next client may be waiting already.
  link.state[stateMore] = link.listenFd >= 0;
}

/** Accepts whoever waits: the first becomes the client, others are turned away. */
static void acceptClients(UnixLink& link) {
  // A guest that comes back may be here before its predecessor's end was read: it is not a second one.
  if (link.clientFd >= 0 && peerGone(link.clientFd)) return;
  link.engine.sourceEvents[link.source] = 0;
  for (int i = 0; i < acceptMax; i++) {
    // seccomp: accept4
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

static uint32_t lengthAt(const uint8_t* at) {
  return uint32_t{at[0]} << 24 | uint32_t{at[1]} << 16 | uint32_t{at[2]} << 8 | at[3];
}

static bool legal(uint32_t length) { return length >= frameBytesMin && length <= uint32_t{frameLengthMax}; }

/** Reads once, behind what is left of a partial frame. @returns bytes, 0 if there is nothing now, or -errno. */
static int32_t readMore(UnixLink& link) {
  uint8_t* const area = link.engine.arena;
  if (link.head == link.tail) {
    link.head = link.tail = 0;
  } else if (rxArenaBytes - link.tail < readBytesMax) {
    // A partial frame is at most 64 KiB, so this makes room.
    memmove(area, area + link.head, link.tail - link.head);
    link.tail -= link.head;
    link.head = 0;
  }
  // seccomp: recvfrom
  const ssize_t got = recv(link.clientFd, area + link.tail, readBytesMax, MSG_DONTWAIT);
  if (got < 0) return errno == EAGAIN || errno == EINTR ? 0 : -errno;
  if (got == 0) return -ECONNRESET;
  link.tail += static_cast<size_t>(got);
  return static_cast<int32_t>(got);
}

static int32_t receive(UnixLink& link) {
  Engine& engine = link.engine;
  if (!engine.arena) return -EBADF;
  if (link.listenFd >= 0 && (link.clientFd < 0 || engine.sourceEvents[link.source])) acceptClients(link);
  if (link.clientFd < 0) {
    link.state[stateMore] = 0;
    return 0;
  }
  if (!link.state[stateMore]) {
    const int32_t got = readMore(link);
    if (got < 0) dropClient(link);
    if (got <= 0) return got;
  }

  const uint8_t* const area = engine.arena;
  int32_t* const offsets = engine.column(columnOffset);
  int32_t* const lengths = engine.column(columnLength);
  int32_t* const windows = engine.column(columnWindow);
  int32_t* const flags = engine.column(columnFlags);
  int32_t rows = 0;
  size_t head = link.head;
  bool more = false;
  while (link.tail - head >= prefixBytes) {
    const uint32_t length = lengthAt(area + head);
    if (!legal(length)) {
      // Frames before it are still good; the verdict comes when they have been taken.
      if (rows == 0) {
        dropClient(link);
        return -EPROTO;
      }
      more = true;
      break;
    }
    if (link.tail - head - prefixBytes < length) break;
    if (rows == rxFrameMax) {
      more = true;
      break;
    }
    head += prefixBytes;
    offsets[rows] = static_cast<int32_t>(head);
    lengths[rows] = static_cast<int32_t>(length);
    windows[rows] = static_cast<int32_t>(length);
    flags[rows] = 0;
    if (engine.pcap) engine.pcap->frame(area + head, length);
    head += length;
    rows++;
  }
  link.head = head;
  link.state[stateMore] = more;
  if (engine.pcap) engine.pcap->flush();
  return rows;
}

/** Sends rows up to, not including, `to`. @returns bytes that still wait. */
static int32_t flush(UnixLink& link, int32_t to) {
  Engine& engine = link.engine;
  if (!engine.arena || to < rxFrameMax || to > frameMax) return -EINVAL;
  Transmit& transmit = link.transmit;
  if (link.clientFd < 0) {
    transmit.clear();
    return 0;
  }
  for (;;) {
    if (transmit.pieceCount() == 0) {
      transmit.prepare(engine, to);
      link.state[stateRefusedRows] = transmit.refused;
      if (engine.pcap) engine.pcap->flush();
    }
    if (transmit.pieceCount() == 0) {
      transmit.clear();
      link.state[stateBlocked] = 0;
      if (link.armed) watchClient(link, false);
      return 0;
    }
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(transmit.pieces());
    message.msg_iovlen = transmit.pieceCount();
    // seccomp: sendmsg
    const ssize_t sent = sendmsg(link.clientFd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno != EAGAIN && errno != ENOBUFS) {
      // The client is gone. What it sent before may still be read: its end will follow.
      // seccomp: shutdown
      shutdown(link.clientFd, SHUT_RDWR);
      transmit.clear();
      link.state[stateBlocked] = 0;
      return 0;
    }
    if (sent > 0) transmit.consume(static_cast<size_t>(sent));
    if (sent < 0 || transmit.pieceCount() > 0) break;
  }
  link.state[stateBlocked] = 1;
  if (!link.armed) watchClient(link, true);
  const int64_t pending = transmit.pending(engine, to);
  return pending < INT32_MAX ? static_cast<int32_t>(pending) : INT32_MAX;
}

/** Takes a client that waits, if there is none yet. */
static int32_t acceptFirst(UnixLink& link) {
  if (link.listenFd >= 0 && link.clientFd < 0) acceptClients(link);
  return 0;
}

/** Puts the listening socket and the client, now and later ones, into the engine's epoll set under one ref. */
static int32_t watch(UnixLink& link, int32_t ref) {
  link.watched = true;
  link.ref = ref;
  const int32_t error = watchListener(link);
  return error ? error : watchClient(link, link.armed);
}

static int32_t disconnect(UnixLink& link) {
  dropClient(link);
  link.state[stateMore] = 0;
  return 0;
}

static int32_t close(UnixLink& link) {
  disconnect(link);
  if (link.listenFd >= 0) ::close(link.listenFd);
  link.listenFd = -1;
  return 0;
}

/** Takes a connected stream socket that somebody else opened; it is ours from then on. */
static int32_t adopt(UnixLink& link, int32_t fd) {
  if (link.clientFd >= 0) return -EISCONN;
  const int32_t error = prepareStream(fd);
  return error ? error : attachClient(link, fd);
}

/** Takes a listening socket that somebody else has opened (a service manager); it is ours from then on. */
static int32_t adoptListener(UnixLink& link, int32_t fd) {
  if (link.listenFd >= 0) return -EISCONN;
  const int32_t error = prepareListener(fd);
  if (error) return error;
  link.listenFd = fd;
  return watchListener(link);
}

/** listen(path): see listenOnPath. @returns 0, -EADDRINUSE, or another -errno. */
static napi_value listenOn(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  auto& link = arguments.self<UnixLink>();
  if (link.listenFd >= 0) return arguments.result(-EISCONN);
  const int32_t fd = listenOnPath(arguments.text(0));
  if (fd < 0) return arguments.result(fd);
  link.listenFd = fd;
  return arguments.result(watchListener(link));
}

/** createUnixLink(state): an object with the calls of one link, or -errno. */
static napi_value createUnixLink(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  auto& engine = arguments.self<Engine>();
  size_t length = 0;
  auto* state = static_cast<int32_t*>(arguments.bytes(0, &length));
  if (!state || length < stateWords * sizeof *state) return arguments.result(-EINVAL);
  if (engine.sourceCount == sourceMax) return arguments.result(-EMFILE);
  napi_ref reference = nullptr;
  if (napi_create_reference(env, arguments.at(0), 1, &reference) != napi_ok) return arguments.result(-EINVAL);
  auto* link = new (std::nothrow) UnixLink(engine, state, engine.sourceCount);
  if (!link) return arguments.result(-ENOMEM);
  engine.sourceCount++;
  engine.own(link);

  napi_value object = nullptr;
  napi_create_object(env, &object);
  define(env, object, "listen", listenOn, link);
  defineHot<adopt>(env, object, "adopt", link);
  defineHot<adoptListener>(env, object, "adoptListener", link);
  defineHot<watch>(env, object, "watch", link);
  defineHot<acceptFirst>(env, object, "accept", link);
  defineHot<receive>(env, object, "receive", link);
  defineHot<flush>(env, object, "flush", link);
  defineHot<disconnect>(env, object, "disconnect", link);
  defineHot<close>(env, object, "close", link);
  return object;
}

void bindUnixLink(napi_env env, napi_value object, Engine* engine) {
  define(env, object, "createUnixLink", createUnixLink, engine);
}

}  // namespace passt
