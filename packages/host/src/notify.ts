/**
 * Telling a service manager how it goes (sd_notify(3)): datagrams of lines to the socket that NOTIFY_SOCKET names.
 *
 * Only who was started by the service manager itself speaks: the variable is inherited by whatever a service starts, and a container
 * engine's pasta that called itself the service's main process would be taken for it.
 */
import { closeSync } from "node:fs"
import * as native from "@passt/native"
import type { SyslogCalls } from "./log/syslog.ts"

export interface NotifyOptions {
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Our own process, and in the background the launcher's that waits for us; 0: none. */
  readonly pid: number
  readonly launcherPid: number
}

/** How often a full queue is waited for, and how long, milliseconds: readiness must not be lost. */
const TRIES = 100
const WAIT_MS = 10
const EAGAIN = 11

export class ServiceManager {
  readonly #calls: SyslogCalls
  readonly #pid: number
  #fd = -1

  /** Connects, if there is somebody to tell. Stays connected: `stopping` needs no path any more. */
  constructor({ environment, pid, launcherPid }: NotifyOptions, calls: SyslogCalls = native) {
    this.#calls = calls
    this.#pid = pid
    const path = environment["NOTIFY_SOCKET"]
    if (path === undefined || !/^[/@]./.test(path)) return
    // Since systemd 248. Others tell only a process that stays in the foreground for sure.
    const started = environment["SYSTEMD_EXEC_PID"]
    const isOurs = started === undefined ? launcherPid === 0 : [pid, launcherPid].map(String).includes(started)
    if (isOurs) this.#fd = calls.syslogOpen(path)
  }

  get connected(): boolean {
    return this.#fd >= 0
  }

  /** @param status one line @param pid of the process that goes on, where that is another one by now */
  ready(status: string, pid: number = this.#pid): void {
    this.#send(`READY=1\nMAINPID=${pid}\nSTATUS=${status}\n`)
  }

  stopping(): void {
    this.#send("STOPPING=1\n")
    if (this.#fd >= 0) closeSync(this.#fd)
    this.#fd = -1
  }

  #send(text: string): void {
    if (this.#fd < 0) return
    const bytes = Buffer.from(text)
    for (let i = 0; i < TRIES && this.#calls.syslogSend(this.#fd, bytes, bytes.length) === -EAGAIN; i++) {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, WAIT_MS)
    }
  }
}
