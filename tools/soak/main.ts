/**
 * Soaks a sealed passt, and prints what became of its memory:
 *
 *   node tools/soak/main.ts [--frames N] [--flows N] [--dhcp N] [--binary PATH | --release NAME]
 *
 * --release runs the reference of a release of Debian, fetched once. By default 10 million frames, 200,000 new flows and 10,000
 * DHCP exchanges, which take some minutes.
 */
import { join } from "node:path"
import { parseArgs } from "node:util"
import { fetchDebianPasst } from "../bench/debian-release.ts"
import { enterSandbox, insideSandbox, ROOT } from "../world/enter.ts"
import { createWorld } from "../world/world.ts"
import { type Memory, soak } from "./soak.ts"

const { values } = parseArgs({
  options: {
    frames: { type: "string", default: "10000000" },
    flows: { type: "string", default: "200000" },
    dhcp: { type: "string", default: "10000" },
    binary: { type: "string" },
    release: { type: "string" },
  },
})

/** What the part outside the sandbox, which can fetch, tells the part inside. */
const COMMAND_VARIABLE = "PASST_SOAK_COMMAND"

/** @returns the program that is not ours, undefined for ours */
function chosen(): readonly string[] | undefined {
  if (values.release === undefined) return values.binary === undefined ? undefined : [values.binary]
  const found = fetchDebianPasst(values.release, join(ROOT, ".cache/bench"), "passt")
  if (typeof found === "string") throw new Error(`--release ${values.release}: ${found}`)
  return found.command
}

async function main(): Promise<number> {
  if (!insideSandbox()) {
    const env = { [COMMAND_VARIABLE]: JSON.stringify(chosen() ?? null) }
    return enterSandbox([process.execPath, ...process.argv.slice(1)], { env })
  }
  const command = JSON.parse(process.env[COMMAND_VARIABLE]!) as string[] | null
  const world = await createWorld()
  try {
    const report = await soak(world, {
      frames: Number(values.frames),
      flows: Number(values.flows),
      exchanges: Number(values.dhcp),
      ...(command === null ? {} : { command }),
    })
    const { frames, flows, exchanges, seconds, idle, after, scavenges, collections, heap } = report
    console.log(`${frames} frames, ${flows} flows, ${exchanges} DHCP exchanges in ${Math.round(seconds)} s`)
    console.log(
      `collections: ${scavenges} of the young generation, ${collections} of the whole heap; left ${heap.join(", ")} MB`,
    )
    const row = (name: string, memory: Memory): void => {
      const { size, resident, proportional, dirty } = memory
      console.log(`${name}: VmSize ${size} kB, RSS ${resident} kB, PSS ${proportional} kB, Private_Dirty ${dirty} kB`)
    }
    row("idle", idle)
    row("after", after)
    return 0
  } finally {
    await world.close()
  }
}

process.exit(await main())
