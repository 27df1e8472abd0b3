#include "daemon.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "options.h"

namespace launcher {
namespace {

volatile sig_atomic_t programPid = 0;
volatile sig_atomic_t received = 0;

/** Signals by which a caller gives up waiting. */
constexpr int interrupts[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};

void endProgram(int signal) {
  const int saved = errno;
  received = signal;
  kill(programPid, SIGTERM);
  errno = saved;
}

int exitStatusOf(pid_t pid, const char* name) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return 1;
  }
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  if (!received) fprintf(stderr, "%s: ended by signal %d (%s)\n", name, WTERMSIG(status), strsignal(WTERMSIG(status)));
  return 1;
}

[[noreturn]] void awaitProgram(pid_t pid, int pipe, const char* name) {
  char byte;
  ssize_t length;
  do {
    length = read(pipe, &byte, 1);
  } while (length < 0 && errno == EINTR);
  if (length == 1 && !received) _exit(0);
  const int status = exitStatusOf(pid, name);
  if (received) {
    signal(received, SIG_DFL);
    raise(received);
  }
  _exit(status);
}

}  // namespace

int goToBackground(const char* name) {
  int pipe[2];
  if (pipe2(pipe, O_CLOEXEC) < 0) return errno;
  // Until the parent can pass them on: a signal that ended only the parent would leave a program that nobody knows of.
  sigset_t blocked, before;
  sigemptyset(&blocked);
  for (const int signal : interrupts) sigaddset(&blocked, signal);
  sigprocmask(SIG_BLOCK, &blocked, &before);

  const pid_t pid = fork();
  if (pid < 0) {
    const int error = errno;
    sigprocmask(SIG_SETMASK, &before, nullptr);
    close(pipe[0]);
    close(pipe[1]);
    return error;
  }
  if (pid > 0) {
    close(pipe[1]);
    programPid = pid;
    struct sigaction action = {};
    action.sa_handler = endProgram;
    for (const int signal : interrupts) sigaction(signal, &action, nullptr);
    sigprocmask(SIG_SETMASK, &before, nullptr);
    // The guest's socket is the program's alone: its end shows at the other side at once.
    if (pipe[0] != socketFd) close(socketFd);
    awaitProgram(pid, pipe[0], name);
  }

  // Nothing is leaked to the program: the pipe has the one number that it knows of, its other ends close on execve.
  if (pipe[1] == readyFd) {
    fcntl(readyFd, F_SETFD, 0);
  } else if (dup2(pipe[1], readyFd) < 0) {
    const int error = errno;
    fprintf(stderr, "%s: can't pass on the readiness pipe: %s\n", name, strerror(error));
    _exit(1);
  }
  setsid();
  sigprocmask(SIG_SETMASK, &before, nullptr);
  return 0;
}

}  // namespace launcher
