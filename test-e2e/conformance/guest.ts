// A synthetic guest: the test itself is the machine behind passt's socket, and writes and reads every byte.
import { connect } from "node:net"
import type { Socket } from "node:net"
import { HOST, PORT } from "../../tools/world/addresses.ts"
import { BROADCAST_MAC, uint32 } from "./wire/bytes.ts"
import { arp, ethernet, EtherType, icmp, echoBody, tcp, udp } from "./wire/build.ts"
import type { Ip } from "./wire/build.ts"
import { DhcpOption, DhcpType, dhcpRequest, parseDhcp } from "./wire/dhcp.ts"
import type { DhcpReply } from "./wire/dhcp.ts"
import { V6Option, v6Message, parseV6 } from "./wire/dhcpv6.ts"
import type { Options, V6Reply } from "./wire/dhcpv6.ts"
import { NdpType, neighbourSolicitation, parseAdvertisement, routerSolicitation } from "./wire/ndp.ts"
import type { RouterAdvertisement } from "./wire/ndp.ts"
import { parse } from "./wire/parse.ts"
import type { Packet } from "./wire/parse.ts"
import { GuestTcp } from "./guest-tcp.ts"

/** How long an answer may take. Most come within milliseconds; a busy machine is no reason to fail. */
export const PATIENCE_MS = 20_000

/** The client's identity in DHCPv6: a DUID of the link-layer type (RFC 8415 section 11.4). */
export const CLIENT_DUID: Buffer = Buffer.from("0003000102000000000a", "hex")

/** Of all guests: those that share a passt must not take each other's connections up. */
let nextPort = 30_000

/** How the guest asks "have you seen all before this?". */
export type Fence = "arp" | "ndp"

export class Guest {
  mac = "02:00:00:00:00:0a"
  ip4: string = HOST.ipv4
  ip6: string = HOST.ipv6
  linkLocal = "fe80::ff:fe00:a"
  /** Where frames go: the sender of the first frame that came, broadcast before. */
  routerMac = BROADCAST_MAC
  fenceBy: Fence = "arp"
  readonly socket: Socket
  /** Received, and not looked for yet. */
  readonly #queue: Packet[] = []
  readonly #waiting = new Set<() => void>()
  #bytes: Buffer = Buffer.alloc(0)
  #isClosed = false
  #fences = 0

  constructor(socket: Socket) {
    this.socket = socket
    socket.on("data", (chunk: Buffer) => this.#receive(chunk))
    socket.on("error", () => {})
    socket.on("close", () => {
      this.#isClosed = true
      this.#wake()
    })
  }

  static connect(path: string): Promise<Guest> {
    return new Promise((resolve, reject) => {
      const socket = connect(path, () => resolve(new Guest(socket)))
      socket.once("error", reject)
    })
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  #receive(chunk: Buffer): void {
    this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk])
    while (this.#bytes.length >= 4) {
      const end = 4 + this.#bytes.readUInt32BE(0)
      if (this.#bytes.length < end) break
      const packet = parse(this.#bytes.subarray(4, end))
      if (this.routerMac === BROADCAST_MAC) this.routerMac = packet.source
      this.#queue.push(packet)
      this.#bytes = this.#bytes.subarray(end)
    }
    this.#wake()
  }

  #wake(): void {
    for (const wake of this.#waiting) wake()
  }

  close(): void {
    this.socket.destroy()
  }

  freshPort(): number {
    return nextPort++
  }

  /** Bytes as they are, without a length before them. */
  sendRaw(bytes: Buffer): void {
    this.socket.write(bytes)
  }

  send(...frames: readonly Buffer[]): void {
    this.sendRaw(Buffer.concat(frames.flatMap((frame) => [uint32(frame.length), frame])))
  }

  sendIp(...packets: readonly Buffer[]): void {
    const frames = packets.map((packet) => {
      const type = packet[0]! >> 4 === 6 ? EtherType.IPV6 : EtherType.IPV4
      return ethernet(this.routerMac, this.mac, type, packet)
    })
    this.send(...frames)
  }

  /** The guest's own address of the family of `other`. */
  own(other: string): string {
    return other.includes(":") ? this.ip6 : this.ip4
  }

  /** The first packet for which `match` gives something; others stay for later calls. */
  async find<T>(
    what: string,
    match: (packet: Packet) => T | undefined | false,
    timeoutMs: number = PATIENCE_MS,
  ): Promise<T> {
    const deadline = performance.now() + timeoutMs
    for (;;) {
      for (const [index, packet] of this.#queue.entries()) {
        const found = match(packet)
        if (found === undefined || found === false) continue
        this.#queue.splice(index, 1)
        return found
      }
      if (this.#isClosed) throw new Error(`${what}: the connection was closed`)
      const left = deadline - performance.now()
      if (left <= 0) throw new Error(`${what}: nothing came within ${timeoutMs} ms`)
      await new Promise<void>((resolve) => {
        const done = (): void => {
          clearTimeout(timer)
          this.#waiting.delete(done)
          resolve()
        }
        const timer = setTimeout(done, left)
        this.#waiting.add(done)
      })
    }
  }

  /** Forget all that came so far. */
  drain(): void {
    this.#queue.length = 0
  }

  /**
   * Everything that came until now, and all that was sent before has been looked at: asks who has an address that was
   * never asked for, and waits for the answer. What takes a round through the host's sockets may come later.
   */
  async fence(): Promise<Packet[]> {
    const last = 10 + (this.#fences++ % 200)
    if (this.fenceBy === "arp") {
      const target = `192.0.2.${last}`
      this.send(this.arpFrame(target))
      await this.find("the fence", (p) => p.arp?.operation === 2 && p.arp.senderIp === target)
    } else {
      const target = `fe80::fe:${last.toString(16)}`
      this.sendIp(neighbourSolicitation(this.linkLocal, target, this.mac))
      const wanted = Buffer.from([0, 0xfe, 0, last])
      await this.find("the fence", (p) => p.icmp?.type === NdpType.NA && p.icmp.body.subarray(16, 20).equals(wanted))
    }
    return this.#queue.splice(0)
  }

  arpFrame(target: string, sender: string = this.ip4): Buffer {
    const request = arp({ senderMac: this.mac, senderIp: sender, targetIp: target })
    return ethernet(BROADCAST_MAC, this.mac, EtherType.ARP, request)
  }

  /** Asks for the owner of an address. */
  async resolve(target: string, sender: string = this.ip4): Promise<Packet> {
    this.send(this.arpFrame(target, sender))
    return await this.find(`an ARP reply of ${target}`, (p) => p.arp?.operation === 2 && p.arp.senderIp === target && p)
  }

  /** Asks for a neighbour's address; resolves to the advertisement. */
  async solicit(target: string, source: string = this.linkLocal): Promise<Packet> {
    this.sendIp(neighbourSolicitation(source, target, this.mac))
    return await this.find(`a neighbour advertisement of ${target}`, (p) => p.icmp?.type === NdpType.NA && p)
  }

  async advertisement(): Promise<RouterAdvertisement & { readonly packet: Packet }> {
    this.sendIp(routerSolicitation(this.linkLocal, this.mac))
    const packet = await this.find("a router advertisement", (p) => p.icmp?.type === NdpType.RA && p)
    return { ...parseAdvertisement(packet.icmp!.body), packet }
  }

  /** A DHCP message as a client without an address sends it. */
  dhcpPacket(
    options: readonly (readonly [number, Buffer])[],
    more: Partial<Parameters<typeof dhcpRequest>[0]> & { readonly source?: string; readonly destination?: string } = {},
  ): Buffer {
    const message = dhcpRequest({ mac: this.mac, xid: 0x12345678, options, ...more })
    const addresses = { source: more.source ?? "0.0.0.0", destination: more.destination ?? "255.255.255.255" }
    return udp({ ...addresses, sourcePort: 68, destinationPort: 67 }, message)
  }

  async dhcp(
    type: number | undefined,
    more: Parameters<Guest["dhcpPacket"]>[1] & { readonly extra?: readonly (readonly [number, Buffer])[] } = {},
  ): Promise<DhcpReply & { readonly packet: Packet; readonly type: number | undefined }> {
    const first: (readonly [number, Buffer])[] = type === undefined ? [] : [[DhcpOption.TYPE, Buffer.from([type])]]
    this.sendIp(this.dhcpPacket([...first, ...(more.extra ?? [])], more))
    const packet = await this.find("a DHCP reply", (p) => p.udp?.destinationPort === 68 && p)
    const reply = parseDhcp(packet.udp!.payload)
    return { ...reply, packet, type: reply.options.get(DhcpOption.TYPE)?.[0] }
  }

  /** The options of the answer to a DHCPDISCOVER. */
  async offer(): Promise<ReadonlyMap<number, Buffer>> {
    return (await this.dhcp(DhcpType.DISCOVER)).options
  }

  dhcpv6Packet(type: number, options: Options, destination: string = "ff02::1:2", identified: boolean = true): Buffer {
    const all: Options = identified ? [[V6Option.CLIENT_ID, CLIENT_DUID], ...options] : options
    const addresses = { source: this.linkLocal, destination, sourcePort: 546, destinationPort: 547 }
    return udp(addresses, v6Message(type, 0xabcdef, all))
  }

  async dhcpv6(type: number, options: Options): Promise<V6Reply & { readonly packet: Packet }> {
    this.sendIp(this.dhcpv6Packet(type, options))
    const packet = await this.find("a DHCPv6 reply", (p) => p.udp?.destinationPort === 546 && p)
    return { ...parseV6(packet.udp!.payload), packet }
  }

  /** Sends a datagram; its source port. */
  sendUdp(
    destination: string,
    port: number,
    data: Buffer | string,
    more: Partial<Ip> & { sourcePort?: number } = {},
  ): number {
    const sourcePort = more.sourcePort ?? this.freshPort()
    this.sendIp(udp({ source: this.own(destination), destination, destinationPort: port, ...more, sourcePort }, data))
    return sourcePort
  }

  /** The next datagram to this port of the guest. */
  receiveUdp(port: number, timeoutMs: number = PATIENCE_MS): Promise<Packet> {
    return this.find(`a datagram to port ${port}`, (p) => p.udp?.destinationPort === port && p, timeoutMs)
  }

  /** A question and its answer over UDP. */
  async askUdp(destination: string, port: number, data: Buffer | string, more: Partial<Ip> = {}): Promise<Packet> {
    return await this.receiveUdp(this.sendUdp(destination, port, data, more))
  }

  sendEcho(destination: string, id: number, sequence: number, data: Buffer | string, more: Partial<Ip> = {}): void {
    const type = destination.includes(":") ? 128 : 8
    this.sendIp(icmp({ source: this.own(destination), destination, type, ...more }, echoBody(id, sequence, data)))
  }

  async ping(destination: string, id: number, sequence: number, data: Buffer | string): Promise<Packet> {
    this.sendEcho(destination, id, sequence, data)
    const type = destination.includes(":") ? 129 : 0
    const isAnswer = (p: Packet): boolean => p.icmp?.type === type && p.icmp.body.readUInt16BE(2) === sequence
    return await this.find(`an echo reply of ${destination}`, (p) => isAnswer(p) && p)
  }

  /** A connection of the guest, opened. */
  async connectTcp(destination: string, port: number = PORT.echo): Promise<GuestTcp> {
    const connection = new GuestTcp(this, destination, port)
    await connection.open()
    return connection
  }

  /** The segments of a connection attempt, none sent yet. */
  tcpTo(destination: string, port: number): GuestTcp {
    return new GuestTcp(this, destination, port)
  }

  /** Waits for a connection to this port of the guest, and opens it. */
  async acceptTcp(port: number): Promise<GuestTcp> {
    const syn = await this.find(
      `a SYN to port ${port}`,
      (p) => p.tcp?.destinationPort === port && p.tcp.flags === "S" && p,
    )
    return await GuestTcp.accept(this, syn)
  }

  /** Waits for a connection to this port and refuses it. */
  async refuseTcp(port: number): Promise<void> {
    const syn = await this.find(
      `a SYN to port ${port}`,
      (p) => p.tcp?.destinationPort === port && p.tcp.flags === "S" && p,
    )
    const { source, destination } = syn.ip!
    const reset = {
      flags: "RA",
      seq: 0,
      ack: (syn.tcp!.seq + 1) >>> 0,
      sourcePort: port,
      destinationPort: syn.tcp!.sourcePort,
    }
    this.sendIp(tcp({ source: destination, destination: source, ...reset }))
  }
}
