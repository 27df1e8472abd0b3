// The image runs as it will in a cluster: its root file system is mounted and entered, nothing of this machine is in it.
import { existsSync, globSync, readdirSync, readFileSync, statSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { call } from "../../apps/kubevirt-binding/src/sidecar/test-support/client.ts"
import { HOST, PAGE, PORT, SERVER } from "../../tools/world/addresses.ts"
import { ask } from "../../tools/world/ask.ts"
import type { Namespace } from "../../tools/world/namespace.ts"
import { ended, until } from "../../tools/world/process.ts"
import { createWorld, startServers } from "../../tools/world/world.ts"
import type { World } from "../../tools/world/world.ts"
import { limit, makeContainer, processesWith, resident, ROOTFS } from "./container.ts"
import type { Container, Limits } from "./container.ts"
import { makeHookDirectory, ownedByQemu, plugGuest, preparePod, QEMU_ID, startSidecar } from "./pod.ts"
import type { Sidecar } from "./pod.ts"

/** What KubeVirt gives a sidecar of a machine with dedicated processors. */
const MEMORY_BYTES = 64e6
/** What docs/kubevirt.md says that the sidecar needs with an engine: where nobody else has read node's binary lately, its pages are charged to
 * this group, and with less the two would do nothing but read it again and again. */
const ENGINE_MEMORY_BYTES = 128 * 2 ** 20
const SHARE = 0.2
const METRICS_PORT = 9410
const PORTS = {
  annotations: { "binding.passt/metrics-port": String(METRICS_PORT) },
  interfaces: [{ ports: [{ port: 80 }, { port: PORT.whoami }, { port: PORT.echo, protocol: "UDP" }] }],
}

describe("the image", () => {
  test("has no shell, nothing with privileges by its file, nothing that others may write but /tmp", () => {
    const files = globSync("**", { cwd: ROOTFS }).map((path) => join(ROOTFS, path))
    expect(files.length).toBeGreaterThan(20)
    expect(files.filter((path) => /\/(sh|bash|dash|busybox|apt|dpkg)$/.test(path))).toEqual([])
    const bad = files.filter((path) => (statSync(path).mode & 0o6022) !== 0 && path !== join(ROOTFS, "tmp"))
    expect(bad).toEqual([])
  })

  test("says what is in it, and under which licences", () => {
    const { packages, spdxVersion } = JSON.parse(
      readFileSync(join(ROOTFS, "usr/share/sbom/passt-binding.spdx.json"), "utf8"),
    ) as { packages: { name: string; versionInfo: string }[]; spdxVersion: string }
    expect(spdxVersion).toBe("SPDX-2.3")
    const names = packages.map(({ name }) => name)
    expect(names).toEqual(expect.arrayContaining(["passt", "node", "@grpc/grpc-js", "saxes", "libc6", "libstdc++6"]))
    for (const { versionInfo } of packages) expect(versionInfo).toMatch(/\d/)
    expect(readdirSync(join(ROOTFS, "usr/share/doc")).length).toBe(names.length)
  })
})

describe("in a pod", () => {
  let world: World
  let pod: Namespace
  let hooks: string
  let container: Container
  let limits: Limits | null
  let sidecar: Sidecar
  let readyMs: number

  beforeAll(async () => {
    world = await createWorld()
    pod = world.host
    await preparePod(pod)
    hooks = makeHookDirectory()
    await ownedByQemu(hooks)
    container = await makeContainer(pod, hooks)
    limits = limit(MEMORY_BYTES, SHARE)
    const command = container.command({ CONTAINER_NAME: "hook-sidecar-0" })
    const began = performance.now()
    sidecar = await startSidecar(pod, {}, hooks, limits?.within(command) ?? command)
    readyMs = performance.now() - began
  })
  afterAll(async () => {
    await sidecar?.stop()
    container?.close()
    limits?.close()
    await world?.close()
  })
  const pid = (): number => processesWith("/kubevirt-binding.mjs")[0]!

  test("is ready in time, and small", () => {
    const { all, anonymous } = resident(pid())
    console.log(`ready after ${Math.round(readyMs)} ms, ${all} KiB resident, ${anonymous} KiB of its own`)
    if (limits !== null) {
      console.log(`limits: ${SHARE} of a processor; peak ${limits.peakBytes()} bytes of ${MEMORY_BYTES}`)
      expect(limits.outOfMemory()).toBe(0)
    }
    // A machine that is busy with other tests is slower than a node.
    expect(readyMs).toBeLessThan(limits === null ? 3000 : 6000)
    expect(anonymous).toBeLessThan(30_000)
  })

  test("has no privilege, and nothing that it could write", async () => {
    const status = readFileSync(`/proc/${pid()}/status`, "utf8")
    for (const set of ["CapEff", "CapPrm", "CapInh", "CapAmb"]) expect(status).toContain(`${set}:\t0000000000000000`)
    expect(status).toMatch(new RegExp(`^Uid:\t${QEMU_ID}\t${QEMU_ID}\t`, "m"))
    const script = `const fs=require("fs");for(const p of ["/x","/tmp/x","/etc/x","/usr/lib/passt/x","/var/run/x"])
      try{fs.writeFileSync(p,"");console.log(p)}catch(e){if(!["EROFS","EACCES"].includes(e.code))console.log(p,e.code)}`
    const { stdout, status: code } = await pod.run(container.command({}, ["/usr/lib/passt/node", "-e", script]))
    expect([stdout, code]).toEqual(["", 0])
  })

  test("a machine is defined; its guest is online both ways; the engine is sealed, in what memory there is", async () => {
    limits?.allow(ENGINE_MEMORY_BYTES)
    const domain = await sidecar.define(PORTS)
    expect(domain).toContain("path='/var/run/kubevirt-hooks/hook-sidecar-0/engine/default.sock'")
    expect(await sidecar.define(PORTS, domain)).toBe(domain)
    const names = readdirSync(hooks, { withFileTypes: true }).filter((entry) => !entry.isDirectory())
    expect(names.map(({ name }) => name)).toEqual(["passt-hook-sidecar-0.sock"])
    const guest = await plugGuest(sidecar.engineSocket)
    try {
      await startServers(guest, [HOST.ipv4])
      expect(await ask(guest, "http", `http://${SERVER.ipv4}/`)).toMatchObject({ text: PAGE })
      expect(await ask(world.world, "http", `http://${HOST.ipv4}/`)).toMatchObject({ text: PAGE })
      expect(await ask(world.world, "udp", HOST.ipv4, PORT.echo, "knock", 3000)).toMatchObject({ text: "knock" })
      const { text: metrics } = await ask(world.world, "http", `http://${HOST.ipv4}:${METRICS_PORT}/metrics`)
      expect(metrics).toContain('passt_binding_engine_ready{interface="default"} 1\n')
      expect(metrics).toMatch(/^passt_[a-z_]+\{interface="default",.*\} [1-9]/m)
      const types = metrics!.match(/^# TYPE \S+/gm)!
      expect(new Set(types).size).toBe(types.length)
      const [engine = 0] = processesWith("/passt.mjs")
      const status = readFileSync(`/proc/${engine}/status`, "utf8")
      expect(status).toMatch(/^Seccomp:\t2$/m)
      console.log(`engine: ${JSON.stringify(resident(engine))} KiB; peak of both ${limits?.peakBytes()} bytes`)
      if (limits !== null) expect(limits.outOfMemory()).toBe(0)

      // It dies: another takes its place, and the guest is online again by itself. The bridge, unlike QEMU, does not reconnect.
      process.kill(engine, "SIGKILL")
      await until("another engine", 15_000, () => processesWith("/passt.mjs").some((each) => each !== engine))
      await until(
        "its socket",
        15_000,
        () => sidecar.lines().filter(({ message }) => message === "engine is ready").length > 1,
      )
    } finally {
      await guest.close()
    }
    const again = await plugGuest(sidecar.engineSocket)
    expect(await ask(again, "http", `http://${SERVER.ipv4}/`)).toMatchObject({ text: PAGE })
    await again.close()
  })

  test("ends within a second after Shutdown, with its engine, and leaves no socket", async () => {
    const began = performance.now()
    await call(sidecar.socket, "kubevirt.hooks.v1alpha3.Callbacks/Shutdown")
    expect(await ended(sidecar.process, 5000)).toBe(true)
    const took = performance.now() - began
    console.log(`ended after ${Math.round(took)} ms`)
    expect(took).toBeLessThan(1000)
    expect(sidecar.process.exitCode).toBe(0)
    expect(processesWith("/passt.mjs")).toEqual([])
    expect(existsSync(sidecar.socket)).toBe(false)
    expect(existsSync(sidecar.engineSocket)).toBe(false)
    expect(sidecar.errors()).toBe("")
  })

  test("ends within a second after SIGTERM, and with a last line when it can't start", async () => {
    const command = container.command({ CONTAINER_NAME: "hook-sidecar-0" })
    const second = await startSidecar(pod, {}, hooks, command)
    await second.define(PORTS)
    const began = performance.now()
    process.kill(pid(), "SIGTERM")
    expect(await ended(second.process, 5000)).toBe(true)
    expect(performance.now() - began).toBeLessThan(1000)
    expect(processesWith("/passt.mjs")).toEqual([])
    const { stderr, status } = await pod.run(container.command({ PASST_METRICS_PORT: "x" }))
    expect([stderr, status]).toEqual(['passt-binding: PASST_METRICS_PORT: "x" is not a port number\n', 1])
  })
})
