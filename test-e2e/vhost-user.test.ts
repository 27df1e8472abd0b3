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
const CTRL_VQ = 17
const MQ = 22
const INDIRECT = 28
const EVENT_IDX = 29
const RING_PACKED = 34
const OFFLOADS = [CSUM, GUEST_CSUM, GUEST_TSO4, GUEST_TSO6, HOST_TSO4, HOST_TSO6]

const LAYOUT = [MRG_RXBUF, INDIRECT, EVENT_IDX]

interface Setting {
  readonly name: string
  readonly card?: string
  readonly queues: number
  readonly mtuMax: number
  readonly mtus: readonly number[]
  readonly has: readonly number[]
  readonly hasNot: readonly number[]
}

const ALL = { queues: 1, mtuMax: 65_520, mtus: [65_520, 1500, 1280], has: [...OFFLOADS, ...LAYOUT], hasNot: [] }
const SETTINGS: readonly Setting[] = [
  { ...ALL, name: "every offload", hasNot: [MQ, RING_PACKED] },
  { ...ALL, name: "packed queues", card: "packed=on", has: [...ALL.has, RING_PACKED] },
  {
    ...ALL,
    name: "packed queues without event index and indirect descriptors",
    card: "packed=on,event_idx=off,indirect_desc=off",
    mtus: [1500],
    has: [...OFFLOADS, MRG_RXBUF, RING_PACKED],
    hasNot: [INDIRECT, EVENT_IDX],
  },
  { ...ALL, name: "four pairs of queues", card: "mq=on", queues: 4, mtus: [1500], has: [...ALL.has, MQ, CTRL_VQ] },
  {
    ...ALL,
    name: "four pairs of packed queues",
    card: "mq=on,packed=on",
    queues: 4,
    mtus: [1500],
    has: [...ALL.has, MQ, CTRL_VQ, RING_PACKED],
  },
  {
    name: "none, and one buffer for each frame",
    queues: 1,
    // Without merged buffers, a frame must fit the one that the driver gives: 1,500 bytes of packet.
    mtuMax: 1500,
    mtus: [1500],
    card:
      "csum=off,guest_csum=off,gso=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off," +
      "host_tso4=off,host_tso6=off,host_ecn=off,host_ufo=off,mrg_rxbuf=off,event_idx=off,indirect_desc=off",
    has: [],
    hasNot: [...OFFLOADS, ...LAYOUT],
  },
]

/** What `ethtool -K` switches in the driver. */
const SWITCHES = ["tx", "tso", "gso", "rx", "gro", "sg"]

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

  describe.each(SETTINGS)("a driver with $name", ({ card, queues, mtuMax, mtus, has, hasNot }) => {
    let passt: Passt
    let guest: Guest
    beforeAll(async () => {
      passt = await startPasst(world.host, ["--vhost-user", "-m", String(mtuMax), ...FORWARDS])
      const { socket } = passt
      const more = { queues, processors: queues, ...(card === undefined ? {} : { card }) }
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

    describe.each(mtus)("MTU %i", (mtu) => {
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

    test.skipIf(card !== undefined)("ethtool -K: each offload off, and on again", async () => {
      const count = 2 ** 18
      for (const name of SWITCHES) {
        for (const value of ["off", "on"]) {
          // Some follow others, which ethtool tells in its status.
          await guest.run(`ethtool -K eth0 ${name} ${value}`)
          const down = `echo ${count} 4 | socat -t 60 - TCP4:${SERVER.ipv4}:${PORT.stream} | sha256sum`
          expect(await guest.must(down, 60_000), `${name} ${value}`).toContain(streamDigest(count, 4))
          const up = `head -c ${count} /dev/zero | socat -t 60 - TCP4:${SERVER.ipv4}:${PORT.digest}`
          const digest = (await guest.must(`head -c ${count} /dev/zero | sha256sum`)).split(" ")[0]
          expect(await guest.must(up, 60_000), `${name} ${value}`).toBe(`${count} ${digest}\n`)
        }
        const features = await guest.must("ethtool -k eth0")
        if (name === "tso") expect(features).toContain("tcp-segmentation-offload: on")
        if (name === "tx") expect(features).toContain("tx-checksumming: on")
      }
    })

    describe.skipIf(queues === 1)("several queues", () => {
      const received = async (): Promise<number[]> => {
        const counters = await guest.must("ethtool -S eth0")
        return Array.from({ length: queues }, (_, i) =>
          Number(new RegExp(`rx_queue_${i}_packets: (\\d+)|rx${i}_packets: (\\d+)`).exec(counters)?.[1] ?? NaN),
        )
      }
      const ask1 = (processor: number) =>
        `for i in 1 2 3; do echo $i | taskset ${1 << processor} socat -t 0.2 - UDP4:${SERVER.ipv4}:${PORT.echo}; done`

      test("answers come on the queue on which the guest asked", async () => {
        expect(await guest.must("ethtool -l eth0")).toMatch(new RegExp(`Current[^]*Combined:\\s+${queues}`))
        for (let processor = 0; processor < queues; processor++) {
          const before = await received()
          await guest.must(ask1(processor), 60_000)
          const more = (await received()).map((count, i) => count - before[i]!)
          expect(more[processor], `of ${more.join(", ")}`).toBeGreaterThanOrEqual(3)
        }
      })
      test("fewer queues, and more again, in mid-transfer", async () => {
        const count = 20 * 2 ** 20
        const down = `echo ${count} 4 | socat -t 60 - TCP4:${SERVER.ipv4}:${PORT.stream} | sha256sum`
        const transfers = [guest.run(down, 120_000)]
        for (const combined of [1, 2, queues, 1, queues]) {
          await guest.must(`ethtool -L eth0 combined ${combined}`)
          expect(await guest.must("wget -q -O - http://www/")).toBe(PAGE)
        }
        for (const { stdout } of await Promise.all(transfers)) expect(stdout).toContain(streamDigest(count, 4))
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
