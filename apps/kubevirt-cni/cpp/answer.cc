#include "answer.h"

#include <unistd.h>

#include <cerrno>

#include "version.h"

namespace cni {
namespace {

int print(std::string text) {
  text += '\n';
  return writeAll(STDOUT_FILENO, text) ? 0 : 1;
}

}  // namespace

bool writeAll(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t wrote = write(fd, text.data(), text.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return false;
    text.remove_prefix(static_cast<size_t>(wrote));
  }
  return true;
}

void log(std::string_view line) {
  std::string text = "passt-kubevirt-cni: ";
  // Quoting escapes control characters; the quotes themselves would be in the way.
  const std::string quoted = json::quote(line);
  text.append(quoted, 1, quoted.size() - 2);
  text += '\n';
  writeAll(STDERR_FILENO, text);
}

int answerFailure(std::string_view version, const Failure& failure) {
  std::string text = "{\"cniVersion\":" + json::quote(version) + ",\"code\":" + std::to_string(failure.code) +
                     ",\"msg\":" + json::quote(failure.message);
  if (!failure.details.empty()) text += ",\"details\":" + json::quote(failure.details);
  print(text + "}");
  log("error: " + failure.message + (failure.details.empty() ? "" : ": " + failure.details));
  return 1;
}

int answerResult(std::string_view version, std::optional<json::Value> previous) {
  std::string text = "{\"cniVersion\":" + json::quote(version);
  if (previous) {
    json::Value name;
    json::Value value;
    for (size_t at = 0; json::nextMember(*previous, at, name, value);) {
      if (json::text(name) == "cniVersion") continue;
      text += ',';
      text += name;
      text += ':';
      text += value;
    }
  }
  return print(text + "}");
}

int answerVersion(std::string_view version) {
  std::string text = "{\"cniVersion\":" + json::quote(version) + ",\"supportedVersions\":[";
  for (size_t i = 0; i < supportedVersions.size(); i++) {
    if (i > 0) text += ',';
    text += json::quote(supportedVersions[i]);
  }
  return print(text + "]}");
}

}  // namespace cni
