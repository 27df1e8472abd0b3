// Frames between a tap device and a UNIX stream socket with QEMU's framing (`-netdev stream`): each frame is preceded
// by its length in four bytes, big-endian. Two directions, each meant for a thread of its own.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

struct RelayCounters {
  std::atomic<uint64_t> frames{0};
  std::atomic<uint64_t> bytes{0};  // of the frames, without the length words
  std::atomic<uint64_t> calls{0};  // socket calls, so frames / calls is the batch
  std::atomic<uint64_t> drops{0};  // frames that the tap refused
};

// Until the socket is closed by the other end: reads what the tap holds, up to `batchBytes`, and sends it in one call.
// A full socket blocks; the tap is not read meanwhile, so a slow peer pushes back as it does on QEMU, and what the
// guest still sends waits in the tap's queue or is dropped there.
void relayTapToSocket(int tap, int socket, size_t batchBytes, RelayCounters& counters);

// Until the socket is closed by the other end: receives as much as is there and writes it to the tap, frame by frame.
// A frame may be split anywhere between two receives. A length outside 14 to 65535 ends the process: the stream can't
// be trusted after that.
void relaySocketToTap(int tap, int socket, size_t batchBytes, RelayCounters& counters);
