#include "request.h"

#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "version.h"

namespace cni {
namespace {

/** The largest group number; 4294967295 means none. */
constexpr uint64_t groupMax = 4294967294;

/** Names of interfaces: IFNAMSIZ with its terminating zero. */
constexpr size_t interfaceBytesMax = 15;

std::string variable(const char* name) {
  const char* value = getenv(name);
  return value ? value : "";
}

/** Names of containers and networks: a letter or digit first, then also "_", "." and "-". */
bool isName(std::string_view text) {
  const auto alphanumeric = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
  };
  if (text.empty() || !alphanumeric(text[0])) return false;
  for (const char c : text) {
    if (!alphanumeric(c) && c != '_' && c != '.' && c != '-') return false;
  }
  return true;
}

bool isInterface(std::string_view text) {
  if (text.empty() || text.size() > interfaceBytesMax || text == "." || text == "..") return false;
  for (const char c : text) {
    if (c == '/' || c == ':' || isspace(static_cast<unsigned char>(c))) return false;
  }
  return true;
}

Outcome readInput(std::string& input) {
  char piece[16384];
  for (;;) {
    const ssize_t got = read(STDIN_FILENO, piece, sizeof piece);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Failure{ioFailure, "the configuration could not be read from standard input", strerror(errno)};
    if (got == 0) return {};
    if (input.size() + static_cast<size_t>(got) > configurationBytesMax) {
      return Failure{undecodable, "the configuration is longer than 1 MiB", ""};
    }
    input.append(piece, static_cast<size_t>(got));
  }
}

/** The variables that a command cannot do without. */
Outcome checkEnvironment(const Request& request, bool needsContainer, bool needsNetns) {
  std::string missing;
  const auto need = [&](const char* name, bool isThere) {
    if (!isThere) missing += (missing.empty() ? "" : ", ") + std::string(name);
  };
  if (needsContainer) {
    need("CNI_CONTAINERID", !request.container.empty());
    if (needsNetns) need("CNI_NETNS", !request.netns.empty());
    need("CNI_IFNAME", !request.interface.empty());
  }
  need("CNI_PATH", !variable("CNI_PATH").empty());
  if (!missing.empty()) return Failure{invalidEnvironment, "environment variables are missing: " + missing, ""};
  if (needsContainer && !isName(request.container)) {
    return Failure{invalidEnvironment, "CNI_CONTAINERID has characters that no name of a container has", request.container};
  }
  if (needsContainer && !isInterface(request.interface)) {
    return Failure{invalidEnvironment, "CNI_IFNAME is no name of an interface", request.interface};
  }
  return {};
}

Outcome readVersion(json::Value configuration, Request& request) {
  const auto value = json::member(configuration, "cniVersion");
  if (!value) {
    request.version = oldestVersion;
    return {};
  }
  const auto version = json::text(*value);
  if (!version) return Failure{undecodable, "\"cniVersion\" is not a string", ""};
  if (version->empty()) {
    request.version = oldestVersion;
    return {};
  }
  if (!isSupported(*version)) {
    return Failure{incompatibleVersion, "this version of CNI is not supported: " + *version, "0.1.0 to 1.1.0 are"};
  }
  request.version = *version;
  return {};
}

Outcome readPrevious(json::Value configuration, Request& request) {
  const auto previous = json::member(configuration, "prevResult");
  if (!previous || *previous == "null") return {};
  if (!json::isObject(*previous)) return Failure{invalidConfiguration, "\"prevResult\" is not an object", ""};
  const auto value = json::member(*previous, "cniVersion");
  if (value) {
    const auto version = json::text(*value);
    if (!version) return Failure{invalidConfiguration, "\"cniVersion\" of \"prevResult\" is not a string", ""};
    // The runtime owes us a result in the form of the configuration's version; we pass it on as it is.
    if (!version->empty() && (!isSupported(*version) || resultForm(*version) != resultForm(request.version))) {
      return Failure{invalidConfiguration, "\"prevResult\" is of version " + *version + ", the configuration of " + request.version, ""};
    }
  }
  request.previous = previous;
  return {};
}

Outcome readConfiguration(Request& request) {
  const json::Checked checked = json::check(request.input);
  if (!checked.value) {
    return Failure{undecodable, "the configuration is not JSON", std::string(checked.reason) + " (byte " + std::to_string(checked.offset) + ")"};
  }
  const json::Value configuration = *checked.value;
  if (!json::isObject(configuration)) return Failure{undecodable, "the configuration is not a JSON object", ""};
  if (Outcome failed = readVersion(configuration, request)) return failed;

  const auto name = json::member(configuration, "name");
  if (!name) return Failure{invalidConfiguration, "\"name\" is missing in the configuration", ""};
  const auto nameText = json::text(*name);
  if (!nameText) return Failure{undecodable, "\"name\" is not a string", ""};
  if (!isName(*nameText)) return Failure{invalidConfiguration, "\"name\" is no name of a network", *nameText};

  if (const auto group = json::member(configuration, "pingGroup")) {
    const auto number = json::number(*group, groupMax);
    if (!number) return Failure{invalidConfiguration, "\"pingGroup\" is not a group number (0 to 4294967294)", std::string(group->substr(0, 40))};
    request.pingGroup = static_cast<uint32_t>(*number);
  }
  if (const auto valid = json::member(configuration, "cni.dev/valid-attachments"); valid && *valid != "null" && !json::isArray(*valid)) {
    return Failure{invalidConfiguration, "\"cni.dev/valid-attachments\" is not an array", ""};
  }
  return readPrevious(configuration, request);
}

/** VERSION is asked to find out which versions can be spoken: whatever else comes with it is left alone. */
void readAskersVersion(Request& request) {
  const json::Checked checked = json::check(request.input);
  if (!checked.value) return;
  const auto value = json::member(*checked.value, "cniVersion");
  const auto version = value ? json::text(*value) : std::nullopt;
  if (version && isSupported(*version)) request.version = *version;
}

/** From which version on a command exists. */
Outcome checkCommandsVersion(const Request& request) {
  const auto since = [&](std::string_view first) -> Outcome {
    if (isAtLeast(request.version, first)) return {};
    return Failure{incompatibleVersion, request.command + " is not in version " + request.version + " of CNI",
                   "it came with " + std::string(first)};
  };
  if (request.command == "CHECK") return since("0.4.0");
  if (request.command == "GC" || request.command == "STATUS") return since("1.1.0");
  return {};
}

}  // namespace

Outcome readRequest(Request& request) {
  request.command = variable("CNI_COMMAND");
  request.container = variable("CNI_CONTAINERID");
  request.netns = variable("CNI_NETNS");
  request.interface = variable("CNI_IFNAME");
  const std::string& command = request.command;
  if (command.empty()) return Failure{invalidEnvironment, "environment variables are missing: CNI_COMMAND", ""};
  if (command == "VERSION") {
    if (Outcome failed = readInput(request.input)) return failed;
    readAskersVersion(request);
    return {};
  }
  const bool needsNetns = command == "ADD" || command == "CHECK";
  const bool needsContainer = needsNetns || command == "DEL";
  if (!needsContainer && command != "GC" && command != "STATUS") {
    return Failure{invalidEnvironment, "there is no such CNI_COMMAND", command};
  }
  // Read before anything can be wrong, so that the answer has the configuration's version.
  if (Outcome failed = readInput(request.input)) return failed;
  const Outcome badConfiguration = readConfiguration(request);
  if (Outcome failed = checkEnvironment(request, needsContainer, needsNetns)) return failed;
  if (badConfiguration) return badConfiguration;
  return checkCommandsVersion(request);
}

}  // namespace cni
