/**
 * The launcher's view of the option table, as a C++ header: it must find options and their arguments exactly as the
 * program does, but only knows the meaning of those that concern it. The header is checked in as
 * native/launcher/options.h; a test compares.
 */
import { READY_FD, READY_VARIABLE, SOCKET_FD, SOCKET_VARIABLE } from "./launcher.ts"
import type { OptionSpec } from "./option-spec.ts"
import { OPTIONS } from "./options.ts"

/** Values of options without a letter begin here, beyond all characters. */
const LONG_VALUE_FIRST = 256

export function launcherHeader(): string {
  // A leading "+" ends options at the first other word.
  const letters = OPTIONS.filter((option) => option.short !== undefined)
  const shortOptions = `+${letters.map((option) => option.short! + (option.argument === undefined ? "" : ":")).join("")}`
  const rows = OPTIONS.flatMap((option) => [option.name, ...(option.aliases ?? [])].map((name) => row(option, name)))
  const foreground = OPTIONS.find((option) => option.launcher === "foreground")!
  const descriptor = OPTIONS.find((option) => option.launcher === "descriptor")!
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

/** Stay in the foreground. */
inline constexpr int foregroundOption = ${value(foreground)};
/** Its argument is the number of the guest's connected socket. */
inline constexpr int descriptorOption = ${value(descriptor)};
/** Whether the program only shows a text and exits. */
constexpr bool isInquiry(int option) {
  return ${inquiries.map((option) => `option == ${value(option)}`).join(" || ")};
}

/** Where the program finds the guest's socket and the readiness pipe, and which variables say so. */
inline constexpr int socketFd = ${SOCKET_FD};
inline constexpr char socketVariable[] = "${SOCKET_VARIABLE}";
inline constexpr int readyFd = ${READY_FD};
inline constexpr char readyVariable[] = "${READY_VARIABLE}";

}  // namespace launcher
`
}

function row(option: OptionSpec, name: string): string {
  const argument = option.argument === undefined ? "no_argument" : "required_argument"
  return `    {"${name}", ${argument}, nullptr, ${value(option)}},`
}

/** The same for all names of an option, so that getopt_long takes none of them for ambiguous. */
function value(option: OptionSpec): string {
  return option.short === undefined ? String(LONG_VALUE_FIRST + OPTIONS.indexOf(option)) : `'${option.short}'`
}
