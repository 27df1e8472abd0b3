/**
 * The guest's side: frames in, frames out, whatever medium carries them. Implemented by the transports over native
 * code, and by the simulator.
 */
import type { FrameTable } from "./frames.ts"

export interface Link {
  readonly frames: FrameTable

  /** Largest TCP payload, bytes, that one row to the guest may carry when it is marked FRAME_SEGMENT_TCP4 or _TCP6: the
   * link, or the guest, cuts it. At least one maximum segment of the link's MTU. */
  readonly segmentBytesMax: number

  /** Largest receive window, bytes, that keeps the medium's own queue from overflowing; 0 when the medium pushes back
   * instead of dropping (a stream socket). */
  readonly windowMax: number

  /** Whether a guest is attached. */
  readonly connected: boolean

  /** Something happened at a descriptor of the link: an event whose ref is of kind REF_LINK. The engine calls `receive` and `flush` after
   * it anyway; the link attends to what is its own (a guest that connects).
   * @param index from the ref, the link's own @param mask EVENT_… bits */
  handleEvent(index: number, mask: number): void

  /** Makes the next batch of frames from the guest visible in rows 0…n-1; the previous batch is gone then.
   * @returns the number of frames (0: nothing now), or -errno after the guest's end closed or broke the framing rules;
   *   the link has then cleaned up behind itself and may get another guest. */
  receive(): number

  /** Whether `receive` should be called again without waiting for an event: more frames are already here. */
  readonly more: boolean

  /** Makes at least `bytes` of a received frame readable in its window.
   * @returns bytes readable, or -1 if the frame is shorter or the medium can't. */
  pull(row: number, bytes: number): number

  /** Prepares a row for a frame to the guest with room for `bytes` (headers and payload). The last reserved, not yet
   * committed row may be reserved again or forgotten. Short frames (at most 2 KiB) may use the room that is kept for control.
   * @returns the row, or -1 when there is no room: the caller remembers what it owes and tries after a later flush. */
  reserve(bytes: number): number

  /** As `reserve`, for `count` consecutive rows of `bytes` each, for data (never from the room kept for control).
   * @returns how many rows could be prepared (the first is `reservedRow`), 0…count. */
  reserveRows(count: number, bytes: number): number
  /** As `reserveRows`, for payload that Kernel.peekIntoFrames reads next, which a link may have written straight into the guest's
   * memory. If there is little of that, one row is prepared with less room, as its `window` tells; if there is none, 0 is returned and
   * the link is `blocked`.
   * @param flow whose payload it is: a number of its own while it lives */
  reserveStream(count: number, bytes: number, flow: number): number
  /** First row of the last `reserveRows` or `reserveStream`. */
  readonly reservedRow: number

  /** Queues a row in order; `length`, and what the flags ask for, must be set. Rows of one reserveRows call are committed
   * in ascending order from the first; uncommitted ones are given back by the next reserve. */
  commit(row: number): void

  /** Sends what is queued, as far as the medium takes it; the rest stays queued.
   * @returns bytes still queued: 0 when everything is gone. */
  flush(): number

  /** True while queued frames wait for the medium: data for the guest should wait in its sockets. */
  readonly blocked: boolean
}
