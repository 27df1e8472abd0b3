/**
 * Payload between frames and TCP sockets. Data from the network stays in the socket until the guest has acknowledged
 * it: it is read with MSG_PEEK, and thrown away later with `discard`.
 */
#include <cstring>

#include "addon.h"
#include "engine.h"

namespace passt {

static int32_t sendGathered(int32_t fd, iovec* iovecs, size_t count) {
  msghdr message{};
  message.msg_iov = iovecs;
  message.msg_iovlen = count;
  // seccomp: sendmsg
  const ssize_t sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  return sent < 0 ? -errno : static_cast<int32_t>(sent);
}

/** Adds a row's payload to what is to be sent. @returns 0, or -errno: ENOBUFS if there is no room for its pieces */
static int32_t gatherRow(Engine& engine, int32_t row, size_t* used, size_t* bytes) {
  if (engine.isElsewhere(row)) {
    const int32_t length = engine.column(columnPayloadLength)[row];
    const int32_t most = gatherMax - static_cast<int32_t>(*used);
    const int32_t pieces = engine.elsewhere->payloadPieces(row, engine.column(columnPayload)[row], length,
                                                           engine.iovecs + *used, most);
    if (pieces < 0) return pieces;
    *used += static_cast<size_t>(pieces);
    *bytes += static_cast<size_t>(length);
    return 0;
  }
  int32_t length = 0;
  uint8_t* const payload = engine.rowPayload(row, &length);
  if (!payload) return -EINVAL;
  if (length == 0) return 0;
  if (*used == gatherMax) return -ENOBUFS;
  engine.iovecs[(*used)++] = {payload, static_cast<size_t>(length)};
  *bytes += static_cast<size_t>(length);
  return 0;
}

static int32_t sendFrames(Engine& engine, int32_t fd, int32_t start, int32_t count) {
  if (!engine.gather || start < 0 || count < 0 || start > gatherMax - count) return -EINVAL;
  int32_t all = 0;
  // As a rule once: only payload that lies in many pieces takes more calls.
  for (int32_t i = start; i < start + count;) {
    size_t used = 0;
    size_t bytes = 0;
    int32_t error = 0;
    for (; i < start + count && error == 0; i += error == 0) error = gatherRow(engine, engine.gather[i], &used, &bytes);
    if (error && (error != -ENOBUFS || used == 0)) return error;
    if (used == 0) break;
    const int32_t sent = sendGathered(fd, engine.iovecs, used);
    if (sent == -EFAULT && engine.elsewhere) engine.elsewhere->payloadMissing();
    if (sent < 0) return all > 0 ? all : sent;
    all += sent;
    if (static_cast<size_t>(sent) < bytes) break;
  }
  return all;
}

static int32_t sendHeld(Engine& engine, int32_t fd, int32_t offset, int32_t length) {
  if (!engine.arena || offset < 0 || length < 0 || offset > arenaBytes - length) return -EINVAL;
  engine.iovecs[0] = {engine.arena + offset, static_cast<size_t>(length)};
  return sendGathered(fd, engine.iovecs, 1);
}

static int32_t holdPayload(Engine& engine, int32_t row, int32_t from, int32_t length, int32_t to) {
  if (to < 0 || length < 0 || to > arenaBytes - length) return -EINVAL;
  if (engine.isElsewhere(row)) {
    const int32_t pieces = engine.elsewhere->payloadPieces(row, from, length, engine.iovecs, gatherMax);
    if (pieces < 0) return pieces;
    for (int32_t i = 0; i < pieces; i++) {
      memcpy(engine.arena + to, engine.iovecs[i].iov_base, engine.iovecs[i].iov_len);
      to += static_cast<int32_t>(engine.iovecs[i].iov_len);
    }
    return 0;
  }
  const uint8_t* const payload = engine.rowBytes(row, from, length);
  if (!payload || int64_t{from} + length > engine.column(columnLength)[row]) return -EINVAL;
  memmove(engine.arena + to, payload, static_cast<size_t>(length));
  return 0;
}

static int32_t peekIntoFrames(Engine& engine, int32_t fd, int32_t row, int32_t count, int32_t bytes, int32_t skip) {
  if (count < 0 || count > gatherMax || bytes < 0 || skip < 0) return -EINVAL;
  if (skip > skipBlockMax * skipBlockBytes) return -EINVAL;
  size_t used = 0;
  for (int32_t left = skip; left > 0; left -= skipBlockBytes)
    engine.iovecs[used++] = {engine.skipBlock, static_cast<size_t>(left < skipBlockBytes ? left : skipBlockBytes)};
  const bool elsewhere = count > 0 && engine.isElsewhere(row);
  const int32_t payload = elsewhere ? engine.column(columnPayload)[row] : 0;
  for (int32_t i = row; i < row + count; i++) {
    if (elsewhere) {
      const int32_t most = static_cast<int32_t>(gatherMax - used);
      const int32_t pieces = engine.elsewhere->roomPieces(i, payload, bytes, engine.iovecs + used, most);
      if (pieces < 0) return pieces;
      used += static_cast<size_t>(pieces);
      continue;
    }
    uint8_t* const room = engine.rowRoom(i, bytes);
    if (!room) return -EINVAL;
    engine.iovecs[used++] = {room, static_cast<size_t>(bytes)};
  }
  msghdr message{};
  message.msg_iov = engine.iovecs;
  message.msg_iovlen = used < gatherMax ? used : gatherMax;
  // seccomp: recvmsg
  const ssize_t got = recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT);
  const int32_t error = got < 0 ? -errno : 0;
  if (elsewhere) engine.elsewhere->roomFilled(row, payload, bytes, got > skip ? static_cast<int32_t>(got - skip) : 0);
  if (error) return error;
  if (skip == 0) return static_cast<int32_t>(got);
  // Nothing behind what was skipped: more may come, or the end is only seen once all before it was discarded.
  return got > skip ? static_cast<int32_t>(got - skip) : -EAGAIN;
}

static int32_t discard(Engine& engine, int32_t fd, int32_t bytes) {
  if (bytes < 0) return -EINVAL;
  // seccomp: recvfrom
  const ssize_t gone = recv(fd, nullptr, static_cast<size_t>(bytes), MSG_TRUNC | MSG_DONTWAIT);
  if (gone >= 0) return static_cast<int32_t>(gone);
  if (errno != EFAULT || !engine.skipBlock) return -errno;
  // A UNIX socket, where a redirected connection may lead, only knows how to copy.
  int32_t done = 0;
  while (done < bytes) {
    const int32_t part = bytes - done < skipBlockBytes ? bytes - done : skipBlockBytes;
    const ssize_t read = recv(fd, engine.skipBlock, static_cast<size_t>(part), MSG_DONTWAIT);
    if (read < 0) return done > 0 ? done : -errno;
    if (read == 0) break;
    done += static_cast<int32_t>(read);
  }
  return done;
}

void bindStream(napi_env env, napi_value object, Engine* engine) {
  defineHot<sendFrames>(env, object, "sendFrames", engine);
  defineHot<sendHeld>(env, object, "sendHeld", engine);
  defineHot<holdPayload>(env, object, "holdPayload", engine);
  defineHot<peekIntoFrames>(env, object, "peekIntoFrames", engine);
  defineHot<discard>(env, object, "discard", engine);
}

}  // namespace passt
