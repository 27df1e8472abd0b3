/**
 * From annotations to blocks of BPF instructions, as C++ source. One block per system call and set of conditions; whoever
 * installs a filter strings together those whose conditions hold. A block is entered with the number of the call in the
 * accumulator, and is left for the next one with it still there, or by a verdict:
 *
 *   jeq NUMBER, 0, end of block
 *   for each way to make the call: load an argument, mask it, compare; on a difference on to the next way
 *   ret allow
 *   load the number again
 */
import { ARCHITECTURES, type Architecture, type Call, CONDITIONS } from "./annotations.ts"

/** A program of its own for each way, so that no jump is longer than BPF can have (255 instructions). */
interface Block {
  readonly name: string
  readonly conditions: readonly string[]
  readonly lines: readonly string[]
}

const load = (index: number): string => `BPF_STMT(BPF_LD | BPF_W | BPF_ABS, lowWord(${index}))`
const ALLOW = "BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)"

/** Instructions that fall through when the arguments fit, and otherwise jump behind themselves and the verdict that follows. */
function way(call: Call): string[] {
  const parts = call.arguments.map(({ index, mask, values }) => ({
    head: [load(index), ...(mask === null ? [] : [`BPF_STMT(BPF_ALU | BPF_AND | BPF_K, ${mask})`])],
    values,
  }))
  let after = 0
  const reversed: string[][] = []
  for (const { head, values } of parts.toReversed()) {
    const lines = values.map((value, i) => {
      const left = values.length - 1 - i
      // A match jumps over the other values; the last difference over all that is left of this way.
      return `BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(${value}), ${left}, ${left === 0 ? after + 1 : 0})`
    })
    reversed.push([...head, ...lines])
    after += head.length + lines.length
  }
  return reversed.toReversed().flat()
}

/** Blocks for one architecture; unconditional calls first: the kernel remembers those that are always allowed. */
export function compile(calls: readonly Call[], architecture: Architecture): Block[] {
  const groups = new Map<string, Call[]>()
  for (const call of calls) {
    if (!call.architectures.includes(architecture)) continue
    const key = `${call.name} ${call.conditions.toSorted().join("&")}`
    groups.set(key, [...(groups.get(key) ?? []), call])
  }
  const blocks = [...groups.values()].map((group): Block => {
    const { name, conditions } = group[0]!
    const anyWay = group.some((call) => call.arguments.length === 0)
    const seen = new Set<string>()
    const ways = group.filter((call) => {
      const text = JSON.stringify(call.arguments)
      return !seen.has(text) && seen.add(text)
    })
    const body = anyWay ? [ALLOW] : ways.flatMap((call) => [...way(call), ALLOW])
    // A call may also be allowed by a later block; so what does not fit goes on, with the number loaded again.
    if (!anyWay) body.push("BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))")
    if (body.length > 255) throw new Error(`${name}: too many ways`)
    const lines = [`BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_${name}, 0, ${body.length})`, ...body]
    return { name, conditions, lines }
  })
  const rank = (block: Block): number => (block.lines.length === 2 ? 0 : 1)
  return blocks.toSorted((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name))
}

function table(calls: readonly Call[], architecture: Architecture): string {
  const rows = compile(calls, architecture).map(({ name, conditions, lines }) => {
    const bits = conditions.map((condition) => 1 << CONDITIONS.indexOf(condition as (typeof CONDITIONS)[number]))
    return `    // ${name}\n    ${lines.map((line) => `${line},`).join("\n    ")}\n    blockEnd(${bits.reduce((a, b) => a | b, 0)}),`
  })
  return rows.join("\n")
}

/** The header. @param calls annotations of all files */
export function header(calls: readonly Call[]): string {
  const cases = ARCHITECTURES.map((architecture) => {
    const symbol = architecture === "x86-64" ? "__x86_64__" : "__aarch64__"
    return `#if defined(${symbol})
inline constexpr uint32_t filterArchitecture = ${architecture === "x86-64" ? "AUDIT_ARCH_X86_64" : "AUDIT_ARCH_AARCH64"};
constexpr sock_filter filterBlocks[] = {
${table(calls, architecture)}
};
#endif`
  })
  return `// Generated from the annotations beside system calls (native/src/filter). Not to be edited.
#pragma once

${cases.join("\n\n")}
`
}
