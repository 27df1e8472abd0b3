/**
 * Two guests on one switch, all in this process: the guests find each other by name of their MAC addresses, and behind the
 * switch each has an engine, its way to the world. Such a guest is code, a WebAssembly machine, or an emulator in JavaScript.
 *
 *   node examples/switch.ts
 */
import { MemoryLink, startEngine } from "@passt/engine"

const BROADCAST = "ffffffffffff"
const TYPE_ARP = 0x0806
/** An EtherType for experiments (IEEE 802). */
const TYPE_TALK = 0x88b5

/** A guest: what it hears, and a wire to speak on. */
interface Guest {
  readonly name: string
  readonly mac: string
  readonly address: readonly number[]
  hear(frame: Buffer): void
}

const heard: string[] = []
const guests: Guest[] = ["anna", "berta"].map((name, index) => ({
  name,
  mac: `02000000000${index + 1}`,
  address: [10, 0, 2, 11 + index],
  hear(frame) {
    const type = frame.readUInt16BE(12)
    if (type === TYPE_TALK) heard.push(`${name} heard: ${frame.toString("utf8", 14)}`)
    if (type === TYPE_ARP && frame[21] === 2) heard.push(`${name} knows who ${frame.subarray(28, 32).join(".")} is`)
  },
}))

const uplinks = new Map<Guest, MemoryLink>()

/** The switch: to the guest that is meant, to all others, or up. */
function forward(from: Guest, frame: Buffer): void {
  const to = frame.toString("hex", 0, 6)
  for (const guest of guests) if (guest !== from && (guest.mac === to || to === BROADCAST)) guest.hear(frame)
  if (!guests.some(({ mac }) => mac === to)) uplinks.get(from)!.send(frame)
}

function frameOf(from: Guest, to: string, type: number, payload: Buffer): Buffer {
  const header = Buffer.from(`${to}${from.mac}0000`, "hex")
  header.writeUInt16BE(type, 12)
  return Buffer.concat([header, payload])
}

/** "Who has …?" (RFC 826) */
function question(from: Guest, address: readonly number[]): Buffer {
  const mac = Buffer.from(from.mac, "hex")
  const arp = [0, 1, 8, 0, 6, 4, 0, 1, ...mac, ...from.address, 0, 0, 0, 0, 0, 0, ...address]
  return frameOf(from, BROADCAST, TYPE_ARP, Buffer.from(arp))
}

const engines = await Promise.all(
  guests.map((guest) => {
    const link = new MemoryLink()
    link.onFrame = (frame) => guest.hear(Buffer.from(frame.buffer))
    uplinks.set(guest, link)
    return startEngine({ guest: link, ipv6: false, address: `${guest.address.join(".")}/24`, gateway: "10.0.2.1" })
  }),
)
const [anna, berta] = guests as [Guest, Guest]
forward(anna, frameOf(anna, berta.mac, TYPE_TALK, Buffer.from("good morning")))
forward(berta, frameOf(berta, BROADCAST, TYPE_TALK, Buffer.from("hello everybody")))
for (const guest of guests) forward(guest, question(guest, [10, 0, 2, 1]))
while (heard.length < 4) await new Promise(setImmediate)
console.log(heard.toSorted().join("\n"))
await Promise.all(engines.map((engine) => engine.stop()))
