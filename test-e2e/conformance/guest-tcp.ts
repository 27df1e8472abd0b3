// One TCP connection of the synthetic guest. It does nothing by itself: every segment is sent by the check.
import { tcp } from "./wire/build.ts"
import type { Tcp } from "./wire/build.ts"
import type { Packet, TcpSegment } from "./wire/parse.ts"
import type { Guest } from "./guest.ts"

/** An initial sequence number near the end of the space, so that all checks go across it. */
const ISN = 0xfffffff0

/** MSS 1460 (RFC 9293 section 3.7.1), window scale 7 (RFC 7323). */
const SYN_OPTIONS = Buffer.from([2, 4, 5, 0xb4, 1, 3, 3, 7])

export class GuestTcp {
  readonly guest: Guest
  readonly local: string
  readonly remote: string
  readonly localPort: number
  readonly remotePort: number
  /** Next to be sent. */
  seq = ISN
  /** Next that is expected. */
  ack = 0
  window = 512
  /** The other side's SYN, or SYN,ACK. */
  peerSyn: Packet | undefined

  constructor(guest: Guest, remote: string, remotePort: number, local?: string, localPort?: number) {
    this.guest = guest
    this.remote = remote
    this.remotePort = remotePort
    this.local = local ?? guest.own(remote)
    this.localPort = localPort ?? guest.freshPort()
  }

  static async accept(guest: Guest, syn: Packet): Promise<GuestTcp> {
    const { source, destination } = syn.ip!
    const connection = new GuestTcp(guest, source, syn.tcp!.sourcePort, destination, syn.tcp!.destinationPort)
    connection.peerSyn = syn
    connection.ack = (syn.tcp!.seq + 1) >>> 0
    connection.emit("SA", "", { tcpOptions: SYN_OPTIONS })
    connection.seq = (connection.seq + 1) >>> 0
    await connection.next(
      "the end of the handshake",
      (segment) => segment.flags.includes("A") && !segment.flags.includes("S"),
    )
    return connection
  }

  /** A segment at the current numbers, which stay. */
  emit(flags: string, data: Buffer | string = "", more: Partial<Tcp> = {}): void {
    this.guest.sendIp(this.segment(flags, data, more))
  }

  segment(flags: string, data: Buffer | string = "", more: Partial<Tcp> = {}): Buffer {
    const ends = {
      source: this.local,
      destination: this.remote,
      sourcePort: this.localPort,
      destinationPort: this.remotePort,
    }
    const numbers = { seq: this.seq, ack: flags.includes("A") ? this.ack : 0, window: this.window }
    return tcp({ ...ends, ...numbers, flags, ...more }, data)
  }

  /** The next segment of this connection that matches. */
  next(what: string, match: (segment: TcpSegment) => boolean = () => true, timeoutMs?: number): Promise<TcpSegment> {
    return this.guest.find(
      what,
      ({ tcp: segment, ip }) =>
        segment?.destinationPort === this.localPort &&
        segment.sourcePort === this.remotePort &&
        ip?.source === this.remote &&
        match(segment) &&
        segment,
      timeoutMs,
    )
  }

  sendSyn(more: Partial<Tcp> = {}): void {
    this.emit("S", "", { window: 64_240, tcpOptions: SYN_OPTIONS, ...more })
  }

  async open(more: Partial<Tcp> = {}): Promise<TcpSegment> {
    this.sendSyn(more)
    const answer = await this.next("an answer to the SYN", (segment) => /[SR]/.test(segment.flags))
    if (!/^S.?A$/.test(answer.flags)) throw new Error(`the SYN was answered by ${answer.flags}`)
    this.ack = (answer.seq + 1) >>> 0
    this.seq = (this.seq + 1) >>> 0
    this.emit("A")
    return answer
  }

  /** Data in one segment, acknowledged before this resolves. */
  async write(data: Buffer | string): Promise<void> {
    const bytes = Buffer.from(data)
    this.emit("PA", bytes)
    this.seq = (this.seq + bytes.length) >>> 0
    const wanted = this.seq
    // An acknowledgement may come with data, which must stay for the reader.
    await this.guest.find("the acknowledgement of data", ({ tcp: segment }) => {
      if (segment?.destinationPort !== this.localPort || segment.ack !== wanted) return undefined
      if (segment.payload.length > 0 || segment.flags.includes("F")) this.early.push(segment)
      return true
    })
  }

  /** Segments that came while something else was waited for. */
  readonly early: TcpSegment[] = []

  /** Exactly as many bytes, acknowledged. */
  async read(count: number): Promise<Buffer> {
    const parts: Buffer[] = []
    let have = 0
    while (have < count) {
      const isNext = (segment: TcpSegment): boolean => segment.seq === this.ack && segment.payload.length > 0
      const index = this.early.findIndex(isNext)
      const segment = index >= 0 ? this.early.splice(index, 1)[0]! : await this.next(`${count} bytes of data`, isNext)
      parts.push(segment.payload)
      have += segment.payload.length
      this.ack = (this.ack + segment.payload.length) >>> 0
      if (segment.flags.includes("F")) this.early.push({ ...segment, seq: this.ack, payload: Buffer.alloc(0) })
      this.emit("A")
    }
    return Buffer.concat(parts)
  }

  /** Closes our side. */
  end(): void {
    this.emit("FA")
    this.seq = (this.seq + 1) >>> 0
  }

  /** Waits for the other side's end, and acknowledges it. */
  async ended(): Promise<void> {
    const isEnd = (segment: TcpSegment): boolean => segment.flags.includes("F") && segment.seq === this.ack
    const index = this.early.findIndex(isEnd)
    if (index >= 0) this.early.splice(index, 1)
    else await this.next("a FIN", isEnd)
    this.ack = (this.ack + 1) >>> 0
    this.emit("A")
  }

  /** Waits for a reset. */
  async reset(): Promise<TcpSegment> {
    return await this.next("a reset", (segment) => segment.flags.includes("R"))
  }
}
