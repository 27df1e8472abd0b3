/** What the launcher needs to know of the command line. The program itself reads it again, in full. */
#pragma once

#include <string>
#include <string_view>

namespace launcher {

enum class Program { passt, pasta };

/** As callers name the command: by the last part of argv[0]. */
Program programOf(std::string_view name);

struct Command {
  Program program = Program::passt;
  /** Whether to stay in the foreground: asked for, or there is only a text to show, or a command to spawn. */
  bool foreground = false;
  /** Whether to serve without the seal, and without a compiler of machine code. */
  bool noSeal = false;
  bool noJit = false;
  /** Whether nothing but a text is to be shown: help, version, usage after an error. */
  bool inquiry = false;
  /** Number of the guest's connected socket, or -1. */
  int descriptor = -1;

  /** Arguments of --runas, --pid and --log-file; empty: none. */
  std::string user;
  std::string pidFile;
  std::string logFile;
  /** Argument of --policy; empty: none. */
  std::string policyFile;

  /** pasta: where the target network namespace comes from. "none": the program will refuse the command line, and
   * nothing is made for it. */
  enum class Target { none, process, file, spawn } target = Target::none;
  /** Files of namespaces to join; empty: none. Without one, `spawn` makes a user namespace unless `sameUser`. */
  std::string netnsPath;
  std::string usernsPath;
  bool sameUser = false;
  bool ownPids = true;
  /** Of the spawned command's UTS namespace; empty: by the host's. */
  std::string hostName;
  /** Whether changes of the host's network are followed. */
  bool followHost = true;
  /** Index in argv of the command to spawn; argc: the user's shell. */
  int operand = 0;
};

/** Reads the options as the program will. Prints nothing: errors are the program's to report. */
Command readCommand(int argc, char** argv);

}  // namespace launcher
