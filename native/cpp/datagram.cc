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

/** Equally long datagrams of several rows that one message may carry (UDP_MAX_SEGMENTS of older kernels), and the fewest that
 * pay for it. */
static constexpr int32_t segmentsMax = 64;
static constexpr int32_t segmentsMin = 4;
/** Longest datagram to send that way, at first: it must fit the MTU of the way out, which is mostly Ethernet's. From the first
 * refusal on, as long as any link of the internet carries. */
static constexpr int32_t ethernetBytesMax = 1472;
static constexpr int32_t anyLinkBytesMax = 1232;
/** Longest datagram of all, which the kernel holds the whole run to. */
static constexpr int32_t payloadBytesMax = 65535 - 40 - 8;
/** Messages per call that the kernel cuts; later datagrams go one by one. */
static constexpr int32_t cutMax = 64;
/** Datagrams of one call whose hop limit is asked for: more than the engine reads at a time. */
static constexpr int32_t hopLimitMax = 64;

/** What sendmmsg is given. */
struct Messages {
  /** Destination of all of them; none: the socket is connected. */
  sockaddr_storage name;
  socklen_t nameLength = 0;
  int32_t count = 0;
  int32_t pieces = 0;
  int32_t cuts = 0;
  /** Rows that are done with each message: 0 for all but the last of a row that is split. */
  uint8_t rows[gatherMax];
  alignas(cmsghdr) uint8_t control[cutMax][CMSG_SPACE(sizeof(uint16_t))];

  /** Appends a message of the last `vectors` pieces. @param cut bytes of each datagram, 0 for one datagram */
  void add(Engine& engine, int32_t vectors, size_t cut, int32_t rowsDone) {
    rows[count] = static_cast<uint8_t>(rowsDone);
    msghdr& header = engine.messages[count++].msg_hdr;
    header = {};
    header.msg_name = nameLength > 0 ? &name : nullptr;
    header.msg_namelen = nameLength;
    header.msg_iov = &engine.iovecs[pieces - vectors];
    header.msg_iovlen = static_cast<size_t>(vectors);
    if (cut == 0) return;
    header.msg_control = control[cuts++];
    header.msg_controllen = sizeof control[0];
    cmsghdr* const message = CMSG_FIRSTHDR(&header);
    message->cmsg_level = SOL_UDP;
    message->cmsg_type = UDP_SEGMENT;
    message->cmsg_len = CMSG_LEN(sizeof(uint16_t));
    const auto size = static_cast<uint16_t>(cut);
    memcpy(CMSG_DATA(message), &size, sizeof size);
  }
};

/** A row's payload, and how long its datagrams are: 0 when it is only one. */
struct Datagrams {
  uint8_t* payload;
  size_t bytes;
  size_t each;
};

static bool datagramsOf(const Engine& engine, int32_t row, Datagrams* out) {
  int32_t length = 0;
  out->payload = engine.rowPayload(row, &length);
  if (!out->payload) return false;
  out->bytes = static_cast<size_t>(length);
  const int32_t each = engine.column(columnFlags)[row] & frameSegmentUdp ? engine.column(columnSegmentSize)[row] : 0;
  out->each = each > 0 && each < length ? static_cast<size_t>(each) : 0;
  return true;
}

/** Appends the datagrams of one row as a message each, if all fit. @returns whether they did */
static bool split(Engine& engine, const Datagrams& row, Messages& out) {
  const size_t parts = (row.bytes + row.each - 1) / row.each;
  if (parts > static_cast<size_t>(gatherMax - out.pieces)) return false;
  for (size_t from = 0; from < row.bytes; from += row.each) {
    const size_t bytes = row.bytes - from < row.each ? row.bytes - from : row.each;
    engine.iovecs[out.pieces++] = {row.payload + from, bytes};
    out.add(engine, 1, 0, from + bytes == row.bytes);
  }
  return true;
}

/**
 * Prepares messages for the gathered rows, as many as fit. With `cut`, the kernel or the network device does the cutting
 * (udp(7), UDP_SEGMENT) of a guest's super-frame, and of a run of equally long datagrams; the receiver sees the same
 * datagrams.
 * @returns false when a row makes no sense
 */
static bool prepareMessages(Engine& engine, int32_t start, int32_t count, bool cut, Messages& out) {
  for (int32_t i = 0; i < count && out.pieces < gatherMax;) {
    Datagrams row;
    if (!datagramsOf(engine, engine.gather[start + i], &row)) return false;
    if (row.each > 0) {
      if (cut && out.cuts < cutMax) {
        engine.iovecs[out.pieces++] = {row.payload, row.bytes};
        out.add(engine, 1, row.each, 1);
      } else if (!split(engine, row, out)) {
        // The next call goes on here; a row that no call could take is not one that any guest's kernel makes.
        return out.count > 0;
      }
      i++;
      continue;
    }
    engine.iovecs[out.pieces++] = {row.payload, row.bytes};
    int32_t run = 1;
    const auto bytes = static_cast<int32_t>(row.bytes);
    if (cut && out.cuts < cutMax && bytes > 0 && bytes <= engine.runBytesMax) {
      int32_t most = count - i < segmentsMax ? count - i : segmentsMax;
      if (most > payloadBytesMax / bytes) most = payloadBytesMax / bytes;
      if (most > gatherMax - out.pieces) most = gatherMax - out.pieces;
      Datagrams next;
      while (run < most && datagramsOf(engine, engine.gather[start + i + run], &next) && next.each == 0 &&
             next.bytes == row.bytes) {
        engine.iovecs[out.pieces++] = {next.payload, next.bytes};
        run++;
      }
      if (run < segmentsMin) {
        out.pieces -= run - 1;
        run = 1;
      }
    }
    out.add(engine, run, run > 1 ? row.bytes : 0, run);
    i += run;
  }
  return true;
}

/** @param family of the destination in the record ADDRESS_REMOTE, 0 for none
 * @returns rows that are done, or -errno when the first failed. A super-frame that was begun counts as done: what was left
 * of it is lost. */
static int32_t sendDatagramsTo(Engine& engine, int32_t fd, int32_t family, int32_t start, int32_t count) {
  if (!engine.gather || start < 0 || count < 0 || start > gatherMax - count) return -EINVAL;
  for (bool cut = true;; cut = false) {
    Messages messages;
    if (family != 0) {
      messages.nameLength = fromRecord(engine.address + addressRemote, family, &messages.name);
      if (messages.nameLength == 0) return -EINVAL;
    }
    if (!prepareMessages(engine, start, count, cut, messages)) return -EINVAL;
    // seccomp: sendmmsg
    const int sent = sendmmsg(fd, engine.messages, static_cast<unsigned>(messages.count), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
      // Devices without checksum offload refuse it, old kernels do not know it, small MTUs have no room.
      const bool refused = errno == EIO || errno == EINVAL || errno == EMSGSIZE || errno == EOPNOTSUPP;
      if (messages.cuts > 0 && refused) {
        if (engine.iovecs[0].iov_len > size_t{anyLinkBytesMax}) engine.runBytesMax = anyLinkBytesMax;
        continue;
      }
      return -errno;
    }
    int32_t rows = 0;
    for (int i = 0; i < sent; i++) rows += messages.rows[i];
    return sent > 0 && messages.rows[sent - 1] == 0 ? rows + 1 : rows;
  }
}

static int32_t sendDatagrams(Engine& engine, int32_t fd, int32_t start, int32_t count) {
  return sendDatagramsTo(engine, fd, 0, start, count);
}

static int32_t receiveDatagrams(Engine& engine, int32_t fd, int32_t row, int32_t count, int32_t bytes) {
  if (!engine.arena || count < 0 || count > gatherMax || bytes < 0) return -EINVAL;
  alignas(cmsghdr) uint8_t control[hopLimitMax][CMSG_SPACE(sizeof(int))];
  for (int32_t i = 0; i < count; i++) {
    uint8_t* const room = engine.rowRoom(row + i, bytes);
    if (!room) return -EINVAL;
    engine.iovecs[i] = {room, static_cast<size_t>(bytes)};
    engine.messages[i].msg_hdr = {};
    engine.messages[i].msg_hdr.msg_iov = &engine.iovecs[i];
    engine.messages[i].msg_hdr.msg_iovlen = 1;
    if (i >= hopLimitMax) continue;
    engine.messages[i].msg_hdr.msg_control = control[i];
    engine.messages[i].msg_hdr.msg_controllen = sizeof control[i];
  }
  // seccomp: recvmmsg
  const int got = recvmmsg(fd, engine.messages, static_cast<unsigned>(count), MSG_DONTWAIT, nullptr);
  if (got < 0) return -errno;
  int32_t* const lengths = engine.column(columnPayloadLength) + row;
  int32_t* const hops = engine.column(columnHopLimit) + row;
  for (int i = 0; i < got; i++) {
    lengths[i] = static_cast<int32_t>(engine.messages[i].msg_len);
    hops[i] = i < hopLimitMax ? hopLimitOf(engine.messages[i].msg_hdr) : 0;
  }
  return got;
}

static int32_t receiveFrom(Engine& engine, int32_t fd, int32_t row, int32_t peek) {
  if (!engine.arena || row < 0 || row >= frameMax) return -EINVAL;
  const int32_t payload = engine.column(columnPayload)[row];
  const int32_t room = (row < rxFrameMax ? frameLengthMax : engine.column(columnWindow)[row]) - payload;
  uint8_t* const at = room < 0 ? nullptr : engine.rowRoom(row, room);
  if (!at) return -EINVAL;

  sockaddr_storage address;
  alignas(cmsghdr) uint8_t control[CMSG_SPACE(sizeof(in6_pktinfo)) + CMSG_SPACE(sizeof(in_pktinfo)) + CMSG_SPACE(sizeof(int))];
  iovec vector = {at, static_cast<size_t>(room)};
  msghdr message{};
  message.msg_name = &address;
  message.msg_namelen = sizeof address;
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  // MSG_TRUNC: the datagram's whole length, also of one that does not fit.
  // seccomp: recvmsg
  const ssize_t got = recvmsg(fd, &message, MSG_DONTWAIT | MSG_TRUNC | (peek ? MSG_PEEK : 0));
  if (got < 0) return -errno;
  if (got > room && !peek) return -EMSGSIZE;

  toRecord(reinterpret_cast<sockaddr*>(&address), engine.address + addressRemote);
  int32_t* const local = engine.address + addressLocal;
  socklen_t length = sizeof address;
  // seccomp: getsockname
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) < 0) return -errno;
  toRecord(reinterpret_cast<sockaddr*>(&address), local);
  destinationOf(message, local);
  engine.column(columnHopLimit)[row] = hopLimitOf(message);
  engine.column(columnPayloadLength)[row] = got > room ? room : static_cast<int32_t>(got);
  return static_cast<int32_t>(got);
}

void bindDatagram(napi_env env, napi_value object, Engine* engine) {
  engine->runBytesMax = ethernetBytesMax;
  defineHot<sendDatagrams>(env, object, "sendDatagrams", engine);
  defineHot<sendDatagramsTo>(env, object, "sendDatagramsTo", engine);
  defineHot<receiveDatagrams>(env, object, "receiveDatagrams", engine);
  defineHot<receiveFrom>(env, object, "receiveFrom", engine);
}

}  // namespace passt
