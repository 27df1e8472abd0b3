/** How the installed launcher runs node, for what must run it in the same way without the launcher. */
import { readFileSync } from "node:fs"

const text = readFileSync(new URL("../native/launcher/runtime-flags.h", import.meta.url), "utf8")

/** Flags, in order. */
export function runtimeFlags(): string[] {
  const list = text.slice(0, text.indexOf("};"))
  const portable = process.arch === "x64" ? list : list.replace(/#if defined\(__x86_64__\)[^#]*#endif/, "")
  return [...portable.matchAll(/^\s*"(--[^"]+)",$/gm)].map(([, flag]) => flag!)
}

/** Variables: without those for malloc, the program can't be sealed. */
export function runtimeEnvironment(): Record<string, string> {
  const [, tunables = ""] = /"GLIBC_TUNABLES=([^"]*)"/.exec(text) ?? []
  return { GLIBC_TUNABLES: tunables, UV_USE_IO_URING: "0" }
}
