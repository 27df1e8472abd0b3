/** Each test in a process and user namespace of its own: entering another network namespace takes privileges there. */
import { spawnSync } from "node:child_process"
import { expect, test } from "vitest"

import { runChild } from "./test-support/child.ts"

const INSIDE = ["unshare", ...(process.getuid?.() === 0 ? [] : ["--map-root-user"]), "--net"]
const probe = spawnSync(INSIDE[0]!, [...INSIDE.slice(1), "true"], { encoding: "utf8" })
const possible = probe.status === 0
if (!possible) console.log(`skipped, entering namespaces: ${(probe.error?.message ?? probe.stderr).trim()}`)

/** `target`: a descriptor of a new network namespace with loopback up, or down; it ends with its holder. */
const PREPARATION = `
  const { execFileSync, spawn } = await import("node:child_process")
  const { closeSync, openSync, readdirSync, readlinkSync } = await import("node:fs")
  const native = await import("../../index.ts")
  execFileSync("ip", ["link", "set", "lo", "up"])
  const ownSpace = readlinkSync("/proc/self/ns/net")
  async function target(loopback) {
    const command = "ip link set lo " + loopback + " && ip link add only type veth peer name twin && echo && exec sleep 60"
    const holder = spawn("unshare", ["--net", "sh", "-c", command], { stdio: ["ignore", "pipe", "inherit"] })
    await new Promise((ready) => holder.stdout.once("data", ready))
    process.on("exit", () => holder.kill("SIGKILL"))
    const fd = openSync("/proc/" + holder.pid + "/ns/net")
    return { fd, holder }
  }
  const threadSpaces = () =>
    readdirSync("/proc/self/task").filter((id) => readlinkSync("/proc/self/task/" + id + "/ns/net") !== ownSpace).length
  /** Names of interfaces that a route netlink socket sees: RTM_GETLINK dump, attribute IFLA_IFNAME (3). */
  function interfaces(fd) {
    const request = new Uint8Array(32)
    const view = new DataView(request.buffer)
    const little = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1
    view.setUint32(0, 32, little)
    view.setUint16(4, 18, little)
    view.setUint16(6, 0x301, little)
    native.netlinkSend(fd, request, 32)
    const answer = new Uint8Array(1 << 16)
    const names = []
    for (let done = false; !done; ) {
      const length = native.netlinkReceive(fd, answer, false)
      const words = new DataView(answer.buffer)
      for (let at = 0; at < length; at += (words.getUint32(at, little) + 3) & ~3) {
        if (words.getUint16(at + 4, little) === 3) done = true
        const end = at + words.getUint32(at, little)
        for (let a = at + 32; !done && a < end; a += (words.getUint16(a, little) + 3) & ~3)
          if (words.getUint16(a + 2, little) === 3)
            names.push(Buffer.from(answer.subarray(a + 4, a + words.getUint16(a, little) - 1)).toString())
      }
    }
    return names.filter((name) => name === "lo" || name === "only").join("+")
  }
`

function child(body: string): string[] {
  return runChild(PREPARATION + body, [], INSIDE)
    .trim()
    .split("\n")
}

test.runIf(possible)("what is created in the namespace belongs to it, and is used from the main thread", () => {
  const out = child(`
    const { kernel } = l.bench()
    const { fd } = await target("up")
    console.log(kernel.enterNamespace(fd), threadSpaces())
    closeSync(fd)
    console.log(interfaces(kernel.netlinkOpenInNamespace(0, false)), interfaces(native.netlinkOpen(0, false)))
    console.log(readlinkSync("/proc/self/ns/net") === ownSpace)
    kernel.destroy()
    console.log(threadSpaces())
    process.exit(0)
  `)
  expect(out).toEqual(["0 1", "lo+only lo", "true", "0"])
})

test.runIf(possible)("there is one thread per engine, and errors leave none behind", () => {
  const out = child(`
    const { openSync: open } = await import("node:fs")
    const { kernel } = l.bench()
    console.log(kernel.netlinkOpenInNamespace(0, false), kernel.enterNamespace(-1), kernel.enterNamespace(open("/dev/null")))
    console.log(threadSpaces())
    const { fd } = await target("down")
    console.log(kernel.enterNamespace(fd), kernel.enterNamespace(fd))
    const other = l.bench().kernel
    console.log(other.netlinkOpenInNamespace(0, false), other.enterNamespace(fd), threadSpaces())
    other.destroy()
    kernel.destroy()
    console.log(threadSpaces(), kernel.enterNamespace(fd), kernel.netlinkOpenInNamespace(0, false))
    process.exit(0)
  `)
  expect(out).toEqual(["-64 -9 -22", "0", "0 -114", "-64 0 2", "0 -9 -64"])
})

test.runIf(possible)("it outlives a namespace without processes, and ends with its worker thread", () => {
  const out = child(`
    const { Worker, isMainThread, parentPort, workerData } = await import("node:worker_threads")
    if (!isMainThread) {
      const { kernel } = l.bench()
      parentPort.postMessage([kernel.enterNamespace(workerData), interfaces(kernel.netlinkOpenInNamespace(0, false))])
      await new Promise(() => setTimeout(() => {}, 60_000))
    }
    const { fd, holder } = await target("up")
    const worker = new Worker(new URL(import.meta.url), { workerData: fd })
    console.log(await new Promise((done, fail) => { worker.on("message", done); worker.on("error", fail) }))
    const { kernel } = l.bench()
    kernel.enterNamespace(fd)
    const ended = new Promise((done) => holder.once("exit", done))
    holder.kill("SIGKILL")
    await ended
    console.log(interfaces(kernel.netlinkOpenInNamespace(0, false)), threadSpaces())
    await worker.terminate()
    console.log(threadSpaces())
    process.exit(0)
  `)
  expect(out).toEqual([`[ 0, 'lo+only' ]`, "lo+only 2", "1"])
})

test.runIf(possible)("a bare thread has no capabilities, and makes sockets; the namespace can be entered again", () => {
  const out = child(`
    const { readFileSync } = await import("node:fs")
    const { kernel } = l.bench()
    const { fd } = await target("up")
    kernel.enterNamespace(fd)
    kernel.leaveNamespace()
    console.log(threadSpaces(), kernel.netlinkOpenInNamespace(0, false))
    console.log(kernel.enterNamespace(fd, true))
    const thread = readdirSync("/proc/self/task").find((id) => readlinkSync("/proc/self/task/" + id + "/ns/net") !== ownSpace)
    console.log(/CapEff:\\s*(.*)/.exec(readFileSync("/proc/self/task/" + thread + "/status", "utf8"))[1])
    console.log(interfaces(kernel.netlinkOpenInNamespace(0, false)))
    process.exit(0)
  `)
  expect(out).toEqual(["0 -64", "0", "0000000000000000", "lo+only"])
})
