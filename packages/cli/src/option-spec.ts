/** What the option table says of an option. Parser, help text, manual page, completions and launcher are all made from it. */

export type Mode = "passt" | "vhost-user" | "pasta"

/** Headings of help text and manual page, in their order. */
export const OPTION_GROUPS = {
  general: "General",
  transport: "Guest connection",
  network: "Addresses and routes",
  dns: "Names",
  services: "Protocols and services",
  translation: "Address translation",
  forwarding: "Port forwarding",
  migration: "Migration",
  namespace: "Namespaces",
} as const
export type OptionGroup = keyof typeof OPTION_GROUPS

/** Why the launcher looks at an option. */
export const LAUNCHER_ROLES = {
  inquiry: "The program only shows a text and exits",
  foreground: "Stay in the foreground",
  descriptor: "Its argument is the number of the guest's connected socket",
  noSeal: "Serve without the seal",
  noJit: "Interpret the program, never compile it to machine code",
  user: "Whom to become, UID[:GID] or LOGIN[:GROUP]",
  netns: "Network namespace to join",
  userns: "User namespace to join",
  netnsOnly: "Stay in the user namespace",
  noPidns: "No PID namespace for the command to spawn",
  pidFile: "File to write the process ID to",
  logFile: "File to write messages to",
  policyFile: "File of rules, to be opened again on SIGHUP",
  noFollow: "Don't watch the host's resolver configuration",
  hostName: "Host name in the command's UTS namespace",
} as const
export type LauncherRole = keyof typeof LAUNCHER_ROLES

/** Where shells find what an argument could be. */
export type Source = "files" | "interfaces" | "users" | "namespaces"

export interface OptionSpec {
  /** Long name without dashes; also names the option in code. */
  readonly name: string
  readonly short?: string
  /** Further long names. */
  readonly aliases?: readonly string[]
  /** What the argument is, in capitals; absent: takes none. */
  readonly argument?: string
  /** Where it is allowed; absent: everywhere. */
  readonly modes?: readonly Mode[]
  readonly group: OptionGroup
  /** What shells offer as the argument: words that mean something, and things of the system. */
  readonly offers?: readonly (Source | { readonly word: string })[]
  /** One sentence for the help text, without a final period. */
  readonly help: string
  /** What holds without the option, for help text and manual page. */
  readonly standard?: string
  /** Where that is something else in pasta. */
  readonly standardInPasta?: string
  /** Further sentences for the manual page, as mdoc source; absent: the help sentence is enough. */
  readonly man?: string
  /** Where those are others in pasta. */
  readonly manInPasta?: string
  /** "list": may be given several times, each adding to the others; "per-family": once for IPv4 and once for IPv6.
   * Absent: the last one counts. */
  readonly repeatable?: "list" | "per-family"
  /** "planned": known, but refused with a message until it is built. */
  readonly status: "built" | "planned"
  /** Accepted, but no longer of use. */
  readonly deprecated?: boolean
  /** What the launcher has to know of this option; LAUNCHER_ROLES says why. */
  readonly launcher?: LauncherRole
}
