#include "helper.h"

#include <cstring>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "descriptors.h"
#include "identity.h"

namespace launcher {
namespace {

void dropCapabilities() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2] = {};
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  if (syscall(SYS_capset, &header, none) < 0) _exit(1);
}

/** What ps shows is not to be taken for the program. */
void nameProcess(const char* name, int argc, char** argv) {
  prctl(PR_SET_NAME, name, 0, 0, 0);
  char* const last = argv[argc - 1];
  const size_t room = static_cast<size_t>(last + strlen(last) - argv[0]);
  memset(argv[0], 0, room);
  strncpy(argv[0], name, room);
}

}  // namespace

void becomeHelper(const Command& command, int end, const char* name, int argc, char** argv) {
  if (end != helperPeer && dup2(end, helperPeer) < 0) _exit(1);
  // Whatever callers wait for the end of must not be held open here.
  closeFrom(helperPeer + 1);
  const int null = open("/dev/null", O_RDWR);
  for (int fd = 0; fd <= 2; fd++) {
    if (null < 0 || dup2(null, fd) < 0) _exit(1);
  }
  closeFrom(helperPeer + 1);
  // Signals of a terminal are the program's business.
  setsid();
  if (chdir("/") < 0) _exit(1);
  nameProcess(name, argc, argv);
  // In pasta that has happened before.
  Identity identity;
  if (command.program != Program::pasta && chooseIdentity(command.user, identity) == Choice::change &&
      becomeIdentity(identity) != 0) {
    _exit(1);
  }
  dropCapabilities();
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

}  // namespace launcher
