/** What links on UNIX stream sockets do alike: listening on a path, taking a descriptor, telling who connected. */
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace passt {

/** Listens on a path, non-blocking: takes the place of a socket that nobody listens on any more, but never of another kind of
 * file. `mode`, less the umask, is whose it is from its first moment on; `backlog` are those who may wait to be accepted.
 * @returns the descriptor, -EADDRINUSE, or another -errno */
int32_t listenOnPath(const std::string& path, mode_t mode = 0777, int backlog = 0);

/** Connects, blocking unless `flags` has SOCK_NONBLOCK. @returns the descriptor or -errno */
int32_t connectToPath(const std::string& path, int flags = 0);

/** Prepares a listening socket that somebody else has opened. @returns 0 or -errno */
int32_t prepareListener(int fd);

/** Prepares a connected stream socket that somebody else opened. @returns 0 or -errno */
int32_t prepareStream(int fd);

/** The process at the other end; 0 when unknown. */
pid_t peerPid(int fd);

/** Whether the other end has closed, though there may be data left to read. */
bool peerGone(int fd);

}  // namespace passt
