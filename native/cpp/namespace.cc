/** The thread in the target network namespace, and handing work over to it. */
#include "namespace.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>

#include <cerrno>
#include <climits>
#include <new>

#include "addon.h"
#include "engine.h"
#include "privileges.h"

namespace passt {

/** One slot for work, and a semaphore each way: the two threads never touch the slot at the same time. */
struct NamespaceThread {
  pthread_t thread{};
  int netnsFd = -1;
  bool bare = false;
  sem_t asked;
  sem_t done;
  NamespaceWork work = nullptr;
  void* argument = nullptr;
  int32_t result = 0;
};

/** Signals may arrive in this thread as in any other. */
// seccomp[pasta]: futex(_, 127:FUTEX_WAIT|FUTEX_WAKE|FUTEX_WAIT_BITSET)
static void await(sem_t* semaphore) {
  while (sem_wait(semaphore) < 0) {
    // EINTR is all that can happen to a semaphore of ours.
  }
}

static void* serve(void* self) {
  auto& space = *static_cast<NamespaceThread*>(self);
  pthread_setname_np(pthread_self(), "namespace");
  // Of all namespaces only this kind can be changed by one thread of many (setns(2)).
  space.result = setns(space.netnsFd, CLONE_NEWNET) == 0 ? 0 : -errno;
  if (space.result == 0 && space.bare) space.result = keepCapabilities(0);
  const bool entered = space.result == 0;
  sem_post(&space.done);
  while (entered) {
    await(&space.asked);
    if (!space.work) break;
    space.result = space.work(space.argument);
    sem_post(&space.done);
  }
  return nullptr;
}

static void destroy(NamespaceThread* space) {
  sem_destroy(&space->asked);
  sem_destroy(&space->done);
  delete space;
}

int32_t inNamespace(Engine& engine, NamespaceWork work, void* argument) {
  NamespaceThread* const space = engine.space;
  if (!space) return -ENONET;
  space->work = work;
  space->argument = argument;
  sem_post(&space->asked);
  await(&space->done);
  return space->result;
}

void leaveNamespace(Engine& engine) {
  NamespaceThread* const space = engine.space;
  if (!space) return;
  engine.space = nullptr;
  space->work = nullptr;
  sem_post(&space->asked);
  pthread_join(space->thread, nullptr);
  destroy(space);
}

/** enterNamespace(netnsFd, bare 0 or 1): starts the thread in the namespace that the descriptor names. It takes
 * CAP_SYS_ADMIN in the user namespace that owns that one, and in our own; the descriptor can be closed afterwards. A bare thread
 * gives up all capabilities once it is there. */
static int32_t enterNamespace(Engine& engine, int32_t netnsFd, int32_t bare) {
  if (engine.epollFd < 0) return -EBADF;
  if (engine.space) return -EALREADY;
  auto* space = new (std::nothrow) NamespaceThread;
  if (!space) return -ENOMEM;
  space->netnsFd = netnsFd;
  space->bare = bare == 1;
  sem_init(&space->asked, 0, 0);
  sem_init(&space->done, 0, 0);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  // A few system calls, and perhaps a signal handler: no need for the usual 8 MiB.
  pthread_attr_setstacksize(&attributes, PTHREAD_STACK_MIN + (128 << 10));
  const int error = pthread_create(&space->thread, &attributes, serve, space);
  pthread_attr_destroy(&attributes);
  if (error) {
    destroy(space);
    return -error;
  }
  await(&space->done);
  const int32_t result = space->result;
  if (result < 0) {
    pthread_join(space->thread, nullptr);
    destroy(space);
    return result;
  }
  engine.space = space;
  return 0;
}

/** leaveNamespace(): ends the thread. What it created stays; it may be entered again. */
static int32_t endThread(Engine& engine) {
  leaveNamespace(engine);
  return 0;
}

void bindNamespace(napi_env env, napi_value object, Engine* engine) {
  defineHot<endThread>(env, object, "leaveNamespace", engine);
  defineHot<enterNamespace>(env, object, "enterNamespace", engine);
}

}  // namespace passt
