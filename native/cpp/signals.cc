/**
 * Signals as events. Dispositions belong to the process, so the state here does too: a handler notes the signal and
 * wakes the engine that asked last, through an eventfd in its epoll set. A handler may run in any thread and may only
 * use what is async-signal-safe (signal-safety(7)).
 */
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>

#include "addon.h"
#include "engine.h"

namespace passt {

static std::atomic<uint64_t> pending{0};
static std::atomic<int> wakeFd{-1};
static_assert(std::atomic<uint64_t>::is_always_lock_free && std::atomic<int>::is_always_lock_free);

// seccomp: rt_sigreturn
static void note(int number) {
  const int saved = errno;
  pending.fetch_or(uint64_t{1} << (number & 63));
  const uint64_t one = 1;
  const int fd = wakeFd.load();
  // seccomp: write
  if (fd >= 0 && write(fd, &one, sizeof one) < 0) {
    // The counter is full or the engine is gone: whoever looks finds the bit in `pending`.
  }
  errno = saved;
}

/** Makes the engine's epoll set report `ref` when a caught signal arrives. */
static int32_t watchSignals(Engine& engine, int32_t ref) {
  if (engine.epollFd < 0) return -EBADF;
  if (engine.signalFd < 0) engine.signalFd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (engine.signalFd < 0) return -errno;
  wakeFd.store(engine.signalFd);
  return watchFor(engine, engine.signalFd, ref, EPOLLIN, sourceNone);
}

void forgetSignals(Engine& engine) {
  int mine = engine.signalFd;
  if (mine >= 0) wakeFd.compare_exchange_strong(mine, -1);
}

/** Catches one signal from now on. */
static int32_t catchSignal(Engine&, int32_t number) {
  if (number <= 0 || number >= 64) return -EINVAL;
  struct sigaction action {};
  action.sa_handler = note;
  action.sa_flags = SA_RESTART;
  sigfillset(&action.sa_mask);
  return sigaction(number, &action, nullptr) == 0 ? 0 : -errno;
}

void restoreSignals() {
  for (const int number : {SIGINT, SIGTERM}) {
    struct sigaction current {};
    if (sigaction(number, nullptr, &current) == 0 && current.sa_handler != note) signal(number, SIG_DFL);
  }
}

/** The lowest caught signal that was not taken yet, 0 if none. */
static int32_t takeSignal(Engine& engine) {
  uint64_t count;
  // seccomp: read
  if (engine.signalFd >= 0 && read(engine.signalFd, &count, sizeof count) < 0 && errno != EAGAIN) return -errno;
  const uint64_t bits = pending.load();
  if (bits == 0) return 0;
  const int number = __builtin_ctzll(bits);
  const uint64_t left = pending.fetch_and(~(uint64_t{1} << number)) & ~(uint64_t{1} << number);
  // Level-triggered: another event for what is left.
  const uint64_t one = 1;
  if (left != 0 && engine.signalFd >= 0 && write(engine.signalFd, &one, sizeof one) < 0) return -errno;
  return number;
}

void bindSignals(napi_env env, napi_value object, Engine* engine) {
  defineHot<watchSignals>(env, object, "watchSignals", engine);
  defineHot<catchSignal>(env, object, "catchSignal", engine);
  defineHot<takeSignal>(env, object, "takeSignal", engine);
}

}  // namespace passt
