/**
 * What the kernel knows of a connection. Its structure grows from release to release, so a field counts only if the
 * kernel's answer is long enough to hold it; else the word is -1.
 */
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>

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

static int32_t tcpInfo(Engine& engine, int32_t fd) {
  tcp_info info{};
  socklen_t have = sizeof info;
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &have) < 0) return -errno;
  int32_t* const out = engine.info;
  out[infoBytesAcked] = static_cast<int32_t>(info.tcpi_bytes_acked);
  out[infoSendWindow] = FIELD(tcpi_snd_wnd);
  out[infoRtt] = FIELD(tcpi_rtt);
  out[infoMinRtt] = FIELD(tcpi_min_rtt);
  out[infoDeliveryRate] = FIELD(tcpi_delivery_rate);
  out[infoSendMss] = FIELD(tcpi_snd_mss);

  uint32_t memory[SK_MEMINFO_VARS];
  have = sizeof memory;
  const bool told = getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &have) == 0;
  out[infoSendBuffer] = told && have > SK_MEMINFO_SNDBUF * 4 ? static_cast<int32_t>(memory[SK_MEMINFO_SNDBUF]) : -1;
  out[infoSendQueued] =
      told && have > SK_MEMINFO_WMEM_QUEUED * 4 ? static_cast<int32_t>(memory[SK_MEMINFO_WMEM_QUEUED]) : -1;

  int queued = 0;
  out[infoUnacknowledged] = ioctl(fd, SIOCOUTQ, &queued) == 0 ? queued : -1;
  return 0;
}

void bindTcpInfo(napi_env env, napi_value object, Engine* engine) { defineHot<tcpInfo>(env, object, "tcpInfo", engine); }

}  // namespace passt
