/**
 * What a frame to the guest still needs, for links whose medium has no offloads and no native code: finishes a checksum, cuts a large
 * TCP segment into frames (what native/cpp/transmit.cc does in place).
 */
import { FRAME_NEEDS_CHECKSUM, FRAME_SEGMENT_TCP4, FRAME_SEGMENT_TCP6, type FrameTable } from "./frames.ts"
import { checksumOf, fold, pseudo4, pseudo6 } from "./wire/checksum.ts"
import * as ethernet from "./wire/ethernet.ts"
import * as ipv4 from "./wire/ipv4.ts"
import * as ipv6 from "./wire/ipv6.ts"
import * as tcp from "./wire/tcp.ts"
import * as udp from "./wire/udp.ts"

/** Copies of the frames that a committed row stands for, finished, in order. @param emit gets each of them for good */
export function finishRow(frames: FrameTable, row: number, emit: (frame: Uint8Array<ArrayBuffer>) => void): void {
  const o = frames.offset[row]!
  const flags = frames.flags[row]!
  const frame = frames.arena.slice(o, o + frames.length[row]!)
  const start = frames.checksumStart[row]!
  if ((flags & (FRAME_SEGMENT_TCP4 | FRAME_SEGMENT_TCP6)) !== 0) {
    cut(frame, start, frames.segmentSize[row]!, (flags & FRAME_SEGMENT_TCP4) !== 0, emit)
    return
  }
  if ((flags & FRAME_NEEDS_CHECKSUM) !== 0) finishChecksum(frame, start, frames.checksumOffset[row]!)
  emit(frame)
}

function finishChecksum(frame: Uint8Array<ArrayBuffer>, start: number, offset: number): void {
  const d = new DataView(frame.buffer)
  const sum = checksumOf(d, start, frame.length - start)
  // RFC 768: a sum of zero is sent as all ones, for zero means that there is none.
  d.setUint16(start + offset, offset === udp.CHECKSUM && sum === 0 ? 0xffff : sum)
}

/** Software segmentation. @param l4 where the TCP header begins @param size payload bytes of each frame */
function cut(
  frame: Uint8Array<ArrayBuffer>,
  l4: number,
  size: number,
  v4: boolean,
  emit: (frame: Uint8Array<ArrayBuffer>) => void,
): void {
  const headers = l4 + tcp.headerLength(new DataView(frame.buffer), l4)
  const payload = frame.length - headers
  for (let done = 0; done < payload; done += size) {
    const part = Math.min(size, payload - done)
    const last = done + part === payload
    const one = new Uint8Array(headers + part)
    one.set(frame.subarray(0, headers))
    one.set(frame.subarray(headers + done, headers + done + part), headers)
    const d = new DataView(one.buffer)
    const ip = ethernet.HEADER_LENGTH
    if (v4) {
      d.setUint16(ip + 2, one.length - ip)
      d.setUint16(ip + 10, 0)
      d.setUint16(ip + 10, checksumOf(d, ip, ipv4.HEADER_LENGTH))
    } else {
      d.setUint16(ip + 4, one.length - ip - ipv6.HEADER_LENGTH)
    }
    d.setInt32(l4 + tcp.SEQUENCE, (tcp.sequence(d, l4) + done) | 0)
    if (!last) d.setUint8(l4 + tcp.OFFSET_FLAGS + 1, tcp.flags(d, l4) & ~(tcp.FIN | tcp.PSH))
    d.setUint16(l4 + tcp.CHECKSUM, pseudoTcp(d, v4, one.length - l4))
    d.setUint16(l4 + tcp.CHECKSUM, checksumOf(d, l4, one.length - l4))
    emit(one)
  }
}

/** Sum of the pseudo-header of a TCP segment of `length` bytes, in a frame that begins at 0. */
export function pseudoTcp(d: DataView, v4: boolean, length: number): number {
  const ip = ethernet.HEADER_LENGTH
  if (v4) return pseudo4(ipv4.source(d, ip), ipv4.destination(d, ip), ipv4.PROTOCOL_TCP, length)
  const words = new Int32Array(8)
  for (let i = 0; i < 8; i++) words[i] = d.getInt32(ip + ipv6.SOURCE + 4 * i)
  return fold(pseudo6(words, 0, words, 4, ipv4.PROTOCOL_TCP, length))
}
