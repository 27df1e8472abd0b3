/** What the runtime is told: on standard output in JSON, and for a person in one line on standard error. */
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "json.h"

namespace cni {

/** The specification's error numbers (CNI 1.1.0, section "Error"), as far as we use them. */
enum Code {
  incompatibleVersion = 1,
  unknownContainer = 3,
  invalidEnvironment = 4,
  ioFailure = 5,
  undecodable = 6,
  invalidConfiguration = 7,
  /** Not in the specification; the reference library's number for CNI_NETNS being the plugin's own namespace. */
  invalidNamespace = 8,
  notAvailable = 50,
  /** Ours, from the range for plugins: CHECK found another value. */
  changedSysctl = 100,
};

struct Failure {
  Code code;
  std::string message;
  std::string details;
};

/** Nothing went wrong, or what did. */
using Outcome = std::optional<Failure>;

/** All of it, whatever the other end is. @returns whether it went through */
bool writeAll(int fd, std::string_view text);

/** Prints the error in JSON, and the same for a person. @returns the exit status */
int answerFailure(std::string_view version, const Failure& failure);

/** Prints what ADD has made: nothing, or what the plugins before it in a chain have. @returns the exit status */
int answerResult(std::string_view version, std::optional<json::Value> previous);

/** Prints what VERSION is asked for. @returns the exit status */
int answerVersion(std::string_view version);

/** One line on standard error: what comes from outside is escaped. */
void log(std::string_view line);

}  // namespace cni
