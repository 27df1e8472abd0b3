/**
 * Going to the background, as far as the launcher has left that to the program: a child takes over, process 1 of the PID namespace
 * that was made for it; what was the program until then reports it ready and ends.
 *
 *   parent                                      child
 *                          - its PID ->
 *   waits                                       finishes, lets go of the caller's streams
 *                          <- one byte -
 *   PID file, readiness
 *                          - one byte ->
 *   ends                                        serves
 *
 * Each sees the other's end as the end of the socket: a failure on either side ends both.
 */
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "addon.h"
#include "threads.h"

namespace passt {
namespace {

bool readByte(int fd) {
  char byte;
  ssize_t length;
  do {
    // seccomp: read
    length = read(fd, &byte, 1);
  } while (length < 0 && errno == EINTR);
  return length == 1;
}

// seccomp: write
bool writeByte(int fd) { return write(fd, "1", 1) == 1; }

/** The status of a child that has ended without getting ready; it has said why. */
int statusOf(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return 1;
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) != 0) return WEXITSTATUS(status);
  if (WIFSIGNALED(status)) dprintf(2, "Ended by signal %d (%s)\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
  return 1;
}

[[noreturn]] void beParent(pid_t child, int pair, int pidFileFd, int readyFd) {
  for (const int number : {SIGHUP, SIGINT, SIGQUIT, SIGTERM}) signal(number, SIG_DFL);
  if (!readByte(pair)) _exit(statusOf(child));
  if (pidFileFd >= 0 && (dprintf(pidFileFd, "%d\n", child) < 0 || close(pidFileFd) < 0)) {
    dprintf(2, "Couldn't write PID file: %s\n", strerror(errno));
    kill(child, SIGKILL);
    _exit(1);
  }
  // A caller that has given up does not read: SIGPIPE or an error ends both of us.
  if (write(readyFd, "1", 1) != 1) _exit(1);
  writeByte(pair);
  _exit(0);
}

/** forkDaemon(readyFd, pidFileFd or -1, pid): returns in the child alone; `pid` (Int32Array of 1) gets its number in the parent's PID
 * namespace. @returns the descriptor for `reportReady` or -errno */
napi_value forkDaemon(napi_env env, napi_callback_info info) {
  const Arguments in(env, info);
  size_t size;
  auto* const number = static_cast<int32_t*>(in.bytes(2, &size));
  if (!number || size < sizeof *number) return in.result(-EINVAL);
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) return in.result(-errno);
  const pid_t child = forkWithMemory();
  if (child < 0) {
    const int error = errno;
    close(pair[0]);
    close(pair[1]);
    return in.result(-error);
  }
  if (child > 0) {
    close(pair[1]);
    const auto told = static_cast<int32_t>(child);
    if (write(pair[0], &told, sizeof told) != sizeof told) _exit(1);
    beParent(child, pair[0], in.integer(1), in.integer(0));
  }
  setsid();
  close(pair[0]);
  if (read(pair[1], number, sizeof *number) != sizeof *number) _exit(1);
  close(in.integer(0));
  if (in.integer(1) >= 0) close(in.integer(1));
  return in.result(pair[1]);
}

/** reportReady(fd of forkDaemon): waits until the caller knows. @returns 0, or -EPIPE when it has given up */
napi_value reportReady(napi_env env, napi_callback_info info) {
  const Arguments in(env, info);
  const int fd = in.integer(0);
  const bool known = writeByte(fd) && readByte(fd);
  close(fd);
  return in.result(known ? 0 : -EPIPE);
}

/** exitProcess(status): at once. The runtime would wait for its threads, which have ended (threads.h). */
napi_value exitProcess(napi_env env, napi_callback_info info) {
  const Arguments in(env, info);
  // seccomp: exit_group
  _exit(in.integer(0));
}

}  // namespace

void registerDaemon(napi_env env, napi_value exports) {
  define(env, exports, "forkDaemon", forkDaemon);
  define(env, exports, "reportReady", reportReady);
  define(env, exports, "exitProcess", exitProcess);
}

}  // namespace passt
