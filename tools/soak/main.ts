/**
 * Soaks a sealed passt, and prints what became of its memory:
 *
 *   node tools/soak/main.ts [--frames N] [--flows N] [--dhcp N] [--binary PATH]
 *
 * By default 10 million frames, 200,000 new flows and 10,000 DHCP exchanges, which take some minutes.
 */
import { parseArgs } from "node:util"
import { enterSandbox, insideSandbox } from "../world/enter.ts"
import { createWorld } from "../world/world.ts"
import { type Memory, soak } from "./soak.ts"

const { values } = parseArgs({
  options: {
    frames: { type: "string", default: "10000000" },
    flows: { type: "string", default: "200000" },
    dhcp: { type: "string", default: "10000" },
    binary: { type: "string" },
  },
})

async function main(): Promise<number> {
  if (!insideSandbox()) return enterSandbox([process.execPath, ...process.argv.slice(1)])
  const world = await createWorld()
  try {
    const report = await soak(world, {
      frames: Number(values.frames),
      flows: Number(values.flows),
      exchanges: Number(values.dhcp),
      ...(values.binary === undefined ? {} : { command: [values.binary] }),
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
