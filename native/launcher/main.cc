/**
 * The installed command. Does what must be done before the runtime has threads and before it runs a line of ours:
 * arranges descriptors, gives up privileges, goes to the background, and executes node with fixed flags and the
 * program beside it. What the options mean is the program's business; README.md says what both owe each other.
 */
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <unistd.h>
#include <vector>

#include "capabilities.h"
#include "command.h"
#include "daemon.h"
#include "descriptors.h"
#include "environment.h"
#include "installation.h"
#include "options.h"
#include "runtime-flags.h"

namespace launcher {
namespace {

/** Callers may have blocked signals or ignored the end of children, and both would outlive execve. */
void resetSignals() {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGCHLD, SIG_DFL);
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> list;
  for (std::string& string : strings) list.push_back(string.data());
  list.push_back(nullptr);
  return list;
}

int run(int argc, char** argv, char** environ) {
  // Kept as it is: `ps` shows it, and messages begin with it.
  const char* name = argc > 0 ? argv[0] : "passt";
  const auto fail = [name](const char* what, int error) {
    fprintf(stderr, "%s: %s: %s\n", name, what, strerror(error));
    return 1;
  };
  const Command command = readCommand(argc, argv);
  const int descriptor = command.inquiry ? -1 : command.descriptor;

  if (const int error = arrangeDescriptors(descriptor)) {
    fprintf(stderr, "Could not move --fd descriptor: %s\n", strerror(error));
    return 1;
  }
  resetSignals();
  if (const int error = restrictCapabilities()) return fail("can't give up capabilities", error);
  Installation installation;
  if (!findInstallation(installation)) return fail("can't find the installation", errno);
  if (!command.foreground) {
    if (const int error = goToBackground(name)) return fail("can't go to the background", error);
  }

  std::vector<std::string> arguments = {name};
  for (const char* flag : runtimeFlags) arguments.push_back(flag);
  arguments.push_back(installation.program);
  for (int i = 1; i < argc; i++) arguments.push_back(argv[i]);
  std::vector<std::string> environment = programEnvironment(environ, !command.foreground, descriptor >= 0);
  execve(installation.node.c_str(), pointers(arguments).data(), pointers(environment).data());
  return fail(("can't execute " + installation.node).c_str(), errno);
}

}  // namespace
}  // namespace launcher

int main(int argc, char** argv, char** environ) { return launcher::run(argc, argv, environ); }
