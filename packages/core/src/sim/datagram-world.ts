/**
 * An engine between a modelled kernel and a link in memory, and the means to build and read the frames of its guest.
 */
import type { EngineConfig, LogLevel } from "../context.ts"
import { Engine } from "../engine.ts"
import { FLOW_SHIFT, KIND, KIND_FREE, SIDE_GUEST } from "../flow/table.ts"
import type { ForwardRule } from "../forward/rule.ts"
import type { GuestState } from "../guest.ts"
import { COUNTER } from "../stats.ts"
import { format, isMapped, read6, setMapped } from "../wire/address.ts"
import { checksumOf, pseudo4, pseudo6 } from "../wire/checksum.ts"
import * as ethernet from "../wire/ethernet.ts"
import * as icmp from "../wire/icmp.ts"
import * as ipv4 from "../wire/ipv4.ts"
import * as ipv6 from "../wire/ipv6.ts"
import * as udp from "../wire/udp.ts"
import { forwardRule, GUEST_MAC, newConfig, newGuest, words } from "./config.ts"
import { DatagramKernel } from "./datagram-kernel.ts"
import { packet } from "./packet.ts"
import { SimLink } from "./sim-link.ts"

export function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text, (c) => c.charCodeAt(0))
}

export function textOf(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes)
}

export interface DatagramOptions {
  readonly hopLimit?: number
}

/** Builds a UDP datagram from the guest. */
export function datagram(
  source: string,
  sourcePort: number,
  destination: string,
  destinationPort: number,
  data: Uint8Array,
  options: DatagramOptions = {},
): Uint8Array {
  const body = new Uint8Array(udp.HEADER_LENGTH + data.length)
  udp.write(new DataView(body.buffer), 0, sourcePort, destinationPort, body.length)
  body.set(data, udp.HEADER_LENGTH)
  return packet(words(source), words(destination), ipv4.PROTOCOL_UDP, body, options.hopLimit ?? 64)
}

/** Builds an echo request from the guest. */
export function echoRequest(
  source: string,
  destination: string,
  identifier: number,
  sequence: number,
  data: Uint8Array,
  options: DatagramOptions = {},
): Uint8Array {
  const v4 = isMapped(words(source), 0)
  const body = new Uint8Array(icmp.HEADER_LENGTH + data.length)
  const d = new DataView(body.buffer)
  d.setUint8(icmp.TYPE, v4 ? icmp.ECHO_REQUEST : icmp.V6_ECHO_REQUEST)
  d.setUint16(icmp.IDENTIFIER, identifier)
  d.setUint16(icmp.SEQUENCE, sequence)
  body.set(data, icmp.HEADER_LENGTH)
  return packet(
    words(source),
    words(destination),
    v4 ? ipv4.PROTOCOL_ICMP : ipv6.PROTOCOL_ICMPV6,
    body,
    options.hopLimit ?? 64,
  )
}

/** A packet as the guest's stack would see it, all lengths and checksums checked. */
export interface Decoded {
  readonly family: number
  readonly source: string
  readonly destination: string
  readonly protocol: number
  readonly hopLimit: number
  readonly flowLabel: number
  /** UDP ports; 0 for ICMP. */
  readonly sourcePort: number
  readonly destinationPort: number
  /** ICMP type, code and second word; -1 for UDP. */
  readonly type: number
  readonly code: number
  readonly second: number
  /** Behind the UDP or ICMP header. */
  readonly data: Uint8Array
}

/** Reads a frame to the guest. @throws Error when the guest would drop it */
export function decode(frame: Uint8Array): Decoded {
  const d = new DataView(frame.buffer, frame.byteOffset, frame.length)
  // What goes to a group carries the group's own MAC address; see `groupMac`.
  for (let i = 0; i < 6; i++) {
    if (frame[i] !== GUEST_MAC[i] && (frame[0]! & 1) === 0) throw new Error("not to the guest's MAC address")
  }
  return decodePacket(d, ethernet.HEADER_LENGTH, frame.length, ethernet.type(d, 0), true)
}

/** Reads the packet that an ICMP error quotes; it may be cut off and its checksums are not the guest's. */
export function decodeQuote(family: number, quote: Uint8Array): Decoded {
  const d = new DataView(quote.buffer, quote.byteOffset, quote.length)
  return decodePacket(d, 0, quote.length, family === 4 ? ethernet.TYPE_IPV4 : ethernet.TYPE_IPV6, false)
}

function decodePacket(d: DataView, ip: number, end: number, etherType: number, strict: boolean): Decoded {
  const source = new Int32Array(4)
  const destination = new Int32Array(4)
  let protocol: number
  let l4: number
  let hopLimit: number
  let flowLabel = 0
  const v4 = etherType === ethernet.TYPE_IPV4
  if (v4) {
    if (strict && ipv4.check(d, ip, end) !== end) throw new Error("IPv4 length is wrong")
    if (checksumOf(d, ip, ipv4.HEADER_LENGTH) !== 0) throw new Error("IPv4 header checksum is wrong")
    setMapped(source, 0, ipv4.source(d, ip))
    setMapped(destination, 0, ipv4.destination(d, ip))
    protocol = ipv4.protocol(d, ip)
    hopLimit = ipv4.ttl(d, ip)
    l4 = ip + ipv4.HEADER_LENGTH
  } else if (etherType === ethernet.TYPE_IPV6) {
    if (strict && ipv6.check(d, ip, end) !== end) throw new Error("IPv6 length is wrong")
    read6(source, 0, d, ip + ipv6.SOURCE)
    read6(destination, 0, d, ip + ipv6.DESTINATION)
    protocol = d.getUint8(ip + ipv6.NEXT_HEADER)
    hopLimit = ipv6.hopLimit(d, ip)
    flowLabel = d.getUint32(ip) & 0xfffff
    l4 = ip + ipv6.HEADER_LENGTH
  } else {
    throw new Error(`EtherType ${etherType.toString(16)}`)
  }
  const isUdp = protocol === ipv4.PROTOCOL_UDP
  if (strict) {
    if (isUdp && udp.length(d, l4) !== end - l4) throw new Error("UDP length is wrong")
    const length = end - l4
    const stated = isUdp ? d.getUint16(l4 + udp.CHECKSUM) : -1
    if (!(isUdp && v4 && stated === 0)) {
      const pseudo = v4
        ? isUdp
          ? pseudo4(source[3]!, destination[3]!, protocol, length)
          : 0
        : pseudo6(source, 0, destination, 0, protocol, length)
      const copy = new Uint8Array(length + 2)
      copy.set(new Uint8Array(d.buffer, d.byteOffset + l4, length))
      const c = new DataView(copy.buffer)
      // The pseudo-header's sum goes behind the data, on a word boundary.
      const even = length + (length & 1)
      const padded = new Uint8Array(even + 2)
      padded.set(copy.subarray(0, length))
      new DataView(padded.buffer).setUint16(even, pseudo)
      if (checksumOf(new DataView(padded.buffer), 0, padded.length) !== 0 || (isUdp && c.getUint16(6) === 0)) {
        throw new Error("transport checksum is wrong")
      }
    }
  }
  const header = 8
  return {
    family: v4 ? 4 : 6,
    source: format(source),
    destination: format(destination),
    protocol,
    hopLimit,
    flowLabel,
    sourcePort: isUdp ? udp.sourcePort(d, l4) : 0,
    destinationPort: isUdp ? udp.destinationPort(d, l4) : 0,
    type: isUdp ? -1 : icmp.type(d, l4),
    code: isUdp ? -1 : icmp.code(d, l4),
    second: isUdp ? -1 : d.getUint32(l4 + 4),
    data: new Uint8Array(d.buffer, d.byteOffset + l4 + header, end - l4 - header).slice(),
  }
}

export interface Logged {
  readonly level: LogLevel
  readonly site: string
  readonly message: string
}

export interface WorldOptions extends Partial<EngineConfig> {
  readonly udpRules?: readonly Partial<ForwardRule>[]
}

export class DatagramWorld {
  readonly kernel: DatagramKernel = new DatagramKernel()
  readonly link: SimLink = new SimLink()
  readonly guest: GuestState = newGuest()
  readonly log: Logged[] = []
  readonly engine: Engine

  constructor(options: WorldOptions = {}) {
    this.kernel.attach(this.link.frames)
    this.engine = new Engine({
      ...newConfig(this.kernel, this.link, this.guest),
      tcp: false,
      rules: (options.udpRules ?? []).map((rule) => forwardRule("udp", rule)),
      log: (level, site, message) => this.log.push({ level, site, message }),
      ...options,
    })
    this.engine.listen()
  }

  /** Runs turns until nothing is left to do, at most `max`. */
  turn(max = 4): void {
    for (let i = 0; i < max; i++) {
      this.engine.turn(0)
      this.check()
    }
  }

  /** Hands frames in and runs. */
  send(...frames: Uint8Array[]): void {
    for (const frame of frames) this.link.push(frame)
    this.turn()
  }

  /** Lets time pass in steps of at most a second, as sweeps would. */
  pass(ms: number): void {
    for (let left = ms; left > 0; left -= 1000) {
      this.kernel.timeMs += Math.min(left, 1000)
      this.turn(1)
    }
  }

  /** Takes what the guest received. */
  received(): Decoded[] {
    return this.link.sent.splice(0).map(decode)
  }

  counter(name: keyof typeof COUNTER): number {
    return this.engine.counters[COUNTER[name]]!
  }

  /** Flows alive. */
  get flows(): number {
    return this.engine.ctx.flows.count
  }

  /** The invariants between turns. @throws Error */
  check(): void {
    const { flows, words: w } = this.engine.ctx
    const { flow: fds, listening } = this.#descriptors()
    let rows = 0
    for (let flow = 0; flow < flows.highWater; flow++) {
      const kind = w[(flow << FLOW_SHIFT) + KIND]!
      if (kind === KIND_FREE) continue
      rows++
    }
    if (rows !== flows.count) throw new Error(`${rows} rows in use, ${flows.count} counted`)
    const open = this.kernel.sockets.size
    if (fds + listening !== open) throw new Error(`${open} sockets open, ${fds} of flows and ${listening} listening`)
  }

  #descriptors(): { flow: number; listening: number } {
    const { flows, words: w } = this.engine.ctx
    let flow = 0
    for (let i = 0; i < flows.highWater; i++) {
      const base = i << FLOW_SHIFT
      if (w[base + KIND] === KIND_FREE || w[base + 1]! < 0) continue
      if (!this.kernel.sockets.has(w[base + 1]!)) throw new Error("a flow names a closed socket")
      flow++
    }
    let listening = 0
    for (const s of this.kernel.sockets.values()) if (s.listening) listening++
    return { flow, listening }
  }

  /** The flow that a guest-side key leads to, -1: none. */
  find(kind: number, source: string, sourcePort: number, destination: string, destinationPort: number): number {
    const { flows } = this.engine.ctx
    flows.key[0] = kind
    flows.key.set(words(source), 1)
    flows.key.set(words(destination), 5)
    flows.key[9] = sourcePort
    flows.key[10] = destinationPort
    return flows.find(SIDE_GUEST)
  }
}
