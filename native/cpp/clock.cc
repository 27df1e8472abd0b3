/** Monotonic time in the two resolutions that the engine keeps. */
#include <ctime>

#include "addon.h"
#include "engine.h"

namespace passt {

static int32_t now(Engine&) {
  timespec time{};
  // seccomp: clock_gettime
  clock_gettime(CLOCK_MONOTONIC, &time);
  const uint64_t ms = uint64_t(time.tv_sec) * 1000 + uint64_t(time.tv_nsec) / 1000000;
  return static_cast<int32_t>(static_cast<uint32_t>(ms));
}

static int32_t nowMicros(Engine&) {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  const uint64_t us = uint64_t(time.tv_sec) * 1000000 + uint64_t(time.tv_nsec) / 1000;
  return static_cast<int32_t>(static_cast<uint32_t>(us));
}

void bindClock(napi_env env, napi_value object, Engine* engine) {
  defineHot<now>(env, object, "now", engine);
  defineHot<nowMicros>(env, object, "nowMicros", engine);
}

}  // namespace passt
