/**
 * What migration of a guest needs of us: the log of pages that we have written, and our own state, which goes through a pipe.
 *
 * The state is short: a pipe has room for all of it, so it is written at once. What is read is read as it comes, and kept up to a limit: whoever
 * writes a longer one, another program's, must not wait for us for ever. Reads first: "Migration" and "Migrating back-end state" in
 * vhost-user's specification.
 */
#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "vhost-link.h"

namespace passt {

static void forgetState(VhostLink& link) {
  if (link.stateFd >= 0) epoll_ctl(link.engine.epollFd, EPOLL_CTL_DEL, link.stateFd, nullptr);
  forgetDescriptor(&link.stateFd);
  link.stateBytes = 0;
}

void forgetMigration(VhostLink& link) {
  link.memory.stopLog();
  forgetDescriptor(&link.logFd);
  forgetState(link);
}

/** startLog(descriptor, size, offset) */
static napi_value startLog(napi_env env, napi_callback_info info) {
  const Arguments in(env, info);
  auto& link = in.self<VhostLink>();
  const int fd = link.channel.look(in.integer(0));
  return in.result(fd < 0 ? -EBADF : link.memory.startLog(fd, in.word64(1), in.word64(2)));
}

/** Sets what is written to when something was logged; -1: nothing is. */
static int32_t setLogFd(VhostLink& link, int32_t descriptor) {
  const int32_t fd = descriptor < 0 ? -1 : takeDescriptor(link, descriptor);
  if (descriptor >= 0 && fd < 0) return fd;
  forgetDescriptor(&link.logFd);
  link.logFd = fd;
  return 0;
}

void tellLogged(VhostLink& link) {
  if (!link.memory.takeNoted() || link.logFd < 0) return;
  const uint64_t one = 1;
  if (write(link.logFd, &one, sizeof one) < 0) return;
}

/** saveState(descriptor, bytes): writes it to a pipe, and ends that. */
static napi_value saveState(napi_env env, napi_callback_info info) {
  const Arguments in(env, info);
  auto& link = in.self<VhostLink>();
  size_t length = 0;
  const void* const bytes = in.bytes(1, &length);
  const int32_t fd = bytes && length <= stateBytesMax ? takeDescriptor(link, in.integer(0)) : -EINVAL;
  if (fd < 0) return in.result(fd);
  const ssize_t written = write(fd, bytes, length);
  const int32_t error = written < 0 ? -errno : static_cast<size_t>(written) < length ? -EAGAIN : 0;
  ::close(fd);
  return in.result(error);
}

/** Begins to read a state from a pipe. */
static int32_t loadState(VhostLink& link, int32_t descriptor) {
  const int32_t fd = takeDescriptor(link, descriptor);
  if (fd < 0) return fd;
  forgetState(link);
  const int32_t error = watchFor(link.engine, fd, link.ref, EPOLLIN, link.source);
  if (error) {
    ::close(fd);
    return error;
  }
  link.stateFd = fd;
  return 0;
}

void readState(VhostLink& link) {
  // As much as a pipe holds; then others get their turn.
  for (int i = 0; i < 16 && link.stateFd >= 0; i++) {
    uint8_t beyond[4096];
    const bool room = link.stateBytes < stateBytesMax;
    // seccomp[vhost-user]: read
    const ssize_t got = room ? read(link.stateFd, link.stateBuffer + link.stateBytes, stateBytesMax - link.stateBytes)
                             : read(link.stateFd, beyond, sizeof beyond);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return;
    if (got > 0) {
      if (room) link.stateBytes += static_cast<size_t>(got);
      continue;
    }
    epoll_ctl(link.engine.epollFd, EPOLL_CTL_DEL, link.stateFd, nullptr);
    forgetDescriptor(&link.stateFd);
  }
}

/** takeState(to): what was read. @returns its bytes, or -EAGAIN if its end has not come */
static napi_value takeState(napi_env env, napi_callback_info info) {
  const Arguments in(env, info);
  auto& link = in.self<VhostLink>();
  size_t length = 0;
  void* const to = in.bytes(0, &length);
  if (!to || length < stateBytesMax) return in.result(-EINVAL);
  readState(link);
  const int32_t result = link.stateFd < 0 ? static_cast<int32_t>(link.stateBytes) : -EAGAIN;
  memcpy(to, link.stateBuffer, link.stateBytes);
  forgetState(link);
  return in.result(result);
}

void defineMigration(napi_env env, napi_value object, VhostLink* link) {
  define(env, object, "startLog", startLog, link);
  defineHot<setLogFd>(env, object, "setLogFd", link);
  define(env, object, "saveState", saveState, link);
  defineHot<loadState>(env, object, "loadState", link);
  define(env, object, "takeState", takeState, link);
}

}  // namespace passt
