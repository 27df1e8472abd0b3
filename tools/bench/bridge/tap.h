// A tap device: the network card of the guest that the benchmark plays with a namespace.
#pragma once

#include <cstdint>
#include <string>

struct TapOptions {
  std::string name = "eth0";
  std::string mac;         // "52:54:00:12:34:56"; empty: the kernel's random one
  int mtu = 1500;          // bytes, at most 65521 (65535 less the Ethernet header)
  int txQueueLength = -1;  // frames that wait for a reader; -1: the kernel's default of 1000
  bool napi = false;       // written frames pass NAPI, where they are coalesced as a real driver's are
};

// Makes the device in the network namespace of the calling thread and brings it up.
// Returns its descriptor, non-blocking; one frame without any header per read and write. Ends the process on failure.
int openTap(const TapOptions& options);

// Moves the calling thread into the network namespace of that path, e.g. /proc/1234/ns/net.
void enterNetworkNamespace(const std::string& path);

// Prints "bridge: what: reason" and ends the process with status 1.
[[noreturn]] void fail(const std::string& what);
