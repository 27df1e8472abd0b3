// A real Linux behind vhost-user: with all that QEMU's driver can leave to us, and with none of it; guests and programs that end
// and come back.
import { readFileSync } from "node:fs"
import { connect } from "node:net"
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest"
import { bootGuest } from "../tools/guest/qemu.ts"
import type { Guest } from "../tools/guest/qemu.ts"
import { HOST, PAGE, PORT, ROUTER, SERVER } from "../tools/world/addresses.ts"
import { ask } from "../tools/world/ask.ts"
import { runPasst, startPasst } from "../tools/world/passt.ts"
import type { Passt } from "../tools/world/passt.ts"
import { ended, until } from "../tools/world/process.ts"
import { streamDigest } from "../tools/world/stream.ts"
import { createWorld } from "../tools/world/world.ts"
import type { World } from "../tools/world/world.ts"
import { FAMILIES, inUrl } from "./lib/families.ts"
import { missing, skipNote } from "./lib/needs.ts"

const FORWARDS = ["-t", "8080:80,2000-2001:9000-9001", "-u", "5000:7"]

/** Feature bits (VIRTIO 1.2 section 5.1.3). */
const CSUM = 0
const GUEST_CSUM = 1
const GUEST_TSO4 = 7
const GUEST_TSO6 = 8
const HOST_TSO4 = 11
const HOST_TSO6 = 12
const MRG_RXBUF = 15
const INDIRECT = 28
const EVENT_IDX = 29
const OFFLOADS = [CSUM, GUEST_CSUM, GUEST_TSO4, GUEST_TSO6, HOST_TSO4, HOST_TSO6]

const SETTINGS = [
  { name: "every offload", card: undefined, has: [...OFFLOADS, MRG_RXBUF, INDIRECT, EVENT_IDX], hasNot: [] },
  {
    name: "none, and one buffer for each frame",
    card:
      "csum=off,guest_csum=off,gso=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off," +
      "host_tso4=off,host_tso6=off,host_ecn=off,host_ufo=off,mrg_rxbuf=off,event_idx=off,indirect_desc=off",
    has: [],
    hasNot: [...OFFLOADS, MRG_RXBUF, INDIRECT, EVENT_IDX],
  },
] as const

async function serve(guest: Guest): Promise<void> {
  await guest.online()
  await guest.must(`mkdir -p /www && echo "the guest's page" > /www/index.html && httpd -p 80 -h /www`)
  await guest.must("(socat UDP6-RECVFROM:7,ipv6only=0,fork PIPE > /dev/null 2>&1 &)")
  await guest.must("(socat TCP6-LISTEN:9000,ipv6only=0,fork,reuseaddr EXEC:sha256sum > /dev/null 2>&1 &)")
}

describe.skipIf(missing(["qemu"]).length > 0)(`vhost-user${skipNote("qemu")}`, () => {
  let world: World
  beforeAll(async () => {
    world = await createWorld()
  })
  afterAll(() => world?.close())

  describe.each(SETTINGS)("a driver with $name", ({ card, has, hasNot }) => {
    let passt: Passt
    let guest: Guest
    // Without merged buffers, a frame must fit the one that the driver gives: 1,500 bytes of packet.
    const mtuMax = card === undefined ? 65_520 : 1500
    beforeAll(async () => {
      passt = await startPasst(world.host, ["--vhost-user", "-m", String(mtuMax), ...FORWARDS])
      const { socket } = passt
      const more = card === undefined ? {} : { card }
      guest = await bootGuest({ socket, vhostUser: true, start: world.host.startAsUser, ...more })
      await serve(guest)
    })
    afterAll(async () => {
      await guest?.kill()
      await passt?.stop()
    })

    test("the features are those", async () => {
      const bits = (await guest.must("cat /sys/class/net/eth0/device/features")).trim()
      for (const bit of has) expect(bits[bit], `bit ${bit}`).toBe("1")
      for (const bit of hasNot) expect(bits[bit], `bit ${bit}`).toBe("0")
    })
    test("addresses and MTU by DHCP, a route by advertisement", async () => {
      const lease = await guest.must("cat /run/net/lease")
      expect(lease).toContain(`address ${HOST.ipv4}/${HOST.prefix4}\n`)
      expect(lease).toContain(`router ${ROUTER.ipv4}\n`)
      expect(lease).toContain(`mtu ${mtuMax}\n`)
      expect(await guest.must("ip -6 route show default")).toContain("via fe80:")
    })

    describe.each(mtuMax === 1500 ? [1500] : [65_520, 1500, 1280])("MTU %i", (mtu) => {
      beforeAll(async () => {
        await guest.must(`ip link set eth0 mtu ${mtu}`)
      })
      test.each(FAMILIES)("$family: ping, UDP, TCP, both ways", async ({ family, server, host }) => {
        const four = family === "IPv4"
        const size = Math.min(5000, mtu - 100)
        const ping = await guest.run(`ping ${four ? "-4" : "-6"} -c 2 -i 0.2 -W 2 -s ${size} ${server}`)
        expect(ping.stdout).toContain("2 packets received")
        expect(await guest.must(`wget -q -O - 'http://${inUrl(server)}/'`)).toBe(PAGE)
        const echo = `${four ? "UDP4" : "UDP6"}:${inUrl(server)}:${PORT.echo}`
        expect(await guest.must(`echo datagram | socat -t 2 - ${echo}`)).toBe("datagram\n")
        expect(await ask(world.world, "udp", host, 5000, "knock", 3000)).toMatchObject({ text: "knock" })
        expect(await ask(world.world, "http", `http://${inUrl(host)}:8080/`)).toMatchObject({
          text: "the guest's page\n",
        })

        const count = 5 * 2 ** 20
        const tcp = four ? "TCP4" : "TCP6"
        const down = `echo ${count} 4 | socat -t 60 - ${tcp}:${inUrl(server)}:${PORT.stream} | sha256sum`
        expect(await guest.must(down, 60_000)).toContain(streamDigest(count, 4))
        const up = `head -c ${count} /dev/zero | socat -t 60 - ${tcp}:${inUrl(server)}:${PORT.digest}`
        const digest = (await guest.must(`head -c ${count} /dev/zero | sha256sum`)).split(" ")[0]
        expect(await guest.must(up, 60_000)).toBe(`${count} ${digest}\n`)
        const inbound = await ask(world.world, "upload", host, 2000, count, 5)
        expect(inbound.text).toContain(streamDigest(count, 5))
      })
    })

    test("the guest's driver is taken away and comes back", async () => {
      await guest.must(
        "/etc/network down; cd /sys/class/net/eth0/device && " +
          "name=$(basename $(readlink -f .)) && echo $name > driver/unbind && echo $name > /sys/bus/virtio/drivers/virtio_net/bind",
      )
      await guest.must("/etc/network up", 60_000)
      await guest.online()
      expect(await guest.must("wget -q -O - http://www/")).toBe(PAGE)
    })
  })

  describe("guests and programs that come back", () => {
    let passt: Passt | undefined
    let guest: Guest | undefined
    afterEach(async () => {
      await guest?.kill()
      await passt?.stop()
      guest = passt = undefined
    })

    test("a guest that is killed in mid-transfer, and booted again", async () => {
      passt = await startPasst(world.host, ["--vhost-user"])
      const { socket } = passt
      guest = await bootGuest({ socket, vhostUser: true, start: world.host.startAsUser })
      await guest.online()
      const transfer = guest.run(`echo 2000000000 4 | socat - TCP4:${SERVER.ipv4}:${PORT.stream} > /dev/null`)
      transfer.catch(() => {})
      await new Promise((resolve) => setTimeout(resolve, 500))
      await guest.kill()
      expect(passt.process.exitCode).toBeNull()
      guest = await bootGuest({ socket, vhostUser: true, start: world.host.startAsUser })
      await guest.online()
      expect(await guest.must("wget -q -O - http://www/")).toBe(PAGE)
      // Nothing of the first guest's memory is mapped any more.
      const mapped = readFileSync(`/proc/${passt.process.pid}/maps`, "utf8").match(/memory-backend-memfd/g) ?? []
      expect(new Set(mapped).size).toBeLessThanOrEqual(1)
    })

    test("a program that is killed, and started again on the same path: the guest goes on", async () => {
      const first = await startPasst(world.host, ["--vhost-user"])
      const { socket } = first
      passt = first
      guest = await bootGuest({ socket, vhostUser: true, start: world.host.startAsUser })
      await guest.online()
      first.process.kill("SIGKILL")
      await ended(first.process, 5000)
      passt = await startPasst(world.host, ["--vhost-user"], socket)
      const running = guest
      await until("the guest's network", 20_000, async () => {
        return (await running.run("timeout 3 wget -q -O - http://www/")).stdout === PAGE
      })
    })

    test("one-off: ends with the front-end", async () => {
      passt = await startPasst(world.host, ["--vhost-user", "--one-off"])
      guest = await bootGuest({ socket: passt.socket, vhostUser: true, network: "none", start: world.host.startAsUser })
      await guest.kill()
      await ended(passt.process, 5000)
      expect(passt.process.exitCode).toBe(0)
    })

    test("nonsense ends the connection, not the program", async () => {
      passt = await startPasst(world.host, ["--vhost-user"])
      const { socket } = passt
      for (const bytes of [Buffer.alloc(4096, 0xff), Buffer.from("GET / HTTP/1.0\r\n\r\n"), Buffer.alloc(12)]) {
        await new Promise<void>((resolve) => {
          const client = connect(socket, () => client.write(bytes))
          client.on("error", () => {})
          client.on("close", () => resolve())
          client.resume()
        })
      }
      expect(passt.process.exitCode).toBeNull()
      const { log } = passt
      await until("the last message", 5000, () =>
        log().includes("vhost-user: version 0 in request 0, ending the connection"),
      )
      expect(log()).toContain("vhost-user: a message that is too long, ending the connection")
    })
  })

  test("--print-capabilities: JSON on standard output", async () => {
    const outcome = await runPasst(world.host, ["--print-capabilities"])
    expect(outcome).toMatchObject({ status: 0, stderr: "" })
    expect(JSON.parse(outcome.stdout)).toMatchObject({ type: "net" })
  })
})
