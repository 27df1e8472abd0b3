/** Sockets that a service manager has opened before (sd_listen_fds(3)). */
#pragma once

#include "namespaces.h"

namespace launcher {

/**
 * Looks for the socket that guests connect to among those that were passed on: the only one, or the one named "passt".
 * @param fd gets its number; -1: none was passed on @returns why what was passed on can't be it
 */
Failure findActivatedSocket(int& fd);

}  // namespace launcher
