/**
 * The control socket in the engine's own loop. Events only take notes; the work is done between turns, one small step per turn for
 * all clients together, so that frames never wait for more than that.
 *
 * ```
 *   event ─▶ note ─▶ after the turn: accept │ one step of a rule that comes or goes │ one step of one client, in turn
 * ```
 */
import { Client, type Open } from "./client.ts"
import type { ControlSockets } from "./sockets.ts"

/** Clients at a time. */
export const CLIENTS_MAX = 8
/** Indices of events that the server uses: of its listener, and of each client. */
export const EVENT_INDICES: number = 1 + CLIENTS_MAX

/** Work that goes on whoever asked for it. */
export interface Background {
  readonly isBusy: boolean
  step(): void
}

export class ControlServer {
  dueAt = 0
  readonly #sockets: ControlSockets
  readonly #ref: (index: number) => number
  readonly #open: Open
  readonly #background: Background
  readonly #clients: (Client | undefined)[] = Array.from({ length: CLIENTS_MAX }, () => undefined)
  #listener = -1
  #knocked = false
  #next = 0
  #now: number

  /** @param ref what events of index 0 … EVENT_INDICES - 1 are reported under */
  constructor(
    sockets: ControlSockets,
    ref: (index: number) => number,
    open: Open,
    background: Background,
    now: number,
  ) {
    this.#sockets = sockets
    this.#ref = ref
    this.#open = open
    this.#background = background
    this.#now = now
  }

  /** @returns 0 or -errno */
  listen(path: string): number {
    const fd = this.#sockets.listen(path)
    if (fd < 0) return fd
    this.#listener = fd
    return Math.min(this.#sockets.watch(fd, this.#ref(0)), 0)
  }

  /** @param index 0 … EVENT_INDICES - 1 @param mask EVENT_… bits */
  event(index: number, mask: number, now: number): void {
    this.#now = now
    if (index === 0) this.#knocked = true
    else this.#clients[index - 1]?.event(mask, now)
  }

  // Asked in every turn of the engine: this and `isDue` make no garbage.
  get #isBusy(): boolean {
    if (this.#knocked || this.#background.isBusy) return true
    for (let i = 0; i < CLIENTS_MAX; i++) if (this.#clients[i]?.isBusy) return true
    return false
  }

  /** Whether it wants to run, now or when somebody has been waited for long enough. */
  get isDue(): boolean {
    if (this.#isBusy) {
      this.dueAt = this.#now
      return true
    }
    let least = -1
    for (let i = 0; i < CLIENTS_MAX; i++) {
      const patience = this.#clients[i]?.patience(this.#now) ?? -1
      if (patience >= 0 && (least < 0 || patience < least)) least = patience
    }
    this.dueAt = (this.#now + least) | 0
    return least >= 0
  }

  /** One step. */
  run(now: number): void {
    this.#now = now
    if (this.#knocked) this.#accept()
    if (this.#background.isBusy) {
      this.#background.step()
      for (const client of this.#clients) client?.wake()
    }
    for (let i = 0; i < CLIENTS_MAX; i++) {
      const slot = (this.#next + i) % CLIENTS_MAX
      if (!this.#clients[slot]?.isBusy) continue
      this.#clients[slot].step(now)
      this.#next = slot + 1
      break
    }
    for (let slot = 0; slot < CLIENTS_MAX; slot++) {
      const client = this.#clients[slot]
      if (client?.patience(now) === 0) client.giveUp(now)
      if (client?.isOpen === false) this.#clients[slot] = undefined
    }
  }

  /** Accepts one connection. */
  #accept(): void {
    const fd = this.#sockets.accept(this.#listener)
    if (fd < 0) {
      // Also when there is no descriptor left: who waits is seen again with the next one who comes.
      this.#knocked = false
      return
    }
    const client = new Client(fd, this.#sockets, this.#open)
    const slot = this.#clients.indexOf(undefined)
    if (slot < 0) {
      client.fail("busy", `There are ${CLIENTS_MAX} clients already`)
      client.step(this.#now)
      client.close()
      return
    }
    if (this.#sockets.watch(fd, this.#ref(1 + slot)) < 0) client.close()
    else this.#clients[slot] = client
  }

  /** Ends all conversations. */
  close(): void {
    for (const client of this.#clients) client?.close()
    this.#clients.fill(undefined)
    if (this.#listener >= 0) this.#sockets.close(this.#listener)
    this.#listener = -1
  }
}
