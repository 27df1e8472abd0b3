/**
 * QEMU's side of the socket, synchronous: Node connects, but reads and writes are made directly on the descriptor, so
 * that a test decides what is in the socket at each moment. Nothing here lets Node's event loop run meanwhile.
 */
import { readSync, writeSync } from "node:fs"
import { connect, type Socket } from "node:net"

const again = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === "EAGAIN"

export class Client {
  readonly #socket: Socket
  readonly fd: number

  constructor(path: string) {
    this.#socket = connect(path)
    this.#socket.on("error", () => {})
    this.fd = (this.#socket as unknown as { _handle: { fd: number } })._handle.fd
  }

  /** Writes as much as the socket takes. @returns bytes taken */
  write(bytes: Uint8Array): number {
    let done = 0
    try {
      while (done < bytes.length) done += writeSync(this.fd, bytes, done)
    } catch (error) {
      if (!again(error)) throw error
    }
    return done
  }

  /** Reads what is there, at most `limit` bytes; "" at the end of the stream too. */
  read(limit = 64 << 20): Buffer {
    const parts: Buffer[] = []
    let left = limit
    try {
      while (left > 0) {
        const part = Buffer.alloc(Math.min(left, 1 << 20))
        const got = readSync(this.fd, part, 0, part.length, null)
        if (got === 0) break
        parts.push(part.subarray(0, got))
        left -= got
      }
    } catch (error) {
      if (!again(error)) throw error
    }
    return Buffer.concat(parts)
  }

  close(): void {
    this.#socket.destroy()
  }
}

/** Frames behind their lengths, as they go over the socket. */
export function framed(...frames: readonly Uint8Array[]): Buffer {
  return Buffer.concat(
    frames.flatMap((frame) => {
      const prefix = Buffer.alloc(4)
      prefix.writeUInt32BE(frame.length)
      return [prefix, frame]
    }),
  )
}

/** The reverse. @throws when the bytes do not end with a frame */
export function unframed(bytes: Buffer): Buffer[] {
  const frames: Buffer[] = []
  let at = 0
  while (at < bytes.length) {
    const length = bytes.readUInt32BE(at)
    if (at + 4 + length > bytes.length) throw new Error(`frame of ${length} bytes cut off at ${bytes.length - at - 4}`)
    frames.push(bytes.subarray(at + 4, at + 4 + length))
    at += 4 + length
  }
  return frames
}

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
