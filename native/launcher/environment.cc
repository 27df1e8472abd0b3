#include "environment.h"

#include <string_view>
#include <sys/auxv.h>

#include "options.h"
#include "runtime-flags.h"

namespace launcher {
namespace {

/** Names (or their beginnings, where they end in "_") that reach into the runtime. */
constexpr std::string_view removed[] = {
    // Options, preloaded modules, debugging, compile caches.
    "NODE_",
    // libuv: its thread pool and io_uring.
    "UV_",
    // Read at start by the cryptography library, which could load modules from there.
    "OPENSSL_",
    // How malloc works, which is ours to say.
    "GLIBC_TUNABLES",
    // Sockets that were meant for the launcher.
    "LISTEN_",
    readyVariable,
    socketVariable,
    listenerVariable,
    netnsVariable,
    netnsDirectoryVariable,
    goVariable,
    childVariable,
    pidFileVariable,
    logFileVariable,
    resolversVariable,
    policyVariable,
    warningsVariable,
};

bool matches(std::string_view name, std::string_view pattern) {
  return pattern.back() == '_' ? name.substr(0, pattern.size()) == pattern : name == pattern;
}

bool isRemoved(std::string_view name) {
  for (const std::string_view pattern : removed) {
    if (matches(name, pattern)) return true;
  }
  // An installed launcher with file capabilities passes them on to node, so it must not pass on libraries to load.
  return getauxval(AT_SECURE) != 0 && matches(name, "LD_");
}

}  // namespace

std::vector<std::string> programEnvironment(char** caller, const Report& report) {
  std::vector<std::string> environment;
  for (char** entry = caller; entry && *entry; entry++) {
    const std::string_view text(*entry);
    if (!isRemoved(text.substr(0, text.find('=')))) environment.emplace_back(text);
  }
  // The program drives its own epoll; a ring would only be one more thing that the kernel keeps for it.
  environment.emplace_back("UV_USE_IO_URING=0");
  environment.emplace_back(mallocSettings);
  const auto say = [&environment](const char* name, const std::string& value) {
    environment.push_back(std::string(name) + "=" + value);
  };
  if (report.ready) say(readyVariable, std::to_string(readyFd));
  if (report.socket) say(socketVariable, std::to_string(socketFd));
  if (report.listener) say(listenerVariable, std::to_string(socketFd));
  if (report.netns) say(netnsVariable, std::to_string(netnsFd));
  if (report.netnsDirectory) say(netnsDirectoryVariable, std::to_string(netnsDirectoryFd));
  if (report.pidFile) say(pidFileVariable, std::to_string(pidFileFd));
  if (report.logFile) say(logFileVariable, std::to_string(logEditFd));
  if (report.resolvers) say(resolversVariable, std::to_string(resolversFd));
  if (report.policy) say(policyVariable, std::to_string(policyFd));
  if (report.child >= 0) {
    say(goVariable, std::to_string(goFd));
    say(childVariable, std::to_string(report.child));
  }
  std::string warnings;
  for (const std::string& warning : report.warnings) warnings += (warnings.empty() ? "" : "\n") + warning;
  if (!warnings.empty()) say(warningsVariable, warnings);
  return environment;
}

}  // namespace launcher
