/**
 * A sandbox: a machine in QEMU that runs one command, and every flow of it as it comes and goes.
 *
 *   node examples/sandbox.ts COMMAND        "wget -qO- http://192.0.2.7/"; the host's loopback is 10.0.2.2
 *
 * The machine is the one of the project's tests (tools/guest), a Linux kernel and busybox in memory. Its network card is one end of a
 * socket pair: no path, no port, no privilege.
 */
import { spawn } from "node:child_process"
import { type Flow, GuestSocket, startEngine } from "@passt/engine"
import { bootGuest } from "../tools/guest/qemu.ts"

const command = process.argv.slice(2).join(" ")
if (command === "") {
  console.error("usage: sandbox.ts COMMAND")
  process.exit(1)
}

function describe({ protocol, far }: Flow): string {
  return protocol === "icmp" ? `ping of ${far?.address}` : `${protocol} to ${far?.address}:${far?.port}`
}

using socket = new GuestSocket()
await using engine = await startEngine({
  guest: socket,
  ipv6: false,
  address: "10.0.2.15/24",
  gateway: "10.0.2.1",
  hostLoopback: "10.0.2.2",
  hostname: "sandbox",
})
engine.on("flowOpen", (flow) => console.log(`+ ${describe(flow)}`))
engine.on("flowClose", (flow) => {
  const { bytesFromGuest, bytesToGuest, ageMs } = flow
  console.log(`- ${describe(flow)}: ${bytesFromGuest} bytes out, ${bytesToGuest} bytes in, ${ageMs} ms`)
})

const guest = await bootGuest({
  netdev: "stream,id=net,addr.type=fd,addr.str=3",
  start([qemu = "", ...args], options) {
    const child = spawn(qemu, args, { ...options, stdio: ["ignore", "pipe", "pipe", socket.fd] })
    socket.release()
    return child
  },
  bootTimeoutMs: 300_000,
})
try {
  await guest.online(120_000)
  const { status, stdout, stderr } = await guest.run(command, 120_000)
  process.stdout.write(stdout)
  process.stderr.write(stderr)
  process.exitCode = status
} finally {
  await guest.kill()
}
