/**
 * A CNI plugin (Container Network Interface, versions 0.1.0 to 1.1.0) that makes a pod's network namespace fit for passt: see
 * sysctls.h. It makes no interface and gives no address; in a chain it hands on what the plugins before it have made. It runs on the
 * node, as root, by the container runtime's or Multus' hand: one static executable, and nothing that it needs besides.
 */
#include "answer.h"
#include "installer.h"
#include "request.h"
#include "sysctls.h"

namespace cni {
namespace {

Outcome perform(const Request& request) {
  if (request.command == "STATUS") return findSysctls();
  if (request.command == "DEL" || request.command == "GC") return {};
  if (Outcome failed = enterNamespace(request.netns)) return failed;
  return request.command == "ADD" ? applySysctls(request.pingGroup) : checkSysctls(request.pingGroup);
}

int runPlugin() {
  Request request;
  if (const Outcome failed = readRequest(request)) return answerFailure(request.version, *failed);
  if (request.command == "VERSION") return answerVersion(request.version);
  if (const Outcome failed = perform(request)) return answerFailure(request.version, *failed);
  if (request.command != "ADD") return 0;
  const std::string group = std::to_string(request.pingGroup);
  log("ADD " + request.container + " " + request.interface + ": ports from 0 and echo sockets of group " + group + " in " + request.netns);
  return answerResult(request.version, request.previous);
}

}  // namespace
}  // namespace cni

int main(int argumentCount, char** arguments) {
  return argumentCount > 1 ? cni::runInstaller(argumentCount, arguments) : cni::runPlugin();
}
