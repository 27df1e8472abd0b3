// bridge: makes a network namespace the guest of passt. It opens a tap device there and copies frames between it and
// passt's UNIX socket, as QEMU does between a guest's network card and `-netdev stream`; or moves them by the virtqueues of
// vhost-user. A real kernel is then the guest, at full speed, where an emulated CPU would be the bottleneck.

#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "relay.h"
#include "tap.h"
#include "vhost-relay.h"

static const char* const HELP =
    "usage: bridge --socket PATH [options]\n"
    "Copies Ethernet frames between a new tap device and passt's UNIX stream socket.\n"
    "  --socket PATH      socket to connect to\n"
    "  --vhost-user       be vhost-user's front-end there, with all offloads that passt takes\n"
    "  --queue N          buffers of each virtqueue, a power of two (256)\n"
    "  --pairs N          pairs of virtqueues, and queues of the tap (1)\n"
    "  --packed           with virtqueues of the packed layout\n"
    "  --netns PATH       namespace for the tap, e.g. /proc/PID/ns/net (default: the current one)\n"
    "  --ifname NAME      name of the tap (eth0)\n"
    "  --mac MAC          its address (random)\n"
    "  --mtu BYTES        its MTU (1500), at most 65521\n"
    "  --txqueuelen N     frames it may hold for the bridge (1000)\n"
    "  --napi             hand frames to the guest through NAPI, with receive coalescing\n"
    "  --batch BYTES      most bytes per socket call (262144)\n"
    "  --sndbuf BYTES     send buffer of the socket (the kernel's default)\n"
    "  --wait MS          how long to wait for the socket to appear (0)\n"
    "  --with-parent      end when the starting process ends\n"
    "Prints \"ready NAME\" when frames flow, and counters on standard error when it ends.\n";

struct Options {
  std::string socketPath;
  std::string namespacePath;
  TapOptions tap;
  size_t batchBytes = 256 << 10;
  int sendBufferBytes = 0;
  int waitMs = 0;
  bool withParent = false;
  bool vhostUser = false;
  int queueEntries = 256;
  int pairs = 1;
  bool packed = false;
};

static int number(const std::string& name, const char* text, long low, long high) {
  char* end = nullptr;
  errno = 0;
  const long value = strtol(text, &end, 10);
  if (errno != 0 || end == text || *end != '\0' || value < low || value > high) {
    errno = 0;
    fail(name + ": not a number from " + std::to_string(low) + " to " + std::to_string(high) + ": " + text);
  }
  return static_cast<int>(value);
}

static Options parse(int argc, char** argv) {
  Options options;
  for (int index = 1; index < argc; index++) {
    const std::string name = argv[index];
    const auto value = [&]() -> const char* {
      if (index + 1 >= argc) {
        errno = 0;
        fail(name + " needs a value");
      }
      return argv[++index];
    };
    if (name == "--help" || name == "-h") {
      fputs(HELP, stdout);
      exit(0);
    } else if (name == "--socket") {
      options.socketPath = value();
    } else if (name == "--netns") {
      options.namespacePath = value();
    } else if (name == "--ifname") {
      options.tap.name = value();
    } else if (name == "--mac") {
      options.tap.mac = value();
    } else if (name == "--mtu") {
      options.tap.mtu = number(name, value(), 68, 65521);
    } else if (name == "--txqueuelen") {
      options.tap.txQueueLength = number(name, value(), 0, 1000000);
    } else if (name == "--napi") {
      options.tap.napi = true;
    } else if (name == "--batch") {
      options.batchBytes = static_cast<size_t>(number(name, value(), 65539, 64 << 20));
    } else if (name == "--sndbuf") {
      options.sendBufferBytes = number(name, value(), 4096, 512 << 20);
    } else if (name == "--wait") {
      options.waitMs = number(name, value(), 0, 600000);
    } else if (name == "--vhost-user") {
      options.vhostUser = true;
    } else if (name == "--queue") {
      options.queueEntries = number(name, value(), 32, 1024);
    } else if (name == "--pairs") {
      options.pairs = number(name, value(), 1, PAIRS_MAX);
    } else if (name == "--packed") {
      options.packed = true;
    } else if (name == "--with-parent") {
      options.withParent = true;
    } else {
      errno = 0;
      fail("unknown option " + name + " (see --help)");
    }
  }
  errno = 0;
  if (options.socketPath.empty()) fail("--socket is needed (see --help)");
  if (options.socketPath.size() >= sizeof(sockaddr_un::sun_path)) fail("--socket: the path is too long");
  if (options.queueEntries & (options.queueEntries - 1)) fail("--queue: not a power of two");
  if (options.tap.name.empty() || options.tap.name.size() > 15) fail("--ifname: 1 to 15 characters");
  return options;
}

static int connectTo(const Options& options) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, options.socketPath.c_str(), sizeof(address.sun_path) - 1);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(options.waitMs);
  for (;;) {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) fail("socket");
    // Forced past the system's maximum where that is allowed; the plain option is the fallback.
    if (options.sendBufferBytes > 0 && setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &options.sendBufferBytes,
                                                  sizeof(options.sendBufferBytes)) != 0) {
      setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &options.sendBufferBytes, sizeof(options.sendBufferBytes));
    }
    if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) return fd;
    const int error = errno;
    close(fd);
    errno = error;
    if (std::chrono::steady_clock::now() >= deadline) fail("connecting to " + options.socketPath);
    usleep(5000);
  }
}

static RelayCounters fromGuest;
static RelayCounters toGuest;

static void report() {
  const auto line = [](const char* direction, const RelayCounters& counters) {
    const uint64_t frames = counters.frames.load();
    const uint64_t calls = counters.calls.load();
    fprintf(stderr, "bridge: %s guest: %llu frames, %llu bytes, %.1f frames per call, %llu dropped\n", direction,
            static_cast<unsigned long long>(frames), static_cast<unsigned long long>(counters.bytes.load()),
            calls == 0 ? 0.0 : static_cast<double>(frames) / static_cast<double>(calls),
            static_cast<unsigned long long>(counters.drops.load()));
  };
  line("from", fromGuest);
  line("to", toGuest);
}

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  if (options.withParent) prctl(PR_SET_PDEATHSIG, SIGTERM);

  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigaddset(&stop, SIGINT);
  pthread_sigmask(SIG_BLOCK, &stop, nullptr);

  const int socket = connectTo(options);
  static FrontEnd front;
  TapOptions tapOptions = options.tap;
  if (options.vhostUser) {
    uint64_t wanted = driverFeatures();
    if (options.packed) wanted |= FEATURE_PACKED;
    if (options.pairs > 1) wanted |= FEATURE_MULTIQUEUE;
    front = setUp(socket, {wanted, static_cast<uint16_t>(options.queueEntries), options.pairs});
    if (!front.has(FEATURE_MERGEABLE | FEATURE_VERSION_1) || front.has(FEATURE_PACKED) != options.packed) {
      refuse("the back-end does not know what this guest needs: VERSION_1, MRG_RXBUF, and what was asked for");
    }
    tapOptions.headerBytes = VNET_HEADER_BYTES;
    tapOptions.offloads = tapOffloads(front.features);
    tapOptions.severalQueues = options.pairs > 1;
    fprintf(stderr, "bridge: features %#llx\n", static_cast<unsigned long long>(front.features));
  }
  if (!options.namespacePath.empty()) enterNetworkNamespace(options.namespacePath);
  const int tap = openTap(tapOptions);

  const auto closed = [] {
    fputs("bridge: the socket was closed\n", stderr);
    report();
    _exit(0);
  };
  if (options.vhostUser) {
    for (int pair = 0; pair < options.pairs; pair++) {
      const int queue = pair == 0 ? tap : openTap(tapOptions);
      std::thread([queue, pair] { relayTapToQueue(queue, front, pair, fromGuest); }).detach();
      std::thread([queue, pair] { relayQueueToTap(queue, front, pair, toGuest); }).detach();
    }
    std::thread([&] {
      char byte;
      // Nothing is asked any more, so nothing comes.
      while (recv(socket, &byte, 1, 0) < 0 && errno == EINTR) {
      }
      closed();
    }).detach();
  } else {
    std::thread([&] { relayTapToSocket(tap, socket, options.batchBytes, fromGuest); }).detach();
    std::thread([&] {
      relaySocketToTap(tap, socket, options.batchBytes, toGuest);
      closed();
    }).detach();
  }

  printf("ready %s\n", options.tap.name.c_str());
  fflush(stdout);

  int signal = 0;
  sigwait(&stop, &signal);
  report();
  _exit(0);
}
