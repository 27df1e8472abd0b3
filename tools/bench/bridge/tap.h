// A tap device: the network card of the guest that the benchmark plays with a namespace.
#pragma once

#include <cstdint>
#include <string>

// Prints "bridge: what: reason" and ends the process with status 1.
#include "../../vhost-frontend/fail.h"

struct TapOptions {
  std::string name = "eth0";
  std::string mac;         // "52:54:00:12:34:56"; empty: the kernel's random one
  int mtu = 1500;          // bytes, at most 65521 (65535 less the Ethernet header)
  int txQueueLength = -1;  // frames that wait for a reader; -1: the kernel's default of 1000
  bool napi = false;       // written frames pass NAPI, where they are coalesced as a real driver's are
  int headerBytes = 0;     // of virtio's header before each frame; 0: none
  bool severalQueues = false;  // may be opened more than once, for a queue each
  unsigned int offloads = 0;  // TUN_F_*: what the guest's kernel leaves to the reader of the tap
};

// Makes the device in the network namespace of the calling thread and brings it up.
// Returns its descriptor, non-blocking; one frame per read and write. Ends the process on failure. With several queues, another call returns a
// further queue of it.
int openTap(const TapOptions& options);

// Moves the calling thread into the network namespace of that path, e.g. /proc/1234/ns/net.
void enterNetworkNamespace(const std::string& path);

