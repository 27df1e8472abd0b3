// What every measuring command shares: one counter, a warm-up that is not counted, and two marks on standard output.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

struct MeterOptions {
  double warmupSeconds = 0.5;
  double seconds = 2;
};

// Counted by the working threads: bytes, transactions or datagrams.
extern std::atomic<uint64_t> counted;

// Nanoseconds of one transaction, from a client thread.
void recordLatency(uint64_t nanoseconds);

// Waits for the first count, then for the warm-up, prints "START", measures, prints "END " with a JSON object:
// {"count": …, "seconds": …} and, where latencies were recorded, "p50" and "p99" in microseconds. Ends the process:
// with status 1 and a line on standard error when nothing was counted for ten seconds.
[[noreturn]] void runMeter(const MeterOptions& options);

// Nanoseconds of the monotonic clock.
uint64_t nowNs();

// Prints "traffic: what: reason" and ends the process with status 1.
[[noreturn]] void fail(const std::string& what);
