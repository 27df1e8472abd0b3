// Section 1.1: the guest's socket.
import { deepEqual, equal, match, ok } from "node:assert/strict"
import { rmSync } from "node:fs"
import { HOST, PORT, ROUTER, SERVER } from "../../../tools/world/addresses.ts"
import type { Area } from "../check.ts"
import { GuestTcp } from "../guest-tcp.ts"
import { Guest } from "../guest.ts"
import { ethernet } from "../wire/build.ts"
import { addressBytes, BROADCAST_MAC, uint32 } from "../wire/bytes.ts"
import { NdpType } from "../wire/ndp.ts"
import type { Packet } from "../wire/parse.ts"

const isSolicitation = ({ icmp }: Packet, target: string): boolean =>
  icmp?.type === NdpType.NS && icmp.body.subarray(4, 20).equals(addressBytes(target))

export const transports: Area = {
  title: "The guest's socket",
  checks: [
    {
      id: "1.1.socket",
      title: "the socket is where --socket, --socket-path or -s says, ready when status 0 is there",
      reference: "differs",
      because: "--socket-path came in 2024",
      async run(t) {
        for (const option of ["--socket", "--socket-path", "-s"]) {
          const path = t.path(`socket-of${option}`)
          const { status, stderr } = await t.run([option, path])
          equal(status, 0, stderr)
          const guest = await Guest.connect(path)
          await guest.resolve(ROUTER.ipv4)
          guest.close()
        }
      },
    },
    {
      id: "1.1.default-socket",
      title: "without --socket it is the first free /tmp/passt_N.socket, and the next one for another passt",
      async run(t) {
        const numbers: number[] = []
        for (let round = 0; round < 2; round++) {
          const { status, stdout, stderr } = await t.run(["--pid", t.path(`pid${round}`)])
          equal(status, 0, stderr)
          const [, path, number] = /(\/tmp\/passt_(\d+)\.socket)/.exec(stdout + stderr) ?? []
          ok(path !== undefined, "the path is told")
          t.defer(() => rmSync(path, { force: true }))
          const guest = await Guest.connect(path)
          await guest.resolve(ROUTER.ipv4)
          guest.close()
          numbers.push(Number(number))
        }
        ok(numbers[0] !== numbers[1], `both took number ${numbers[0]}`)
      },
    },
    {
      id: "1.1.socket-in-use",
      title: "a socket on which another program listens is refused, and left alone",
      async run(t) {
        const running = await t.start()
        await t.refused([["-s", running.socket]])
        await (await t.connect(running)).resolve(ROUTER.ipv4)
      },
    },
    {
      id: "1.1.stale-socket",
      title: "a socket that a program left behind is replaced",
      async run(t) {
        const first = await t.start()
        first.process.kill("SIGKILL")
        await first.exit()
        await (await t.connect(await t.start([], first.socket))).resolve(ROUTER.ipv4)
      },
    },
    {
      id: "1.1.socket-folder",
      title: "a socket in a folder that is not there is refused",
      async run(t) {
        await t.refused([
          ["-s", "/nowhere/socket"],
          ["-s", `/tmp/${"x".repeat(200)}`],
        ])
      },
    },
    {
      id: "1.1.descriptor",
      title: "--fd: an inherited socket is the guest; when it closes, status 0",
      async run(t) {
        const { guest, running } = await t.inherited()
        await guest.resolve(ROUTER.ipv4)
        guest.close()
        equal(await running.exit(), 0)
      },
    },
    {
      id: "1.1.bad-descriptor",
      title: "--fd with what is no open descriptor is refused",
      reference: "differs",
      because: "older versions start, and end without a word",
      async run(t) {
        for (const value of ["77", "three", "-1", "3x", "4294967299"]) {
          const { status, stderr } = await t.run(["--fd", value])
          equal(status, 1, value)
          match(stderr, /fd|descriptor/i)
        }
      },
    },
    {
      id: "1.1.first-contact",
      title:
        "a guest that connects is asked for its addresses, by ARP and neighbour solicitation, before it has said anything",
      reference: "differs",
      because: "versions before 2025 wait for the guest to speak, so that connections to a silent guest are lost",
      async run(t) {
        const guest = await t.connect(await t.start())
        const request = await guest.find("an ARP request", (p) => p.arp?.operation === 1 && p)
        deepEqual([request.arp!.targetIp, request.destination], [HOST.ipv4, BROADCAST_MAC])
        await guest.find("a neighbour solicitation", (p) => isSolicitation(p, HOST.ipv6))
      },
    },
    {
      id: "1.1.guest-mac",
      title: "the guest's link-layer address is learned from its frames, and learned again when it changes",
      async run(t) {
        const guest = await t.connect(await t.start())
        for (const mac of ["02:00:00:00:00:11", "02:00:00:00:00:12"]) {
          guest.mac = mac
          equal((await guest.askUdp(SERVER.ipv4, PORT.echo, "hello")).destination, mac)
        }
      },
    },
    {
      id: "1.1.one-guest",
      title: "a second client is turned away at once, and the first one doesn't notice",
      async run(t) {
        const running = await t.start()
        const first = await t.connect(running)
        await first.resolve(ROUTER.ipv4)
        const second = await t.connect(running)
        await second.find("its end", () => false).catch(() => {})
        ok(second.isClosed, "the second client stays")
        await first.resolve(ROUTER.ipv4)
      },
    },
    {
      id: "1.1.longest-frame",
      title: "frames of up to 65,535 bytes are taken",
      reference: "differs",
      because: "the version of 2023 ends at 65,520",
      async run(t) {
        const guest = await t.connect(await t.start())
        for (const length of [14, 60, 65_534, 65_535]) {
          const frame = Buffer.alloc(length)
          ethernet(BROADCAST_MAC, guest.mac, 0x88b5, Buffer.alloc(0)).copy(frame)
          guest.send(frame)
          await guest.fence()
        }
      },
    },
    {
      id: "1.1.padding",
      title: "frames to the guest have 60 bytes at least",
      reference: "differs",
      because: "older versions send shorter ones, which some drivers drop",
      async run(t) {
        const guest = await t.guest()
        const { frame } = await guest.resolve(ROUTER.ipv4)
        ok(frame.length >= 60, `${frame.length} bytes`)
      },
    },
    {
      id: "1.1.unknown-type",
      title: "frames that are neither IP nor ARP are dropped, silently",
      async run(t) {
        const guest = await t.guest()
        await guest.fence()
        const types = [0x88cc, 0x8100, 0x0004]
        for (const type of types) guest.send(ethernet(BROADCAST_MAC, guest.mac, type, Buffer.alloc(100)))
        const answers = (await guest.fence()).filter(({ frame }) => types.includes(frame.readUInt16BE(12)))
        deepEqual(answers.length, 0)
      },
    },
    {
      id: "1.1.flows-survive",
      title: "connections go on when the guest's machine connects again",
      async run(t) {
        const running = await t.start()
        const before = await (await t.connect(running)).connectTcp(SERVER.ipv4)
        await before.write("one")
        equal((await before.read(3)).toString(), "one")
        before.guest.close()
        const again = await t.connect(running)
        const after = new GuestTcp(again, before.remote, before.remotePort, before.local, before.localPort)
        Object.assign(after, { seq: before.seq, ack: before.ack })
        await again.resolve(ROUTER.ipv4)
        await after.write("two")
        equal((await after.read(3)).toString(), "two")
      },
    },
    {
      id: "1.1.split-frames",
      title: "frames may be cut at any byte, lengths too",
      reference: "differs",
      because: "the version of 2023 loses its place in the stream",
      async run(t) {
        const guest = await t.guest()
        guest.socket.setNoDelay(true)
        const frame = guest.arpFrame(ROUTER.ipv4)
        for (const byte of Buffer.concat([uint32(frame.length), frame])) {
          guest.sendRaw(Buffer.from([byte]))
          await new Promise((resolve) => setTimeout(resolve, 1))
        }
        await guest.find("a reply", (packet) => packet.arp?.operation === 2)
      },
    },
    {
      id: "1.1.batched-frames",
      title: "many frames may come in one write",
      async run(t) {
        const guest = await t.guest()
        const targets = Array.from({ length: 100 }, (_, index) => `10.0.0.${index + 1}`)
        guest.send(...targets.map((target) => guest.arpFrame(target)))
        for (const target of targets) await guest.find(target, (packet) => packet.arp?.senderIp === target)
      },
    },
    {
      id: "1.1.bad-length",
      title: "a length that no frame can have ends the connection, and the next client is served",
      reference: "differs",
      because: "the version of 2023 doesn't tell, and reads on at some place in the stream",
      async run(t) {
        const running = await t.start()
        for (const length of [0, 13, 65_536, 0xffffffff]) {
          const guest = await t.connect(running)
          guest.sendRaw(Buffer.concat([uint32(length), Buffer.alloc(20)]))
          const end = await guest.find("an end", () => false).catch((error: Error) => error.message)
          ok(guest.isClosed, `length ${length}: ${end}`)
        }
        await (await t.connect(running)).resolve(ROUTER.ipv4)
      },
    },
    {
      id: "1.1.reconnect",
      title: "when the client has gone, the next one is served; half a frame of the first is forgotten",
      reference: "differs",
      because: "newer versions take the next client's first bytes for the rest of the frame",
      async run(t) {
        const running = await t.start()
        const first = await t.connect(running)
        await first.resolve(ROUTER.ipv4)
        first.sendRaw(Buffer.concat([uint32(1000), Buffer.alloc(500)]))
        first.close()
        await (await t.connect(running)).resolve(ROUTER.ipv4)
      },
    },
    {
      id: "1.1.one-off",
      title: "--one-off: status 0 when the client goes",
      async run(t) {
        const running = await t.start(["--one-off"])
        const guest = await t.connect(running)
        await guest.resolve(ROUTER.ipv4)
        guest.close()
        equal(await running.exit(), 0)
      },
    },
  ],
}
