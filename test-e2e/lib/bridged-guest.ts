// A fast guest: a namespace whose tap device a native bridge joins to passt's socket. Its kernel is this machine's own,
// so that large transfers take no time, and any program of this machine can be its client or server.
import type { ChildProcess } from "node:child_process"
import { buildNativeTool } from "../../tools/bench/native-tools.ts"
import { HOST, ROUTER } from "../../tools/world/addresses.ts"
import { createNamespace } from "../../tools/world/namespace.ts"
import type { Namespace } from "../../tools/world/namespace.ts"
import { LINK } from "../../tools/world/passt.ts"
import { stop, until } from "../../tools/world/process.ts"
import { ip } from "../../tools/world/world.ts"

export interface BridgedGuestOptions {
  /** MTU of the guest's interface, in bytes. Default 1500. */
  readonly mtu?: number
  /** "static": the host's addresses and default routes. "none": as the kernel makes it; router advertisements count. */
  readonly configure?: "static" | "none"
}

export interface BridgedGuest extends Namespace {
  /** End the bridge, as if the virtual machine had been killed; the namespace stays. */
  unplug(): Promise<void>
  /** Connect again, to this or another socket. */
  plug(socket: string): Promise<void>
}

export async function createBridgedGuest(socket: string, options: BridgedGuestOptions = {}): Promise<BridgedGuest> {
  const namespace = await createNamespace("guest")
  const mtu = options.mtu ?? 1500
  const bridgeProgram = buildNativeTool("bridge")
  let bridge: ChildProcess | undefined

  async function plug(path: string): Promise<void> {
    const command = [
      bridgeProgram,
      "--socket",
      path,
      "--ifname",
      "eth0",
      "--mtu",
      String(mtu),
      "--mac",
      "02:00:00:00:00:02",
      ...(LINK === "vhost-user" ? ["--vhost-user"] : []),
    ]
    const started = namespace.start(command, { stdio: ["ignore", "pipe", "pipe"] })
    bridge = started
    let said = ""
    started.stdout?.on("data", (chunk: Buffer) => (said += chunk.toString()))
    started.stderr?.on("data", (chunk: Buffer) => (said += chunk.toString()))
    await until("the bridge", 10_000, () => {
      if (started.exitCode !== null) throw new Error(`the bridge ended: ${said}`)
      return said.includes("ready")
    })
    if (options.configure === "none") return
    // A static configuration, so that what the test is about is not waiting for DHCP and address detection.
    await namespace.must(["sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_ra"])
    await ip(namespace, [
      "link set eth0 up",
      `address add ${HOST.ipv4}/${HOST.prefix4} dev eth0`,
      `address add ${HOST.ipv6}/${HOST.prefix6} dev eth0 nodad`,
      `route add default via ${ROUTER.ipv4} dev eth0`,
      `route replace default via ${ROUTER.ipv6} dev eth0`,
    ])
  }
  await plug(socket)
  return {
    ...namespace,
    plug,
    async unplug() {
      if (bridge !== undefined) await stop(bridge)
    },
  }
}
