/** Readiness: one epoll set per engine, events as pairs (ref, mask). */
#include <unistd.h>

#include "addon.h"
#include "engine.h"

namespace passt {

int32_t watchFor(Engine& engine, int32_t fd, int32_t ref, uint32_t mask, uint32_t source) {
  epoll_event event{};
  event.events = mask;
  event.data.u64 = uint64_t{source} << 32 | static_cast<uint32_t>(ref);
  if (epoll_ctl(engine.epollFd, EPOLL_CTL_ADD, fd, &event) == 0) return 0;
  if (errno != EEXIST) return -errno;
  return epoll_ctl(engine.epollFd, EPOLL_CTL_MOD, fd, &event) == 0 ? 0 : -errno;
}

static int32_t wait(Engine& engine, int32_t timeoutMs) {
  const int count = epoll_wait(engine.epollFd, engine.ready, eventMax, timeoutMs);
  if (count < 0) return errno == EINTR ? 0 : -errno;
  for (int i = 0; i < count; i++) {
    const uint64_t data = engine.ready[i].data.u64;
    const auto source = static_cast<uint32_t>(data >> 32);
    if (source != sourceNone && source < sourceMax) engine.sourceEvents[source] |= engine.ready[i].events;
    engine.events[2 * i] = static_cast<int32_t>(data);
    engine.events[2 * i + 1] = static_cast<int32_t>(engine.ready[i].events);
  }
  return count;
}

static int32_t watch(Engine& engine, int32_t fd, int32_t ref) {
  return watchFor(engine, fd, ref, EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLET, sourceNone);
}

static int32_t watchLevel(Engine& engine, int32_t fd, int32_t ref) {
  return watchFor(engine, fd, ref, EPOLLIN, sourceNone);
}

static int32_t unwatch(Engine& engine, int32_t fd) {
  return epoll_ctl(engine.epollFd, EPOLL_CTL_DEL, fd, nullptr) == 0 ? 0 : -errno;
}

static int32_t epollFd(Engine& engine) { return engine.epollFd >= 0 ? engine.epollFd : -EBADF; }

void bindEpoll(napi_env env, napi_value object, Engine* engine) {
  defineHot<wait>(env, object, "wait", engine);
  defineHot<watch>(env, object, "watch", engine);
  defineHot<watchLevel>(env, object, "watchLevel", engine);
  defineHot<unwatch>(env, object, "unwatch", engine);
  defineHot<epollFd>(env, object, "epollFd", engine);
}

}  // namespace passt
