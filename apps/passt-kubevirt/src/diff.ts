/** What changes between two objects: as lines with "+" and "-", of what a person would write and not what a server keeps. */
import { dump } from "js-yaml"
import type { Manifest } from "./cluster/objects.ts"

const KEPT_BY_SERVER: ReadonlySet<string> = new Set([
  "creationTimestamp",
  "deletionGracePeriodSeconds",
  "deletionTimestamp",
  "generation",
  "managedFields",
  "resourceVersion",
  "selfLink",
  "uid",
])

/** Without status and what the server keeps in metadata. */
export function bare(object: Manifest): Record<string, unknown> {
  const { status: _, metadata, ...rest } = object
  const kept = Object.entries(metadata).filter(([name]) => !KEPT_BY_SERVER.has(name))
  // What a DaemonSet's controller counts there.
  const annotations = Object.entries(metadata.annotations ?? {}).filter(
    ([name]) => !name.startsWith("deprecated.daemonset."),
  )
  const plain = Object.fromEntries(kept)
  if (annotations.length === 0) delete plain["annotations"]
  else plain["annotations"] = Object.fromEntries(annotations)
  return { ...rest, metadata: plain }
}

/** JSON with sorted names, to compare by. */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null"
  const entries = Object.entries(value).filter(([, inner]) => inner !== undefined)
  return `{${entries
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, inner]) => `${JSON.stringify(name)}:${canonical(inner)}`)
    .join(",")}}`
}

export function isSame(before: Manifest, after: Manifest): boolean {
  return canonical(bare(before)) === canonical(bare(after))
}

/** Lines around a change. */
const CONTEXT = 3

function lines(object: Manifest | undefined): string[] {
  if (object === undefined) return []
  return dump(bare(object), { sortKeys: true, lineWidth: -1, noRefs: true }).trimEnd().split("\n")
}

/** @returns lines that begin with " ", "-" or "+"; "@@" where some are left out */
export function diff(before: Manifest | undefined, after: Manifest | undefined): string[] {
  const marked = mark(lines(before), lines(after))
  const near = marked.map((_, i) =>
    marked.slice(Math.max(0, i - CONTEXT), i + CONTEXT + 1).some((line) => line[0] !== " "),
  )
  return marked.flatMap((line, i) => {
    if (near[i]) return [line]
    return i === 0 || near[i - 1] ? ["@@"] : []
  })
}

/** By the longest common subsequence: objects are a few hundred lines. */
function mark(before: readonly string[], after: readonly string[]): string[] {
  const width = after.length + 1
  const common = new Uint16Array((before.length + 1) * width)
  for (let i = before.length - 1; i >= 0; i--) {
    for (let j = after.length - 1; j >= 0; j--) {
      common[i * width + j] =
        before[i] === after[j]
          ? common[(i + 1) * width + j + 1]! + 1
          : Math.max(common[(i + 1) * width + j]!, common[i * width + j + 1]!)
    }
  }
  const marked: string[] = []
  let [i, j] = [0, 0]
  while (i < before.length || j < after.length) {
    if (i < before.length && j < after.length && before[i] === after[j]) {
      marked.push(` ${before[i]}`)
      i++
      j++
    } else if (
      i < before.length &&
      (j === after.length || common[(i + 1) * width + j]! >= common[i * width + j + 1]!)
    ) {
      marked.push(`-${before[i++]}`)
    } else marked.push(`+${after[j++]}`)
  }
  return marked
}
