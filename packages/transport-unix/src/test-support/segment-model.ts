/** What cutting a large TCP segment must give, in the plainest way: the model for native code. */

const internetChecksum = (bytes: Buffer): number => {
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

/** Ethernet, IP and TCP headers with fields that must survive, or be replaced. */
export function headersOf(h: Headers, fill: (length: number) => Buffer): Buffer {
  const ethernet = Buffer.concat([fill(12), Buffer.from(h.v6 ? [0x86, 0xdd] : [0x08, 0x00])])
  const tcp = fill(20 + h.tcpOptions)
  tcp.writeInt32BE(h.sequence | 0, 4)
  tcp[12] = ((20 + h.tcpOptions) / 4) << 4
  tcp[13] = h.flags
  let ip: Buffer
  if (h.v6) {
    ip = fill(40)
    ip[0] = 0x60
    ip[6] = 6
  } else {
    ip = fill(20 + h.ipOptions)
    ip[0] = 0x40 | ((20 + h.ipOptions) / 4)
    ip[9] = 6
  }
  return Buffer.concat([ethernet, ip, tcp])
}

/** The frames that one large segment becomes, padded for Ethernet. */
export function segmentsOf(h: Headers, headers: Buffer, payload: Buffer, mss: number): Buffer[] {
  const out: Buffer[] = []
  const tcpAt = headers.length - 20 - h.tcpOptions
  for (let from = 0; from === 0 || from < payload.length; from += mss) {
    const part = payload.subarray(from, from + mss)
    const frame = Buffer.concat([headers, part])
    const last = from + mss >= payload.length
    const tcpLength = frame.length - tcpAt
    let pseudo: Buffer
    if (h.v6) {
      frame.writeUInt16BE(tcpLength, 18)
      pseudo = Buffer.concat([frame.subarray(22, 54), Buffer.from([0, 0, tcpLength >> 8, tcpLength & 255, 0, 0, 0, 6])])
    } else {
      frame.writeUInt16BE(frame.length - 14, 16)
      frame.writeUInt16BE(0, 24)
      frame.writeUInt16BE(internetChecksum(frame.subarray(14, tcpAt)), 24)
      pseudo = Buffer.concat([frame.subarray(26, 34), Buffer.from([0, 6, tcpLength >> 8, tcpLength & 255])])
    }
    frame.writeInt32BE((h.sequence + from) | 0, tcpAt + 4)
    frame[tcpAt + 13] = last ? h.flags : h.flags & ~0x09
    frame.writeUInt16BE(0, tcpAt + 16)
    frame.writeUInt16BE(internetChecksum(Buffer.concat([pseudo, frame.subarray(tcpAt)])), tcpAt + 16)
    out.push(padded(frame))
  }
  return out
}

/** Ethernet's shortest frame. */
export function padded(frame: Buffer): Buffer {
  return frame.length < 60 ? Buffer.concat([frame, Buffer.alloc(60 - frame.length)]) : frame
}

export { internetChecksum }
