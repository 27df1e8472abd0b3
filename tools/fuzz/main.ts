/**
 * `node tools/fuzz/main.ts [--seconds N] [--seed S] [--cases N] [target…]`: cases one after the other, until the time is
 * over or one fails. A case follows from its seed alone: the seed that is printed with a failure, with `--cases 1`, gives it
 * again.
 */
import { parseArgs } from "node:util"
import { controlTarget } from "./control.ts"
import { engineTarget } from "./engine/engine.ts"
import { parserTarget } from "./parsers.ts"
import { pestoTarget } from "./pesto.ts"
import { policyTarget } from "./policy.ts"
import { describe, type Target } from "./target.ts"
import { unixLinkTarget } from "./unix-link/unix-link.ts"
import { vhostTarget } from "./vhost/vhost.ts"

const TARGETS: readonly Target[] = [
  engineTarget,
  unixLinkTarget,
  parserTarget,
  controlTarget,
  pestoTarget,
  policyTarget,
  vhostTarget,
]

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: "string", default: "60" },
    seed: { type: "string" },
    cases: { type: "string", default: "1000000000" },
  },
})
const seconds = Number(values.seconds)
const cases = Number(values.cases)
const first = values.seed === undefined ? Date.now() % 1_000_000_000 : Number(values.seed)
const unknown = positionals.filter((name) => !TARGETS.some((target) => target.name === name))
if (unknown.length > 0 || !(seconds > 0) || !(cases > 0) || !Number.isInteger(first)) {
  const names = TARGETS.map((target) => target.name).join("|")
  console.error(`usage: fuzz [--seconds N] [--seed S] [--cases N] [${names}]…`)
  process.exit(2)
}
const chosen = positionals.length === 0 ? TARGETS : TARGETS.filter((target) => positionals.includes(target.name))

for (const target of chosen) {
  console.log(`${target.name}: seed ${first}, ${seconds} s`)
  const end = Date.now() + (seconds * 1000) / chosen.length
  let done = 0
  try {
    while (Date.now() < end && done < cases) {
      try {
        target.run(first + done)
      } catch (error) {
        console.error(`${target.name} fails: --seed ${first + done} --cases 1 ${target.name}\n${describe(error)}`)
        process.exitCode = 1
        break
      }
      done++
    }
  } finally {
    target.end?.()
  }
  console.log(`${target.name}: ${done} cases`)
}
