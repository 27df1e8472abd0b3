/**
 * --trace: every frame in a line. A link that tells of what passes, in front of the real one; nothing of it is there otherwise.
 */
import type { FrameTable, Link } from "@passt/core"

const ETHERNET_BYTES = 14
const PROTOCOLS: Readonly<Record<number, string>> = { 1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6" }

function address(view: DataView, at: number, bytes: 4 | 16): string {
  if (bytes === 4) return [0, 1, 2, 3].map((index) => view.getUint8(at + index)).join(".")
  return `[${Array.from({ length: 8 }, (_, index) => view.getUint16(at + 2 * index).toString(16)).join(":")}]`
}

/** A frame of `length` bytes, of which the first `readable` lie at `offset`, in a few words. */
export function describeFrame(view: DataView, offset: number, readable: number, length: number): string {
  const size = `${length} bytes`
  if (readable < ETHERNET_BYTES) return `cut off, ${size}`
  const type = view.getUint16(offset + 12)
  const ip = offset + ETHERNET_BYTES
  if (type === 0x0806) return `ARP, ${size}`
  const bytes = type === 0x0800 ? 4 : 16
  const header = bytes === 4 ? 20 : 40
  const isIp = type === 0x0800 || type === 0x86dd
  if (!isIp || readable < ETHERNET_BYTES + header) return `type 0x${type.toString(16).padStart(4, "0")}, ${size}`
  const protocol = view.getUint8(ip + (bytes === 4 ? 9 : 6))
  const transport = ip + (bytes === 4 ? (view.getUint8(ip) & 15) * 4 : header)
  const hasPorts = (protocol === 6 || protocol === 17) && transport + 4 <= offset + readable
  const port = (at: number): string => (hasPorts ? `:${view.getUint16(at)}` : "")
  const source = `${address(view, ip + (bytes === 4 ? 12 : 8), bytes)}${port(transport)}`
  const destination = `${address(view, ip + (bytes === 4 ? 16 : 24), bytes)}${port(transport + 2)}`
  return `${PROTOCOLS[protocol] ?? `protocol ${protocol}`} ${source} -> ${destination}, ${size}`
}

/** @param say gets a line for each frame */
export class TracedLink implements Link {
  readonly #link: Link
  readonly #say: (line: string) => void
  readonly frames: FrameTable
  readonly segmentBytesMax: number
  readonly windowMax: number

  constructor(link: Link, say: (line: string) => void) {
    this.#link = link
    this.#say = say
    this.frames = link.frames
    this.segmentBytesMax = link.segmentBytesMax
    this.windowMax = link.windowMax
  }

  get connected(): boolean {
    return this.#link.connected
  }
  get more(): boolean {
    return this.#link.more
  }
  get reservedRow(): number {
    return this.#link.reservedRow
  }
  get blocked(): boolean {
    return this.#link.blocked
  }
  handleEvent(index: number, mask: number): void {
    this.#link.handleEvent(index, mask)
  }
  receive(): number {
    const count = this.#link.receive()
    for (let row = 0; row < count; row++) this.#tell("From guest", row)
    return count
  }
  pull(row: number, bytes: number): number {
    return this.#link.pull(row, bytes)
  }
  reserve(bytes: number): number {
    return this.#link.reserve(bytes)
  }
  reserveRows(count: number, bytes: number): number {
    return this.#link.reserveRows(count, bytes)
  }
  reserveStream(count: number, bytes: number, flow: number): number {
    return this.#link.reserveStream(count, bytes, flow)
  }
  commit(row: number): void {
    this.#tell("To guest", row)
    this.#link.commit(row)
  }
  flush(): number {
    return this.#link.flush()
  }

  #tell(way: string, row: number): void {
    const { view, offset, window, length } = this.frames
    this.#say(`${way}: ${describeFrame(view, offset[row]!, window[row]!, length[row]!)}`)
  }
}
