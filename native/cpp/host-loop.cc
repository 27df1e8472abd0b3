/**
 * An engine in somebody else's loop: Node's own loop (libuv) watches the engine's epoll descriptor, and calls back when
 * there is something to do or the time that was set has come. One handle for any number of sockets, no thread.
 *
 * ```
 *   sockets ─▶ engine's epoll ─▶ libuv's epoll ─▶ callback: turns, as long as the budget lasts
 *                                 libuv's timer ─▶    └─ armLoop(when the next turn is due; 0: after everybody else's turn)
 * ```
 * Node-API has no way to watch a descriptor, but hands out the loop (napi_get_uv_event_loop), and node exports libuv. Headers of
 * libuv are not needed: its handles are opaque here, their sizes are asked for, and numbers of types and events are part
 * of the ABI that libuv 1.x keeps (docs: "Versioning"). The symbols are weak: a runtime without them is told so.
 */
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <new>

#include "addon.h"
#include "engine.h"

// What is used of uv.h; a loop and a handle are addresses.
extern "C" {
using UvCallback = void (*)(void* handle);
using UvPollCallback = void (*)(void* handle, int status, int events);
__attribute__((weak)) size_t uv_handle_size(int type);
__attribute__((weak)) const char* uv_handle_type_name(int type);
__attribute__((weak)) void* uv_handle_get_data(const void* handle);
__attribute__((weak)) void uv_handle_set_data(void* handle, void* data);
__attribute__((weak)) int uv_poll_init(void* loop, void* handle, int fd);
__attribute__((weak)) int uv_poll_start(void* handle, int events, UvPollCallback callback);
__attribute__((weak)) int uv_timer_init(void* loop, void* handle);
__attribute__((weak)) int uv_timer_start(void* handle, UvCallback callback, uint64_t timeout, uint64_t repeat);
__attribute__((weak)) int uv_timer_stop(void* handle);
__attribute__((weak)) void uv_close(void* handle, UvCallback callback);
__attribute__((weak)) void uv_ref(void* handle);
__attribute__((weak)) void uv_unref(void* handle);
}

namespace passt {

constexpr int uvPoll = 8, uvTimer = 13, uvReadable = 1;

/** Lives until libuv has closed both handles, longer than the engine if need be. */
struct HostLoop {
  napi_env env = nullptr;
  napi_ref callback = nullptr;
  napi_async_context context = nullptr;
  napi_async_cleanup_hook_handle cleanup = nullptr;
  void* poll = nullptr;
  void* timer = nullptr;
  /** The engine's place for this; null once it has let go. */
  HostLoop** place = nullptr;
  int handles = 0;
  bool closing = false;
};

static void release(HostLoop* loop) {
  if (loop->callback) napi_delete_reference(loop->env, loop->callback);
  if (loop->context) napi_async_destroy(loop->env, loop->context);
  if (loop->cleanup) napi_remove_async_cleanup_hook(loop->cleanup);
  free(loop->poll);
  free(loop->timer);
  delete loop;
}

static void closed(void* handle) {
  auto* loop = static_cast<HostLoop*>(uv_handle_get_data(handle));
  if (--loop->handles == 0) release(loop);
}

static void close(HostLoop* loop) {
  if (loop->closing) return;
  loop->closing = true;
  if (loop->place) *loop->place = nullptr;
  loop->place = nullptr;
  if (loop->handles == 0) {
    release(loop);
    return;
  }
  uv_close(loop->timer, closed);
  if (loop->handles == 2) uv_close(loop->poll, closed);
}

void leaveHostLoop(Engine& engine) {
  if (engine.hostLoop) close(engine.hostLoop);
}

static void call(HostLoop* loop) {
  if (loop->closing) return;
  napi_env const env = loop->env;
  napi_handle_scope scope = nullptr;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  napi_value function = nullptr, self = nullptr;
  if (napi_get_reference_value(env, loop->callback, &function) == napi_ok && function &&
      napi_get_global(env, &self) == napi_ok) {
    const napi_status status = napi_make_callback(env, loop->context, self, function, 0, nullptr, nullptr);
    napi_value error = nullptr;
    if (status == napi_pending_exception && napi_get_and_clear_last_exception(env, &error) == napi_ok)
      napi_fatal_exception(env, error);
  }
  napi_close_handle_scope(env, scope);
}

static void ready(void* handle, int, int) { call(static_cast<HostLoop*>(uv_handle_get_data(handle))); }
static void due(void* handle) { call(static_cast<HostLoop*>(uv_handle_get_data(handle))); }

static bool knowsLibuv() {
  if (!uv_handle_size || !uv_handle_type_name || !uv_handle_get_data || !uv_handle_set_data || !uv_poll_init ||
      !uv_poll_start || !uv_timer_init || !uv_timer_start || !uv_timer_stop || !uv_close || !uv_ref || !uv_unref)
    return false;
  const char* const poll = uv_handle_type_name(uvPoll);
  const char* const timer = uv_handle_type_name(uvTimer);
  return poll && timer && strcmp(poll, "poll") == 0 && strcmp(timer, "timer") == 0;
}

/** joinLoop(callback): has the environment's loop watch this engine. @returns 0 or -errno: ENOSYS where there is no libuv */
static napi_value joinLoop(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  auto& engine = arguments.self<Engine>();
  if (engine.epollFd < 0) return arguments.result(-EBADF);
  if (engine.hostLoop) return arguments.result(-EALREADY);
  if (!knowsLibuv()) return arguments.result(-ENOSYS);
  uv_loop_s* found = nullptr;
  if (napi_get_uv_event_loop(env, &found) != napi_ok) return arguments.result(-ENOSYS);
  auto* loop = new (std::nothrow) HostLoop;
  if (!loop) return arguments.result(-ENOMEM);
  loop->env = env;
  loop->poll = calloc(1, uv_handle_size(uvPoll));
  loop->timer = calloc(1, uv_handle_size(uvTimer));
  napi_value name = nullptr;
  napi_create_string_utf8(env, "passt", NAPI_AUTO_LENGTH, &name);
  if (!loop->poll || !loop->timer || napi_create_reference(env, arguments.at(0), 1, &loop->callback) != napi_ok ||
      napi_async_init(env, nullptr, name, &loop->context) != napi_ok) {
    close(loop);
    return arguments.result(-ENOMEM);
  }
  // A worker that is ended waits for the handles to be closed.
  napi_add_async_cleanup_hook(
      env, [](napi_async_cleanup_hook_handle, void* data) { close(static_cast<HostLoop*>(data)); }, loop, &loop->cleanup);
  uv_timer_init(found, loop->timer);
  loop->handles = 1;
  uv_handle_set_data(loop->timer, loop);
  int failed = uv_poll_init(found, loop->poll, engine.epollFd);
  if (failed == 0) {
    loop->handles = 2;
    uv_handle_set_data(loop->poll, loop);
    failed = uv_poll_start(loop->poll, uvReadable, ready);
  }
  if (failed != 0) {
    close(loop);
    return arguments.result(failed);
  }
  loop->place = &engine.hostLoop;
  engine.hostLoop = loop;
  return arguments.result(0);
}

/** Calls back after `milliseconds`, 0: in the loop's next round; in place of the time that was set before. */
static int32_t armLoop(Engine& engine, int32_t milliseconds) {
  if (!engine.hostLoop) return -EBADF;
  if (milliseconds < 0) return uv_timer_stop(engine.hostLoop->timer);
  return uv_timer_start(engine.hostLoop->timer, due, static_cast<uint64_t>(milliseconds), 0);
}

/** Whether the loop goes on as long as this engine is in it. */
static int32_t keepLoop(Engine& engine, int32_t keep) {
  if (!engine.hostLoop) return -EBADF;
  for (void* handle : {engine.hostLoop->poll, engine.hostLoop->timer}) keep ? uv_ref(handle) : uv_unref(handle);
  return 0;
}

static int32_t leaveLoop(Engine& engine) {
  leaveHostLoop(engine);
  return 0;
}

void bindHostLoop(napi_env env, napi_value object, Engine* engine) {
  define(env, object, "joinLoop", joinLoop, engine);
  defineHot<armLoop>(env, object, "armLoop", engine);
  defineHot<keepLoop>(env, object, "keepLoop", engine);
  defineHot<leaveLoop>(env, object, "leaveLoop", engine);
}

}  // namespace passt
