#include "meter.h"

#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

std::atomic<uint64_t> counted{0};

// One counter per microsecond; the last one takes all that is slower.
static constexpr size_t LATENCY_BUCKETS = 100000;
static std::array<std::atomic<uint32_t>, LATENCY_BUCKETS> latencies;
static std::atomic<bool> measuring{false};

static constexpr uint64_t NS_PER_SECOND = 1000000000;
static constexpr uint64_t FIRST_COUNT_NS_MAX = 10 * NS_PER_SECOND;

void fail(const std::string& what) {
  if (errno != 0) {
    fprintf(stderr, "traffic: %s: %s\n", what.c_str(), strerror(errno));
  } else {
    fprintf(stderr, "traffic: %s\n", what.c_str());
  }
  _exit(1);
}

uint64_t nowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * NS_PER_SECOND + static_cast<uint64_t>(now.tv_nsec);
}

void recordLatency(uint64_t nanoseconds) {
  if (!measuring.load(std::memory_order_relaxed)) return;
  const uint64_t bucket = nanoseconds / 1000;
  latencies[bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1].fetch_add(1, std::memory_order_relaxed);
}

// The latency in microseconds that `share` of the recorded transactions did not exceed; -1 without any.
static int64_t percentile(double share) {
  uint64_t total = 0;
  for (const auto& bucket : latencies) total += bucket.load();
  if (total == 0) return -1;
  const uint64_t rank = static_cast<uint64_t>(share * static_cast<double>(total - 1));
  uint64_t seen = 0;
  for (size_t index = 0; index < LATENCY_BUCKETS; index++) {
    seen += latencies[index].load();
    if (seen > rank) return static_cast<int64_t>(index);
  }
  return LATENCY_BUCKETS - 1;
}

static void sleepSeconds(double seconds) { usleep(static_cast<useconds_t>(seconds * 1e6)); }

void runMeter(const MeterOptions& options) {
  const uint64_t began = nowNs();
  while (counted.load(std::memory_order_relaxed) == 0) {
    if (nowNs() - began > FIRST_COUNT_NS_MAX) {
      errno = 0;
      fail("nothing arrived for ten seconds");
    }
    usleep(1000);
  }
  sleepSeconds(options.warmupSeconds);

  printf("START\n");
  fflush(stdout);
  measuring.store(true);
  const uint64_t countAtStart = counted.load();
  const uint64_t start = nowNs();
  sleepSeconds(options.seconds);
  const uint64_t count = counted.load() - countAtStart;
  const uint64_t end = nowNs();
  measuring.store(false);

  printf("END {\"count\": %llu, \"seconds\": %.6f", static_cast<unsigned long long>(count),
         static_cast<double>(end - start) / 1e9);
  const int64_t p50 = percentile(0.5);
  if (p50 >= 0) {
    printf(", \"p50\": %lld, \"p99\": %lld", static_cast<long long>(p50), static_cast<long long>(percentile(0.99)));
  }
  printf("}\n");
  fflush(stdout);
  _exit(0);
}
