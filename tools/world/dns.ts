// A small DNS server: one zone from a table, over UDP and TCP (RFC 1035). It serves the world's tests: A, AAAA and TXT
// records, NXDOMAIN for names it does not know, and truncation (RFC 1035 section 4.2.1) for answers over 512 bytes.
import { createSocket } from "node:dgram"
import { createServer } from "node:net"
import { isIPv6 } from "node:net"

export const RecordType = { A: 1, TXT: 16, AAAA: 28 } as const

/** Values by type: IPv4 text, IPv6 text, or text of any length. */
export interface ZoneEntry {
  readonly A?: readonly string[]
  readonly AAAA?: readonly string[]
  readonly TXT?: readonly string[]
}

/** Names in lower case, without the final dot. */
export type Zone = Readonly<Record<string, ZoneEntry>>

const HEADER_BYTES = 12
const UDP_ANSWER_BYTES_MAX = 512
const TTL_SECONDS = 60
const Code = { NO_ERROR: 0, FORMAT_ERROR: 1, NXDOMAIN: 3, NOT_IMPLEMENTED: 4 } as const

/** The 16 bytes of an IPv6 address in text form (RFC 4291 section 2.2, without the embedded IPv4 form). */
function ipv6Bytes(text: string): Buffer {
  const [head = "", tail] = text.split("::")
  const front = head === "" ? [] : head.split(":")
  const back = tail === undefined || tail === "" ? [] : tail.split(":")
  const groups = [...front, ...Array<string>(8 - front.length - back.length).fill("0"), ...back]
  const bytes = Buffer.alloc(16)
  groups.forEach((group, index) => bytes.writeUInt16BE(Number.parseInt(group, 16), index * 2))
  return bytes
}

function recordData(type: number, value: string): Buffer {
  if (type === RecordType.A) return Buffer.from(value.split(".").map(Number))
  if (type === RecordType.AAAA) return ipv6Bytes(value)
  // Character strings of at most 255 bytes, one after another (RFC 1035 section 3.3.14).
  const text = Buffer.from(value)
  const parts: Buffer[] = []
  for (let at = 0; at < text.length; at += 255) {
    const part = text.subarray(at, at + 255)
    parts.push(Buffer.from([part.length]), part)
  }
  return Buffer.concat(parts)
}

/** The answer to one query; undefined if the message is too broken to be answered. */
export function answerQuery(query: Buffer, zone: Zone, bytesMax: number): Buffer | undefined {
  if (query.length < HEADER_BYTES || (query.readUInt16BE(2) & 0x8000) !== 0) return undefined
  const labels: string[] = []
  let at = HEADER_BYTES
  for (;;) {
    const length = query[at]
    // Compression has no place in the only name of a query.
    if (length === undefined || length > 63 || at + 1 + length > query.length) return undefined
    at += 1
    if (length === 0) break
    labels.push(query.toString("latin1", at, at + length))
    at += length
  }
  if (at + 4 > query.length) return undefined
  const type = query.readUInt16BE(at)
  const question = query.subarray(HEADER_BYTES, at + 4)
  const entry = zone[labels.join(".").toLowerCase()]
  let values: readonly string[] = []
  if (type === RecordType.A) values = entry?.A ?? []
  else if (type === RecordType.AAAA) values = entry?.AAAA ?? []
  else if (type === RecordType.TXT) values = entry?.TXT ?? []

  const records = values.map((value) => {
    const data = recordData(type, value)
    const head = Buffer.alloc(12)
    head.writeUInt16BE(0xc000 | HEADER_BYTES, 0)
    head.writeUInt16BE(type, 2)
    head.writeUInt16BE(1, 4)
    head.writeUInt32BE(TTL_SECONDS, 6)
    head.writeUInt16BE(data.length, 10)
    return Buffer.concat([head, data])
  })
  const body = Buffer.concat([question, ...records])
  const truncated = HEADER_BYTES + body.length > bytesMax
  let code: number = entry === undefined ? Code.NXDOMAIN : Code.NO_ERROR
  if ((query.readUInt16BE(2) & 0x7800) !== 0) code = Code.NOT_IMPLEMENTED
  if (query.readUInt16BE(4) !== 1) code = Code.FORMAT_ERROR
  const header = Buffer.alloc(HEADER_BYTES)
  header.writeUInt16BE(query.readUInt16BE(0), 0)
  // Response, authoritative, truncation, recursion desired as asked, recursion available: clients look for it.
  header.writeUInt16BE(0x8480 | (truncated ? 0x0200 : 0) | (query.readUInt16BE(2) & 0x0100) | code, 2)
  header.writeUInt16BE(1, 4)
  header.writeUInt16BE(truncated ? 0 : records.length, 6)
  return Buffer.concat([header, truncated ? question : body])
}

/** Serve a zone on one address, UDP and TCP. Resolves when both listen. */
export async function serveDns(address: string, zone: Zone, port: number = 53): Promise<void> {
  const udp = createSocket(isIPv6(address) ? "udp6" : "udp4")
  udp.on("message", (query, peer) => {
    const answer = answerQuery(query, zone, UDP_ANSWER_BYTES_MAX)
    if (answer !== undefined) udp.send(answer, peer.port, peer.address)
  })
  await new Promise<void>((resolve) => udp.bind(port, address, resolve))

  const tcp = createServer((socket) => {
    let pending: Buffer = Buffer.alloc(0)
    socket.on("error", () => socket.destroy())
    socket.on("data", (chunk: Buffer) => {
      pending = Buffer.concat([pending, chunk])
      while (pending.length >= 2 && pending.length >= 2 + pending.readUInt16BE(0)) {
        const length = pending.readUInt16BE(0)
        const answer = answerQuery(pending.subarray(2, 2 + length), zone, 65_535)
        pending = pending.subarray(2 + length)
        if (answer === undefined) {
          socket.destroy()
          return
        }
        const prefix = Buffer.alloc(2)
        prefix.writeUInt16BE(answer.length, 0)
        socket.write(Buffer.concat([prefix, answer]))
      }
    })
  })
  await new Promise<void>((resolve) => tcp.listen(port, address, resolve))
}
