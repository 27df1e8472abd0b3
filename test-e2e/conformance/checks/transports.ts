// Section 1.1: the guest's socket.
import { equal, ok } from "node:assert/strict"
import { ROUTER } from "../../../tools/world/addresses.ts"
import type { Area } from "../check.ts"
import { uint32 } from "../wire/bytes.ts"

export const transports: Area = {
  title: "The guest's socket",
  checks: [
    {
      id: "1.1.split-frames",
      title: "frames may be cut at any byte, lengths too",
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
