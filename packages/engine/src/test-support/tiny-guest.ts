/**
 * A guest of some hundred lines behind a memory link: datagrams, and connections over a link that loses nothing, so that it needs no
 * retransmission. Its frames go to whatever MAC address; the engine does not mind.
 */
import { address, checksum, ethernet, ipv4, tcp, udp } from "@passt/core/wire"
import type { MemoryLink } from "../memory-link.ts"

const MAC = [0x52, 0x54, 0, 0x12, 0x34, 0x56]
const WINDOW = 65_535

function words(text: string): number {
  const found = address.parse4(text)
  if (!found) throw new Error(`no IPv4 address: ${text}`)
  return found[3]!
}

function packet(protocol: number, source: string, destination: string, l4: Uint8Array, checksumAt: number): Uint8Array {
  const frame = new Uint8Array(34 + l4.length)
  const d = new DataView(frame.buffer)
  frame.set([0x9a, 0x55, 0x9a, 0x55, 0x9a, 0x55, ...MAC, 8, 0, 0x45])
  d.setUint16(16, 20 + l4.length)
  d.setUint8(22, 64)
  d.setUint8(23, protocol)
  d.setInt32(26, words(source))
  d.setInt32(30, words(destination))
  d.setUint16(24, checksum.checksumOf(d, 14, 20))
  frame.set(l4, 34)
  d.setUint16(34 + checksumAt, checksum.pseudo4(words(source), words(destination), protocol, l4.length))
  d.setUint16(34 + checksumAt, checksum.checksumOf(d, 34, l4.length))
  return frame
}

export function udpFrame(
  source: string,
  sourcePort: number,
  destination: string,
  port: number,
  payload: Uint8Array,
): Uint8Array {
  const l4 = new Uint8Array(8 + payload.length)
  const d = new DataView(l4.buffer)
  d.setUint16(0, sourcePort)
  d.setUint16(2, port)
  d.setUint16(4, l4.length)
  l4.set(payload, 8)
  return packet(ipv4.PROTOCOL_UDP, source, destination, l4, udp.CHECKSUM)
}

interface Segment {
  readonly source: string
  readonly sourcePort: number
  readonly port: number
  readonly sequence: number
  readonly acknowledgement: number
  readonly flags: number
  readonly payload: Uint8Array
}

/** @returns undefined for what is no IPv4 packet of this protocol, with good checksums */
export function payloadOf(frame: Uint8Array<ArrayBuffer>, protocol: number): Uint8Array | undefined {
  const d = new DataView(frame.buffer, frame.byteOffset, frame.byteLength)
  if (frame.length < 34 || ethernet.type(d, 0) !== ethernet.TYPE_IPV4 || ipv4.protocol(d, 14) !== protocol) return
  if (checksum.checksumOf(d, 14, 20) !== 0) throw new Error("wrong IPv4 checksum")
  const end = 14 + d.getUint16(16)
  const length = end - 34
  // RFC 768: datagrams may come without.
  if (protocol === ipv4.PROTOCOL_UDP && d.getUint16(34 + udp.CHECKSUM) === 0) return frame.subarray(34, end)
  const pseudo = checksum.pseudo4(ipv4.source(d, 14), ipv4.destination(d, 14), protocol, length)
  const sum = 0xffff ^ checksum.checksumOf(d, 34, length)
  if (checksum.fold(sum + pseudo) !== 0xffff) throw new Error("wrong checksum")
  return frame.subarray(34, end)
}

function text(frame: Uint8Array, at: number): string {
  return frame.subarray(at, at + 4).join(".")
}

export class TinyGuest {
  readonly address: string
  readonly #link: MemoryLink
  readonly #connections = new Map<string, TinyConnection>()
  #port = 40_000
  /** Gets datagrams: what they hold, whom they are from. */
  onDatagram: (payload: Uint8Array, from: string, port: number) => void = () => {}

  constructor(link: MemoryLink, own: string) {
    this.#link = link
    this.address = own
    link.onFrame = (frame) => this.#take(frame)
  }

  sendDatagram(destination: string, port: number, payload: Uint8Array, from = 5000): boolean {
    return this.#link.send(udpFrame(this.address, from, destination, port, payload))
  }

  connect(destination: string, port: number): TinyConnection {
    const own = this.#port++
    const connection = new TinyConnection((sequence, acknowledgement, flags, payload) => {
      const l4 = new Uint8Array(20 + payload.length)
      const d = new DataView(l4.buffer)
      d.setUint16(0, own)
      d.setUint16(2, port)
      d.setInt32(tcp.SEQUENCE, sequence)
      d.setInt32(tcp.SEQUENCE + 4, acknowledgement)
      d.setUint16(tcp.OFFSET_FLAGS, 0x5000 | flags)
      d.setUint16(14, WINDOW)
      l4.set(payload, 20)
      this.#link.send(packet(ipv4.PROTOCOL_TCP, this.address, destination, l4, tcp.CHECKSUM))
    })
    this.#connections.set(`${destination}:${port}:${own}`, connection)
    return connection
  }

  #take(frame: Uint8Array<ArrayBuffer>): void {
    const datagram = payloadOf(frame, ipv4.PROTOCOL_UDP)
    if (datagram) {
      const port = (datagram[0]! << 8) | datagram[1]!
      this.onDatagram(datagram.subarray(8), text(frame, 26), port)
    }
    const l4 = payloadOf(frame, ipv4.PROTOCOL_TCP)
    if (!l4) return
    const d = new DataView(l4.buffer, l4.byteOffset, l4.length)
    const segment: Segment = {
      source: text(frame, 26),
      sourcePort: d.getUint16(0),
      port: d.getUint16(2),
      sequence: d.getInt32(tcp.SEQUENCE),
      acknowledgement: d.getInt32(tcp.SEQUENCE + 4),
      flags: d.getUint16(tcp.OFFSET_FLAGS) & 0x3f,
      payload: l4.subarray(((d.getUint16(tcp.OFFSET_FLAGS) >> 12) & 15) * 4),
    }
    this.#connections.get(`${segment.source}:${segment.sourcePort}:${segment.port}`)?.take(segment)
  }
}

type Send = (sequence: number, acknowledgement: number, flags: number, payload: Uint8Array) => void
const NOTHING = new Uint8Array(0)

export class TinyConnection {
  readonly #send: Send
  #next = 1001
  #expected = 0
  readonly #chunks: Uint8Array[] = []
  readonly #opened = Promise.withResolvers<void>()
  readonly #ended = Promise.withResolvers<string>()

  constructor(send: Send) {
    this.#send = send
    this.#opened.promise.catch(() => {})
    this.#ended.promise.catch(() => {})
    send(1000, 0, tcp.SYN, NOTHING)
  }

  /** Rejects when it was reset instead. */
  get opened(): Promise<void> {
    return this.#opened.promise
  }
  /** All that came until the other side's end; rejects when it was reset. */
  get ended(): Promise<string> {
    return this.#ended.promise
  }

  /** What has come so far. */
  get received(): Buffer {
    return Buffer.concat(this.#chunks)
  }

  /** At most a segment at a time, and less than the window. */
  write(data: string | Uint8Array): void {
    const bytes = Buffer.from(data)
    this.#send(this.#next, this.#expected, tcp.ACK | tcp.PSH, bytes)
    this.#next += bytes.length
  }

  end(): void {
    this.#send(this.#next++, this.#expected, tcp.ACK | tcp.FIN, NOTHING)
  }

  take({ flags, sequence, payload }: Segment): void {
    if ((flags & tcp.RST) !== 0) {
      const error = new Error("reset")
      this.#opened.reject(error)
      this.#ended.reject(error)
      return
    }
    if ((flags & tcp.SYN) !== 0) {
      this.#expected = (sequence + 1) | 0
      this.#send(this.#next, this.#expected, tcp.ACK, NOTHING)
      this.#opened.resolve()
      return
    }
    if (sequence !== this.#expected) return
    if (payload.length > 0) this.#chunks.push(payload.slice())
    this.#expected = (this.#expected + payload.length + (flags & tcp.FIN ? 1 : 0)) | 0
    if (payload.length > 0 || (flags & tcp.FIN) !== 0) this.#send(this.#next, this.#expected, tcp.ACK, NOTHING)
    if ((flags & tcp.FIN) !== 0) this.#ended.resolve(Buffer.concat(this.#chunks).toString())
  }
}
