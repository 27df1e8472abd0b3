/** Messages to the log daemon: datagrams of RFC 3164 section 4.1 without time and host, which the daemon adds. */
import { closeSync } from "node:fs"
import * as native from "@passt/native"
import { LEVEL } from "./levels.ts"
import type { Level } from "./levels.ts"

/** Facility "daemon", shifted over the three bits of severity. */
const FACILITY_DAEMON: number = 3 << 3

export interface SyslogCalls {
  syslogOpen(path: string): number
  syslogSend(fd: number, bytes: Uint8Array, length: number): number
}

export class Syslog {
  readonly #calls: SyslogCalls
  readonly #fd: number
  readonly #name: string
  readonly #buffer: Buffer = Buffer.alloc(4096)

  /** Connects now, while the daemon's socket can be seen. Without a daemon messages are lost. */
  constructor(name: string, path = "/dev/log", calls: SyslogCalls = native) {
    this.#name = name
    this.#calls = calls
    this.#fd = calls.syslogOpen(path)
  }

  get fd(): number {
    return this.#fd
  }

  get connected(): boolean {
    return this.#fd >= 0
  }

  /** Debug and trace messages are not for the system's log. */
  write(level: Level, text: string): void {
    if (this.#fd < 0 || level > LEVEL.info) return
    const length = this.#buffer.write(`<${FACILITY_DAEMON | level}>${this.#name}: ${text}`)
    this.#calls.syslogSend(this.#fd, this.#buffer, length)
  }

  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd)
  }
}
