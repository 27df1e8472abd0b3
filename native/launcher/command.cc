#include "command.h"

#include <climits>
#include <cstdlib>

#include "options.h"

namespace launcher {
namespace {

/** Decimal digits up to INT_MAX; -1 for anything else, which the program refuses with a message. */
int parseDescriptor(const char* text) {
  if (*text == '\0') return -1;
  long value = 0;
  for (const char* c = text; *c != '\0'; c++) {
    if (*c < '0' || *c > '9') return -1;
    value = value * 10 + (*c - '0');
    if (value > INT_MAX) return -1;
  }
  return static_cast<int>(value);
}

bool isNumber(const char* text) {
  return *text != '\0' && std::string_view(text).find_first_not_of("0123456789") == std::string_view::npos;
}

/** Names without a slash are those of ip-netns(8). */
std::string netnsFile(const char* text) {
  const std::string name(text);
  return name.empty() || name.find('/') != std::string::npos ? name : "/run/netns/" + name;
}

/** What options and operands of pasta together ask for. */
void chooseTarget(Command& command, int argc, char** argv, bool netns, bool noUserns) {
  const int operands = argc - command.operand;
  if (netns) {
    // A namespace and a command as well: refused by the program.
    if (operands > 0) return;
    command.target = Command::Target::file;
    command.sameUser = command.usernsPath.empty();
  } else if (operands == 1 && isNumber(argv[command.operand])) {
    command.target = Command::Target::process;
    const std::string process = std::string("/proc/") + argv[command.operand] + "/ns/";
    command.netnsPath = process + "net";
    if (command.usernsPath.empty() && !noUserns) command.usernsPath = process + "user";
    command.sameUser = command.usernsPath.empty();
  } else {
    command.target = Command::Target::spawn;
    command.sameUser = noUserns;
    command.foreground = true;
  }
}

}  // namespace

Program programOf(std::string_view name) {
  const size_t slash = name.rfind('/');
  if (slash != std::string_view::npos) name.remove_prefix(slash + 1);
  return name.find("pasta") != std::string_view::npos ? Program::pasta : Program::passt;
}

Command readCommand(int argc, char** argv) {
  Command command;
  command.program = programOf(argc > 0 ? argv[0] : "");
  bool netns = false;
  bool noUserns = false;
  opterr = 0;
  for (;;) {
    const int option = getopt_long(argc, argv, shortOptions, longOptions, nullptr);
    if (option == -1) break;
    if (option == '?' || isInquiry(option)) {
      command.inquiry = true;
      command.foreground = true;
      return command;
    }
    switch (option) {
      case foregroundOption:
        command.foreground = true;
        break;
      case noSealOption:
        command.noSeal = true;
        break;
      case noJitOption:
        command.noJit = true;
        break;
      case descriptorOption:
        command.descriptor = parseDescriptor(optarg);
        break;
      case userOption:
        command.user = optarg;
        break;
      case pidFileOption:
        command.pidFile = optarg;
        break;
      case logFileOption:
        command.logFile = optarg;
        break;
      case policyFileOption:
        command.policyFile = optarg;
        break;
      case hostNameOption:
        command.hostName = optarg;
        break;
      case netnsOption:
        netns = true;
        command.netnsPath = netnsFile(optarg);
        break;
      // Of these two the last one counts.
      case usernsOption:
        command.usernsPath = optarg;
        noUserns = false;
        break;
      case netnsOnlyOption:
        command.usernsPath.clear();
        noUserns = true;
        break;
      case noFollowOption:
        command.followHost = false;
        break;
      case noPidnsOption:
        command.ownPids = false;
        break;
    }
  }
  command.operand = optind;
  if (command.program == Program::pasta) chooseTarget(command, argc, argv, netns, noUserns);
  return command;
}

}  // namespace launcher
