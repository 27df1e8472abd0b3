/** Going to the background: who returns to the caller, when, and with which status. */
#pragma once

namespace launcher {

/**
 * Forks. In the child: a new session, the write end of the readiness pipe on readyFd, returns 0 and the child executes
 * the program. In the parent: does not return; it waits for the program and ends as the caller is to see it:
 * - with 0 once the program has written a byte to the pipe: it is ready and goes on;
 * - with the program's own status when it ends without: it has said why on standard error; 1 if a signal ended it;
 * - by the signal that it received itself while waiting, after it has ended the program.
 * @returns an errno in the parent when there is no child.
 */
int goToBackground(const char* name);

}  // namespace launcher
