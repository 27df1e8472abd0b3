/**
 * What the native code says of its own system calls. A comment beside a call reads
 *
 *   // seccomp: recvmsg close
 *   // seccomp[pasta]: splice pipe2
 *   // seccomp[log-file]: pread64
 *   // seccomp: epoll_wait@x86-64 epoll_pwait@aarch64
 *   // seccomp: socket(AF_INET|AF_INET6, SOCK_TYPE_MASK:SOCK_STREAM|SOCK_DGRAM) ioctl(_, SIOCOUTQ)
 *
 * In brackets: the conditions under which the process makes the call, all of which must hold. In parentheses: values that an
 * argument may have, perhaps after a mask; `_` may be anything, and so may what is left out. Values are expressions of C++.
 * A call that is named several times may be made in any of the ways.
 */

/** Equal to the bits that the start of a program passes (native/src/seal.ts). */
export const CONDITIONS = [
  "passt",
  "pasta",
  "log-file",
  "capture",
  "command",
  "no-sock-diag",
  "control",
  "vhost-user",
  "policy",
] as const
export type Condition = (typeof CONDITIONS)[number]
export const ARCHITECTURES = ["x86-64", "aarch64"] as const
export type Architecture = (typeof ARCHITECTURES)[number]

export interface Argument {
  readonly index: number
  readonly mask: string | null
  readonly values: readonly string[]
}

export interface Call {
  readonly name: string
  readonly conditions: readonly Condition[]
  readonly architectures: readonly Architecture[]
  readonly arguments: readonly Argument[]
}

const LINE = /\/\/ seccomp(?:\[([^\]]*)\])?: (.*)$/
const CALL = /^([a-z][a-z0-9_]*)(?:@([a-z0-9-]+))?(?:\(([^()]*)\))?(?:\s+|$)/

/** Reads all annotations of a source text. @param file for messages @throws on what it does not understand */
export function readAnnotations(source: string, file: string): Call[] {
  const calls: Call[] = []
  source.split("\n").forEach((line, index) => {
    const found = LINE.exec(line)
    if (!found) return
    const wrong = (what: string): Error => new Error(`${file}:${index + 1}: ${what}`)
    const conditions = (found[1]?.split(",") ?? []).map((word) => {
      const condition = CONDITIONS.find((known) => known === word.trim())
      if (!condition) throw wrong(`unknown condition ${word}`)
      return condition
    })
    for (let rest = found[2]!.trim(); rest !== "";) {
      const call = CALL.exec(rest)
      if (!call) throw wrong(`not a system call: ${rest}`)
      rest = rest.slice(call[0].length)
      const architecture = ARCHITECTURES.find((known) => known === call[2])
      if (call[2] !== undefined && !architecture) throw wrong(`unknown architecture ${call[2]}`)
      calls.push({
        name: call[1]!,
        conditions,
        architectures: architecture ? [architecture] : ARCHITECTURES,
        arguments: call[3] === undefined ? [] : readArguments(call[3]),
      })
    }
  })
  return calls
}

function readArguments(text: string): Argument[] {
  return text.split(",").flatMap((word, index) => {
    const [, mask, values] = /^(?:(.*):)?(.*)$/.exec(word.trim())!
    return values === "_"
      ? []
      : [{ index, mask: mask ?? null, values: values!.split("|").map((value) => value.trim()) }]
  })
}
