/**
 * Captures as files: pcapng, the format of Wireshark and tcpdump (draft-ietf-opsawg-pcapng). One section, one interface of
 * Ethernet frames, enhanced packet blocks with direction, microseconds, little-endian.
 */

/** One captured frame. */
export interface CapturedFrame {
  /** Microseconds since 1970. */
  readonly timestampMicros: number
  /** Whether the guest sent it; undefined: the file does not tell. */
  readonly fromGuest?: boolean
  /** As much of it as was kept. */
  readonly bytes: Uint8Array
  /** Its whole length. */
  readonly length: number
}

const SECTION_HEADER = 0x0a0d0d0a
const INTERFACE = 1
const SIMPLE_PACKET = 3
const ENHANCED_PACKET = 6
const BYTE_ORDER = 0x1a2b3c4d
const BYTE_ORDER_SWAPPED = 0x4d3c2b1a
const LINKTYPE_ETHERNET = 1
const OPTION_END = 0
const OPTION_IF_NAME = 2
const OPTION_IF_TSRESOL = 9
const OPTION_EPB_FLAGS = 2
/** epb_flags: seen from us, frames from the guest come in. */
const INBOUND = 1
const OUTBOUND = 2
/** Frames that the protocols' own lengths allow are far shorter: a block beyond this is no capture. */
const BLOCK_MAX = 1 << 24

function padded(length: number): number {
  return (length + 3) & ~3
}

/** What a file begins with. @param snapLength most bytes of a frame that are kept */
export function captureHeader(snapLength: number): Uint8Array {
  const name = new TextEncoder().encode("guest")
  const interfaceBytes = 16 + 4 + padded(name.length) + 8 + 4 + 4
  const bytes = new Uint8Array(28 + interfaceBytes)
  const d = new DataView(bytes.buffer)
  d.setUint32(0, SECTION_HEADER, true)
  d.setUint32(4, 28, true)
  d.setUint32(8, BYTE_ORDER, true)
  d.setUint16(12, 1, true)
  // Length of the section: not known.
  d.setInt32(16, -1, true)
  d.setInt32(20, -1, true)
  d.setUint32(24, 28, true)
  d.setUint32(28, INTERFACE, true)
  d.setUint32(32, interfaceBytes, true)
  d.setUint16(36, LINKTYPE_ETHERNET, true)
  d.setUint32(40, snapLength, true)
  d.setUint16(44, OPTION_IF_NAME, true)
  d.setUint16(46, name.length, true)
  bytes.set(name, 48)
  const at = 48 + padded(name.length)
  d.setUint16(at, OPTION_IF_TSRESOL, true)
  d.setUint16(at + 2, 1, true)
  d.setUint8(at + 4, 6)
  d.setUint16(at + 8, OPTION_END, true)
  d.setUint32(at + 12, interfaceBytes, true)
  return bytes
}

/** One frame as a block. */
export function captureBlock(frame: CapturedFrame): Uint8Array {
  const body = padded(frame.bytes.length)
  const options = frame.fromGuest === undefined ? 0 : 12
  const length = 28 + body + options + 4
  const bytes = new Uint8Array(length)
  const d = new DataView(bytes.buffer)
  d.setUint32(0, ENHANCED_PACKET, true)
  d.setUint32(4, length, true)
  d.setUint32(12, Math.floor(frame.timestampMicros / 2 ** 32), true)
  d.setUint32(16, frame.timestampMicros % 2 ** 32, true)
  d.setUint32(20, frame.bytes.length, true)
  d.setUint32(24, frame.length, true)
  bytes.set(frame.bytes, 28)
  if (options > 0) {
    d.setUint16(28 + body, OPTION_EPB_FLAGS, true)
    d.setUint16(28 + body + 2, 4, true)
    d.setUint32(28 + body + 4, frame.fromGuest ? INBOUND : OUTBOUND, true)
  }
  d.setUint32(length - 4, length, true)
  return bytes
}

/** Reads a capture: pcapng of either byte order, frames of its Ethernet interfaces. A file that ends within a block, as of a
 * program that was killed, ends there. @throws RangeError for what is no pcapng */
export function* readCapture(file: Uint8Array): Generator<CapturedFrame, void> {
  const d = new DataView(file.buffer, file.byteOffset, file.byteLength)
  let little = true
  let interfaces: { readonly ethernet: boolean; readonly ticks: number; readonly snap: number }[] = []
  for (let at = 0; at + 12 <= file.length;) {
    const isSection = d.getUint32(at, true) === SECTION_HEADER
    if (isSection) {
      const order = d.getUint32(at + 8, true)
      if (order !== BYTE_ORDER && order !== BYTE_ORDER_SWAPPED) throw new RangeError("no pcapng: unknown byte order")
      little = order === BYTE_ORDER
      interfaces = []
    } else if (at === 0) throw new RangeError("no pcapng: it does not begin with a section header")
    const type = d.getUint32(at, little)
    const length = d.getUint32(at + 4, little)
    if (length < 12 || length % 4 !== 0 || length > BLOCK_MAX)
      throw new RangeError(`no pcapng: block of ${length} bytes`)
    const end = at + length - 4
    if (end + 4 > file.length) return
    if (type === INTERFACE && length >= 20) {
      const ticks = ticksOf(d, at + 16, end, little)
      const snap = d.getUint32(at + 12, little) || BLOCK_MAX
      interfaces.push({ ethernet: d.getUint16(at + 8, little) === LINKTYPE_ETHERNET, ticks, snap })
    } else if (type === ENHANCED_PACKET && length >= 32) {
      const found = interfaces[d.getUint32(at + 8, little)]
      const kept = d.getUint32(at + 20, little)
      if (at + 28 + kept > end) throw new RangeError("no pcapng: a packet is longer than its block")
      if (found?.ethernet) {
        const time = d.getUint32(at + 12, little) * 2 ** 32 + d.getUint32(at + 16, little)
        const direction = directionOf(d, at + 28 + padded(kept), end, little)
        yield {
          timestampMicros: Math.floor(time / (found.ticks / 1e6)),
          ...(direction === 0 ? {} : { fromGuest: direction === INBOUND }),
          bytes: file.subarray(at + 28, at + 28 + kept),
          length: d.getUint32(at + 24, little),
        }
      }
    } else if (type === SIMPLE_PACKET && length >= 16 && interfaces[0]?.ethernet) {
      const whole = d.getUint32(at + 8, little)
      const kept = Math.min(whole, interfaces[0].snap, end - at - 12)
      yield { timestampMicros: 0, bytes: file.subarray(at + 12, at + 12 + kept), length: whole }
    }
    at += length
  }
}

function* optionsOf(d: DataView, from: number, end: number, little: boolean): Generator<[number, number, number]> {
  for (let at = from; at + 4 <= end;) {
    const code = d.getUint16(at, little)
    const length = d.getUint16(at + 2, little)
    if (code === OPTION_END || at + 4 + length > end) return
    yield [code, at + 4, length]
    at += 4 + padded(length)
  }
}

/** Ticks per second of an interface's time stamps (if_tsresol). */
function ticksOf(d: DataView, from: number, end: number, little: boolean): number {
  for (const [code, at, length] of optionsOf(d, from, end, little)) {
    if (code !== OPTION_IF_TSRESOL || length !== 1) continue
    const value = d.getUint8(at)
    return (value & 0x80) === 0 ? 10 ** value : 2 ** (value & 0x7f)
  }
  return 1e6
}

function directionOf(d: DataView, from: number, end: number, little: boolean): number {
  for (const [code, at, length] of optionsOf(d, from, end, little)) {
    if (code === OPTION_EPB_FLAGS && length === 4) return d.getUint32(at, little) & 3
  }
  return 0
}
