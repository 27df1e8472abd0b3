/**
 * What native code knows of one engine: where its frames, columns and result words lie, its epoll descriptor, and
 * scratch memory for building system calls. All of it is reserved when the engine is made or attached; no call on the
 * data path allocates.
 *
 * JavaScript makes the typed arrays and hands them over once; references keep them alive. Numbers that JavaScript
 * wrote into columns are checked here, at the edge, before they become addresses.
 */
#pragma once

#include <node_api.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "spare-sockets.h"

namespace passt {

class Pcap;
class Splicer;
struct HostLoop;
struct NamespaceThread;

/** Capacities and column numbers: equal to packages/core/src/{limits,frames,kernel}.ts; checked when attaching. */
constexpr int32_t rxFrameMax = 256;
constexpr int32_t txFrameMax = 1024;
constexpr int32_t frameMax = rxFrameMax + txFrameMax;
constexpr int32_t frameLengthMax = 65535;
constexpr int32_t frameLengthMin = 60;
constexpr int32_t rxArenaBytes = 1 << 20;
constexpr int32_t txArenaBytes = 8 << 20;
constexpr int32_t holdArenaBytes = 4 << 20;
constexpr int32_t arenaBytes = rxArenaBytes + txArenaBytes + holdArenaBytes;
constexpr int32_t eventMax = 256;
constexpr int32_t gatherMax = 1024;
constexpr int32_t addressWords = 6;
constexpr int32_t addressRemote = 0;
constexpr int32_t addressLocal = 6;
constexpr int32_t addressOffender = 12;
constexpr int32_t infoWords = 9;
constexpr int32_t errorWords = 6;

enum Column : int32_t {
  columnOffset,
  columnLength,
  columnWindow,
  columnPayload,
  columnPayloadLength,
  columnNext,
  columnFlags,
  columnChecksumStart,
  columnChecksumOffset,
  columnSegmentSize,
  columnHopLimit,
  columnCount,
};

enum FrameFlag : int32_t {
  frameNeedsChecksum = 1,
  frameSegmentTcp4 = 2,
  frameSegmentTcp6 = 4,
  frameSegmentUdp = 8,
  frameElsewhere = 16,
};

/** What an epoll registration belongs to besides its ref: a room that wants to know that its own descriptor was ready. */
constexpr uint32_t sourceNone = 0;
constexpr uint32_t sourceMax = 8;

/** What a peek without SO_PEEK_OFF passes over is written to one block again and again, which is never read: small
 * enough to stay in the cache, and often enough for the largest window, 16 MiB. */
constexpr int32_t skipBlockBytes = 64 << 10;
constexpr int32_t skipBlockMax = 256;

/** Something that lives as long as its engine's memory: a link. */
struct Owned {
  Owned* nextOwned = nullptr;
  virtual ~Owned() = default;
};

/** Payload that does not lie in the arena, of rows with `frameElsewhere`: in memory that a link knows. */
struct Elsewhere {
  /** Where payload of a row from the guest lies: `length` bytes, `from` bytes after the start of its frame.
   * @returns pieces, at most `most`, or -errno: ENOBUFS if there are more, EINVAL if there is no such payload */
  virtual int32_t payloadPieces(int32_t row, int32_t from, int32_t length, iovec* to, int32_t most) = 0;
  /** Payload was not there when it was read. */
  virtual void payloadMissing() = 0;
  /** Where payload of a row to the guest is to be written. @returns as payloadPieces */
  virtual int32_t roomPieces(int32_t row, int32_t from, int32_t length, iovec* to, int32_t most) = 0;
  /** It was written: `bytes` in all, in rows from `row` on, `each` in each but the last. */
  virtual void roomFilled(int32_t row, int32_t from, int32_t each, int32_t bytes) = 0;

 protected:
  ~Elsewhere() = default;
};

struct Engine {
  napi_env env = nullptr;

  uint8_t* arena = nullptr;
  int32_t* columns = nullptr;
  const int32_t* gather = nullptr;
  int32_t* events = nullptr;
  int32_t* address = nullptr;
  int32_t* info = nullptr;
  int32_t* error = nullptr;
  napi_ref references[7] = {};

  int epollFd = -1;
  int signalFd = -1;
  /** Events seen for registrations with a source, until that room takes them. */
  uint32_t sourceEvents[sourceMax] = {};
  uint32_t sourceCount = 1;

  /** Send buffer of a socket with a near peer: what is wanted, or as much as this host grants (tcp-info.cc). */
  int32_t nearBuffer = 0;
  /** Longest datagram of which several are sent as one message (datagram.cc). */
  int32_t runBytesMax = 0;
  uint8_t* skipBlock = nullptr;
  Pcap* pcap = nullptr;
  /** The link that keeps payload elsewhere, if there is one. */
  Elsewhere* elsewhere = nullptr;
  /** The thread in the target network namespace (namespace.h), once it was entered. */
  NamespaceThread* space = nullptr;
  SpareSockets spareSockets;
  Splicer* splicer = nullptr;
  /** What streams are read into and written from on their way, and where the ends of a pair are told (relay.cc). */
  uint8_t* relayMemory = nullptr;
  int32_t relayBytes = 0;
  int32_t* relayEnds = nullptr;
  napi_ref relayReferences[2] = {};
  /** The loop that watches this engine, if it is not one of its own (host-loop.cc). */
  HostLoop* hostLoop = nullptr;
  /** Sockets that tell who listens (listeners.cc), by place. */
  int diagFds[2] = {-1, -1};
  bool diagMissing = false;
  int listenerFiles[2][4] = {{-1, -1, -1, -1}, {-1, -1, -1, -1}};
  Owned* owned = nullptr;

  iovec iovecs[gatherMax + skipBlockMax];
  mmsghdr messages[gatherMax] = {};
  epoll_event ready[eventMax];
  /** How long to poll before blocking, at the moment, nanoseconds (epoll.cc). */
  int64_t spinNs = 0;

  /** Memory of a row: `length` bytes, `from` bytes after the start of its frame; null if that is not wholly inside the
   * arena, or the row does not exist. */
  uint8_t* rowBytes(int32_t row, int32_t from, int32_t length) const {
    if (!arena || row < 0 || row >= frameMax || from < 0 || length < 0) return nullptr;
    const int64_t at = int64_t{column(columnOffset)[row]} + from;
    if (column(columnOffset)[row] < 0 || at + length > arenaBytes) return nullptr;
    return arena + at;
  }
  /** Payload of a row as its columns describe it. */
  uint8_t* rowPayload(int32_t row, int32_t* length) const {
    if (!arena || row < 0 || row >= frameMax) return nullptr;
    *length = column(columnPayloadLength)[row];
    return rowBytes(row, column(columnPayload)[row], *length);
  }
  /** Payload area of a row, for `length` bytes that are to be written there. A row to the guest holds what was reserved
   * for it (its `window`) and no more. */
  uint8_t* rowRoom(int32_t row, int32_t length) const {
    if (!arena || row < 0 || row >= frameMax) return nullptr;
    const int32_t payload = column(columnPayload)[row];
    if (row >= rxFrameMax && int64_t{payload} + length > column(columnWindow)[row]) return nullptr;
    return rowBytes(row, payload, length);
  }
  bool isElsewhere(int32_t row) const {
    return elsewhere && row >= 0 && row < frameMax && (column(columnFlags)[row] & frameElsewhere);
  }
  int32_t* column(Column which) const { return columns + which * frameMax; }

  void own(Owned* thing) {
    thing->nextOwned = owned;
    owned = thing;
  }

  ~Engine();
};

/** Adds, or with an existing registration changes, what epoll watches `fd` for. */
int32_t watchFor(Engine& engine, int32_t fd, int32_t ref, uint32_t mask, uint32_t source);

/** Lets no signal wake an engine that is going. */
void forgetSignals(Engine& engine);
/** Signals that end a program and are not caught here get their default action again. node's own handlers first put the
 * terminal's settings back, which nobody has changed, by calls that a sealed process must not make. */
void restoreSignals();

/** Lets the loop that watches an engine forget it. */
void leaveHostLoop(Engine& engine);

/** Closes what tells who listens. */
void closeListenerScan(Engine& engine);

/** Rooms that add their functions to an engine's object. */
void bindEpoll(napi_env env, napi_value object, Engine* engine);
void bindHostLoop(napi_env env, napi_value object, Engine* engine);
void bindClock(napi_env env, napi_value object, Engine* engine);
void bindSignals(napi_env env, napi_value object, Engine* engine);
void bindSockets(napi_env env, napi_value object, Engine* engine);
void bindStream(napi_env env, napi_value object, Engine* engine);
void bindDatagram(napi_env env, napi_value object, Engine* engine);
void bindGroups(napi_env env, napi_value object, Engine* engine);
void bindErrorQueue(napi_env env, napi_value object, Engine* engine);
void bindTcpInfo(napi_env env, napi_value object, Engine* engine);
void bindPcap(napi_env env, napi_value object, Engine* engine);
void bindNamespace(napi_env env, napi_value object, Engine* engine);
void bindNetlink(napi_env env, napi_value object, Engine* engine);
void bindSplice(napi_env env, napi_value object, Engine* engine);
void bindRelay(napi_env env, napi_value object, Engine* engine);
void bindSpliceDatagrams(napi_env env, napi_value object, Engine* engine);
void bindListeners(napi_env env, napi_value object, Engine* engine);
void bindUnixLink(napi_env env, napi_value object, Engine* engine);
void bindTapLink(napi_env env, napi_value object, Engine* engine);
void bindVhostLink(napi_env env, napi_value object, Engine* engine);

}  // namespace passt
