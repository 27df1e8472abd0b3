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

}  // namespace

Command readCommand(int argc, char** argv) {
  Command command;
  opterr = 0;
  for (;;) {
    const int option = getopt_long(argc, argv, shortOptions, longOptions, nullptr);
    if (option == -1) break;
    if (option == '?' || isInquiry(option)) {
      command.inquiry = true;
      command.foreground = true;
      break;
    }
    if (option == foregroundOption) command.foreground = true;
    if (option == descriptorOption) command.descriptor = parseDescriptor(optarg);
  }
  return command;
}

}  // namespace launcher
