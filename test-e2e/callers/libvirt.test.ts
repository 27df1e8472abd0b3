// libvirt, as root and as an ordinary user, with our passt where it looks for one.
import type { ChildProcess } from "node:child_process"
import { existsSync, readFileSync, readdirSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { commandLine, QEMU_ID, startLibvirt } from "../../tools/debian/libvirt.ts"
import type { Domain, Libvirt } from "../../tools/debian/libvirt.ts"
import { PROGRAMS, startMachine, USER } from "../../tools/debian/machine.ts"
import type { Machine } from "../../tools/debian/machine.ts"
import { givenTree } from "../../tools/debian/tree.ts"
import { HOST, PAGE, PORT, RESOLVER, ROUTER, SEARCH_DOMAIN } from "../../tools/world/addresses.ts"
import { ask } from "../../tools/world/ask.ts"
import type { Namespace } from "../../tools/world/namespace.ts"
import { isListening } from "../../tools/world/passt.ts"
import { ended, start, until } from "../../tools/world/process.ts"
import { createWorld, startServers } from "../../tools/world/world.ts"
import type { World } from "../../tools/world/world.ts"
import { inUrl } from "../lib/families.ts"

/** By release: libvirt's version, as its own number is made. */
const VERSION = { trixie: 11_003, testing: 12_008 } as const

const GUEST_PAGE = "the guest's page\n"

/** An <interface> with passt behind it. */
function user(elements: string, backend = ""): string {
  return `<interface type='user'><backend type='passt'${backend}/><model type='virtio'/>${elements}</interface>`
}

/** The process ids that libvirt knows passt by. */
function passts(libvirt: Libvirt): number[] {
  if (!existsSync(libvirt.passtFolder)) return []
  const files = readdirSync(libvirt.passtFolder).filter((name) => name.endsWith("-passt.pid"))
  return files.map((name) => Number(readFileSync(join(libvirt.passtFolder, name), "utf8")))
}

/** What libvirt asked of passt, beyond what it always asks. */
function askedOptions(pid: number): string {
  const words = commandLine(pid)
  return words.slice(words.indexOf("--pid") + 2).join(" ")
}

/** @returns the lines "Name: value" of a process's status that begin with one of the names */
function status(pid: number, ...names: readonly string[]): string[] {
  const lines = readFileSync(`/proc/${pid}/status`, "utf8").split("\n")
  return lines
    .filter((line) => names.some((name) => line.startsWith(`${name}:`)))
    .map((line) => line.replace(/\s+/g, " "))
}

/** Every element that libvirt has for passt: since which version, what it looks like, what passt is asked. */
const ELEMENTS: readonly (readonly [string, number, string, string])[] = [
  ["mtu", 9000, user("<mtu size='1400'/>"), "--mtu 1400"],
  ["source dev", 9000, user("<source dev='eth0'/>"), "--interface eth0"],
  [
    "ip",
    9000,
    user("<ip family='ipv4' address='10.1.2.3' prefix='24'/><ip family='ipv6' address='2001:db8:7::3'/>"),
    "--address 10.1.2.3 --netmask 24 --address 2001:db8:7::3",
  ],
  ["hostname, fqdn", 11_008, user("", " hostname='vm' fqdn='vm.example.org'"), "--hostname vm --fqdn vm.example.org"],
  ["port", 9000, user("<portForward proto='tcp'><range start='2222'/></portForward>"), "--tcp-ports 2222"],
  [
    "ports, translated, without some",
    9000,
    user(
      `<portForward proto='tcp'><range start='2000' end='2010' to='3000'/><range start='2005' end='2006' exclude='yes'/>
       <range start='8080' to='80'/></portForward>`,
    ),
    "--tcp-ports 2000-2010:3000-3010,~2005-2006,8080:80",
  ],
  [
    "ports of addresses",
    9000,
    user(
      `<portForward proto='tcp' address='127.0.0.1'><range start='2222' to='22'/></portForward>
       <portForward proto='udp' address='::1'><range start='5353'/></portForward>`,
    ),
    "--tcp-ports 127.0.0.1/2222:22 --udp-ports ::1/5353",
  ],
  [
    "ports of an interface and address",
    9000,
    user("<portForward proto='udp' address='192.0.2.2' dev='eth0'><range start='5000' end='5001'/></portForward>"),
    "--udp-ports 192.0.2.2%eth0/5000-5001",
  ],
  [
    "ports of an interface",
    9005,
    user("<portForward proto='tcp' dev='lo'><range start='2222'/></portForward>"),
    "--tcp-ports %lo/2222",
  ],
  [
    "all ports, and all but some",
    9000,
    user(
      `<portForward proto='tcp'/><portForward proto='udp' address='192.0.2.2'>
       <range start='4000' end='65000' exclude='yes'/></portForward>`,
    ),
    "--tcp-ports all --udp-ports 192.0.2.2/~4000-65000",
  ],
]

describe.each(["testing"] as const)("%s", (release) => {
  const since = (version: number): boolean => VERSION[release] >= version
  let world: World
  let host: Namespace
  let machine: Machine
  beforeAll(async () => {
    world = await createWorld()
    ;({ host } = world)
    // "All" ports are those that are not the kernel's to give away: few, here.
    const settings = "echo 4000 65000 >ip_local_port_range; echo 1000 >ip_unprivileged_port_start"
    await host.must(["sh", "-c", `cd /proc/sys/net/ipv4; ${settings}`])
    machine = await startMachine(givenTree(release), host)
    await startServers(host, ["127.0.0.1", "::1"])
  })
  afterAll(async () => {
    machine?.close()
    await world?.close()
  })

  describe.each(["system", "session"] as const)("qemu:///%s", (mode) => {
    let libvirt: Libvirt
    let guest: Domain
    const readLog = (path: string): string => (existsSync(path) ? readFileSync(path, "utf8") : "")
    beforeAll(async () => {
      libvirt = await startLibvirt(machine, mode)
    })
    afterAll(() => libvirt?.close())

    test("a guest with the host's address, both ways", async () => {
      const log = join(libvirt.folder, "passt.log")
      guest = await libvirt.boot(
        "guest",
        user(
          `<portForward proto='tcp'><range start='8080' to='80'/></portForward>
           <portForward proto='udp' address='127.0.0.1'><range start='5000' to='7'/></portForward>`,
          ` logFile='${log}'`,
        ),
      )
      await guest.online()
      const lease = await guest.must("cat /run/net/lease")
      expect(lease).toContain(`address ${HOST.ipv4}/${HOST.prefix4}\nrouter ${ROUTER.ipv4}\ndns ${RESOLVER.ipv4}\n`)
      expect(lease).toContain(`search ${SEARCH_DOMAIN}\nmtu 65520\n`)
      expect(await guest.must("ip -6 addr show dev eth0 scope global")).toMatch(/inet6 2001:db8:1:.*\/64 /)
      expect(await guest.must("wget -q -O - http://www/")).toBe(PAGE)
      // The host's own loopback, by the gateway's address.
      const whoami = await guest.must(`socat -t 5 - TCP4:${ROUTER.ipv4}:${PORT.whoami}`)
      expect(whoami).toMatch(/^127\.0\.0\.1 /)
      await guest.must(`mkdir -p /www && echo "the guest's page" >/www/index.html && httpd -p 80 -h /www`)
      await guest.must("(socat UDP6-RECVFROM:7,ipv6only=0,fork PIPE >/dev/null 2>&1 &)")
      for (const address of [HOST.ipv4, inUrl(HOST.ipv6)]) {
        expect(await ask(world.world, "http", `http://${address}:8080/`)).toMatchObject({ text: GUEST_PAGE })
      }
      expect(await ask(host, "http", "http://127.0.0.1:8080/")).toMatchObject({ text: GUEST_PAGE })
      expect(await ask(host, "udp", "127.0.0.1", 5000, "knock", 3000)).toMatchObject({ text: "knock" })
      expect(readLog(log)).toContain("passt")
    }, 150_000)

    test.skipIf(!since(11_001))(
      "a guest over vhost-user, both ways",
      async () => {
        const forward = "<portForward proto='tcp'><range start='8081' to='80'/></portForward>"
        const network = `<interface type='vhostuser'><backend type='passt'/><model type='virtio'/>${forward}</interface>`
        const booted = await libvirt.boot("shared", network)
        try {
          await booted.online()
          expect(await booted.must("wget -q -O - http://www/")).toBe(PAGE)
          await booted.must(`mkdir -p /www && echo "the guest's page" >/www/index.html && httpd -p 80 -h /www`)
          expect(await ask(host, "http", "http://127.0.0.1:8081/")).toMatchObject({ text: GUEST_PAGE })
          expect(passts(libvirt).some((pid) => commandLine(pid).includes("--vhost-user"))).toBe(true)
        } finally {
          await libvirt.virsh("destroy", "shared")
        }
      },
      150_000,
    )

    test("vhost-user with a passt that libvirt did not start: killed and started again, twice, and the guest goes on", async () => {
      const socket = join(libvirt.folder, "by-hand.socket")
      const words = [`${PROGRAMS}/passt`, "--foreground", "--vhost-user", "--socket", socket, "-t", "8082:80"]
      const ids = [`--reuid=${QEMU_ID}`, `--regid=${QEMU_ID}`, "--clear-groups"]
      const command = mode === "system" ? machine.asRoot(["setpriv", ...ids, "--", ...words]) : machine.asUser(words)
      const startPasst = async (): Promise<ChildProcess> => {
        const passt = start(command)
        await until("passt's socket", 10_000, () => isListening(host, socket))
        return passt
      }
      let passt = await startPasst()
      try {
        const source = `<source type='unix' path='${socket}' mode='client'><reconnect enabled='yes' timeout='1'/></source>`
        const xml = `<interface type='vhostuser'>${source}<model type='virtio'/></interface>`
        const booted = await libvirt.boot("by-hand", xml)
        await booted.online()
        await booted.must(`mkdir -p /www && echo "the guest's page" >/www/index.html && httpd -p 80 -h /www`)
        for (const signal of ["SIGTERM", "SIGKILL", undefined] as const) {
          await until("the guest's page", 20_000, async () => {
            return (await ask(host, "http", "http://127.0.0.1:8082/")).text === GUEST_PAGE
          })
          expect(await booted.must("wget -q -O - http://www/")).toBe(PAGE)
          if (signal === undefined) break
          passt.kill(signal)
          expect(await ended(passt, 5000)).toBe(true)
          passt = await startPasst()
        }
      } finally {
        await libvirt.virsh("destroy", "by-hand")
        passt.kill("SIGKILL")
      }
    }, 150_000)

    test("passt is the user's that QEMU is, without capabilities", () => {
      const [pid = 0, ...others] = passts(libvirt)
      expect(others).toEqual([])
      const id = mode === "system" ? QEMU_ID : USER.id
      expect(status(pid, "Uid", "CapEff")).toEqual([`Uid: ${id} ${id} ${id} ${id}`, "CapEff: 0000000000000000"])
    })

    test.skipIf(!since(9001))("passt is killed: libvirt starts another, and the guest is online again", async () => {
      const [killed = 0] = passts(libvirt)
      process.kill(killed, "SIGKILL")
      await until("another passt", 10_000, () => passts(libvirt).some((pid) => pid !== killed && commandLine(pid)[0]))
      await until("the guest's page", 20_000, async () => {
        const { text } = await ask(host, "http", "http://127.0.0.1:8080/")
        return text === GUEST_PAGE
      })
      expect(await guest.must("wget -q -O - http://www/")).toBe(PAGE)
    })

    test("the domain's end is passt's, and that of its files", async () => {
      const pids = passts(libvirt)
      expect(pids).toHaveLength(1)
      expect((await libvirt.virsh("destroy", "guest")).status).toBe(0)
      await until("the end of passt", 2000, () => commandLine(pids[0]!).length === 0)
      expect(readdirSync(libvirt.passtFolder)).toEqual([])
      expect(await ask(host, "tcp", "127.0.0.1", 8080, "x")).toMatchObject({ error: "ECONNREFUSED" })
    })

    test("a port that is taken: libvirt tells our message, and nothing is left", async () => {
      const range = `<range start='${PORT.digest}' to='80'/>`
      const taken = `<portForward proto='tcp' address='127.0.0.1'>${range}</portForward>`
      const { status: code, stderr } = await libvirt.create("taken", user(taken))
      expect(code).toBe(1)
      expect(stderr).toContain(`Listen failed for TCP 127.0.0.1:${PORT.digest}: `)
      expect(stderr).toContain("unexpected exit status 1")
      expect((await libvirt.virsh("list", "--name", "--all")).stdout.trim()).toBe("")
      expect(readdirSync(libvirt.passtFolder)).toEqual([])
    })

    // What XML becomes does not depend on the mode.
    if (mode === "session") return
    test.each(ELEMENTS.filter(([, version]) => since(version)))("%s", async (_, __, xml, expected) => {
      const { status: code, stderr } = await libvirt.create("element", xml)
      try {
        expect([code, stderr.trim()]).toEqual([0, ""])
        expect(askedOptions(passts(libvirt)[0]!)).toBe(expected)
      } finally {
        await libvirt.virsh("destroy", "element")
      }
      expect(readdirSync(libvirt.passtFolder)).toEqual([])
    })
  })
})
