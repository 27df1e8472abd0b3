/**
 * Streams from one TCP socket to another, and the pool of pipes.
 *
 * A pipe is needed only while bytes are in it: whoever moves data takes one, and gives it back unless the target is full. The pool
 * thus needs as many pipes as there are directions that wait, and those that work share a few, which stay in the cache.
 */
#include "splice.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <new>

#include "addon.h"
#include "engine.h"

namespace passt {

/** Largest capacity to ask for. A pipe holds one piece of a stream, up to 32 KiB, per page of its capacity (pipe(7)). */
static constexpr int32_t pipeBytesMax = 1 << 20;
/** Bytes to read at once: the more, the fewer and larger pieces leave. */
static constexpr int32_t fillBytes = 1 << 20;

int32_t Splicer::open() {
  // Both are reserved in full, and touched as far as they are used.
  void* const table =
      mmap(nullptr, sizeof(Pipe) * pipeMax, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (table == MAP_FAILED) return -ENOMEM;
  pipes_ = static_cast<Pipe*>(table);
  void* const block =
      mmap(nullptr, scratchBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (block == MAP_FAILED) return -ENOMEM;
  scratch = static_cast<uint8_t*>(block);
  // As large as fs.pipe-max-size and the user's share allow.
  int probe[2];
  if (pipe2(probe, O_NONBLOCK | O_CLOEXEC) < 0) return -errno;
  want_ = pipeBytesMax;
  while (want_ > 0 && fcntl(probe[0], F_SETPIPE_SZ, want_) < 0) want_ = want_ > (64 << 10) ? want_ / 2 : 0;
  ::close(probe[0]);
  ::close(probe[1]);
  return 0;
}

Splicer::~Splicer() {
  for (int32_t i = 0; i < used_; i++) {
    if (pipes_[i].read < 0) continue;
    ::close(pipes_[i].read);
    ::close(pipes_[i].write);
  }
  if (pipes_) munmap(pipes_, sizeof(Pipe) * pipeMax);
  if (scratch) munmap(scratch, scratchBytes);
}

int32_t Splicer::makePipe(Pipe& pipe) {
  int ends[2];
  // seccomp[pasta]: pipe2 fcntl(_, F_SETPIPE_SZ|F_GETPIPE_SZ)
  if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) < 0) return -errno;
  // Fails once the user has more than fs.pipe-user-pages-soft: then it stays as small as it came.
  if (want_ > 0) fcntl(ends[0], F_SETPIPE_SZ, want_);
  pipe.read = ends[0];
  pipe.write = ends[1];
  const int bytes = fcntl(ends[0], F_GETPIPE_SZ);
  pipe.bytes = bytes > 0 ? bytes : 4096;
  return 0;
}

int32_t Splicer::takePipe() {
  int32_t number = spare_;
  if (number >= 0) {
    spare_ = pipes_[number].next;
    spareCount_--;
  } else {
    number = empty_;
    if (number < 0 && used_ == pipeMax) return -EMFILE;
    Pipe& fresh = pipes_[number < 0 ? used_ : number];
    const int32_t error = makePipe(fresh);
    if (error) return error;
    if (number < 0) number = used_++;
    else empty_ = fresh.next;
  }
  pipes_[number].next = inUse;
  return number;
}

void Splicer::releasePipe(int32_t number) {
  Pipe& pipe = pipes_[number];
  if (spareCount_ >= spareMax) {
    dropPipe(number);
    return;
  }
  pipe.next = spare_;
  spare_ = number;
  spareCount_++;
}

void Splicer::dropPipe(int32_t number) {
  Pipe& pipe = pipes_[number];
  ::close(pipe.read);
  ::close(pipe.write);
  pipe.read = pipe.write = -1;
  pipe.next = empty_;
  empty_ = number;
}

namespace {

/** One direction's turn. */
class Stream {
 public:
  Stream(Splicer& splicer, int from, int to, int32_t pipe, int32_t pending, int32_t flags, int32_t share)
      : splicer_(splicer), from_(from), to_(to), pipe_(pipe), pending_(pending), flags_(flags), share_(share) {
    bulk_ = flags & spliceBulk && !(flags & spliceUrgent);
  }

  int32_t run() {
    for (;;) {
      // What was read goes first, until the target says no: only then it will say when it can.
      if (pending_ > 0) {
        drain();
        if (conditions_ & (splicedTargetFull | splicedTargetFailed)) break;
        continue;
      }
      if (conditions_ || moved_ >= share_) break;
      if (pipe_ < 0 && !havePipe()) break;
      if (bulk_) fill();
      else copy();
    }
    if (pipe_ >= 0 && pending_ == 0) {
      if (conditions_ & splicedTargetFailed) splicer_.dropPipe(pipe_);
      else splicer_.releasePipe(pipe_);
      pipe_ = -1;
    }
    splicer_.result[splicePipe] = pipe_;
    splicer_.result[splicePending] = pending_;
    // Little was there: the next will rather be a message than bulk.
    if (moved_ + pending_ < Splicer::copyBytes && conditions_ & splicedSourceEmpty) bulk_ = false;
    splicer_.result[spliceConditions] = conditions_ | (bulk_ ? splicedBulk : 0);
    return moved_;
  }

 private:
  /** Before anything is read there must be a place for what the target may not take. */
  bool havePipe() {
    const int32_t taken = splicer_.takePipe();
    if (taken >= 0) pipe_ = taken;
    else conditions_ |= splicedNoPipe;
    return taken >= 0;
  }

  /** From the pipe to the target. */
  void drain() {
    // seccomp[pasta]: splice
    const ssize_t sent = splice(splicer_.pipe(pipe_)->read, nullptr, to_, nullptr, static_cast<size_t>(pending_),
                                SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (sent > 0) {
      pending_ -= static_cast<int32_t>(sent);
      moved_ += static_cast<int32_t>(sent);
    } else if (sent < 0 && errno == EAGAIN) {
      conditions_ |= splicedTargetFull;
    } else {
      targetFailed();
    }
  }

  /** From the source to the pipe, as references to pages. */
  void fill() {
    const ssize_t got = splice(from_, nullptr, splicer_.pipe(pipe_)->write, nullptr, fillBytes,
                               SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (got > 0) {
      pending_ = static_cast<int32_t>(got);
      return;
    }
    if (got < 0) {
      sourceError();
      return;
    }
    // The end, or a mark of urgent data, which splice does not pass (tcp_read_sock): a plain read tells, and passes.
    uint8_t one;
    if (recv(from_, &one, 1, MSG_PEEK | MSG_DONTWAIT) > 0) bulk_ = false;
    else conditions_ |= splicedSourceEnd;
  }

  /** A message, or the first of bulk, by way of our memory. */
  void copy() {
    const int32_t room = splicer_.pipe(pipe_)->bytes < Splicer::copyBytes ? splicer_.pipe(pipe_)->bytes : Splicer::copyBytes;
    const ssize_t got = recv(from_, splicer_.scratch, static_cast<size_t>(room), MSG_DONTWAIT);
    if (got == 0) {
      conditions_ |= splicedSourceEnd;
      return;
    }
    if (got < 0) {
      sourceError();
      return;
    }
    // seccomp[pasta]: sendto
    const ssize_t sent = send(to_, splicer_.scratch, static_cast<size_t>(got), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
      targetFailed();
      return;
    }
    if (sent > 0) moved_ += static_cast<int32_t>(sent);
    const ssize_t left = got - (sent > 0 ? sent : 0);
    if (left > 0) {
      // An empty pipe takes as much as it has pages for.
      if (write(splicer_.pipe(pipe_)->write, splicer_.scratch + (got - left), static_cast<size_t>(left)) != left) {
        targetFailed();
        return;
      }
      pending_ = static_cast<int32_t>(left);
    }
    if (got == room) bulk_ = !(flags_ & spliceUrgent);
    // A short read empties the queue, and whatever comes later is an event again (epoll(7)). A known end is an event that is past.
    else if (!(flags_ & (spliceEnding | spliceUrgent))) conditions_ |= splicedSourceEmpty;
  }

  void sourceError() { conditions_ |= errno == EAGAIN ? splicedSourceEmpty : splicedSourceFailed; }

  void targetFailed() {
    conditions_ |= splicedTargetFailed;
    if (pending_ > 0) {
      splicer_.dropPipe(pipe_);
      pipe_ = -1;
      pending_ = 0;
    }
  }

  Splicer& splicer_;
  const int from_;
  const int to_;
  int32_t pipe_;
  int32_t pending_;
  const int32_t flags_;
  const int32_t share_;
  bool bulk_;
  int32_t moved_ = 0;
  int32_t conditions_ = 0;
};

}  // namespace

static int32_t spliceStream(Engine& engine, int32_t from, int32_t to, int32_t pipe, int32_t pending, int32_t flags,
                            int32_t share) {
  Splicer* const splicer = engine.splicer;
  if (!splicer) return -EBADF;
  const bool holds = pipe >= 0;
  if (holds != (pending > 0) || pending < 0 || (holds && !splicer->pipe(pipe))) return -EINVAL;
  return Stream(*splicer, from, to, pipe, pending, flags, share).run();
}

static int32_t spliceDropPipe(Engine& engine, int32_t pipe) {
  if (!engine.splicer || !engine.splicer->pipe(pipe)) return -EINVAL;
  engine.splicer->dropPipe(pipe);
  return 0;
}

static int32_t unsent(Engine&, int32_t fd) {
  int value = 0;
  // seccomp[pasta]: ioctl(_, SIOCOUTQNSD)
  return ioctl(fd, SIOCOUTQNSD, &value) == 0 ? value : -errno;
}

void closeSplicer(Engine& engine) {
  Splicer* const splicer = engine.splicer;
  engine.splicer = nullptr;
  if (!splicer) return;
  if (splicer->reference) napi_delete_reference(engine.env, splicer->reference);
  delete splicer;
}

/** openSplice(result): prepares for calls between sockets; `result` is an Int32Array of spliceWords. */
static napi_value openSplice(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  auto& engine = arguments.self<Engine>();
  if (engine.epollFd < 0) return arguments.result(-EBADF);
  if (engine.splicer) return arguments.result(-EALREADY);
  size_t length = 0;
  void* const words = arguments.bytes(0, &length);
  if (!words || length < spliceWords * sizeof(int32_t)) return arguments.result(-EINVAL);
  auto* splicer = new (std::nothrow) Splicer;
  if (!splicer) return arguments.result(-ENOMEM);
  const int32_t error = splicer->open();
  if (error || napi_create_reference(env, arguments.at(0), 1, &splicer->reference) != napi_ok) {
    delete splicer;
    return arguments.result(error ? error : -ENOMEM);
  }
  splicer->result = static_cast<int32_t*>(words);
  engine.splicer = splicer;
  return arguments.result(0);
}

void bindSplice(napi_env env, napi_value object, Engine* engine) {
  define(env, object, "openSplice", openSplice, engine);
  defineHot<spliceStream>(env, object, "spliceStream", engine);
  defineHot<spliceDropPipe>(env, object, "spliceDropPipe", engine);
  defineHot<unsent>(env, object, "unsent", engine);
}

}  // namespace passt
