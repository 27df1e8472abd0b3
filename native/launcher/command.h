/** What the launcher needs to know of the command line. The program itself reads it again, in full. */
#pragma once

namespace launcher {

struct Command {
  /** Whether to stay in the foreground: asked for, or there is only a text to show. */
  bool foreground = false;
  /** Whether nothing but a text is to be shown: help, version, usage after an error. */
  bool inquiry = false;
  /** Number of the guest's connected socket, or -1. */
  int descriptor = -1;
};

/** Reads the options as the program will. Prints nothing: errors are the program's to report. */
Command readCommand(int argc, char** argv);

}  // namespace launcher
