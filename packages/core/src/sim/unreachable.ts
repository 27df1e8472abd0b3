/**
 * ICMP errors about a guest's SYN, read and checked as the guest's stack would.
 */
import * as ethernet from "../wire/ethernet.ts"
import { PROTOCOL_ICMP } from "../wire/ipv4.ts"
import { PROTOCOL_ICMPV6 } from "../wire/ipv6.ts"
import * as tcp from "../wire/tcp.ts"
import { decode } from "./datagram-world.ts"
import { readFrame, type Segment } from "./segment.ts"

export interface Unreachable {
  /** Who says so, and to whom. */
  readonly source: string
  readonly destination: string
  readonly type: number
  readonly code: number
  /** Second word of the header: unused, but for an MTU. */
  readonly second: number
  /** What it quotes. */
  readonly syn: Segment
}

/** @returns undefined for another frame @throws Error when the guest's stack would drop it */
export function readUnreachable(frame: Uint8Array): Unreachable | undefined {
  const d = new DataView(frame.buffer, frame.byteOffset, frame.length)
  const v4 = ethernet.type(d, 0) === ethernet.TYPE_IPV4
  const protocol = d.getUint8(ethernet.HEADER_LENGTH + (v4 ? 9 : 6))
  if (protocol !== (v4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6)) return undefined
  const { source, destination, type, code, second, data } = decode(frame)
  const quoted = new Uint8Array(ethernet.HEADER_LENGTH + data.length)
  quoted.set(frame.subarray(0, ethernet.HEADER_LENGTH))
  quoted.set(data, ethernet.HEADER_LENGTH)
  const syn = readFrame(quoted)
  if (syn.flags !== tcp.SYN) throw new Error("the quoted segment is no SYN")
  return { source, destination, type, code, second, syn }
}
