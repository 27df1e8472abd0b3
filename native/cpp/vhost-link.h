/**
 * What a link to a guest behind vhost-user consists of; its theory is at the top of vhost-link.cc.
 *
 * ```
 *   vhost-connection.cc   front-ends that come and go, their messages
 *   vhost-device.cc       what messages set up: memory, features, rings
 *   vhost-control.cc      what the driver says on its control queue
 *   vhost-migration.cc    the log of what was written, and our state
 *   vhost-receive.cc      frames from the guest
 *   vhost-held.cc         their payload, where it stays in the guest's memory
 *   vhost-place.cc        one frame into the buffers of a receive queue
 *   vhost-lent.cc         buffers that are filled by the kernel
 *   vhost-send.cc         frames to the guest
 *   vhost-steering.cc     on which of its queues
 * ```
 */
#pragma once

#include <sys/uio.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

#include "addon.h"
#include "engine.h"
#include "transmit.h"
#include "vhost-channel.h"
#include "vhost-memory.h"
#include "vhost-ring.h"
#include "vhost-steering.h"
#include "vnet-header.h"

namespace passt {

/** Pairs of queues at most. */
constexpr int32_t pairMax = 8;
/** With the control queue. */
constexpr int32_t ringMax = 2 * pairMax + 1;

/** virtio's header at its longest: with the number of buffers that a frame takes. */
constexpr int32_t vnetHeaderMax = vnetHeaderBytes + 2;

/** Pieces of guest memory of one frame, at most: of one chain, or of those that the driver gave for a frame. */
constexpr int32_t pieceMax = stepsMax + 64;

/** Bytes of a device's state that are kept; what is beyond is read and forgotten. */
constexpr size_t stateBytesMax = 256;

/** Feature bits that the data path depends on (VIRTIO 1.2 sections 5.1.3 and 6). */
constexpr uint64_t featureControlOffloads = uint64_t{1} << 2;
constexpr uint64_t featureGuestChecksum = uint64_t{1} << 1;
constexpr uint64_t featureGuestTso4 = uint64_t{1} << 7;
constexpr uint64_t featureGuestTso6 = uint64_t{1} << 8;
constexpr uint64_t featureMergeable = uint64_t{1} << 15;
constexpr uint64_t featureControlQueue = uint64_t{1} << 17;
constexpr uint64_t featureMultiqueue = uint64_t{1} << 22;
constexpr uint64_t featureControlMac = uint64_t{1} << 23;
constexpr uint64_t featureLogAll = uint64_t{1} << 26;
constexpr uint64_t featureEventIndex = uint64_t{1} << 29;
constexpr uint64_t featureVersion1 = uint64_t{1} << 32;
constexpr uint64_t featurePacked = uint64_t{1} << 34;
constexpr uint64_t featureGuestUso4 = uint64_t{1} << 54;
constexpr uint64_t featureGuestUso6 = uint64_t{1} << 55;

/** Words that JavaScript reads; see packages/transport-vhost/src/vhost-link.ts. */
enum StateWord : int32_t {
  stateConnected,
  stateMore,
  stateBlocked,
  stateClients,
  stateClientPid,
  stateTurnedAway,
  stateTurnedAwayPid,
  stateRefusedRows,
  stateBadFrames,
  stateLostFrames,
  stateBrokenRings,
  stateMessageBytes,
  stateDescriptors,
  stateOwing,
  stateMacs,
  stateMacHigh,
  stateMacLow,
  stateWords,
};

/** Frames from the guest whose payload stays where it is, and chains that are given back once it was sent. */
struct HeldFrames {
  static constexpr int32_t pieceMax = 1024;
  struct Frame {
    int32_t first;
    int32_t count;
  };
  struct Held {
    int32_t ring;
    uint32_t ticket;
  };
  /** By row. */
  Frame frames[rxFrameMax] = {};
  Held chains[rxFrameMax];
  int32_t chainCount = 0;
  iovec pieces[pieceMax];
  int32_t pieceCount = 0;
};

struct LentChain {
  uint32_t ticket;
  uint64_t room;
  /** Where the ring goes on behind it. */
  uint32_t end;
};
/** A row to the guest whose payload is written into the guest's buffers at once. */
struct LentRow {
  uint32_t position;
  int32_t firstChain;
  int32_t chains;
  int32_t firstPiece;
  int32_t pieces;
  /** Bytes of its chains. */
  uint64_t room;
};
struct LentRows {
  static constexpr int32_t rowMax = 64, chainMax = 640, pieceMax = 640;
  static constexpr uint32_t flowMax = 1 << 14;
  Ring* ring = nullptr;
  int32_t flow = 0;
  /** Number of the first one. */
  int32_t row = 0;
  int32_t count = 0;
  /** First one that is not placed yet. */
  int32_t next = 0;
  /** The driver has no buffers, and is waited for. */
  bool starving = false;
  LentRow rows[rowMax];
  LentChain chains[chainMax];
  iovec pieces[pieceMax];
  /** By flow: the pair on which its last rows belonged. */
  uint8_t pairs[flowMax] = {};
};

struct VhostLink final : Owned, Elsewhere {
  Engine& engine;
  int32_t* state;
  uint8_t* message;
  uint8_t* reply;
  uint32_t source;
  int listenFd = -1;
  int clientFd = -1;
  bool watched = false;
  int32_t ref = 0;
  /** As the front-end has said, without the offloads that the driver has switched off since. */
  uint64_t features = 0;
  uint64_t negotiated = 0;
  uint64_t offloadsOff = 0;
  /** Of virtio's header: without VERSION_1, only drivers that merge buffers have the number of them (section 5.1.6.1). */
  int32_t headerBytes = vnetHeaderBytes;
  int logFd = -1;
  /** Goes with the next reply. */
  int replyFd = -1;
  /** State of another back-end's that is being read, and how much of it came. */
  int stateFd = -1;
  size_t stateBytes = 0;
  uint8_t stateBuffer[stateBytesMax];
  int32_t brokenSeen = 0;
  /** Transmit queue to begin the next batch with. */
  int32_t turn = 0;
  VhostChannel channel;
  GuestMemory memory;
  /** Even ones receive, odd ones transmit; from the driver's point of view. */
  Ring rings[ringMax];
  /** Pairs whose receive queues take frames. */
  int32_t receivers[pairMax];
  int32_t receiverCount = 0;
  /** The same by bits. */
  uint32_t receiverBits = 0;
  /** As the driver has said on the control queue, if that is ours. */
  int32_t pairsInUse = 1;
  Steering steering;
  Transmit transmit;
  /** The queue of what `transmit` has prepared. */
  Ring* prepared = nullptr;
  HeldFrames held;
  LentRows lent;
  iovec pieces[pieceMax];
  /** The chains of one frame. */
  uint32_t tickets[pieceMax];
  uint64_t room[pieceMax];

  VhostLink(Engine& engine, int32_t* state, uint8_t* message, uint8_t* reply, uint32_t source)
      : engine(engine), state(state), message(message), reply(reply), source(source) {
    engine.elsewhere = this;
  }
  ~VhostLink() override {
    if (engine.elsewhere == this) engine.elsewhere = nullptr;
    if (listenFd >= 0) ::close(listenFd);
    if (clientFd >= 0) ::close(clientFd);
    for (const int fd : {logFd, replyFd, stateFd})
      if (fd >= 0) ::close(fd);
  }

  bool has(uint64_t feature) const { return (features & feature) == feature; }
  /** Whether frames may go to a pair: it is in use, and its ring has not broken since. */
  bool receives(int32_t pair) const { return (receiverBits >> pair & 1) && rings[2 * pair].running(); }

  int32_t payloadPieces(int32_t row, int32_t from, int32_t length, iovec* to, int32_t most) override;
  void payloadMissing() override;
  int32_t roomPieces(int32_t row, int32_t from, int32_t length, iovec* to, int32_t most) override;
  void roomFilled(int32_t row, int32_t from, int32_t each, int32_t bytes) override;
};

/** Closes a descriptor, if it is one. */
inline void forgetDescriptor(int* fd) {
  if (*fd >= 0) ::close(*fd);
  *fd = -1;
}

// ---- vhost-connection.cc

/** Ends the connection with the front-end, and all that belonged to it. */
void dropClient(VhostLink& link);

// ---- vhost-device.cc

/** Brings up to date what depends on the rings. */
void ringsChanged(VhostLink& link);
/** Stops and forgets all rings. */
void resetRings(VhostLink& link);
/** Forgets all that was set up: memory, log, features and rings. */
void forgetDevice(VhostLink& link);

/** Takes a descriptor of the message for us to use, which must not block. @returns it, or -errno */
int32_t takeDescriptor(VhostLink& link, int32_t descriptor);

// ---- vhost-migration.cc

/** Forgets log and state. */
void forgetMigration(VhostLink& link);
/** Reads on in the state that is being loaded, if one is. */
void readState(VhostLink& link);
/** Tells the front-end of a batch's entries in the log. */
void tellLogged(VhostLink& link);

// ---- vhost-held.cc

/** Keeps a chain's pieces, of which `link.pieces` tells, as a row's frame. @returns false if there is no room for them */
bool holdFrame(VhostLink& link, const Chain& chain, int32_t row);
/** Remembers to give a chain back. */
void giveBackLater(VhostLink& link, int32_t ring, const Chain& chain);
/** Gives all held chains back: their payload was sent, or will not be. */
void giveBackHeld(VhostLink& link);
/** Forgets them: their rings are gone. */
void forgetHeld(VhostLink& link);

// ---- vhost-lent.cc

/** Puts lent rows that were not placed back. */
void putLentBack(VhostLink& link);
/** Forgets them: their ring is gone, or they are placed. */
void forgetLent(VhostLink& link);
/** Places a row if it is lent: puts headers in front of its payload, and gives its chains back. @param own the queue on which its flow belongs by now
 * @param header bytes of the frame's headers, `length` of all of it @returns false if it is not */
bool placeLent(VhostLink& link, const Ring& own, int32_t row, const uint8_t* frame, int32_t header, int32_t length,
               const VnetHeader& vnet);
/** Whether the queue of which rows were lent last, or for which a flow waits, takes frames. */
bool receivesLent(const VhostLink& link);
/** Whether the driver, which had no buffers, has still too few. If so, it tells when there are more. */
bool isStarving(VhostLink& link, Ring& ring);

// ---- vhost-send.cc

/** Sends rows up to `to`, as far as there are buffers. @returns null if all are sent, or the queue that has no buffers, or broke */
Ring* sendRows(VhostLink& link, int32_t to);

// ---- vhost-control.cc

/** Where the control queue is; null if there is none. */
Ring* controlRing(VhostLink& link);
/** Takes on what was negotiated. */
void takeFeatures(VhostLink& link, uint64_t features);
/** Carries out what the driver wants. @returns whether there is more */
bool serveControl(VhostLink& link);

// ---- vhost-place.cc

/** Puts a frame, which lies in pieces, behind virtio's header into buffers of a ring; again when buffers came meanwhile; counts
 * what is lost. @returns false if the frame has to wait */
bool deliver(VhostLink& link, Ring& ring, const VnetHeader& vnet, const iovec* frame, int32_t count);

// ---- the calls of each file, as properties of a link's object

void defineConnection(napi_env env, napi_value object, VhostLink* link);
void defineDevice(napi_env env, napi_value object, VhostLink* link);
void defineMigration(napi_env env, napi_value object, VhostLink* link);
void defineReceive(napi_env env, napi_value object, VhostLink* link);
void defineSend(napi_env env, napi_value object, VhostLink* link);
void defineLent(napi_env env, napi_value object, VhostLink* link);

}  // namespace passt
