/**
 * Front-ends that come to a link's socket, one at a time, and their messages, one at a time.
 *
 * What a message means is packages/transport-vhost's; it is read here, answered here, and what breaks the rules ends the connection here.
 */
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "unix-listener.h"
#include "vhost-link.h"

namespace passt {

/** Clients that are turned away per call, at most. */
constexpr int acceptMax = 64;

static int32_t watchSocket(VhostLink& link, int fd, uint32_t mask) {
  if (!link.watched || fd < 0) return 0;
  return watchFor(link.engine, fd, link.ref, mask, link.source);
}

void dropClient(VhostLink& link) {
  if (link.clientFd < 0) return;
  // Another process may hold the same open file: closing alone would not end the registration.
  if (link.watched) epoll_ctl(link.engine.epollFd, EPOLL_CTL_DEL, link.clientFd, nullptr);
  ::close(link.clientFd);
  link.clientFd = -1;
  link.channel.clear();
  forgetDevice(link);
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
  // A message may take the rings away, or ask where they are.
  giveBackHeld(link);
  putLentBack(link);
  acceptClients(link);
  readState(link);
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
  const int fd = link.replyFd;
  link.replyFd = -1;
  int32_t error = 0;
  if (bytes > static_cast<int32_t>(VhostChannel::messageMax)) error = -EINVAL;
  else if (link.clientFd >= 0 && bytes > 0) error = VhostChannel::send(link.clientFd, link.reply, static_cast<size_t>(bytes), fd);
  if (fd >= 0) ::close(fd);
  return error;
}

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

void defineConnection(napi_env env, napi_value object, VhostLink* link) {
  define(env, object, "listen", listenOn, link);
  defineHot<adopt>(env, object, "adopt", link);
  defineHot<adoptListener>(env, object, "adoptListener", link);
  defineHot<watch>(env, object, "watch", link);
  defineHot<readMessage>(env, object, "readMessage", link);
  defineHot<endMessage>(env, object, "endMessage", link);
  defineHot<disconnect>(env, object, "disconnect", link);
  defineHot<close>(env, object, "close", link);
}

}  // namespace passt
