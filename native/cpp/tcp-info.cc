/**
 * What the kernel knows of a connection. Its structure grows from release to release, so a field counts only if the
 * kernel's answer is long enough to hold it; else the word is -1.
 */
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "addon.h"
#include "engine.h"

#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif

namespace passt {

enum InfoWord : int32_t {
  infoBytesAcked,
  infoSendWindow,
  infoRtt,
  infoMinRtt,
  infoDeliveryRate,
  infoSendBuffer,
  infoSendQueued,
  infoSendMss,
  infoUnacknowledged,
};

#define FIELD(name) (have >= offsetof(tcp_info, name) + sizeof info.name ? clamp(info.name) : -1)

static int32_t clamp(__u32 value) { return static_cast<int32_t>(value); }
static int32_t clamp(__u64 value) { return value > INT32_MAX ? INT32_MAX : static_cast<int32_t>(value); }

/** Round-trip time up to which a peer is as near as this host; LOCAL_RTT_US in packages/core. */
constexpr int32_t nearRttUs = 500;
/** Send buffer for such a peer: what tcp_wmem lets others grow to. With less, the guest waits for a wider window in
 * between. */
constexpr int32_t nearBufferBytes = 4 << 20;

/** Fixes the size of a send buffer. The kernel doubles what it is told, for its own overhead, and has a limit
 * (net.core.wmem_max). @returns the size that it has now */
static int32_t fixBuffer(int fd) {
  const int half = nearBufferBytes / 2;
  int size = 0;
  socklen_t length = sizeof size;
  // seccomp: setsockopt(_, SOL_SOCKET, SO_SNDBUF) getsockopt(_, SOL_SOCKET, SO_SNDBUF)
  setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &half, sizeof half);
  return getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, &length) == 0 ? size : 0;
}

/**
 * Lets the send buffer grow. The window that the guest is offered is what the buffer has room for, so the guest never
 * fills it; but the kernel makes a buffer larger only when somebody wants to write and can't (tcp_new_space in
 * net/ipv4/tcp_input.c). Asking whether the socket is writable while it is two thirds full counts as that. With a near peer
 * the buffer is never even that full, while the guest waits for each acknowledgement: there it gets a fixed size.
 */
static void growBuffer(Engine& engine, int32_t fd, int32_t minRtt) {
  int32_t& buffer = engine.info[infoSendBuffer];
  if (minRtt >= 0 && minRtt <= nearRttUs) {
    if (buffer < engine.nearBuffer) buffer = fixBuffer(fd);
  } else if (engine.info[infoSendQueued] > buffer - buffer / 3) {
    pollfd look = {fd, POLLOUT, 0};
    // seccomp: poll@x86-64 ppoll@aarch64
    poll(&look, 1, 0);
  }
}

/** A UNIX socket, where the program's policy may lead a connection: a peer as near as can be, that acknowledges by reading. */
static int32_t unixInfo(Engine& engine, int32_t fd) {
  int32_t* const out = engine.info;
  uint32_t memory[SK_MEMINFO_VARS];
  socklen_t have = sizeof memory;
  if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &have) < 0 || have <= SK_MEMINFO_SNDBUF * 4) return -errno;
  out[infoBytesAcked] = out[infoRtt] = out[infoMinRtt] = out[infoSendMss] = 0;
  out[infoSendWindow] = out[infoDeliveryRate] = -1;
  out[infoSendBuffer] = static_cast<int32_t>(memory[SK_MEMINFO_SNDBUF]);
  out[infoSendQueued] = out[infoUnacknowledged] = static_cast<int32_t>(memory[SK_MEMINFO_WMEM_ALLOC]);
  growBuffer(engine, fd, 0);
  return 0;
}

static int32_t tcpInfo(Engine& engine, int32_t fd) {
  tcp_info info{};
  socklen_t have = sizeof info;
  // seccomp: getsockopt(_, IPPROTO_TCP, TCP_INFO)
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &have) < 0)
    return errno == EOPNOTSUPP || errno == ENOPROTOOPT ? unixInfo(engine, fd) : -errno;
  int32_t* const out = engine.info;
  out[infoBytesAcked] = static_cast<int32_t>(info.tcpi_bytes_acked);
  out[infoSendWindow] = FIELD(tcpi_snd_wnd);
  out[infoRtt] = FIELD(tcpi_rtt);
  out[infoMinRtt] = FIELD(tcpi_min_rtt);
  out[infoDeliveryRate] = FIELD(tcpi_delivery_rate);
  out[infoSendMss] = FIELD(tcpi_snd_mss);

  uint32_t memory[SK_MEMINFO_VARS];
  have = sizeof memory;
  // seccomp: getsockopt(_, SOL_SOCKET, SO_MEMINFO)
  const bool told = getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &have) == 0;
  out[infoSendBuffer] = told && have > SK_MEMINFO_SNDBUF * 4 ? static_cast<int32_t>(memory[SK_MEMINFO_SNDBUF]) : -1;
  out[infoSendQueued] =
      told && have > SK_MEMINFO_WMEM_QUEUED * 4 ? static_cast<int32_t>(memory[SK_MEMINFO_WMEM_QUEUED]) : -1;

  int queued = 0;
  // seccomp: ioctl(_, SIOCOUTQ)
  out[infoUnacknowledged] = ioctl(fd, SIOCOUTQ, &queued) == 0 ? queued : -1;
  if (out[infoSendBuffer] > 0) growBuffer(engine, fd, out[infoMinRtt]);
  return 0;
}

void bindTcpInfo(napi_env env, napi_value object, Engine* engine) {
  const int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (probe >= 0) {
    engine->nearBuffer = fixBuffer(probe);
    close(probe);
  }
  defineHot<tcpInfo>(env, object, "tcpInfo", engine);
}

}  // namespace passt
