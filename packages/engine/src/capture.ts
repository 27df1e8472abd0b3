/**
 * Captures of the guest's link. While at least one runs, the link's calls for a batch of frames and for one frame to the guest are
 * stood in for; without, there is nothing in their way.
 */
import { closeSync, openSync, writeSync } from "node:fs"
import { finishRow, type Link } from "@passt/core"
import { EngineError } from "./config-error.ts"
import { captureBlock, type CapturedFrame, captureHeader } from "./pcapng.ts"

/** What is captured, and where it goes: a file, or a function. */
export interface CaptureOptions {
  /** pcapng, mode 0600; the file is made or emptied. */
  readonly path?: string
  /** Gets each frame; its bytes are its own. An error that it throws ends the capture. */
  readonly onFrame?: (frame: CapturedFrame) => void
  /** Most bytes of a frame that are kept, 14…65535; all by default. */
  readonly snapLength?: number
  /** Whether a frame is wanted; all by default. */
  readonly filter?: (frame: CapturedFrame) => boolean
}

/** A capture that runs until it is stopped, or fails. */
export interface Capture {
  /** Frames so far. */
  readonly frames: number
  /** Why it has ended by itself: a disk that is full, a function that threw. */
  readonly error: Error | undefined
  /** Ends it, and closes its file. */
  stop(): void
  [Symbol.dispose](): void
}

const SNAP_MAX = 65_535
/** Bytes that collect before they are written. */
const BUFFER_BYTES = 256 << 10

class Running implements Capture {
  frames = 0
  error: Error | undefined
  readonly #options: CaptureOptions
  readonly #snap: number
  readonly #ended: (capture: Running) => void
  #fd = -1
  #waiting: Uint8Array[] = []
  #bytes = 0

  constructor(options: CaptureOptions, ended: (capture: Running) => void) {
    this.#options = options
    this.#snap = options.snapLength ?? SNAP_MAX
    this.#ended = ended
    if (options.path === undefined) return
    try {
      this.#fd = openSync(options.path, "w", 0o600)
    } catch (cause) {
      throw new EngineError("ERR_PASST_CAPTURE", `cannot open ${options.path}`, { cause })
    }
    this.#add(captureHeader(this.#snap))
    this.flush()
  }

  take(frame: CapturedFrame): void {
    try {
      if (this.#options.filter?.(frame) === false) return
      const kept = frame.bytes.length > this.#snap ? { ...frame, bytes: frame.bytes.slice(0, this.#snap) } : frame
      this.frames++
      this.#options.onFrame?.(kept)
      if (this.#fd >= 0) this.#add(captureBlock(kept))
    } catch (error) {
      this.#fail(error)
    }
  }

  #add(bytes: Uint8Array): void {
    this.#waiting.push(bytes)
    this.#bytes += bytes.length
    if (this.#bytes > BUFFER_BYTES) this.flush()
  }

  flush(): void {
    const bytes = Buffer.concat(this.#waiting)
    this.#waiting = []
    this.#bytes = 0
    try {
      for (let done = 0; done < bytes.length;) done += writeSync(this.#fd, bytes, done)
    } catch (error) {
      this.#fail(error)
    }
  }

  #fail(error: unknown): void {
    this.error ??= error instanceof Error ? error : new Error(String(error))
    this.#waiting = []
    this.#bytes = 0
    this.stop()
  }

  stop(): void {
    if (this.#bytes > 0) this.flush()
    if (this.#fd >= 0) closeSync(this.#fd)
    this.#fd = -1
    this.#ended(this)
  }

  [Symbol.dispose](): void {
    this.stop()
  }
}

/** The captures of one link. */
export class Captures {
  readonly #link: Link
  readonly #running = new Set<Running>()
  #dirty = false

  constructor(link: Link) {
    this.#link = link
  }

  /** @throws EngineError when the file can't be made */
  start(options: CaptureOptions): Capture {
    const capture = new Running(options, (ended) => {
      this.#running.delete(ended)
      if (this.#running.size === 0) this.#remove()
    })
    if (this.#running.size === 0) this.#install()
    this.#running.add(capture)
    return capture
  }

  stop(): void {
    for (const capture of this.#running) capture.stop()
  }

  /** Writes what has been collected; between turns. */
  flush(): void {
    if (!this.#dirty) return
    this.#dirty = false
    for (const capture of this.#running) capture.flush()
  }

  #install(): void {
    const link = this.#link as { -readonly [K in keyof Link]: Link[K] }
    const { receive, commit } = link
    const { frames } = link
    link.receive = () => {
      const count = receive.call(link)
      for (let row = 0; row < count; row++) {
        const o = frames.offset[row]!
        this.#tell(frames.arena.slice(o, o + frames.length[row]!), true)
      }
      return count
    }
    link.commit = (row) => {
      // What the guest's kernel, or the medium, would finish: recorded as it will be.
      finishRow(frames, row, (frame) => this.#tell(frame, false))
      commit.call(link, row)
    }
  }

  #remove(): void {
    const own = this.#link as Partial<Link>
    delete own.receive
    delete own.commit
  }

  #tell(bytes: Uint8Array<ArrayBuffer>, fromGuest: boolean): void {
    this.#dirty = true
    const timestampMicros = Math.floor((performance.timeOrigin + performance.now()) * 1000)
    for (const capture of this.#running) capture.take({ timestampMicros, fromGuest, bytes, length: bytes.length })
  }
}
