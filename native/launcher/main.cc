/**
 * The installed command. Does what must be done before the runtime has threads and before it runs a line of ours:
 * arranges descriptors, enters or makes namespaces, gives up privileges, goes to the background, and executes node with
 * fixed flags and the program beside it. What the options mean is the program's business; README.md says what both owe each other.
 */
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <unistd.h>
#include <vector>

#include "activation.h"
#include "capabilities.h"
#include "command.h"
#include "daemon.h"
#include "descriptors.h"
#include "environment.h"
#include "files.h"
#include "identity.h"
#include "installation.h"
#include "namespaces.h"
#include "options.h"
#include "policy-opener.h"
#include "resolver-watch.h"
#include "runtime-flags.h"
#include "spawn.h"

namespace launcher {
namespace {

/** Callers may have blocked signals or ignored the end of children, and both would outlive execve. */
void resetSignals() {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGCHLD, SIG_DFL);
}

/** As the program words it in passt, where it changes the user itself. */
constexpr char identityWarning[] = "Started as root, will change to nobody.";

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> list;
  for (std::string& string : strings) list.push_back(string.data());
  list.push_back(nullptr);
  return list;
}

/** What has to precede the runtime in pasta: the user, the user namespace, the child that becomes the command. */
struct Preparation {
  Targets targets;
  Files files;
  Spawned spawned;
};

Failure prepare(const Command& command, int argc, char** argv, Preparation& prepared, Report& report) {
  // The files are the caller's to open, before another user might not be allowed to.
  Failure failed = openTargets(command, prepared.targets);
  if (!failed.empty()) return failed;
  Identity identity;
  switch (chooseIdentity(command.user, identity)) {
    case Choice::keep:
      break;
    case Choice::invalid:
      // The program says what is wrong with the option.
      return {};
    case Choice::change:
      prepared.files = openFiles(command.pidFile, command.logFile);
      errno = becomeIdentity(identity);
      if (errno) return failure("Couldn't change user");
      if (command.user.empty()) report.warnings.push_back(identityWarning);
      break;
  }
  failed = enterUserNamespace(command, prepared.targets, report.warnings);
  if (!failed.empty() || command.target != Command::Target::spawn) return failed;
  failed = spawnCommand(command, argc, argv, prepared.spawned);
  prepared.targets.netns = prepared.spawned.netns;
  report.child = prepared.spawned.pid;
  return failed;
}

/** Gives a descriptor the number that the program knows. @returns 0 or an errno */
int place(int fd, int number) {
  if (fd < 0) return 0;
  // dup2 leaves out the close-on-exec flag.
  if (dup2(fd, number) < 0) return errno;
  close(fd);
  return 0;
}

int run(int argc, char** argv, char** environ) {
  // Kept as it is: `ps` shows it, and messages begin with it.
  char unnamed[] = "passt";
  char* noWords[] = {unnamed, nullptr};
  if (argc < 1) {
    argc = 1;
    argv = noWords;
  }
  const char* name = argv[0];
  const auto fail = [name](const char* what, int error) {
    fprintf(stderr, "%s: %s: %s\n", name, what, strerror(error));
    return 1;
  };
  const Command command = readCommand(argc, argv);
  int descriptor = command.inquiry ? -1 : command.descriptor;
  const bool activable = command.program == Program::passt && !command.inquiry && descriptor < 0;
  if (activable) {
    const Failure failed = findActivatedSocket(descriptor);
    if (!failed.empty()) {
      fprintf(stderr, "%s\n", failed.c_str());
      return 1;
    }
  }

  if (const int error = arrangeDescriptors(descriptor)) {
    fprintf(stderr, "Could not move --fd descriptor: %s\n", strerror(error));
    return 1;
  }
  if (command.noSeal && !command.foreground && geteuid() == 0) {
    fprintf(stderr, "--no-seal needs --foreground when started as root\n");
    return 1;
  }
  resetSignals();
  Report report;
  Preparation prepared;
  if (command.target != Command::Target::none) {
    const Failure failed = prepare(command, argc, argv, prepared, report);
    if (!failed.empty()) {
      fprintf(stderr, "%s\n", failed.c_str());
      return 1;
    }
  }
  if (const int error = restrictCapabilities(command.program)) return fail("can't give up capabilities", error);
  Installation installation;
  if (!findInstallation(command.program, installation)) return fail("can't find the installation", errno);
  if (!command.foreground) {
    if (const int error = goToBackground(name)) return fail("can't go to the background", error);
  }
  // After the fork: the watcher is to end with the program, not with the parent that waits for it.
  const int resolvers = command.inquiry || !command.followHost ? -1 : startResolverWatch(command, argc, argv);
  const int policy = command.inquiry || command.policyFile.empty() ? -1 : startPolicyOpener(command, argc, argv);
  report.resolvers = resolvers >= 0;
  report.policy = policy >= 0;
  report.ready = !command.foreground;
  report.socket = descriptor >= 0 && !activable;
  report.listener = descriptor >= 0 && activable;
  report.netns = prepared.targets.netns >= 0;
  report.netnsDirectory = prepared.targets.netnsDirectory >= 0;
  report.pidFile = prepared.files.pid >= 0;
  report.logFile = prepared.files.logAppend >= 0;
  int error = place(prepared.targets.netns, netnsFd);
  if (!error) error = place(prepared.targets.netnsDirectory, netnsDirectoryFd);
  if (!error) error = place(prepared.spawned.go, goFd);
  if (!error) error = place(prepared.files.pid, pidFileFd);
  if (!error && report.logFile) error = place(prepared.files.logEdit, logEditFd);
  if (!error && report.logFile) error = place(prepared.files.logAppend, logAppendFd);
  if (!error) error = place(resolvers, resolversFd);
  if (!error) error = place(policy, policyFd);
  if (error) return fail("can't pass on descriptors", error);

  std::vector<std::string> arguments = {name};
  for (const char* flag : runtimeFlags) arguments.push_back(flag);
  if (command.noJit) arguments.push_back(noJitFlag);
  arguments.push_back(installation.program);
  for (int i = 1; i < argc; i++) arguments.push_back(argv[i]);
  std::vector<std::string> environment = programEnvironment(environ, report);
  execve(installation.node.c_str(), pointers(arguments).data(), pointers(environment).data());
  return fail(("can't execute " + installation.node).c_str(), errno);
}

}  // namespace
}  // namespace launcher

int main(int argc, char** argv, char** environ) { return launcher::run(argc, argv, environ); }
