/**
 * A command that can connect to what is on a list, and nowhere else:
 *
 *   node examples/allow-list.ts ADDRESS:PORT[,ADDRESS:PORT…] -- COMMAND [ARGUMENT…]
 *
 * The command runs in a network namespace of its own. Each connection that it tries is decided here, once, before a socket is opened
 * for it. The host's own loopback is 10.0.2.2 for the command, so that the list may name services of this machine.
 */
import { type FlowHandler, startEngine } from "@passt/engine"
import { startInNamespace } from "./lib/namespace.ts"

const [list, separator, ...command] = process.argv.slice(2)
if (list === undefined || separator !== "--" || command.length === 0) {
  console.error("usage: allow-list.ts ADDRESS:PORT[,…] -- COMMAND [ARGUMENT…]")
  process.exit(1)
}
const allowed = new Set(list.split(","))

const onFlow: FlowHandler = ({ protocol, direction, far }) => {
  const target = `${far?.address}:${far?.port}`
  const verdict = direction === "out" && protocol === "tcp" && allowed.has(target) ? "allow" : "refuse"
  console.log(`${verdict}: ${protocol} to ${target}`)
  return verdict
}

const sandbox = await startInNamespace(command)
await using engine = await startEngine({
  guest: { kind: "namespace", path: sandbox.path, interfaceName: "eth0" },
  ipv6: false,
  address: "10.0.2.15/24",
  gateway: "10.0.2.1",
  hostLoopback: "10.0.2.2",
  onFlow,
})
process.exitCode = await sandbox.run()
const { policyAllowed, policyRefused } = engine.stats()
console.log(`${policyAllowed} allowed, ${policyRefused} refused`)
