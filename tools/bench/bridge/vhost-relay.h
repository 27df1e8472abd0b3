// Frames between a queue of a tap device and a pair of virtqueues, as a guest's driver moves them: in place, behind virtio's header, super-frames as far as
// the back-end takes them. Two directions, each meant for a thread of its own.
#pragma once

#include "../../vhost-frontend/front-end.h"
#include "relay.h"

// What the tap's kernel may leave to the back-end: for TapOptions::offloads.
unsigned int tapOffloads(uint64_t features);

// All that Linux's driver knows and needs no control queue for.
uint64_t driverFeatures();

// Reads frames into buffers of the transmit queue. Each is shown to the device at once; it is kicked, if it wants to be, when the tap is
// empty or 64 KiB were read, as a driver does for a bulk of segments. A full queue blocks: what the guest still sends waits in the tap's
// queue or is dropped there.
void relayTapToQueue(int tap, FrontEnd& front, int pair, RelayCounters& counters);

// Writes used buffers of the receive queue to the tap, and offers them again, up to 64 frames at a time.
void relayQueueToTap(int tap, FrontEnd& front, int pair, RelayCounters& counters);
