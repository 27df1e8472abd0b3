/**
 * The launcher's view of the option table, as a C++ header: it must find options and their arguments exactly as the
 * program does, but only knows the meaning of those that concern it. The header is checked in as
 * native/launcher/options.h; a test compares.
 */
import {
  CHILD_VARIABLE,
  GO_FD,
  GO_VARIABLE,
  LISTENER_VARIABLE,
  LOG_APPEND_FD,
  LOG_EDIT_FD,
  LOG_FILE_VARIABLE,
  NETNS_DIRECTORY_FD,
  NETNS_DIRECTORY_VARIABLE,
  NETNS_FD,
  NETNS_VARIABLE,
  PID_FILE_FD,
  PID_FILE_VARIABLE,
  READY_FD,
  READY_VARIABLE,
  POLICY_FD,
  POLICY_VARIABLE,
  RESOLVERS_FD,
  RESOLVERS_VARIABLE,
  SOCKET_FD,
  SOCKET_VARIABLE,
  WARNINGS_VARIABLE,
} from "./launcher.ts"
import { LAUNCHER_ROLES, type LauncherRole, type OptionSpec } from "./option-spec.ts"
import { OPTIONS } from "./options.ts"

/** Values of options without a letter begin here, beyond all characters. */
const LONG_VALUE_FIRST = 256

export function launcherHeader(): string {
  // A leading "+" ends options at the first other word.
  const letters = OPTIONS.filter((option) => option.short !== undefined)
  const shortOptions = `+${letters.map((option) => option.short! + (option.argument === undefined ? "" : ":")).join("")}`
  const rows = OPTIONS.flatMap((option) => [option.name, ...(option.aliases ?? [])].map((name) => row(option, name)))
  const roles = (Object.keys(LAUNCHER_ROLES) as LauncherRole[]).filter((role) => role !== "inquiry")
  const inquiries = OPTIONS.filter((option) => option.launcher === "inquiry")
  return `/**
 * Options as getopt_long finds them, and the numbers that launcher and program agree on.
 * Generated from the option table of @passt/cli: run \`pnpm --filter @passt/cli generate\` after changing it.
 */
#pragma once

#include <getopt.h>

namespace launcher {

inline constexpr const char* shortOptions = "${shortOptions}";

inline constexpr option longOptions[] = {
${rows.join("\n")}
    {nullptr, 0, nullptr, 0},
};

${roles.map(role).join("\n")}
/** Whether the program only shows a text and exits. */
constexpr bool isInquiry(int option) {
  return ${inquiries.map((option) => `option == ${value(option)}`).join(" || ")};
}

/** Where the program finds the guest's socket, the readiness pipe, the target network namespace and the pipe to the
 * command that is to be spawned, and which variables say so. */
inline constexpr int socketFd = ${SOCKET_FD};
inline constexpr char socketVariable[] = "${SOCKET_VARIABLE}";
inline constexpr char listenerVariable[] = "${LISTENER_VARIABLE}";
inline constexpr int readyFd = ${READY_FD};
inline constexpr char readyVariable[] = "${READY_VARIABLE}";
inline constexpr int netnsFd = ${NETNS_FD};
inline constexpr char netnsVariable[] = "${NETNS_VARIABLE}";
/** Where it finds the directory of the file that names that namespace. */
inline constexpr int netnsDirectoryFd = ${NETNS_DIRECTORY_FD};
inline constexpr char netnsDirectoryVariable[] = "${NETNS_DIRECTORY_VARIABLE}";
inline constexpr int goFd = ${GO_FD};
inline constexpr char goVariable[] = "${GO_VARIABLE}";
/** Where it finds files that were opened before the user changed. */
inline constexpr int pidFileFd = ${PID_FILE_FD};
inline constexpr char pidFileVariable[] = "${PID_FILE_VARIABLE}";
inline constexpr int logEditFd = ${LOG_EDIT_FD};
inline constexpr int logAppendFd = ${LOG_APPEND_FD};
inline constexpr char logFileVariable[] = "${LOG_FILE_VARIABLE}";
/** Where it finds the socket on which the watcher of resolv.conf sends. */
inline constexpr int resolversFd = ${RESOLVERS_FD};
inline constexpr char resolversVariable[] = "${RESOLVERS_VARIABLE}";
/** Where it asks for the policy's file. */
inline constexpr int policyFd = ${POLICY_FD};
inline constexpr char policyVariable[] = "${POLICY_VARIABLE}";
/** The command's process. */
inline constexpr char childVariable[] = "${CHILD_VARIABLE}";
/** Lines for the user. */
inline constexpr char warningsVariable[] = "${WARNINGS_VARIABLE}";

}  // namespace launcher
`
}

function role(name: LauncherRole): string {
  const option = OPTIONS.find((candidate) => candidate.launcher === name)!
  return `/** ${LAUNCHER_ROLES[name]}. */\ninline constexpr int ${name}Option = ${value(option)};`
}

function row(option: OptionSpec, name: string): string {
  const argument = option.argument === undefined ? "no_argument" : "required_argument"
  return `    {"${name}", ${argument}, nullptr, ${value(option)}},`
}

/** The same for all names of an option, so that getopt_long takes none of them for ambiguous. */
function value(option: OptionSpec): string {
  return option.short === undefined ? String(LONG_VALUE_FIRST + OPTIONS.indexOf(option)) : `'${option.short}'`
}
