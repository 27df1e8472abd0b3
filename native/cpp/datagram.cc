/**
 * Datagrams between frames and UDP or ping sockets: batches on connected sockets, single ones with their addresses on
 * listening sockets.
 */
#include <netinet/udp.h>
#include <netinet/in.h>

#include "address.h"
#include "addon.h"
#include "engine.h"

namespace passt {

/** Datagrams that one call with UDP_SEGMENT may carry (UDP_MAX_SEGMENTS of older kernels), and the fewest that pay for it. */
static constexpr int32_t segmentsMax = 64;
static constexpr int32_t segmentsMin = 4;
/** Longest datagram to send that way: it must fit the MTU of the way out, and any link of the internet carries this. */
static constexpr size_t segmentBytesMax = 1232;
/** Runs per call; later datagrams go one by one. */
static constexpr int32_t runsMax = 64;

/**
 * Prepares messages for the gathered rows. With `segment`, a run of equally long datagrams becomes one
 * message that the kernel, or the network device, cuts (udp(7), UDP_SEGMENT): the receiver sees the same datagrams.
 * @returns the number of messages, or -EINVAL
 */
static int32_t prepareMessages(Engine& engine, int32_t start, int32_t count, bool segment, uint8_t* control) {
  constexpr size_t controlBytes = CMSG_SPACE(sizeof(uint16_t));
  for (int32_t i = 0; i < count; i++) {
    int32_t length = 0;
    uint8_t* const payload = engine.rowPayload(engine.gather[start + i], &length);
    if (!payload) return -EINVAL;
    engine.iovecs[i] = {payload, static_cast<size_t>(length)};
  }
  int32_t messages = 0;
  int32_t runs = 0;
  for (int32_t i = 0; i < count;) {
    const size_t bytes = engine.iovecs[i].iov_len;
    int32_t run = 1;
    if (segment && bytes > 0 && bytes <= segmentBytesMax && runs < runsMax) {
      const int32_t most = count - i < segmentsMax ? count - i : segmentsMax;
      while (run < most && engine.iovecs[i + run].iov_len == bytes) run++;
      if (run < segmentsMin) run = 1;
    }
    msghdr& header = engine.messages[messages++].msg_hdr;
    header = {};
    header.msg_iov = &engine.iovecs[i];
    header.msg_iovlen = static_cast<size_t>(run);
    if (run > 1) {
      header.msg_control = control + static_cast<size_t>(runs++) * controlBytes;
      header.msg_controllen = controlBytes;
      cmsghdr* const message = CMSG_FIRSTHDR(&header);
      message->cmsg_level = SOL_UDP;
      message->cmsg_type = UDP_SEGMENT;
      message->cmsg_len = CMSG_LEN(sizeof(uint16_t));
      const uint16_t size = static_cast<uint16_t>(bytes);
      memcpy(CMSG_DATA(message), &size, sizeof size);
    }
    i += run;
  }
  return messages;
}

static int32_t sendDatagrams(Engine& engine, int32_t fd, int32_t start, int32_t count) {
  if (!engine.gather || start < 0 || count < 0 || start > gatherMax - count) return -EINVAL;
  alignas(cmsghdr) uint8_t control[runsMax * CMSG_SPACE(sizeof(uint16_t))];
  for (bool segment = count >= segmentsMin;; segment = false) {
    const int32_t messages = prepareMessages(engine, start, count, segment, control);
    if (messages < 0) return messages;
    const int sent = sendmmsg(fd, engine.messages, static_cast<unsigned>(messages), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
      // Devices without checksum offload refuse it, old kernels do not know it, small MTUs have no room.
      if (segment && (errno == EIO || errno == EINVAL || errno == EMSGSIZE || errno == EOPNOTSUPP)) continue;
      return -errno;
    }
    int32_t datagrams = 0;
    for (int i = 0; i < sent; i++) datagrams += static_cast<int32_t>(engine.messages[i].msg_hdr.msg_iovlen);
    return datagrams;
  }
}

static int32_t receiveDatagrams(Engine& engine, int32_t fd, int32_t row, int32_t count, int32_t bytes) {
  if (!engine.arena || count < 0 || count > gatherMax || bytes < 0) return -EINVAL;
  for (int32_t i = 0; i < count; i++) {
    uint8_t* const room = engine.rowRoom(row + i, bytes);
    if (!room) return -EINVAL;
    engine.iovecs[i] = {room, static_cast<size_t>(bytes)};
    engine.messages[i].msg_hdr = {};
    engine.messages[i].msg_hdr.msg_iov = &engine.iovecs[i];
    engine.messages[i].msg_hdr.msg_iovlen = 1;
  }
  const int got = recvmmsg(fd, engine.messages, static_cast<unsigned>(count), MSG_DONTWAIT, nullptr);
  if (got < 0) return -errno;
  int32_t* const lengths = engine.column(columnPayloadLength) + row;
  for (int i = 0; i < got; i++) lengths[i] = static_cast<int32_t>(engine.messages[i].msg_len);
  return got;
}

/** Which of our addresses a datagram was sent to; false if the kernel did not say. */
static bool destination(const msghdr& message, int32_t* record) {
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(const_cast<msghdr*>(&message), c)) {
    if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
      in_pktinfo info;
      memcpy(&info, CMSG_DATA(c), sizeof info);
      recordAddress4(record, info.ipi_addr);
      record[5] = 0;
      return true;
    }
    if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
      in6_pktinfo info;
      memcpy(&info, CMSG_DATA(c), sizeof info);
      recordAddress6(record, info.ipi6_addr);
      record[5] = IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr) ? static_cast<int32_t>(info.ipi6_ifindex) : 0;
      return true;
    }
  }
  return false;
}

static int32_t receiveFrom(Engine& engine, int32_t fd, int32_t row, int32_t peek) {
  if (!engine.arena || row < 0 || row >= frameMax) return -EINVAL;
  const int32_t payload = engine.column(columnPayload)[row];
  const int32_t room = (row < rxFrameMax ? frameLengthMax : engine.column(columnWindow)[row]) - payload;
  uint8_t* const at = room < 0 ? nullptr : engine.rowRoom(row, room);
  if (!at) return -EINVAL;

  sockaddr_storage address;
  alignas(cmsghdr) uint8_t control[CMSG_SPACE(sizeof(in6_pktinfo)) + CMSG_SPACE(sizeof(in_pktinfo))];
  iovec vector = {at, static_cast<size_t>(room)};
  msghdr message{};
  message.msg_name = &address;
  message.msg_namelen = sizeof address;
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  // MSG_TRUNC: the datagram's whole length, also of one that does not fit.
  const ssize_t got = recvmsg(fd, &message, MSG_DONTWAIT | MSG_TRUNC | (peek ? MSG_PEEK : 0));
  if (got < 0) return -errno;
  if (got > room && !peek) return -EMSGSIZE;

  toRecord(reinterpret_cast<sockaddr*>(&address), engine.address + addressRemote);
  int32_t* const local = engine.address + addressLocal;
  socklen_t length = sizeof address;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) < 0) return -errno;
  toRecord(reinterpret_cast<sockaddr*>(&address), local);
  destination(message, local);
  engine.column(columnPayloadLength)[row] = got > room ? room : static_cast<int32_t>(got);
  return static_cast<int32_t>(got);
}

void bindDatagram(napi_env env, napi_value object, Engine* engine) {
  defineHot<sendDatagrams>(env, object, "sendDatagrams", engine);
  defineHot<receiveDatagrams>(env, object, "receiveDatagrams", engine);
  defineHot<receiveFrom>(env, object, "receiveFrom", engine);
}

}  // namespace passt
