/**
 * A log file of limited size. When it is full, some 30 % are cut off behind its first line, which says what the
 * program is, so that the newest messages always are in it.
 *
 * Everything is done with descriptors opened at start and buffers made at start: writing goes on in an empty root, and
 * when the process may not ask for memory any more. The system calls are write, pread64, pwrite64 and
 * ftruncate.
 */
import { closeSync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from "node:fs"
import { LEVEL_NAME } from "./levels.ts"
import type { Level } from "./levels.ts"
import { timestamp } from "./line.ts"

/** Default and smallest limit, bytes. The smallest leaves room for five of the runs that are cut off. */
export const LOG_BYTES_DEFAULT: number = 1 << 20
export const LOG_BYTES_MIN = 40_960
const CUT_SHARE = 0.3
const COPY_BYTES = 64 * 1024
const NEWLINE = 10

export interface LogFileOptions {
  readonly path: string
  /** The file, open already: for moving its contents, and for appending. */
  readonly opened?: { readonly edit: number; readonly append: number }
  /** Limit, bytes, at least LOG_BYTES_MIN. */
  readonly bytesMax?: number
  /** What the first line says: name, version, path of the executable, process id. */
  readonly name: string
  readonly version: string
  readonly executable: string
  readonly pid: number
}

export class LogFile {
  /** Appends, wherever the end is: another program may have truncated the file. */
  readonly #append: number
  /** For moving the contents. */
  readonly #edit: number
  readonly #bytesMax: number
  readonly #headerBytes: number
  readonly #copy: Buffer = Buffer.alloc(COPY_BYTES)
  readonly #line: Buffer = Buffer.alloc(4096)
  /** Bytes in the file, as far as we know; -1: not a regular file, no limit. */
  #size: number

  /** Creates or empties the file, mode 0600, and writes the first line.
   * @throws Error of node:fs when that is not possible */
  constructor(options: LogFileOptions) {
    this.#bytesMax = Math.max(options.bytesMax ?? LOG_BYTES_DEFAULT, LOG_BYTES_MIN)
    const header = Buffer.from(`${options.name} ${options.version}: ${options.executable} (${options.pid})\n`)
    this.#headerBytes = header.length
    const { opened, path } = options
    this.#edit = opened ? opened.edit : openSync(path, "w+", 0o600)
    try {
      this.#append = opened ? opened.append : openSync(path, "a", 0o600)
    } catch (error) {
      closeSync(this.#edit)
      throw error
    }
    this.#size = fstatSync(this.#edit).isFile() ? header.length : -1
    writeSync(this.#append, header)
  }

  /** Appends. */
  get fd(): number {
    return this.#append
  }

  /** Writes one line with time stamp and level. A full disk loses it. @param ms milliseconds since start */
  write(level: Level, ms: number, text: string): void {
    const length = this.#line.write(`${timestamp(ms)}: ${LEVEL_NAME[level]}: ${text}\n`)
    // Cut in the middle by the buffer: it still ends as a line.
    if (length === this.#line.length) this.#line[length - 1] = NEWLINE
    try {
      if (this.#size >= 0 && this.#size + length > this.#bytesMax) this.#cut()
      writeSync(this.#append, this.#line, 0, length)
      if (this.#size >= 0) this.#size += length
    } catch {
      // There is nowhere to complain.
    }
  }

  close(): void {
    closeSync(this.#append)
    closeSync(this.#edit)
  }

  /** Moves what is newer than the first 30 % up behind the first line, beginning with a whole line. */
  #cut(): void {
    let from = this.#headerBytes + Math.floor(this.#bytesMax * CUT_SHARE)
    let to = this.#headerBytes
    let inLine = true
    for (;;) {
      const length = readSync(this.#edit, this.#copy, 0, this.#copy.length, from)
      if (length === 0) break
      from += length
      let start = 0
      if (inLine) {
        const end = this.#copy.subarray(0, length).indexOf(NEWLINE)
        if (end < 0) continue
        start = end + 1
        inLine = false
      }
      writeSync(this.#edit, this.#copy, start, length - start, to)
      to += length - start
    }
    ftruncateSync(this.#edit, to)
    this.#size = to
  }
}
