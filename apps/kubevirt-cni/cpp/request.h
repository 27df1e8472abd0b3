/** What the runtime asks for: its environment variables, and the network configuration on standard input. */
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "answer.h"
#include "json.h"
#include "version.h"

namespace cni {

/** Bytes of a configuration: a previous result of hundreds of addresses is a few dozen kibibytes. */
constexpr size_t configurationBytesMax = 1 << 20;

struct Request {
  std::string command;
  std::string container;
  std::string netns;
  std::string interface;
  /** The configuration's text; `previous` lies within it. */
  std::string input;
  std::string version{newestVersion};
  std::optional<json::Value> previous;
  /** The group that may send echo requests: that of virt-launcher's processes, unless the configuration says otherwise. */
  uint32_t pingGroup = 107;
};

/** Reads and checks it all. What is known by the time of a failure, such as the version, is there for the answer. */
Outcome readRequest(Request& request);

}  // namespace cni
