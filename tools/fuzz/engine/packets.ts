/**
 * Frames of a guest: well-formed ones of every kind that the engine knows, as bytes, and ways to spoil them.
 */
import { Random } from "../random.ts"
import {
  bytesOf,
  DNS4,
  DNS6,
  GATEWAY4,
  GATEWAY6,
  GROUPS4,
  GROUPS6,
  GUEST4,
  GUEST6,
  GUEST_LINK_LOCAL,
  GUEST_MAC,
  ODD4,
  ODD6,
  PEERS4,
  PEERS6,
} from "./addresses.ts"

type Bytes = readonly number[] | Uint8Array

export function join(...parts: readonly Bytes[]): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}

const u16 = (value: number): number[] => [(value >> 8) & 255, value & 255]
const u32 = (value: number): number[] => [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255]

function sumOf(...parts: readonly Uint8Array[]): number {
  let sum = 0
  for (const part of parts) for (let i = 0; i < part.length; i++) sum += i % 2 === 0 ? part[i]! << 8 : part[i]!
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

/** A connection that the guest has, as it learned from what the engine sent. */
export interface Conversation {
  readonly v6: boolean
  readonly guest: Uint8Array
  readonly far: Uint8Array
  readonly guestPort: number
  readonly farPort: number
  /** Next sequence number of the guest's, and what it expects. */
  sequence: number
  expected: number
}

export class Packets {
  readonly #r: Random
  readonly conversations: Conversation[] = []

  constructor(random: Random) {
    this.#r = random
  }

  /** A frame, spoiled or not. */
  frame(): Uint8Array {
    const r = this.#r
    if (r.chance(0.02)) return r.bytes(r.between(14, 200))
    let frame = this.#sound()
    if (r.chance(0.55)) return frame
    for (let i = r.between(1, 3); i > 0; i--) frame = this.#spoil(frame)
    if (r.chance(0.4)) repair(frame)
    return frame
  }

  #sound(): Uint8Array {
    const r = this.#r
    switch (r.below(18)) {
      case 0:
        return this.#arp()
      case 1:
        return this.#discovery()
      case 2:
        return this.#dhcp()
      case 3:
        return this.#dhcpv6()
      case 4:
      case 5:
        return this.#datagram()
      case 6:
      case 7:
        return this.#echo()
      case 8:
        return this.#other()
      case 9:
      case 10:
        return this.#syn()
      case 11:
        return this.#membership()
      case 12:
        return this.#toGroup()
      default:
        return this.#segment()
    }
  }

  #ethernet(type: number, body: Uint8Array): Uint8Array<ArrayBuffer> {
    const r = this.#r
    const destination = r.chance(0.9) ? [0x9a, 0x55, 0x9a, 0x55, 0x9a, 0x55] : [255, 255, 255, 255, 255, 255]
    const source = r.chance(0.97) ? GUEST_MAC : [...r.bytes(6)]
    const frame = join(destination, source, u16(type), body)
    // Padding, as short frames have, or what a card leaves there.
    const pad = frame.length < 60 && r.chance(0.7) ? 60 - frame.length : r.chance(0.05) ? r.below(40) : 0
    return pad > 0 ? join(frame, r.chance(0.5) ? new Uint8Array(pad) : r.bytes(pad)) : frame
  }

  #ipv4(protocol: number, source: Uint8Array, destination: Uint8Array, body: Uint8Array): Uint8Array {
    const r = this.#r
    const options = r.chance(0.08) ? r.bytes(4 * r.between(1, 10)) : new Uint8Array()
    const fragment = r.chance(0.03) ? r.pick([0x2000, 0x2001, 0x0001, 0x1fff, 0x8000]) : r.pick([0, 0x4000])
    const ttl = r.chance(0.95) ? 64 : r.edge(8)
    const length = 20 + options.length + body.length
    const header = join(
      [0x45 + options.length / 4, r.chance(0.9) ? 0 : r.below(256)],
      u16(length),
      u16(r.below(65_536)),
      u16(fragment),
      [ttl, protocol, 0, 0],
      source,
      destination,
      options,
    )
    header.set(u16(sumOf(header)), 10)
    return this.#ethernet(0x0800, join(header, body))
  }

  #ipv6(next: number, source: Uint8Array, destination: Uint8Array, body: Uint8Array, hops: number): Uint8Array {
    const r = this.#r
    let type = next
    let rest: Uint8Array<ArrayBuffer> = join(body)
    for (let i = r.chance(0.15) ? r.between(1, 9) : 0; i > 0; i--) {
      const [header, own] = this.#extension(type)
      rest = join(header, rest)
      type = own
    }
    const header = join(
      u32((6 << 28) | (r.chance(0.8) ? 0 : r.word() & 0xfffffff)),
      u16(rest.length),
      [type, hops],
      source,
      destination,
    )
    return this.#ethernet(0x86dd, join(header, rest))
  }

  /** An extension header before `next`. @returns it and its number */
  #extension(next: number): [Uint8Array, number] {
    const r = this.#r
    const own = r.pick([0, 43, 44, 51, 60, 60, 135, 139, 140])
    if (own === 44) return [join([next, 0], u16(r.chance(0.7) ? 0 : r.edge(16)), r.bytes(4)), own]
    if (own === 51) {
      const words = r.between(1, 6)
      return [join([next, words], r.bytes(words * 4 + 6)), own]
    }
    const units = r.chance(0.8) ? r.below(3) : r.below(30)
    return [join([next, units], r.bytes(6 + units * 8)), own]
  }

  #ends(): { v6: boolean; source: Uint8Array; destination: Uint8Array } {
    const r = this.#r
    const v6 = r.chance(0.5)
    const guest = v6 ? r.pick([GUEST6, GUEST6, GUEST_LINK_LOCAL]) : GUEST4
    const source = r.chance(0.95) ? guest : r.pick(v6 ? ODD6 : ODD4)
    const destination = r.chance(0.9) ? r.pick(v6 ? PEERS6 : PEERS4) : r.pick(v6 ? ODD6 : ODD4)
    return { v6, source: bytesOf(source), destination: bytesOf(destination) }
  }

  #packet(v6: boolean, protocol: number, source: Uint8Array, destination: Uint8Array, body: Uint8Array): Uint8Array {
    const hops = this.#r.chance(0.95) ? 64 : this.#r.edge(8)
    return v6 ? this.#ipv6(protocol, source, destination, body, hops) : this.#ipv4(protocol, source, destination, body)
  }

  #arp(): Uint8Array {
    const r = this.#r
    const address = (): Uint8Array => bytesOf(r.pick([GUEST4, GATEWAY4, ...PEERS4, ...ODD4]))
    const operation = r.chance(0.9) ? 1 : r.below(4)
    const body = join(
      [0, 1, 8, 0, 6, 4],
      u16(operation),
      GUEST_MAC,
      r.chance(0.8) ? bytesOf(GUEST4) : address(),
      new Uint8Array(6),
    )
    return this.#ethernet(0x0806, join(body, address()))
  }

  #discovery(): Uint8Array {
    const r = this.#r
    const type = r.pick([133, 133, 135, 135, 135, 134, 136, 137])
    const source = bytesOf(r.pick([GUEST_LINK_LOCAL, GUEST6, "::"]))
    const destination = bytesOf(type === 133 ? "ff02::2" : r.pick(["ff02::1:ff00:1", "ff02::1:ff00:15", GATEWAY6]))
    const target = type >= 135 ? bytesOf(r.pick([GATEWAY6, GUEST6, ...PEERS6, ...ODD6])) : new Uint8Array()
    const options: Uint8Array[] = []
    for (let i = r.below(4); i > 0; i--) {
      const units = r.chance(0.8) ? 1 : r.below(4)
      options.push(join([r.pick([1, 1, 2, 5, 14, 253]), units], r.bytes(Math.max(0, units * 8 - 2))))
    }
    const body = join([type, 0, 0, 0, 0, 0, 0, 0], target, ...options)
    setIcmpv6Sum(body, source, destination)
    return this.#ipv6(58, source, destination, body, r.chance(0.95) ? 255 : 64)
  }

  #dhcp(): Uint8Array {
    const r = this.#r
    const options: Bytes[] = [[53, 1, r.pick([1, 1, 3, 3, 8, 4, 7, 2, 0, 255])]]
    for (let i = r.below(6); i > 0; i--) {
      const code = r.pick([0, 12, 50, 54, 55, 57, 60, 61, 80, 81, 82, 119, 255, r.below(256)])
      if (code === 0 || code === 255) options.push([code])
      else if (code === 54) options.push([54, 4, ...bytesOf(r.pick([GATEWAY4, "192.0.2.9"]))])
      else options.push(option8(code, r.bytes(r.length(40))))
    }
    options.push([255])
    const fixed = join(
      [r.chance(0.95) ? 1 : r.below(4), 1, r.chance(0.9) ? 6 : r.edge(8), 0],
      r.bytes(4),
      [0, 0],
      u16(r.pick([0, 0x8000, 0x7fff])),
      r.chance(0.7) ? new Uint8Array(4) : bytesOf(r.pick([GUEST4, ...ODD4])),
      new Uint8Array(8),
      r.chance(0.9) ? new Uint8Array(4) : r.bytes(4),
      GUEST_MAC,
      new Uint8Array(10 + 192),
      [0x63, 0x82, 0x53, 0x63],
    )
    const body = udp(68, 67, join(fixed, ...(r.chance(0.9) ? options : options.toReversed())))
    const source = bytesOf(r.pick(["0.0.0.0", "0.0.0.0", GUEST4]))
    return this.#ipv4(17, source, bytesOf(r.pick(["255.255.255.255", GATEWAY4])), body)
  }

  #dhcpv6(): Uint8Array {
    const r = this.#r
    const options: Uint8Array[] = []
    const address = (): Uint8Array => option16(5, join(bytesOf(r.pick([GUEST6, GUEST6, "2001:db8::9"])), r.bytes(8)))
    for (let i = r.between(1, 8); i > 0; i--) {
      const code = r.pick([1, 1, 1, 2, 3, 3, 4, 6, 8, 14, 39, 25, r.below(65_536)])
      if (code === 1)
        options.push(option16(1, join([0, 3, 0, 1], GUEST_MAC, r.chance(0.1) ? r.bytes(r.below(150)) : [])))
      else if (code === 2) options.push(option16(2, join([0, 1, 0, 1, 0, 0, 0, 7, 0x9a, 0x55, 0x9a, 0x55, 0x9a, 0x55])))
      else if (code === 3) options.push(option16(3, join(r.bytes(12), ...Array.from({ length: r.below(3) }, address))))
      else if (code === 4) options.push(option16(4, join(r.bytes(4), ...Array.from({ length: r.below(3) }, address))))
      else options.push(option16(code, r.bytes(r.length(60))))
    }
    const type = r.pick([1, 1, 3, 4, 5, 6, 8, 9, 11, 2, 7, 10, 12, 13])
    const body = udp(546, 547, join([type], r.bytes(3), ...options))
    const source = bytesOf(r.pick([GUEST_LINK_LOCAL, GUEST_LINK_LOCAL, GUEST6]))
    const destination = bytesOf(r.pick(["ff02::1:2", "ff02::1:2", "ff05::1:3", GATEWAY6]))
    setTransportSum(body, 17, source, destination)
    return this.#ipv6(17, source, destination, body, 1)
  }

  #datagram(): Uint8Array {
    const r = this.#r
    const { v6, source, destination } = this.#ends()
    const dns = r.chance(0.2)
    const body = udp(
      r.chance(0.98) ? r.between(1, 12) + 5000 : 0,
      dns ? r.pick([53, 853]) : r.chance(0.95) ? r.between(1, 12) + 6000 : r.edge(16),
      r.bytes(r.length(r.chance(0.02) ? 60_000 : 2000)),
    )
    if (r.chance(0.8)) setTransportSum(body, 17, source, destination)
    const to = dns ? bytesOf(v6 ? DNS6 : DNS4) : destination
    return this.#packet(v6, 17, source, to, body)
  }

  #echo(): Uint8Array {
    const r = this.#r
    const { v6, source, destination } = this.#ends()
    const type = r.chance(0.9) ? (v6 ? 128 : 8) : r.below(256)
    const code = r.chance(0.95) ? 0 : r.below(256)
    const body = join([type, code, 0, 0], u16(r.below(8)), u16(r.below(65_536)), r.bytes(r.length(1500)))
    if (v6) setIcmpv6Sum(body, source, destination)
    else body.set(u16(sumOf(body)), 2)
    return this.#packet(v6, v6 ? 58 : 1, source, destination, body)
  }

  /** IGMP and MLD: reports of every version, leaves, questions, and some with numbers that lie. */
  #membership(): Uint8Array {
    const r = this.#r
    const v6 = r.chance(0.5)
    const group = (): Uint8Array => bytesOf(r.chance(0.9) ? r.pick(v6 ? GROUPS6 : GROUPS4) : r.pick(v6 ? ODD6 : ODD4))
    const type = v6
      ? r.pick([130, 131, 132, 143, 143, 143])
      : r.pick([0x11, 0x12, 0x16, 0x16, 0x17, 0x22, 0x22, 0x22, 0x13])
    const records: Uint8Array[] = []
    if (type === 143 || type === 0x22) {
      const many = r.chance(0.05)
      for (let i = many ? 60 : r.below(4); i > 0; i--) {
        const sources = Array.from({ length: r.chance(0.7) ? 0 : r.below(6) }, () => r.bytes(v6 ? 16 : 4))
        const auxiliary = r.chance(0.9) ? 0 : r.below(4)
        const counted = r.chance(0.97) ? sources.length : r.edge(16)
        const one = many ? join([239, 9, r.below(256), i]) : group()
        const address = one.length === (v6 ? 16 : 4) ? one : group()
        records.push(join([r.between(0, 7), auxiliary], u16(counted), address, ...sources, r.bytes(4 * auxiliary)))
      }
    } else records.push(group())
    const counted = r.chance(0.95) ? records.length : r.edge(16)
    const head = type === 143 || type === 0x22 ? [type, 0, 0, 0, 0, 0, ...u16(counted)] : [type, 0, 0, 0]
    const body = join(head, v6 && type < 143 ? new Uint8Array(4) : [], ...records)
    const source = bytesOf(
      v6 ? r.pick([GUEST_LINK_LOCAL, GUEST_LINK_LOCAL, "::", GUEST6]) : r.pick([GUEST4, "0.0.0.0"]),
    )
    const destination = bytesOf(v6 ? r.pick(["ff02::16", "ff02::2"]) : r.pick(["224.0.0.22", "224.0.0.2"]))
    if (!v6) {
      body.set(u16(sumOf(body)), 2)
      return this.#ipv4(2, source, destination, body)
    }
    setIcmpv6Sum(body, source, destination)
    return this.#ipv6(58, source, destination, body, r.chance(0.95) ? 1 : r.edge(8))
  }

  /** A datagram to a group, from few ports to few ports. */
  #toGroup(): Uint8Array {
    const r = this.#r
    const v6 = r.chance(0.5)
    const source = bytesOf(v6 ? r.pick([GUEST_LINK_LOCAL, GUEST6]) : GUEST4)
    const destination = bytesOf(r.pick(v6 ? GROUPS6 : GROUPS4))
    const port = r.pick([5353, 1900, 5001, 6454])
    const body = udp(r.chance(0.5) ? port : r.between(4000, 4004), port, r.bytes(r.length(1400)))
    setTransportSum(body, 17, source, destination)
    return this.#packet(v6, 17, source, destination, body)
  }

  /** Protocols that nobody knows, and nonsense under the names of known ones. */
  #other(): Uint8Array {
    const r = this.#r
    const { v6, source, destination } = this.#ends()
    return this.#packet(
      v6,
      r.pick([0, 2, 41, 50, 58, 59, 132, 136, r.below(256)]),
      source,
      destination,
      r.bytes(r.length(200)),
    )
  }

  #options(): Uint8Array {
    const r = this.#r
    const options: Bytes[] = []
    if (r.chance(0.8)) options.push([2, 4, ...u16(r.pick([1460, 1440, 65_495, 536, 0, 1, 47, 48, 9000]))])
    if (r.chance(0.6)) options.push([1, 3, 3, r.pick([0, 7, 14, 15, 255])])
    if (r.chance(0.3)) options.push([4, 2])
    if (r.chance(0.3)) options.push([8, 10, ...r.bytes(8)])
    if (r.chance(0.05)) options.push([r.below(256), r.below(45), ...r.bytes(r.below(8))])
    const all = join(...options).slice(0, 40)
    return all.length % 4 === 0 ? all : join(all, new Uint8Array(4 - (all.length % 4)))
  }

  #tcp(
    ends: { v6: boolean; source: Uint8Array; destination: Uint8Array },
    ports: readonly [number, number],
    sequence: number,
    acknowledgement: number,
    flags: number,
    data: Uint8Array,
  ): Uint8Array {
    const r = this.#r
    const options = (flags & 2) !== 0 || r.chance(0.1) ? this.#options() : new Uint8Array()
    const window = r.chance(0.7) ? 65_535 : r.edge(16)
    const body = join(
      u16(ports[0]),
      u16(ports[1]),
      u32(sequence),
      u32(acknowledgement),
      [((20 + options.length) / 4) << 4, flags],
      u16(window),
      [0, 0],
      u16(r.chance(0.95) ? 0 : r.edge(16)),
      options,
      data,
    )
    setTransportSum(body, 6, ends.source, ends.destination)
    return this.#packet(ends.v6, 6, ends.source, ends.destination, body)
  }

  #syn(): Uint8Array {
    const r = this.#r
    const ports = [r.between(1, 12) + 30_000, r.chance(0.97) ? r.pick([80, 443, 53]) : 0] as const
    const flags = r.chance(0.95) ? 2 : r.below(256)
    const ends = this.#ends()
    const isDns = ports[1] === 53 && r.chance(0.8)
    const to = isDns ? { ...ends, destination: bytesOf(ends.v6 ? DNS6 : DNS4) } : ends
    return this.#tcp(to, ports, r.word(), 0, flags, r.chance(0.95) ? new Uint8Array() : r.bytes(20))
  }

  /** What belongs to a connection, mostly. */
  #segment(): Uint8Array {
    const r = this.#r
    const c = this.conversations.length > 0 ? r.pick(this.conversations) : undefined
    if (c === undefined) return this.#syn()
    const data = r.chance(0.6) ? r.bytes(r.length(r.chance(0.03) ? 60_000 : 1460)) : new Uint8Array()
    let flags = 0x10
    if (r.chance(0.04)) flags |= 1
    if (r.chance(0.02)) flags |= 4
    if (r.chance(0.02)) flags |= 2
    if (r.chance(0.3)) flags |= 8
    if (r.chance(0.02)) flags = r.below(256)
    // Ahead, behind, or where it should be.
    const sequence = c.sequence + (r.chance(0.75) ? 0 : r.pick([-1, 1, -100, 1460, 5000, 65_535, 1 << 20, r.word()]))
    const acknowledgement = c.expected + (r.chance(0.8) ? 0 : r.pick([-1, 1, -1460, 1460, -70_000, r.word()]))
    if (sequence === c.sequence && r.chance(0.9)) c.sequence = (c.sequence + data.length + (flags & 1)) | 0
    const ends = { v6: c.v6, source: c.guest, destination: c.far }
    return this.#tcp(ends, [c.guestPort, c.farPort], sequence | 0, acknowledgement | 0, flags, data)
  }

  /** Learns from a frame that the engine sent. */
  learn(frame: Uint8Array): void {
    const d = new DataView(frame.buffer, frame.byteOffset, frame.length)
    const v6 = d.getUint16(12) === 0x86dd
    const l4 = v6 ? 54 : 34
    if (frame.length < l4 + 20 || frame[v6 ? 20 : 23] !== 6) return
    const flags = frame[l4 + 13]!
    const far = frame.slice(v6 ? 22 : 26, v6 ? 38 : 30)
    const guest = frame.slice(v6 ? 38 : 30, l4)
    const farPort = d.getUint16(l4)
    const guestPort = d.getUint16(l4 + 2)
    const known = this.conversations.find(
      (c) => c.guestPort === guestPort && c.farPort === farPort && same(c.far, far) && same(c.guest, guest),
    )
    if ((flags & 4) !== 0) {
      if (known !== undefined && this.#r.chance(0.7)) this.conversations.splice(this.conversations.indexOf(known), 1)
      return
    }
    const length = frame.length - l4 - (frame[l4 + 12]! >> 4) * 4
    const end = (d.getInt32(l4 + 4) + length + (flags & 1) + ((flags >> 1) & 1)) | 0
    if (known !== undefined) {
      if (((end - known.expected) | 0) > 0 || (flags & 2) !== 0) known.expected = end
      return
    }
    const sequence = (flags & 0x10) !== 0 ? d.getInt32(l4 + 8) : this.#r.word()
    if (this.conversations.length < 24) {
      this.conversations.push({ v6, guest, far, guestPort, farPort, sequence, expected: end })
    }
    // A connection from outside is answered by what has SYN and ACK, sometimes.
    if ((flags & 0x12) === 2) this.#accept.push(this.conversations.at(-1)!)
  }

  /** Connections from outside that wait for an answer. */
  readonly #accept: Conversation[] = []

  /** Answers to connections from outside. */
  answers(): Uint8Array[] {
    const r = this.#r
    return this.#accept.splice(0).flatMap((c) => {
      if (!r.chance(0.8)) return []
      const sequence = c.sequence
      c.sequence = (c.sequence + 1) | 0
      const ends = { v6: c.v6, source: c.guest, destination: c.far }
      return [this.#tcp(ends, [c.guestPort, c.farPort], sequence, c.expected, 0x12, new Uint8Array())]
    })
  }

  #spoil(frame: Uint8Array): Uint8Array {
    const r = this.#r
    const out = join(frame)
    switch (r.below(8)) {
      case 0:
        out[r.below(out.length)]! ^= 1 << r.below(8)
        return out
      case 1:
        out[r.below(out.length)] = r.edge(8)
        return out
      case 2: {
        const at = r.below(out.length - 1)
        out.set(u16(r.edge(16)), at)
        return out
      }
      case 3:
        // Shorter than what its lengths say. What is no frame for the link is none for the engine.
        return out.slice(0, r.between(Math.min(14, out.length), out.length))
      case 4:
        return join(out, r.bytes(r.length(300)))
      case 5: {
        // A length that lies, or another field of the headers.
        const v6 = out[12] === 0x86
        const places = v6 ? [18, 19, 20, 21, 54, 55, 58, 59, 66] : [14, 16, 17, 20, 21, 23, 34, 38, 39, 46]
        const at = r.pick(places)
        if (at < out.length) out[at] = r.edge(8)
        return out
      }
      case 6: {
        // Bytes from elsewhere in the frame.
        const length = r.below(Math.min(40, out.length - 14) + 1)
        const from = r.below(out.length - length + 1)
        out.copyWithin(r.below(out.length - length + 1), from, from + length)
        return out
      }
      default: {
        // The end of another packet.
        const other = this.#sound()
        return join(out.slice(0, r.between(14, out.length)), other.slice(r.below(other.length)))
      }
    }
  }
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i])
}

const option8 = (code: number, data: Uint8Array): Uint8Array => join([code, data.length], data)
const option16 = (code: number, data: Uint8Array): Uint8Array => join(u16(code), u16(data.length), data)

function udp(from: number, to: number, data: Uint8Array): Uint8Array {
  return join(u16(from), u16(to), u16(8 + data.length), [0, 0], data)
}

function pseudo(protocol: number, source: Uint8Array, destination: Uint8Array, length: number): Uint8Array {
  return source.length === 4
    ? join(source, destination, [0, protocol], u16(length))
    : join(source, destination, u32(length), [0, 0, 0, protocol])
}

function setTransportSum(body: Uint8Array, protocol: number, source: Uint8Array, destination: Uint8Array): void {
  const at = protocol === 6 ? 16 : 6
  if (body.length < at + 2) return
  body.set([0, 0], at)
  const sum = sumOf(pseudo(protocol, source, destination, body.length), body)
  body.set(u16(sum === 0 && protocol === 17 ? 0xffff : sum), at)
}

function setIcmpv6Sum(body: Uint8Array, source: Uint8Array, destination: Uint8Array): void {
  body.set([0, 0], 2)
  body.set(u16(sumOf(pseudo(58, source, destination, body.length), body)), 2)
}

/** Makes the checksums of a spoiled frame right again, where its headers can be followed. */
function repair(frame: Uint8Array): void {
  const d = new DataView(frame.buffer, frame.byteOffset, frame.length)
  if (frame.length < 34) return
  if (d.getUint16(12) === 0x0800) {
    const header = (frame[14]! & 15) * 4
    if (header < 20 || 14 + header > frame.length) return
    frame.set([0, 0], 24)
    frame.set(u16(sumOf(frame.subarray(14, 14 + header))), 24)
    const end = Math.min(frame.length, 14 + d.getUint16(16))
    const body = frame.subarray(14 + header, Math.max(14 + header, end))
    if (frame[23] === 6 || frame[23] === 17) setTransportSum(body, frame[23], frame.slice(26, 30), frame.slice(30, 34))
  } else if (d.getUint16(12) === 0x86dd && frame.length >= 54) {
    const body = frame.subarray(54, Math.max(54, Math.min(frame.length, 54 + d.getUint16(18))))
    const source = frame.slice(22, 38)
    const destination = frame.slice(38, 54)
    if (frame[20] === 6 || frame[20] === 17) setTransportSum(body, frame[20], source, destination)
    else if (frame[20] === 58 && body.length >= 4) setIcmpv6Sum(body, source, destination)
  }
}
