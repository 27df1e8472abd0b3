/**
 * A guest in memory: frames go through functions or streams, for tests, switches and machines that run in this process. Nothing
 * is shared: frames are copied in and out, whole Ethernet frames without a frame check sequence, checksums finished.
 */
import { AreaLink, finishRow, FRAME_LENGTH_MAX, FrameTable, RX_AREA, RX_ARENA_BYTES, RX_FRAME_MAX } from "@passt/core"

/** Frames from the guest that wait for the engine. */
const QUEUE_FRAMES = 1024
/** Shortest frame: an Ethernet header. */
const FRAME_LENGTH_MIN = 14

/** The guest's end. */
export class MemoryLink {
  readonly kind = "memory"
  /** Gets each frame to the guest, which is the guest's own from then on.
   * @returns false when no more are wanted for now: `resume` says when */
  onFrame: ((frame: Uint8Array<ArrayBuffer>) => boolean | void) | undefined
  /** Called when `send` has refused a frame and would take one again. */
  onDrain: (() => void) | undefined
  #end: MemoryEnd | undefined

  /** A frame from the guest; the bytes are copied.
   * @returns false when it was not taken: the engine is not running, or has enough to do (`onDrain`)
   * @throws RangeError for a frame that no link carries: 14…65535 bytes */
  send(frame: Uint8Array): boolean {
    if (frame.length < FRAME_LENGTH_MIN || frame.length > FRAME_LENGTH_MAX) {
      throw new RangeError(`frame of ${frame.length} bytes, expected ${FRAME_LENGTH_MIN}…${FRAME_LENGTH_MAX}`)
    }
    return this.#end?.push(frame) ?? false
  }

  /** Frames for the guest are wanted again. */
  resume(): void {
    this.#end?.resume()
  }

  /** Frames to the guest as a stream, in place of `onFrame`: what is not read waits, and then the engine's sockets do. */
  readable(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return new ReadableStream(
      {
        start: (controller) => {
          this.onFrame = (frame) => {
            controller.enqueue(frame)
            return (controller.desiredSize ?? 0) > 0
          }
        },
        pull: () => this.resume(),
        cancel: () => {
          this.onFrame = undefined
          this.resume()
        },
      },
      { highWaterMark: QUEUE_FRAMES },
    )
  }

  /** Frames from the guest as a stream, in place of `send`. */
  writable(): WritableStream<Uint8Array> {
    return new WritableStream({
      write: async (frame) => {
        while (!this.send(frame)) {
          if (this.#end === undefined) throw new Error("the engine is not running")
          await new Promise<void>((resolve) => (this.onDrain = resolve))
        }
      },
    })
  }

  /** For the engine. @param wake asks for a turn @returns core's link @throws when another engine has it */
  attach(wake: () => void): MemoryEnd {
    if (this.#end !== undefined) throw new Error("this link has an engine already")
    this.#end = new MemoryEnd(this, wake, () => (this.#end = undefined))
    return this.#end
  }
}

/** The engine's end. */
export class MemoryEnd extends AreaLink {
  readonly segmentBytesMax: number = FRAME_LENGTH_MAX - 54
  readonly windowMax = 0
  connected = true
  blocked = false
  readonly #guest: MemoryLink
  readonly #wake: () => void
  readonly #detach: () => void
  readonly #waiting: Uint8Array[] = []
  #taken = 0
  #sent: number = RX_FRAME_MAX
  #refused = false
  readonly #emit = (frame: Uint8Array<ArrayBuffer>): void => {
    try {
      if (this.#guest.onFrame?.(frame) === false) this.blocked = true
    } catch (error) {
      // The program's own, and none of the engine's: it goes where errors of callbacks go, and the batch goes on.
      queueMicrotask(() => {
        throw error
      })
    }
  }

  constructor(guest: MemoryLink, wake: () => void, detach: () => void) {
    super(new FrameTable(), 0)
    this.#guest = guest
    this.#wake = wake
    this.#detach = detach
  }

  push(frame: Uint8Array): boolean {
    if (this.#waiting.length - this.#taken >= QUEUE_FRAMES) {
      this.#refused = true
      return false
    }
    this.#waiting.push(frame.slice())
    this.#wake()
    return true
  }

  resume(): void {
    if (!this.blocked) return
    this.blocked = false
    this.#wake()
  }

  get more(): boolean {
    return this.#taken < this.#waiting.length
  }

  handleEvent(): void {}

  receive(): number {
    const { frames } = this
    let rows = 0
    let at = RX_AREA
    while (rows < RX_FRAME_MAX && this.more) {
      const frame = this.#waiting[this.#taken]!
      if (at + frame.length > RX_AREA + RX_ARENA_BYTES) break
      this.#taken++
      frames.arena.set(frame, at)
      frames.offset[rows] = at
      frames.length[rows] = frame.length
      frames.window[rows] = frame.length
      frames.flags[rows] = 0
      at += frame.length
      rows++
    }
    if (!this.more) {
      this.#waiting.length = 0
      this.#taken = 0
      if (this.#refused) {
        this.#refused = false
        this.#guest.onDrain?.()
      }
    }
    return rows
  }

  flush(): number {
    while (this.#sent < this.area.next && !this.blocked) finishRow(this.frames, this.#sent++, this.#emit)
    if (this.#sent < this.area.next) return 1
    this.area.reset()
    this.#sent = RX_FRAME_MAX
    return 0
  }

  close(): void {
    this.connected = false
    this.#waiting.length = 0
    this.#taken = 0
    this.#detach()
    // Who waits to send learns that there is nobody.
    this.#guest.onDrain?.()
  }
}
