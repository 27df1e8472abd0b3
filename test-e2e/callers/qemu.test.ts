// QEMU of newer releases than the machine's own: -netdev stream that reconnects, and -netdev passt, which starts ours.
import { readFileSync, readdirSync, writeFileSync } from "node:fs"
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest"
import { commandLine } from "../../tools/debian/libvirt.ts"
import { PROGRAMS, startMachine } from "../../tools/debian/machine.ts"
import type { Machine } from "../../tools/debian/machine.ts"
import { givenTree } from "../../tools/debian/tree.ts"
import type { Release } from "../../tools/debian/tree.ts"
import { bootGuest, QEMU } from "../../tools/guest/qemu.ts"
import type { Guest } from "../../tools/guest/qemu.ts"
import { HOST, PAGE, PORT, SERVER } from "../../tools/world/addresses.ts"
import { ask } from "../../tools/world/ask.ts"
import type { Namespace } from "../../tools/world/namespace.ts"
import { freshSocketPath, isListening } from "../../tools/world/passt.ts"
import { ended, must, run, start, until } from "../../tools/world/process.ts"
import type { Outcome } from "../../tools/world/process.ts"
import { createWorld, startServers } from "../../tools/world/world.ts"
import type { World } from "../../tools/world/world.ts"

const PASST = `${PROGRAMS}/passt`
const GUEST_PAGE = "the guest's page\n"
/** For tests that boot a guest. */
const BOOT_MS = 150_000

let world: World
let host: Namespace
let machine: Machine
let guest: Guest | undefined

function useMachine(release: Release): void {
  beforeAll(async () => {
    world = await createWorld()
    ;({ host } = world)
    machine = await startMachine(givenTree(release), host)
    await startServers(host, ["127.0.0.1", "::1"])
  })
  afterEach(async () => {
    await guest?.kill()
    guest = undefined
    await until("the end of all passt", 5000, () => passts().length === 0)
  })
  afterAll(async () => {
    machine?.close()
    await world?.close()
  })
}

/** Process ids of every passt in the sandbox. */
function passts(): number[] {
  const pids = readdirSync("/proc").filter((entry) => /^\d+$/.test(entry))
  return pids.map(Number).filter((pid) => commandLine(pid).some((word) => word.endsWith("/passt.mjs")))
}

/** Boot a guest with this -netdev, as the ordinary user there; it serves a page at port 80. */
async function boot(netdev: string): Promise<Guest> {
  const booted = await bootGuest({
    netdev,
    sharedMemory: netdev.includes("vhost-user=on"),
    accel: "tcg",
    start: (command, options) => start(machine.asUser(command), options),
  })
  guest = booted
  await booted.online()
  await booted.must(`mkdir -p /www && echo "the guest's page" >/www/index.html && httpd -p 80 -h /www`)
  return booted
}

async function expectPage(address: string): Promise<void> {
  await until(
    "the guest's page",
    15_000,
    async () => (await ask(host, "http", `http://${address}/`)).text === GUEST_PAGE,
  )
}

describe.each([["testing", "reconnect-ms=300"]] as const)("QEMU of %s, -netdev stream,%s", (release, reconnect) => {
  useMachine(release)

  test(
    "passt is killed and started again, twice: the guest goes on",
    async () => {
      const socket = freshSocketPath()
      const options = ["--foreground", "--quiet", "--socket", socket, "-t", "8080:80"]
      const startPasst = async (): Promise<ReturnType<typeof start>> => {
        const passt = start(machine.asUser([PASST, ...options]))
        await until("passt's socket", 10_000, () => isListening(host, socket))
        return passt
      }
      let passt = await startPasst()
      try {
        const booted = await boot(`stream,id=net,server=off,addr.type=unix,addr.path=${socket},${reconnect}`)
        await expectPage("127.0.0.1:8080")
        for (const signal of ["SIGTERM", "SIGKILL"] as const) {
          passt.kill(signal)
          expect(await ended(passt, 5000)).toBe(true)
          passt = await startPasst()
          await expectPage("127.0.0.1:8080")
          expect(await booted.must("wget -q -O - http://www/")).toBe(PAGE)
        }
      } finally {
        passt.kill("SIGKILL")
      }
    },
    BOOT_MS,
  )
})

/** QEMU without a machine, only to see what it does with -netdev passt: it ends at once if passt does not start. */
function monitor(netdev: string): Promise<Outcome> {
  const options = [
    "-M",
    "none",
    "-nodefaults",
    "-display",
    "none",
    "-monitor",
    "stdio",
    "-netdev",
    `passt,id=net${netdev}`,
  ]
  return run(machine.asUser([QEMU, ...options]), { input: "quit\n", timeoutMs: 20_000 })
}

const NOTED = "/tmp/passt-words"
const NOTING_PASST = "/usr/bin/passt"

/** What QEMU asks of passt for its sub-options, beyond --quiet, --pid and --fd; kept by a script in passt's place. */
async function asked(netdev: string): Promise<string> {
  const noted = machine.outside(NOTED)
  writeFileSync(noted, "")
  const { status, stderr } = await monitor(netdev)
  expect(status, stderr).toBe(0)
  const words = readFileSync(noted, "utf8").split("\n").slice(0, -1)
  const pid = words.indexOf("--pid")
  expect(words.slice(pid + 2)).toEqual(["--fd", "3"])
  return words.slice(0, pid).join(" ")
}

/** -netdev passt's own sub-options, some at a time, and what they are for passt. */
const OPTIONS: readonly (readonly [string, string])[] = [
  ["", "--quiet"],
  [
    ",mtu=1400,address=10.1.2.3,netmask=255.255.255.0,mac=02:00:00:00:00:01,gateway=10.1.2.1,interface=eth0",
    "--quiet --mtu 1400 --address 10.1.2.3 --netmask 255.255.255.0 --mac-addr 02:00:00:00:00:01 --gateway 10.1.2.1 --interface eth0",
  ],
  [
    ",outbound=192.0.2.2,outbound-if4=eth0,outbound-if6=eth0",
    "--quiet --outbound 192.0.2.2 --outbound-if4 eth0 --outbound-if6 eth0",
  ],
  [
    ",dns=198.51.100.53,search=one.example,search=two.example,fqdn=vm.one.example",
    "--quiet --dns 198.51.100.53 --fqdn vm.one.example --search one.example two.example",
  ],
  [
    ",map-host-loopback=10.9.9.1,map-guest-addr=10.9.9.2,dns-forward=10.9.9.3,dns-host=198.51.100.53",
    "--quiet --map-host-loopback 10.9.9.1 --map-guest-addr 10.9.9.2 --dns-forward 10.9.9.3 --dns-host 198.51.100.53",
  ],
  [",dhcp-dns=off,dhcp-search=off", "--quiet --no-dhcp-dns --no-dhcp-search"],
  [",tcp=off,ipv4=off", "--quiet --no-tcp --ipv6-only"],
  [",udp=off,icmp=off,ipv6=off", "--quiet --no-udp --no-icmp --ipv4-only"],
  [",dhcp=off,ndp=off,dhcpv6=off,ra=off,freebind=on", "--quiet --no-dhcp --no-ndp --no-dhcpv6 --no-ra --freebind"],
  [
    // One argument for each protocol: an address is that of all its ports.
    ",tcp-ports=127.0.0.1/8080:80,tcp-ports=2222:22,udp-ports=5000-5001:6000-6001,udp-ports=~5001",
    "--quiet --tcp-ports 127.0.0.1/8080:80,2222:22 --udp-ports 5000-5001:6000-6001,~5001",
  ],
  [",param=--no-map-gw,param=--ipv4-only", "--quiet --no-map-gw --ipv4-only"],
  [",quiet=off", ""],
]

describe("QEMU of testing, -netdev passt", () => {
  useMachine("testing")
  beforeAll(async () => {
    await machine.write(NOTING_PASST, `#!/bin/sh\nprintf '%s\\n' "$@" >${NOTED}\nexec ${PASST} "$@"\n`)
    await machine.write(NOTED, "")
    await must(machine.asRoot(["chmod", "777", NOTING_PASST, NOTED]))
  })

  test(
    "a guest online both ways; passt is killed and QEMU starts another; QEMU ends, and all is gone",
    async () => {
      const ports = "tcp-ports=8080:80,tcp-ports=2222:80,udp-ports=5000:7"
      const booted = await boot(`passt,id=net,path=${PASST},${ports}`)
      expect(await booted.must("wget -q -O - http://www/")).toBe(PAGE)
      expect(await booted.must("cat /run/net/lease")).toContain(`address ${HOST.ipv4}/${HOST.prefix4}\n`)
      await booted.must("(socat UDP6-RECVFROM:7,ipv6only=0,fork PIPE >/dev/null 2>&1 &)")
      await expectPage("127.0.0.1:8080")
      expect(await ask(world.world, "http", `http://${HOST.ipv4}:8080/`)).toMatchObject({ text: GUEST_PAGE })
      expect(await ask(host, "udp", "127.0.0.1", 5000, "knock", 3000)).toMatchObject({ text: "knock" })
      await expectPage("127.0.0.1:2222")
      const [killed = 0, ...others] = passts()
      expect(others).toEqual([])
      const words = commandLine(killed)
      const pidFile = machine.outside(words[words.indexOf("--pid") + 1]!)
      expect(readFileSync(pidFile, "utf8")).toBe(`${killed}\n`)
      process.kill(killed, "SIGKILL")
      await until("another passt", 10_000, () => passts().some((pid) => pid !== killed))
      await expectPage("127.0.0.1:8080")
      expect(await booted.must("wget -q -O - http://www/")).toBe(PAGE)
      const folder = pidFile.slice(0, pidFile.lastIndexOf("/"))
      booted.qemu.kill("SIGTERM")
      expect(await ended(booted.qemu, 5000)).toBe(true)
      await until("the end of passt", 5000, () => passts().length === 0)
      expect(readdirSync(folder).filter((name) => name.endsWith(".pid"))).toEqual([])
    },
    BOOT_MS,
  )

  test(
    "over vhost-user: a guest online both ways; QEMU ends, and so does passt",
    async () => {
      const booted = await boot(`passt,id=net,path=${PASST},vhost-user=on,tcp-ports=8080:80`)
      expect(await booted.must("wget -q -O - http://www/")).toBe(PAGE)
      await expectPage("127.0.0.1:8080")
      const [pid = 0, ...others] = passts()
      expect(others).toEqual([])
      expect(commandLine(pid)).toContain("--vhost-user")
      booted.qemu.kill("SIGTERM")
      expect(await ended(booted.qemu, 5000)).toBe(true)
      await until("the end of passt", 5000, () => passts().length === 0)
    },
    BOOT_MS,
  )

  test(
    "what its sub-options say reaches the guest",
    async () => {
      const addresses = "address=10.1.2.3,netmask=24,gateway=10.1.2.1,mtu=1400,mac=02:00:00:00:00:01"
      const names = "dns=198.51.100.53,search=one.example,search=world.example,dns-forward=10.1.2.9"
      const maps = "map-host-loopback=10.1.2.8,param=--no-map-gw,dhcpv6=off,icmp=off"
      const booted = await boot(`passt,id=net,path=${PASST},${addresses},${names},${maps}`)
      const lease = await booted.must("cat /run/net/lease")
      expect(lease).toContain("address 10.1.2.3/24\nrouter 10.1.2.1\ndns 198.51.100.53\n")
      expect(lease).toContain("search one.example world.example\nmtu 1400\n")
      expect(await booted.must(`ping -c 1 -W 1 10.1.2.1 >/dev/null; ip neigh show 10.1.2.1`)).toContain(
        "02:00:00:00:00:01",
      )
      expect(await booted.must(`socat -t 5 - TCP4:10.1.2.8:${PORT.whoami}`)).toMatch(/^127\.0\.0\.1 /)
      expect((await booted.run(`socat -t 5 - TCP4:10.1.2.1:${PORT.whoami}`)).status).not.toBe(0)
      expect(await booted.must(`nslookup -type=a ${SERVER.name} 10.1.2.9`)).toContain(SERVER.ipv4)
      expect((await booted.run(`ping -c 1 -W 1 ${SERVER.ipv4}`)).status).not.toBe(0)
    },
    BOOT_MS,
  )

  test.each(OPTIONS)("passt%s", async (netdev, words) => {
    expect(await asked(`,path=${NOTING_PASST}${netdev}`)).toBe(words)
  })

  test("found in PATH when there is no path=", async () => {
    expect(await asked("")).toBe("--quiet")
  })

  test.each([
    [`,tcp-ports=127.0.0.1/${PORT.digest}:80`, `Listen failed for TCP 127.0.0.1:${PORT.digest}: `],
    [",mtu=99999999", "99999999"],
    [",address=1.2.3", "Invalid address: 1.2.3"],
    [",param=--nonsense", "unrecognized option '--nonsense'"],
  ])("passt%s: QEMU ends, with our message", async (netdev, message) => {
    const { status, stderr } = await monitor(`,path=${PASST}${netdev}`)
    expect(status).not.toBe(0)
    expect(stderr).toContain(message)
  })
})
