/** Follows the neighbours of an interface while `ip` changes them. Standard input: { index, batches }; prints what was told after each. */
import { execFileSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { address as ip } from "@passt/core/wire"
import { NeighbourMonitor } from "../neighbour-monitor.ts"
import { macText } from "../summary.ts"

const { index, batches } = JSON.parse(readFileSync(0, "utf8")) as { index: number; batches: string[] }
let told: string[] = []
const monitor = new NeighbourMonitor({
  interfaceIndex4: index,
  interfaceIndex6: index,
  onChange: ({ address, mac }) => void told.push(`${ip.format(address)} ${mac ? macText(mac) : "gone"}`),
})
const rounds: string[][] = []
for (const batch of ["", ...batches]) {
  if (batch !== "") execFileSync("ip", ["-batch", "-"], { input: batch })
  while (monitor.process());
  rounds.push(told)
  told = []
}
monitor.close()
console.log(JSON.stringify(rounds))
