/**
 * The same program as the container of the DaemonSet that brings it to the nodes: copies itself to the folder where the runtime looks
 * for plugins, sees that it stays there, and takes it away again. It never touches a file of that name which is another program's.
 */
#pragma once

namespace cni {

/** Runs what the arguments ask for. @returns the exit status: 0, 1 if it failed, 2 for wrong arguments */
int runInstaller(int argumentCount, char** arguments);

}  // namespace cni
