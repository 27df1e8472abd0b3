// Domains that the sidecar has changed, before a judge: libvirt's schema, `virsh define`, and a guest that boots from one
// with our engine behind it.
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { mutate } from "../../apps/kubevirt-binding/src/sidecar/mutate.ts"
import { context, machineJson } from "../../apps/kubevirt-binding/src/sidecar/test-support/machines.ts"
import type { MachineWish } from "../../apps/kubevirt-binding/src/sidecar/test-support/machines.ts"
import { commandLine, domainXml, QEMU_ID, startLibvirt } from "../../tools/debian/libvirt.ts"
import type { Domain, Libvirt } from "../../tools/debian/libvirt.ts"
import { startMachine } from "../../tools/debian/machine.ts"
import type { Machine } from "../../tools/debian/machine.ts"
import { givenTree } from "../../tools/debian/tree.ts"
import { HOST, PAGE } from "../../tools/world/addresses.ts"
import { ask } from "../../tools/world/ask.ts"
import type { Namespace } from "../../tools/world/namespace.ts"
import { must, until } from "../../tools/world/process.ts"
import { createWorld } from "../../tools/world/world.ts"
import type { World } from "../../tools/world/world.ts"
import { makeHookDirectory, ownedByQemu, preparePod, startSidecar } from "./pod.ts"
import type { Sidecar } from "./pod.ts"

const GUEST_PAGE = "the guest's page\n"

/** The same choices as in unit tests, all with all. */
function* grid(): Generator<{ readonly name: string; readonly vmi: string; readonly domain: string }> {
  const ports = {
    none: {},
    "tcp, udp": { ports: [{ port: 80 }, { port: 53, protocol: "UDP" }] },
    ranges: { portRanges: [{ start: 1, end: 9 }] },
  }
  const meshes = { plain: {}, istio: { "sidecar.istio.io/inject": "true" } }
  const models = { virtio: {}, transitional: { useVirtioTransitional: true } }
  const extras = {
    bare: {},
    full: { macAddress: "02:02:02:02:02:02", pciAddress: "0000:00:09.0", acpiIndex: 7, bootOrder: 1 },
  }
  const backings = {
    "no backing": "",
    memfd: "<memoryBacking><source type='memfd'/></memoryBacking>",
    "huge pages": "<memoryBacking><hugepages/></memoryBacking>",
  }
  const aliases = { new: "", prepared: "<interface type='ethernet'><alias name='ua-default'/></interface>" }
  for (const engine of ["sidecar", "libvirt"])
    for (const [port, wish] of Object.entries(ports))
      for (const [mesh, annotations] of Object.entries(meshes))
        for (const [model, devices] of Object.entries(models))
          for (const [extra, more] of Object.entries(extras))
            for (const [backing, memory] of Object.entries(backings))
              for (const [alias, present] of Object.entries(aliases)) {
                const machine: MachineWish = {
                  interfaces: [{ ...wish, ...more }],
                  annotations: { ...annotations, "binding.passt/engine": engine },
                  devices,
                }
                yield {
                  name: [engine, port, mesh, model, extra, backing, alias].join(", "),
                  vmi: machineJson(machine),
                  domain: memory + present,
                }
              }
}

let world: World
let pod: Namespace
let machine: Machine
let libvirt: Libvirt
let sidecar: Sidecar

beforeAll(async () => {
  world = await createWorld()
  pod = world.host
  await preparePod(pod)
  machine = await startMachine(givenTree("testing"), pod)
  libvirt = await startLibvirt(machine, "system")
  const hooks = makeHookDirectory()
  await ownedByQemu(hooks, QEMU_ID)
  // Where the machine's container has the directories of all sidecars.
  await must(machine.asRoot(["ln", "-s", join(hooks, ".."), "/run/kubevirt-hooks"]))
  sidecar = await startSidecar(pod, {}, hooks, QEMU_ID)
})
afterAll(async () => {
  await sidecar?.stop()
  await libvirt?.close()
  machine?.close()
  await world?.close()
})

describe("libvirt 12.8", () => {
  const files: string[] = []

  test("every domain of the grid passes its schema", async () => {
    files.length = 0
    const base = (await domainXml("kubevirt", join(libvirt.folder, "none"), "")).replace(
      /<memoryBacking>.*<\/memoryBacking>/,
      "",
    )
    for (const { name, vmi, domain } of grid()) {
      const [memory = "", present = ""] = domain.split(/(?=<interface)/)
      const backing = memory.startsWith("<interface") ? "" : memory
      const input = base
        .replace("<features>", `${backing}<features>`)
        .replace("</devices>", `${domain.startsWith("<interface") ? domain : present}</devices>`)
      const output = mutate(vmi, input, context()).domain
      const file = join(libvirt.folder, `grid-${files.length}.xml`)
      writeFileSync(file, output.replace("<name>kubevirt</name>", `<name>${name.replaceAll(/\W+/g, "-")}</name>`))
      files.push(file)
    }
    expect(files).toHaveLength(288)
    const schema = "/usr/share/libvirt/schemas/domain.rng"
    const all = ["xmllint", "--noout", "--relaxng", schema, ...files]
    await must(machine.asRoot(all), { timeoutMs: 60_000 })
    // libvirt's own tool says the same, of one for each engine, and can say no.
    for (const file of [files[0]!, files.at(-1)!]) {
      await must(machine.asRoot(["virt-xml-validate", file, "domain"]))
    }
    const bad = join(libvirt.folder, "bad.xml")
    writeFileSync(bad, readFileSync(files[0]!, "utf8").replace("mode='client'", "mode='x'"))
    await expect(must(machine.asRoot(["virt-xml-validate", bad, "domain"]))).rejects.toThrow()
  })

  test("a sample of it is accepted by virsh define, and keeps what is ours", async () => {
    for (const file of files.filter((_, i) => i % 23 === 0)) {
      const name = /<name>(.*)<\/name>/.exec(readFileSync(file, "utf8"))![1]!
      const commands = [`define --validate ${file}`, `dumpxml ${name}`, `undefine ${name}`]
      const { status, stdout, stderr } = await libvirt.virsh(commands.join("; "))
      expect([status, stderr.trim()], readFileSync(file, "utf8")).toEqual([0, ""])
      expect(stdout).toContain("<alias name='ua-default'/>")
      expect(stdout).toContain("<access mode='shared'/>")
      if (name.startsWith("sidecar")) expect(stdout).toContain("<reconnect enabled='yes' timeout='1'/>")
    }
  }, 120_000)
})

async function serve(guest: Domain): Promise<void> {
  await guest.online()
  await guest.must(`mkdir -p /www && echo "the guest's page" >/www/index.html && httpd -p 80 -h /www`)
}

async function expectOnline(guest: Domain): Promise<void> {
  await until("the guest's page", 20_000, async () => {
    const { text } = await ask(world.world, "http", `http://${HOST.ipv4}/`)
    return text === GUEST_PAGE
  })
  expect(await guest.must("wget -q -O - http://www/")).toBe(PAGE)
}

const WISH: MachineWish = { interfaces: [{ ports: [{ port: 80 }], macAddress: "02:02:02:02:02:02", acpiIndex: 7 }] }
const withoutBacking = (xml: string): string => xml.replace(/<memoryBacking>.*<\/memoryBacking>/, "")

test("a guest boots, with the engine in the sidecar; the engine is killed, and the guest comes back by itself", async () => {
  const guest = await libvirt.boot("engine", "", (xml) => sidecar.define(WISH, withoutBacking(xml)))
  await serve(guest)
  expect(await guest.must("cat /sys/class/net/eth0/address")).toBe("02:02:02:02:02:02\n")
  expect(await guest.must("cat /run/net/lease")).toContain(`address ${HOST.ipv4}/${HOST.prefix4}\n`)
  await expectOnline(guest)
  for (let i = 0; i < 2; i++) {
    const killed = sidecar.enginePid()
    process.kill(killed, "SIGKILL")
    await until("another engine", 15_000, () => sidecar.enginePid() !== killed)
    await expectOnline(guest)
  }
  const { stdout } = await libvirt.virsh("domstate", "engine")
  expect(stdout.trim()).toBe("running")
  // Asked again while it runs, as at every change: the same domain, and the same engine.
  const pid = sidecar.enginePid()
  const xml = await sidecar.define(WISH, "<domain><devices/></domain>")
  expect(await sidecar.define(WISH, xml)).toBe(xml)
  expect(sidecar.enginePid()).toBe(pid)
  await expectOnline(guest)
  await libvirt.virsh("destroy", "engine")
  // The next machine of the pod connects to the same engine.
  expect(commandLine(pid).length).toBeGreaterThan(0)
}, 240_000)

test("a guest boots, with the engine of libvirt", async () => {
  const annotations = { "binding.passt/engine": "libvirt" }
  // There is no /var/run/kubevirt but virt-launcher's.
  await must(machine.asRoot(["install", "-d", "-o", String(QEMU_ID), "/run/kubevirt"]))
  const guest = await libvirt.boot("libvirt", "", (xml) =>
    sidecar.define({ ...WISH, annotations }, withoutBacking(xml)),
  )
  await serve(guest)
  await expectOnline(guest)
  await libvirt.virsh("destroy", "libvirt")
}, 240_000)
