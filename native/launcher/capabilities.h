/** Gives up the privileges that the program never needs, before there is a second thread or a line of its code. */
#pragma once

#include "command.h"

namespace launcher {

/**
 * Leaves of our capabilities those that start-up may need (see the table in capabilities.cc), and hands them on to the
 * program. The program changes user or drops the rest once its files and ports are open.
 * @returns 0 or an errno.
 */
int restrictCapabilities(Program program);

}  // namespace launcher
