/**
 * Readiness: one epoll set per engine, events as pairs (ref, mask).
 *
 * Looking twice before sleeping
 * -----------------------------
 * A question and its answer through us are a few microseconds of work at each station, and four times somebody is woken. A
 * processor that has gone idle in between takes longer to wake than all of that work: on virtual machines tens of
 * microseconds, and the waker pays for it too. So `wait` polls for a while before it blocks, as the kernel's haltpoll governor
 * does (Documentation/virt/guest-halt-polling.rst), and leaves the processor to whoever can run meanwhile.
 * The while adapts: it grows when something came soon after we had gone to sleep, and shrinks to nothing when it did not. So
 * idle connections cost nothing, and neither does a stream whose packets come further apart than spinMaxNs.
 */
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include "addon.h"
#include "engine.h"

namespace passt {

int32_t watchFor(Engine& engine, int32_t fd, int32_t ref, uint32_t mask, uint32_t source) {
  epoll_event event{};
  event.events = mask;
  event.data.u64 = uint64_t{source} << 32 | static_cast<uint32_t>(ref);
  // seccomp: epoll_ctl
  if (epoll_ctl(engine.epollFd, EPOLL_CTL_ADD, fd, &event) == 0) return 0;
  if (errno != EEXIST) return -errno;
  return epoll_ctl(engine.epollFd, EPOLL_CTL_MOD, fd, &event) == 0 ? 0 : -errno;
}

/** Longest and shortest time to poll, nanoseconds. */
constexpr int64_t spinMaxNs = 50'000;
constexpr int64_t spinMinNs = 10'000;

static int64_t nanoseconds() {
  timespec time{};
  // seccomp: clock_gettime
  clock_gettime(CLOCK_MONOTONIC, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

/** Waits for events: polls for as long as has paid lately, then blocks. @returns as epoll_wait(2) */
static int awaitEvents(Engine& engine, int32_t timeoutMs) {
  // seccomp: epoll_wait@x86-64 epoll_pwait@aarch64
  if (timeoutMs == 0) return epoll_wait(engine.epollFd, engine.ready, eventMax, 0);
  const int64_t began = nanoseconds();
  for (int64_t now = began; now - began < engine.spinNs; now = nanoseconds()) {
    const int count = epoll_wait(engine.epollFd, engine.ready, eventMax, 0);
    if (count != 0) return count;
    // seccomp: sched_yield
    sched_yield();
  }
  const int count = epoll_wait(engine.epollFd, engine.ready, eventMax, timeoutMs);
  if (count > 0 && nanoseconds() - began <= spinMaxNs) {
    engine.spinNs = engine.spinNs == 0 ? spinMinNs : engine.spinNs * 2;
    if (engine.spinNs > spinMaxNs) engine.spinNs = spinMaxNs;
  } else {
    engine.spinNs /= 2;
    if (engine.spinNs < spinMinNs) engine.spinNs = 0;
  }
  return count;
}

static int32_t wait(Engine& engine, int32_t timeoutMs) {
  const int count = awaitEvents(engine, timeoutMs);
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
