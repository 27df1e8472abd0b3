/**
 * Streams that are read on their way: pairs of sockets, and a memory of JavaScript's that they are read into and written from.
 */
#include <sys/socket.h>

#include "addon.h"
#include "engine.h"

namespace passt {

/** attachRelay(memory, ends): lends the memory for the life of the engine; `ends` is an Int32Array of two words. */
static napi_value attachRelay(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  auto& engine = arguments.self<Engine>();
  if (engine.epollFd < 0) return arguments.result(-EBADF);
  if (engine.relayMemory) return arguments.result(-EALREADY);
  size_t length = 0;
  auto* memory = static_cast<uint8_t*>(arguments.bytes(0, &length));
  size_t endsLength = 0;
  auto* ends = static_cast<int32_t*>(arguments.bytes(1, &endsLength));
  if (!memory || length > INT32_MAX || !ends || endsLength < 2 * sizeof(int32_t)) return arguments.result(-EINVAL);
  for (size_t i = 0; i < 2; i++) {
    if (napi_create_reference(env, arguments.at(i), 1, &engine.relayReferences[i]) != napi_ok)
      return arguments.result(-ENOMEM);
  }
  engine.relayMemory = memory;
  engine.relayBytes = static_cast<int32_t>(length);
  engine.relayEnds = ends;
  return arguments.result(0);
}

static int32_t relayPair(Engine& engine) {
  if (!engine.relayEnds) return -EBADF;
  // seccomp[policy]: socketpair(AF_UNIX, SOCK_STREAM+SOCK_NONBLOCK+SOCK_CLOEXEC, 0)
  return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, engine.relayEnds) == 0 ? 0 : -errno;
}

static bool isWithin(const Engine& engine, int32_t offset, int32_t length) {
  return engine.relayMemory && offset >= 0 && length > 0 && offset <= engine.relayBytes - length;
}

static int32_t relayReceive(Engine& engine, int32_t fd, int32_t offset, int32_t length) {
  if (!isWithin(engine, offset, length)) return -EINVAL;
  // seccomp: recvfrom
  const ssize_t got = recv(fd, engine.relayMemory + offset, static_cast<size_t>(length), MSG_DONTWAIT);
  return got < 0 ? -errno : static_cast<int32_t>(got);
}

static int32_t relaySend(Engine& engine, int32_t fd, int32_t offset, int32_t length) {
  if (!isWithin(engine, offset, length)) return -EINVAL;
  iovec piece = {engine.relayMemory + offset, static_cast<size_t>(length)};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  // seccomp: sendmsg
  const ssize_t sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  return sent < 0 ? -errno : static_cast<int32_t>(sent);
}

void bindRelay(napi_env env, napi_value object, Engine* engine) {
  define(env, object, "attachRelay", attachRelay, engine);
  defineHot<relayPair>(env, object, "relayPair", engine);
  defineHot<relayReceive>(env, object, "relayReceive", engine);
  defineHot<relaySend>(env, object, "relaySend", engine);
}

}  // namespace passt
