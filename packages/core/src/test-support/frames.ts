/** Frames for tests of links, and what cutting a large TCP segment must give, in the plainest way. */

/** Bytes that differ from place to place. */
export function pattern(length: number, seed = 1): Buffer {
  const out = Buffer.alloc(length)
  let x = Math.imul(seed, 2654435761) | 1
  for (let i = 0; i < length; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) | 0
    out[i] = x >>> 24
  }
  return out
}

/** Ethernet addresses that a real bridge forwards, and an EtherType for experiments (IEEE 802, 88b5), which no kernel
 * answers. */
const ETHERNET: readonly number[] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]

/** A frame that means nothing to anybody. */
export function frameOf(length: number, seed = 1): Buffer {
  const frame = pattern(length, seed)
  frame.set(ETHERNET.slice(0, length))
  return frame
}

export function internetChecksum(bytes: Buffer): number {
  let sum = 0
  for (let i = 0; i < bytes.length; i++) sum += i % 2 === 0 ? bytes[i]! << 8 : bytes[i]!
  while (sum > 0xffff) sum = Math.floor(sum / 0x10000) + (sum % 0x10000)
  return ~sum & 0xffff
}

export interface Headers {
  v6: boolean
  /** Bytes of IPv4 options, a multiple of 4. */
  ipOptions: number
  /** Bytes of TCP options, a multiple of 4. */
  tcpOptions: number
  sequence: number
  flags: number
}

/** Ethernet, IP and TCP headers of a large segment as the engine writes them, but for lengths and checksums. */
export function headersOf(h: Headers): Buffer {
  const ethernet = Buffer.from(ETHERNET)
  ethernet.writeUInt16BE(h.v6 ? 0x86dd : 0x0800, 12)
  const tcp = pattern(20 + h.tcpOptions, 7)
  tcp.writeInt32BE(h.sequence | 0, 4)
  tcp[12] = ((20 + h.tcpOptions) / 4) << 4
  tcp[13] = h.flags
  // Options that say nothing.
  tcp.fill(1, 20)
  if (h.v6) {
    const ip = pattern(40, 3)
    ip[0] = 0x60
    ip[6] = 6
    return Buffer.concat([ethernet, ip, tcp])
  }
  const ip = pattern(20 + h.ipOptions, 5)
  ip[0] = 0x40 | ((20 + h.ipOptions) / 4)
  ip.set([0x40, 0, 64, 6], 6)
  ip.fill(1, 20)
  return Buffer.concat([ethernet, ip, tcp])
}

function pseudoHeader(frame: Buffer, v6: boolean, tcpLength: number): Buffer {
  const end = [tcpLength >>> 24, (tcpLength >> 16) & 255, (tcpLength >> 8) & 255, tcpLength & 255]
  return v6
    ? Buffer.concat([frame.subarray(22, 54), Buffer.from([...end, 0, 0, 0, 6])])
    : Buffer.concat([frame.subarray(26, 34), Buffer.from([0, 6, end[2]!, end[3]!])])
}

/** Completes lengths and IPv4's checksum for a segment of `payload` bytes, and puts the pseudo-header's sum where TCP's
 * checksum goes. */
export function completeHeaders(h: Headers, headers: Buffer, payload: number): Buffer {
  const out = Buffer.from(headers)
  const tcpAt = headers.length - 20 - h.tcpOptions
  const tcpLength = headers.length - tcpAt + payload
  if (h.v6) {
    out.writeUInt16BE(tcpLength, 18)
  } else {
    out.writeUInt16BE(headers.length - 14 + payload, 16)
    out.writeUInt16BE(0, 24)
    out.writeUInt16BE(internetChecksum(out.subarray(14, tcpAt)), 24)
  }
  out.writeUInt16BE(~internetChecksum(pseudoHeader(out, h.v6, tcpLength)) & 0xffff, tcpAt + 16)
  return out
}

/** The frames that one large segment becomes. */
export function segmentsOf(h: Headers, headers: Buffer, payload: Buffer, mss: number): Buffer[] {
  const out: Buffer[] = []
  const tcpAt = headers.length - 20 - h.tcpOptions
  for (let from = 0; from === 0 || from < payload.length; from += mss) {
    const part = payload.subarray(from, from + mss)
    const frame = Buffer.concat([completeHeaders(h, headers, part.length), part])
    const last = from + mss >= payload.length
    frame.writeInt32BE((h.sequence + from) | 0, tcpAt + 4)
    frame[tcpAt + 13] = last ? h.flags : h.flags & ~0x09
    frame.writeUInt16BE(0, tcpAt + 16)
    const pseudo = pseudoHeader(frame, h.v6, frame.length - tcpAt)
    frame.writeUInt16BE(internetChecksum(Buffer.concat([pseudo, frame.subarray(tcpAt)])), tcpAt + 16)
    out.push(frame)
  }
  return out
}

/** Whether two frames are the same, but for IPv4's identification: who cuts a segment may number its parts (RFC 6864
 * gives it no meaning in packets that are not fragmented). */
export function sameButIdentification(a: Buffer, b: Buffer): boolean {
  const neutral = (frame: Buffer): Buffer => {
    if (frame.length < 34 || frame.readUInt16BE(12) !== 0x0800) return frame
    const copy = Buffer.from(frame)
    if (internetChecksum(copy.subarray(14, 14 + (copy[14]! & 15) * 4)) !== 0) return frame
    copy.fill(0, 18, 20)
    copy.fill(0, 24, 26)
    return copy
  }
  return neutral(a).equals(neutral(b))
}
