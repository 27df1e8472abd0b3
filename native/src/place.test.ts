/** Sockets in another namespace, in a process of their own: entering one takes privileges over the own one as well. */
import { spawnSync } from "node:child_process"
import { expect, test } from "vitest"

import { runChild } from "./test-support/child.ts"

const INSIDE = ["unshare", ...(process.getuid?.() === 0 ? [] : ["--map-root-user"]), "--net"]
const probe = spawnSync(INSIDE[0]!, [...INSIDE.slice(1), "true"], { encoding: "utf8" })
const possible = probe.status === 0
if (!possible) console.log(`skipped, sockets in namespaces: ${(probe.error?.message ?? probe.stderr).trim()}`)

/** A kernel that has entered a namespace; loopback is up in both. */
const PREPARATION = `
  const { execFileSync, spawn } = await import("node:child_process")
  const { openSync, readdirSync } = await import("node:fs")
  execFileSync("ip", ["link", "set", "lo", "up"])
  const holder = spawn("unshare", ["--net", "sh", "-c", "ip link set lo up && echo && exec sleep 60"], { stdio: ["ignore", "pipe", "inherit"] })
  await new Promise((ready) => holder.stdout.once("data", ready))
  process.on("exit", () => holder.kill("SIGKILL"))
  const { kernel, frames } = l.bench()
  if (kernel.enterNamespace(openSync("/proc/" + holder.pid + "/ns/net")) < 0) throw new Error("not entered")
  kernel.enableSplice()
  const HERE = core.PLACE_HOST, THERE = core.PLACE_NAMESPACE
  const listen = (place, port) => {
    l.setAddress(kernel, core.ADDRESS_LOCAL, "127.0.0.1", port)
    return kernel.listenTcp(4, false, "", false, place)
  }
  const connect = (place, port) => {
    const fd = kernel.tcpSocket(4, place)
    l.setAddress(kernel, core.ADDRESS_REMOTE, "127.0.0.1", port)
    kernel.connect(fd, 4)
    kernel.watch(fd, 1)
    kernel.wait(1000)
    kernel.unwatch(fd)
    return [fd, kernel.socketError(fd)]
  }
  const descriptors = () => readdirSync("/proc/self/fd").length
`

function child(body: string): string[] {
  return runChild(PREPARATION + body, [], INSIDE)
    .trim()
    .split("\n")
}

test.runIf(possible)("a place is a world of its own: the same port twice, and each connects to its own", () => {
  const out = child(`
    const there = listen(THERE, 7000)
    console.log(there >= 0, connect(HERE, 7000)[1], connect(THERE, 7000)[1])
    const here = listen(HERE, 7000)
    console.log(here >= 0, listen(HERE, 7000), connect(HERE, 7000)[1])
    console.log(kernel.accept(there) >= 0, kernel.accept(there), kernel.accept(here) >= 0)
    const udp = [HERE, THERE].map((place) => {
      l.setAddress(kernel, core.ADDRESS_LOCAL, "127.0.0.1", 7001)
      return kernel.listenUdp(4, false, "lo", false, place) >= 0
    })
    console.log(...udp)
    process.exit(0)
  `)
  expect(out).toEqual(["true 111 0", "true -98 0", "true -11 true", "true true"])
})

test.runIf(possible)("sockets there are made in advance, and closed with the kernel", () => {
  const out = child(`
    const before = descriptors()
    const made = []
    for (let i = 0; i < 70; i++) made.push(kernel.tcpSocket(4 + 2 * (i & 1), THERE), kernel.udpSocket(4, false, THERE))
    console.log(made.every((fd) => fd >= 0), new Set(made).size, descriptors() - before <= 140 + 3 * 32)
    for (const fd of made) kernel.close(fd)
    kernel.destroy()
    console.log(descriptors() <= before)
    process.exit(0)
  `)
  expect(out).toEqual(["true 140 true", "true"])
})

test.runIf(possible)("each place's listeners are told apart, by sock_diag and by files", () => {
  const out = child(`
    listen(HERE, 7000)
    listen(THERE, 7001)
    const map = new Uint8Array(core.PORT_MAP_BYTES)
    const has = (port) => (map[port >> 3] >> (port & 7)) & 1
    for (const files of [0, 1, 1]) {
      for (const place of [HERE, THERE]) {
        console.log(kernel.raw.scanListeners(place, core.SCAN_TCP, map, files), has(7000), has(7001))
      }
    }
    const before = descriptors()
    kernel.destroy()
    // Two sockets and four files, and whatever else a kernel holds.
    console.log(before - descriptors() >= 6)
    process.exit(0)
  `)
  expect(out).toEqual(["1 1 0", "1 0 1", "1 1 0", "1 0 1", "1 1 0", "1 0 1", "true"])
})
