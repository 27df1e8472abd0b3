// A virtual machine's pod without a cluster: a network namespace prepared as the CNI plugin does it, in it our sidecar as
// KubeVirt starts it (uid 107, no capabilities), and this process in virt-launcher's place.
import type { ChildProcess } from "node:child_process"
import { mkdirSync, mkdtempSync } from "node:fs"
import { join } from "node:path"
import { call } from "../../apps/kubevirt-binding/src/sidecar/test-support/client.ts"
import { machineJson, type MachineWish } from "../../apps/kubevirt-binding/src/sidecar/test-support/machines.ts"
import { buildNativeTool } from "../../tools/bench/native-tools.ts"
import { HOST, ROUTER } from "../../tools/world/addresses.ts"
import { ROOT, scratchDirectory } from "../../tools/world/enter.ts"
import { createNamespace, type Namespace } from "../../tools/world/namespace.ts"
import { ended, must, stop, until } from "../../tools/world/process.ts"
import { ip } from "../../tools/world/world.ts"

/** Whom KubeVirt runs virt-launcher and its sidecars as. */
export const QEMU_ID = 107
const LIB = join(ROOT, "dist/lib/passt")

export interface Sidecar {
  readonly process: ChildProcess
  /** Its directory for hook sockets, and where it answers. */
  readonly directory: string
  readonly socket: string
  /** Of the interface "default". */
  readonly engineSocket: string
  /** Its log lines so far. */
  lines(): readonly Readonly<Record<string, unknown>>[]
  /** What it wrote to standard error. */
  errors(): string
  define(wish?: MachineWish, domain?: string): Promise<string>
  /** The process id of the engine that works now. */
  enginePid(): number
  stop(): Promise<void>
}

/** The command line of a program without any privilege, as a pod's containers are. */
export function unprivileged(command: readonly string[], id: number = QEMU_ID): string[] {
  const caps = ["--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs"]
  return ["setpriv", `--reuid=${id}`, `--regid=${id}`, "--clear-groups", ...caps, "--", ...command]
}

/** What the CNI plugin does to a pod. */
export async function preparePod(pod: Namespace): Promise<void> {
  const settings = `echo 0 >ip_unprivileged_port_start; echo "${QEMU_ID} ${QEMU_ID}" >ping_group_range`
  // "All" ports are those that are not the kernel's to give away.
  await pod.must(["sh", "-c", `cd /proc/sys/net/ipv4; ${settings}; echo 16000 65000 >ip_local_port_range`])
}

/** @param directory for hook sockets @param start another way to start it, or another user than KubeVirt's */
export async function startSidecar(
  pod: Namespace,
  variables: Readonly<Record<string, string>>,
  directory: string,
  start: readonly string[] | number = QEMU_ID,
): Promise<Sidecar> {
  const env = {
    CONTAINER_NAME: "hook-sidecar-0",
    PASST_HOOK_DIRECTORY: directory,
    PASST_BINARY: join(ROOT, "dist/bin/passt"),
    ...variables,
  }
  const words = Object.entries(env).map(([name, value]) => `${name}=${value}`)
  const plain = ["env", "-i", ...words, join(LIB, "node"), join(LIB, "kubevirt-binding.mjs")]
  const program = typeof start === "number" ? unprivileged(plain, start) : start
  const child = pod.start(program, { stdio: ["ignore", "pipe", "pipe"] })
  let output = ""
  let errors = ""
  child.stdout?.on("data", (chunk: Buffer) => (output += chunk.toString()))
  child.stderr?.on("data", (chunk: Buffer) => (errors += chunk.toString()))
  const lines = (): Record<string, unknown>[] =>
    output
      .split("\n")
      .slice(0, -1)
      .map((line) => JSON.parse(line))
  await until("the sidecar", 20_000, () => {
    if (child.exitCode !== null) throw new Error(`the sidecar ended: ${output}${errors}`)
    return lines().some(({ message }) => message === "listening")
  })
  const socket = join(directory, "passt-hook-sidecar-0.sock")
  return {
    process: child,
    directory,
    socket,
    engineSocket: join(directory, "engine/default.sock"),
    lines,
    errors: () => errors,
    async define(wish = {}, domain = "<domain><devices/></domain>") {
      const request = { domainXML: Buffer.from(domain), vmi: Buffer.from(machineJson(wish)) }
      const path = "kubevirt.hooks.v1alpha3.Callbacks/OnDefineDomain"
      const { domainXML } = await call<{ domainXML: Buffer }>(socket, path, request)
      return domainXML.toString()
    },
    enginePid: () => Number(lines().findLast(({ message }) => message === "engine is ready")?.pid),
    async stop() {
      child.kill("SIGTERM")
      if (!(await ended(child, 5000))) await stop(child)
    },
  }
}

export function makeHookDirectory(): string {
  const folder = mkdtempSync(join(scratchDirectory(), "hooks-"))
  // As an emptyDir is: anybody's in the pod.
  const directory = join(folder, "hook-sidecar-0")
  mkdirSync(directory)
  return directory
}

/** Gives a pod's directory to whom the sidecar runs as. */
export async function ownedByQemu(directory: string, id: number = QEMU_ID): Promise<void> {
  await must(["chmod", "0755", join(directory, "..")])
  await must(["chown", `${id}:${id}`, directory])
}

/** A guest with a kernel of its own speed: a namespace whose tap is moved by vhost-user, in QEMU's place. */
export async function plugGuest(socket: string): Promise<Namespace> {
  const guest = await createNamespace("guest")
  const options = ["--socket", socket, "--vhost-user", "--ifname", "eth0", "--mtu", "1500", "--wait", "5000"]
  const bridge = guest.start([buildNativeTool("bridge"), ...options], { stdio: ["ignore", "pipe", "pipe"] })
  let said = ""
  for (const stream of [bridge.stdout, bridge.stderr]) stream?.on("data", (chunk: Buffer) => (said += chunk.toString()))
  await until("the bridge", 10_000, () => {
    if (bridge.exitCode !== null) throw new Error(`the bridge ended: ${said}`)
    return said.includes("ready")
  })
  await guest.must(["sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_ra"])
  await ip(guest, [
    "link set eth0 up",
    `address add ${HOST.ipv4}/${HOST.prefix4} dev eth0`,
    `address add ${HOST.ipv6}/${HOST.prefix6} dev eth0 nodad`,
    `route add default via ${ROUTER.ipv4} dev eth0`,
    `route replace default via ${ROUTER.ipv6} dev eth0`,
  ])
  return guest
}
