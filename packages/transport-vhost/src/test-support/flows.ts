/** Frames of flows: what decides on which pair of queues they go. */
import { frameOf } from "../../../core/src/test-support/frames.ts"
import type { FrontEnd } from "./front-end.ts"

const SOURCE_AT = 26
const DESTINATION_AT = 30
const PORTS_AT = 34

/** A datagram from the guest, from this port. */
export function flow(port: number): Buffer {
  const frame = frameOf(100, port)
  frame.writeUInt16BE(0x0800, 12)
  frame.set([0x45, 0, 0, 86, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 2, 192, 0, 2, 1], 14)
  frame.writeUInt16BE(port, PORTS_AT)
  frame.writeUInt16BE(7, PORTS_AT + 2)
  return frame
}

/** The same flow, in the other direction. */
export function answer(frame: Buffer): Buffer {
  const back = Buffer.from(frame)
  frame.copy(back, SOURCE_AT, DESTINATION_AT, DESTINATION_AT + 4)
  frame.copy(back, DESTINATION_AT, SOURCE_AT, SOURCE_AT + 4)
  frame.copy(back, PORTS_AT, PORTS_AT + 2, PORTS_AT + 4)
  frame.copy(back, PORTS_AT + 2, PORTS_AT, PORTS_AT + 2)
  return back
}

/** @returns its row, or -1: no room */
export function queueFrame({ link, frames }: FrontEnd, frame: Uint8Array): number {
  const row = link.reserve(frame.length)
  if (row < 0) return row
  frames.arena.set(frame, frames.offset[row]!)
  frames.length[row] = frame.length
  link.commit(row)
  return row
}
