/**
 * The guest behind a tap device: a network namespace. Each read and each write is one frame, behind virtio's header
 * (vnet-header.h): so that frames of up to 64 KiB cross the device whatever its MTU, and nobody computes a checksum.
 *
 * ```
 *   receive area   [ header frame ][ header frame ] …   one read() each, until the device is empty or the batch is full
 *   send area      [ header frame ][ header frame ] …   one write() each; the header lies in the frame's headroom
 * ```
 *
 * The device's queue towards us holds as many frames as its txqueuelen says, and drops the rest without a word to the
 * sender (drivers/net/tun.c, tun_net_xmit): no back-pressure. So the batch is bounded, for acknowledgements to go out
 * soon, and the window that is offered matches the queue (packages/transport-tap). In the other direction a write puts the
 * frame through the namespace's whole receive path before it returns: nothing ever waits here, so a link is never
 * blocked. What the namespace can't take at that moment is lost, as on any wire.
 *
 * A descriptor without that header (an old kernel; one that somebody else has opened) works too: then checksums are
 * finished and segments cut here, by transmit.h.
 *
 * Reads first: tun's Documentation/networking/tuntap.rst.
 */
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <new>

#include "addon.h"
#include "engine.h"
#include "namespace.h"
#include "pcap.h"
#include "transmit.h"
#include "udp-run.h"
#include "vnet-header.h"
#include "vnet-row.h"

namespace passt {

/** Missing from linux/if_tun.h before Linux 6.2: UDP super-frames of each family. */
constexpr unsigned tunUso4 = 0x20, tunUso6 = 0x40;

/** What we can take from the guest's kernel, from most to least: kernels refuse a set as a whole. */
constexpr unsigned offloadSteps[] = {
    TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN | tunUso4 | tunUso6,
    TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN,
    TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6,
    TUN_F_CSUM,
};

/** One batch, at most: six super-frames are one write to their socket, one acknowledgement, and one wake-up at each end; more
 * would fall out of a level-2 cache before they are written. */
constexpr size_t batchBytesMax = 384 << 10;
/** Frames begin on a cache line, so that payload behind usual headers (10 + 14 + 20 + 20 bytes) does too. */
constexpr size_t frameAlignment = 64;
constexpr size_t readBytesMax = vnetHeaderBytes + superFrameMax;
static_assert(batchBytesMax + frameAlignment + readBytesMax <= rxArenaBytes, "a batch fits the area");

/** Words that JavaScript reads; see packages/transport-tap/src/tap-link.ts. */
enum StateWord : int32_t {
  stateConnected,
  stateMore,
  stateRefusedRows,
  stateLostFrames,
  stateBadFrames,
  stateOffloads,
  stateMacHigh,
  stateMacLow,
  stateIndex,
  stateQueue,
  stateWords,
};

struct TapLink : Owned {
  Engine& engine;
  int32_t* state;
  int fd = -1;
  /** Whether frames have virtio's header. */
  bool vnet = false;
  bool watched = false;
  int32_t ref = 0;
  /** What a write found out about the descriptor; told by the next receive. */
  int32_t failed = 0;
  char name[IFNAMSIZ] = {};
  /** Only without virtio's header. */
  Transmit transmit;

  TapLink(Engine& engine, int32_t* state) : engine(engine), state(state) {}
  ~TapLink() override {
    if (fd >= 0) ::close(fd);
  }
};

static int32_t watchDevice(TapLink& link) {
  if (!link.watched || link.fd < 0) return 0;
  // Edge-triggered: `receive` reads until the device is empty, or says that there is more.
  return watchFor(link.engine, link.fd, link.ref, EPOLLIN | EPOLLET, sourceNone);
}

static int32_t attach(TapLink& link, int fd, bool vnet) {
  link.fd = fd;
  link.vnet = vnet;
  link.failed = 0;
  link.transmit.clear();
  link.state[stateConnected] = 1;
  // What came before it was watched.
  link.state[stateMore] = 1;
  return watchDevice(link);
}

static void drop(TapLink& link) {
  if (link.fd < 0) return;
  // Another process may hold the same open file.
  if (link.watched) epoll_ctl(link.engine.epollFd, EPOLL_CTL_DEL, link.fd, nullptr);
  ::close(link.fd);
  link.fd = -1;
  link.transmit.clear();
  link.state[stateConnected] = 0;
  link.state[stateMore] = 0;
}

/** Writes one frame's row if its header makes sense. @returns whether it did */
static bool takeFrame(TapLink& link, int32_t row, size_t at, size_t got) {
  Engine& engine = link.engine;
  const size_t before = link.vnet ? vnetHeaderBytes : 0;
  if (got < before + etherHeaderBytes) return false;
  const auto length = static_cast<int32_t>(got - before);
  int32_t flags = 0;
  int32_t segment = 0;
  VnetHeader header{};
  if (link.vnet) {
    memcpy(&header, engine.arena + at, sizeof header);
    if (!takeVnetHeader(header, length, &flags, &segment)) return false;
  }
  engine.column(columnOffset)[row] = static_cast<int32_t>(at + before);
  engine.column(columnLength)[row] = length;
  engine.column(columnWindow)[row] = length;
  engine.column(columnFlags)[row] = flags;
  engine.column(columnSegmentSize)[row] = segment;
  if (engine.pcap) {
    const uint8_t* const frame = engine.arena + at + before;
    if (flags & frameNeedsChecksum) {
      engine.pcap->unfinished(frame, static_cast<size_t>(length), header.checksumStart, header.checksumOffset);
    } else {
      engine.pcap->frame(frame, static_cast<size_t>(length));
    }
  }
  return true;
}

/** @returns frames, or -errno once when the device is gone */
static int32_t receive(TapLink& link) {
  Engine& engine = link.engine;
  if (!engine.arena) return -EBADF;
  int32_t error = link.failed;
  link.failed = 0;
  int32_t rows = 0;
  size_t at = 0;
  bool more = link.fd >= 0 && error == 0;
  // Frames that are dropped count too: the turn must end.
  for (int32_t reads = 0; more && reads < rxFrameMax && at < batchBytesMax; reads++) {
    // seccomp: read
    const ssize_t got = read(link.fd, engine.arena + at, readBytesMax);
    if (got > 0) {
      if (takeFrame(link, rows, at, static_cast<size_t>(got))) {
        rows++;
        at = (at + static_cast<size_t>(got) + frameAlignment - 1) & ~(frameAlignment - 1);
      } else {
        link.state[stateBadFrames]++;
      }
    } else if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      more = false;
    } else if (got == 0 || errno != EINTR) {
      // The namespace is gone, or the device (EBADFD, EFAULT); frames before that are still good.
      error = got == 0 ? -ECONNRESET : -errno;
      more = false;
    }
  }
  link.state[stateMore] = more;
  if (engine.pcap) engine.pcap->flush();
  if (error == 0) return rows;
  if (rows > 0) {
    link.failed = error;
    link.state[stateMore] = 1;
    return rows;
  }
  drop(link);
  return error;
}

/** Whether a failed write means only that this frame is lost: no memory, or a device that is down (EIO). */
static bool losesFrame(int error) {
  return error == EAGAIN || error == ENOBUFS || error == ENOMEM || error == ENOSPC || error == EIO;
}

/** Writes one frame that lies in pieces. @returns false when the device is gone */
static bool put(TapLink& link, const iovec* pieces, int count) {
  for (;;) {
    // seccomp: write
    // seccomp[pasta]: writev
    const ssize_t done = count == 1 ? write(link.fd, pieces->iov_base, pieces->iov_len) : writev(link.fd, pieces, count);
    if (done >= 0) return true;
    if (errno == EINTR) continue;
    if (losesFrame(errno)) {
      link.state[stateLostFrames]++;
      return true;
    }
    if (errno == EINVAL || errno == EMSGSIZE) {
      link.state[stateRefusedRows]++;
      return true;
    }
    link.failed = -errno;
    link.state[stateMore] = 1;
    return false;
  }
}

/** Sends a row behind its header. @returns false when the device is gone */
static bool sendRow(TapLink& link, int32_t row) {
  Engine& engine = link.engine;
  const int32_t length = engine.column(columnLength)[row];
  uint8_t* const frame = engine.rowBytes(row, 0, length);
  VnetHeader header;
  if (!frame || engine.column(columnOffset)[row] < vnetHeaderBytes || length < etherHeaderBytes ||
      length > frameLengthMax || !describeRow(engine, row, frame, length, &header)) {
    link.state[stateRefusedRows]++;
    return true;
  }
  if (engine.pcap) {
    if (header.flags & vnetNeedsChecksum) {
      engine.pcap->unfinished(frame, static_cast<size_t>(length), header.checksumStart, header.checksumOffset);
    } else {
      engine.pcap->frame(frame, static_cast<size_t>(length));
    }
  }
  memcpy(frame - vnetHeaderBytes, &header, sizeof header);
  const iovec whole = {frame - vnetHeaderBytes, static_cast<size_t>(vnetHeaderBytes + length)};
  return put(link, &whole, 1);
}

/** Sends datagrams of several rows as one super-frame. @returns false when the device is gone */
static bool sendRun(TapLink& link, UdpRun& run, int32_t row) {
  Engine& engine = link.engine;
  if (engine.pcap) {
    // As the guest's sockets will see them.
    for (int32_t i = row; i < row + run.rows; i++) {
      const auto length = static_cast<size_t>(engine.column(columnLength)[i]);
      uint8_t* const frame = engine.rowBytes(i, 0, static_cast<int32_t>(length));
      if (engine.column(columnFlags)[i] & frameNeedsChecksum) {
        engine.pcap->unfinished(frame, length, run.header - 8, 6);
      } else {
        engine.pcap->frame(frame, length);
      }
    }
  }
  joinUdpRun(run);
  VnetHeader header = plainVnetHeader(true, run.header, run.header - 8, 6);
  header.gsoType = vnetGsoUdp;
  header.gsoSize = static_cast<uint16_t>(run.each);
  memcpy(run.frame - vnetHeaderBytes, &header, sizeof header);
  run.pieces[0].iov_base = run.frame - vnetHeaderBytes;
  run.pieces[0].iov_len += static_cast<size_t>(vnetHeaderBytes + run.header);
  return put(link, run.pieces, run.rows);
}

/** Sends rows behind virtio's header, until all are sent or the device is gone. */
static void sendRows(TapLink& link, int32_t to) {
  const bool runs = link.state[stateOffloads] & static_cast<int32_t>(tunUso4);
  UdpRun run;
  for (int32_t row = rxFrameMax; row < to;) {
    if (runs && link.engine.column(columnOffset)[row] >= vnetHeaderBytes && findUdpRun(link.engine, row, to, &run)) {
      if (!sendRun(link, run, row)) return;
      row += run.rows;
    } else if (!sendRow(link, row++)) {
      return;
    }
  }
}

/** Sends what transmit.h has prepared for a stream: one write for each frame, whose length stands before it. */
static bool sendPrepared(TapLink& link) {
  const iovec* piece = link.transmit.pieces();
  const iovec* const end = piece + link.transmit.pieceCount();
  size_t at = 0;
  while (piece < end) {
    const auto* const prefix = static_cast<const uint8_t*>(piece->iov_base) + at;
    size_t left = size_t{prefix[0]} << 24 | size_t{prefix[1]} << 16 | size_t{prefix[2]} << 8 | prefix[3];
    at += prefixBytes;
    // Headers, payload, padding.
    iovec frame[4];
    int count = 0;
    while (left > 0 && piece < end && count < 4) {
      const size_t here = piece->iov_len - at < left ? piece->iov_len - at : left;
      if (here > 0) frame[count++] = {static_cast<uint8_t*>(piece->iov_base) + at, here};
      left -= here;
      at += here;
      if (at == piece->iov_len) {
        piece++;
        at = 0;
      }
    }
    if (!put(link, frame, count)) return false;
  }
  return true;
}

/** Sends rows up to, not including, `to`. @returns 0: nothing ever waits */
static int32_t flush(TapLink& link, int32_t to) {
  Engine& engine = link.engine;
  if (!engine.arena || to < rxFrameMax || to > frameMax) return -EINVAL;
  if (link.fd < 0 || link.failed != 0) return 0;
  if (link.vnet) {
    sendRows(link, to);
  } else {
    Transmit& transmit = link.transmit;
    transmit.prepare(engine, to);
    while (transmit.pieceCount() > 0 && sendPrepared(link)) {
      transmit.consume(SIZE_MAX);
      transmit.prepare(engine, to);
    }
    link.state[stateRefusedRows] += transmit.refused;
    transmit.refused = 0;
    transmit.clear();
  }
  if (engine.pcap) engine.pcap->flush();
  return 0;
}

/** Puts the device, now and later ones, into the engine's epoll set. */
static int32_t watch(TapLink& link, int32_t ref) {
  link.watched = true;
  link.ref = ref;
  return watchDevice(link);
}

static int32_t close(TapLink& link) {
  drop(link);
  link.failed = 0;
  return 0;
}

/** Asks the guest's kernel to leave work undone, as much of it as it will. @returns the offloads that it agreed to */
static unsigned setOffloads(int fd) {
  for (const unsigned offloads : offloadSteps)
    if (ioctl(fd, TUNSETOFFLOAD, static_cast<unsigned long>(offloads)) == 0) return offloads;
  return 0;
}

/** Makes the device, or attaches to one that waits. Runs where the calling thread's network namespace is.
 * @returns the descriptor or -errno */
static int32_t openDevice(TapLink& link, int32_t queue, bool vnet) {
  const int fd = ::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return -errno;
  const auto fail = [fd] {
    const int error = errno;
    ::close(fd);
    return -error;
  };
  unsigned features = 0;
  if (ioctl(fd, TUNGETFEATURES, &features) < 0) return fail();
  vnet = vnet && (features & IFF_VNET_HDR);
  ifreq request{};
  memcpy(request.ifr_name, link.name, IFNAMSIZ);
  request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | (vnet ? IFF_VNET_HDR : 0));
  if (ioctl(fd, TUNSETIFF, &request) < 0) return fail();
  memcpy(link.name, request.ifr_name, IFNAMSIZ);
  int bytes = vnetHeaderBytes;
  if (vnet && ioctl(fd, TUNSETVNETHDRSZ, &bytes) < 0) return fail();
  link.vnet = vnet;
  link.state[stateOffloads] = static_cast<int32_t>(vnet ? setOffloads(fd) : 0);

  // Any socket reaches the ioctls of network devices (netdevice(7)).
  const int control = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (control < 0) return fail();
  if (queue > 0) {
    request.ifr_qlen = queue;
    // Without it the queue is shorter, which is said below.
    ioctl(control, SIOCSIFTXQLEN, &request);
  }
  link.state[stateQueue] = ioctl(control, SIOCGIFTXQLEN, &request) == 0 ? request.ifr_qlen : 0;
  link.state[stateIndex] = ioctl(control, SIOCGIFINDEX, &request) == 0 ? request.ifr_ifindex : 0;
  if (ioctl(control, SIOCGIFHWADDR, &request) == 0) {
    uint8_t mac[6];
    memcpy(mac, request.ifr_hwaddr.sa_data, sizeof mac);
    link.state[stateMacHigh] = mac[0] << 8 | mac[1];
    link.state[stateMacLow] = static_cast<int32_t>(uint32_t{mac[2]} << 24 | mac[3] << 16 | mac[4] << 8 | mac[5]);
  }
  ::close(control);
  return fd;
}

/** open(name, queue, vnet): makes a tap device in the namespace that the engine has entered, else in the current one.
 * `queue`: frames that it holds for us, 0 for the kernel's choice; `vnet` 0: without virtio's header.
 * @returns 0 or -errno. */
static napi_value openTap(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  auto& link = arguments.self<TapLink>();
  const std::string name = arguments.text(0);
  if (link.fd >= 0) return arguments.result(-EISCONN);
  if (name.size() >= IFNAMSIZ) return arguments.result(-ENAMETOOLONG);
  memset(link.name, 0, IFNAMSIZ);
  memcpy(link.name, name.data(), name.size());
  const int32_t queue = arguments.integer(1);
  const bool vnet = arguments.integer(2) != 0;
  const int32_t place = link.engine.space ? placeNamespace : placeHost;
  const int32_t fd = atPlace(link.engine, place, [&link, queue, vnet] { return openDevice(link, queue, vnet); });
  return arguments.result(fd < 0 ? fd : attach(link, fd, link.vnet));
}

/** Takes a descriptor that carries one frame per read and write: a tap device, or a socket or pipe of packets, where
 * `vnet` says whether frames have virtio's header. It is ours from then on. */
static int32_t adopt(TapLink& link, int32_t fd, int32_t vnet) {
  if (link.fd >= 0) return -EISCONN;
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) return -errno;
  ifreq request{};
  if (ioctl(fd, TUNGETIFF, &request) == 0) {
    if (!(request.ifr_flags & IFF_TAP) || !(request.ifr_flags & IFF_NO_PI)) return -EPROTOTYPE;
    memcpy(link.name, request.ifr_name, IFNAMSIZ);
    vnet = request.ifr_flags & IFF_VNET_HDR;
    int bytes = vnetHeaderBytes;
    if (vnet && ioctl(fd, TUNSETVNETHDRSZ, &bytes) < 0) return -errno;
    link.state[stateOffloads] = static_cast<int32_t>(vnet ? setOffloads(fd) : 0);
  }
  return attach(link, fd, vnet != 0);
}

/** name(): of the device, which the kernel may have chosen. */
static napi_value nameOf(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  const auto& link = arguments.self<TapLink>();
  napi_value out = nullptr;
  napi_create_string_utf8(env, link.name, strnlen(link.name, IFNAMSIZ), &out);
  return out;
}

/** createTapLink(state): an object with the calls of one link, or -errno. */
static napi_value createTapLink(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  auto& engine = arguments.self<Engine>();
  size_t length = 0;
  auto* state = static_cast<int32_t*>(arguments.bytes(0, &length));
  if (!state || length < stateWords * sizeof *state) return arguments.result(-EINVAL);
  napi_ref reference = nullptr;
  if (napi_create_reference(env, arguments.at(0), 1, &reference) != napi_ok) return arguments.result(-EINVAL);
  auto* link = new (std::nothrow) TapLink(engine, state);
  if (!link) return arguments.result(-ENOMEM);
  engine.own(link);

  napi_value object = nullptr;
  napi_create_object(env, &object);
  define(env, object, "open", openTap, link);
  define(env, object, "name", nameOf, link);
  defineHot<adopt>(env, object, "adopt", link);
  defineHot<watch>(env, object, "watch", link);
  defineHot<receive>(env, object, "receive", link);
  defineHot<flush>(env, object, "flush", link);
  defineHot<close>(env, object, "close", link);
  return object;
}

void bindTapLink(napi_env env, napi_value object, Engine* engine) {
  define(env, object, "createTapLink", createTapLink, engine);
}

}  // namespace passt
