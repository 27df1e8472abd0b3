// traffic: the programs at both ends of a measured path, in one small binary. Servers print "LISTENING" when they can
// be reached; the end that measures prints the marks of meter.h.

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>

#include "address.h"
#include "meter.h"
#include "tcp.h"
#include "udp.h"

static const char* const HELP =
    "usage: traffic COMMAND [options]\n"
    "Servers:\n"
    "  tcp-sink   counts bytes (measures)      tcp-echo  sends back what arrives\n"
    "  udp-sink   counts datagrams (measures)  udp-echo  sends back what arrives\n"
    "  tcp-source sends as fast as it can\n"
    "Clients:\n"
    "  tcp-send   sends as fast as it can      udp-flood sends as fast as it can, or at --rate\n"
    "  tcp-get    takes what a source sends (measures)\n"
    "  tcp-burst  1000 connections at once, a byte and its echo on each, again and again (measures)\n"
    "  tcp-rr     requests on one connection (measures)\n"
    "  tcp-crr    a connection per request (measures)\n"
    "  udp-rr     requests as datagrams (measures)\n"
    "Options:\n"
    "  --to ADDRESS     where a client goes (numeric)\n"
    "  --port N         port of the server (5201)\n"
    "  --streams N      connections or sockets of a client (1)\n"
    "  --size BYTES     per call, request or datagram (131072 for tcp-send, 64 for udp-flood, else 1)\n"
    "  --rate N         datagrams per second and socket (0: no limit)\n"
    "  --warmup S       seconds from the first count to the measurement (0.5)\n"
    "  --time S         seconds of measurement (2)\n"
    "  --with-parent    end when the starting process ends\n";

struct Options {
  std::string command;
  std::string to;
  int port = 5201;
  int streams = 1;
  size_t size = 0;
  double rate = 0;
  MeterOptions meter;
  bool withParent = false;
};

static double number(const std::string& name, const char* text, double low, double high) {
  char* end = nullptr;
  const double value = strtod(text, &end);
  if (end == text || *end != '\0' || !(value >= low && value <= high)) {
    errno = 0;
    fail(name + ": out of range: " + text);
  }
  return value;
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
    } else if (name == "--to") {
      options.to = value();
    } else if (name == "--port") {
      options.port = static_cast<int>(number(name, value(), 1, 65535));
    } else if (name == "--streams") {
      options.streams = static_cast<int>(number(name, value(), 1, 1000));
    } else if (name == "--size") {
      options.size = static_cast<size_t>(number(name, value(), 1, 64 << 20));
    } else if (name == "--rate") {
      options.rate = number(name, value(), 0, 1e9);
    } else if (name == "--warmup") {
      options.meter.warmupSeconds = number(name, value(), 0, 3600);
    } else if (name == "--time") {
      options.meter.seconds = number(name, value(), 0.01, 3600);
    } else if (name == "--with-parent") {
      options.withParent = true;
    } else if (options.command.empty() && name[0] != '-') {
      options.command = name;
    } else {
      errno = 0;
      fail("unknown argument " + name + " (see --help)");
    }
  }
  return options;
}

static void startServer(int type, int port, void (*work)(int)) {
  const int fd = serve(type, port);
  printf("LISTENING\n");
  fflush(stdout);
  std::thread(work, fd).detach();
}

static void startClients(const Options& options, const std::function<void(const Endpoint&)>& work) {
  errno = 0;
  if (options.to.empty()) fail("--to is needed");
  const Endpoint to = endpoint(options.to, options.port);
  for (int index = 0; index < options.streams; index++) std::thread(work, to).detach();
}

[[noreturn]] static void forever() {
  for (;;) pause();
}

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  if (options.withParent) prctl(PR_SET_PDEATHSIG, SIGKILL);
  const auto size = [&](size_t usual) { return options.size == 0 ? usual : options.size; };

  if (options.command == "tcp-sink") {
    startServer(SOCK_STREAM, options.port, serveTcpSink);
    runMeter(options.meter);
  } else if (options.command == "udp-sink") {
    startServer(SOCK_DGRAM, options.port, serveUdpSink);
    runMeter(options.meter);
  } else if (options.command == "tcp-echo") {
    startServer(SOCK_STREAM, options.port, serveTcpEcho);
    forever();
  } else if (options.command == "tcp-source") {
    startServer(SOCK_STREAM, options.port, [](int listener) { serveTcpSource(listener, 128 << 10); });
    forever();
  } else if (options.command == "udp-echo") {
    startServer(SOCK_DGRAM, options.port, serveUdpEcho);
    forever();
  } else if (options.command == "tcp-send") {
    startClients(options, [&](const Endpoint& to) { sendTcpBulk(to, size(128 << 10)); });
    forever();
  } else if (options.command == "udp-flood") {
    startClients(options, [&](const Endpoint& to) { sendUdpFlood(to, size(64), options.rate); });
    forever();
  } else if (options.command == "tcp-get") {
    startClients(options, runTcpGet);
    runMeter(options.meter);
  } else if (options.command == "tcp-burst") {
    startClients(options, [](const Endpoint& to) { runTcpBursts(to, 1000); });
    runMeter(options.meter);
  } else if (options.command == "tcp-rr") {
    startClients(options, [&](const Endpoint& to) { runTcpTransactions(to, size(1)); });
    runMeter(options.meter);
  } else if (options.command == "tcp-crr") {
    startClients(options, [&](const Endpoint& to) { runTcpConnections(to, size(1)); });
    runMeter(options.meter);
  } else if (options.command == "udp-rr") {
    startClients(options, [&](const Endpoint& to) { runUdpTransactions(to, size(1)); });
    runMeter(options.meter);
  }
  errno = 0;
  fail(options.command.empty() ? "a command is needed (see --help)" : "unknown command " + options.command);
}
