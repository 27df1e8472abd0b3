/**
 * Rules that are `auto`: a port is listened on only while somebody listens on its target port at the other place, so that
 * services need not be named in advance.
 *
 * The kernel tells who listens, but not when that changes, so it is asked: twice a second, and for a while more often after
 * something has changed, since services come in groups. Asking takes some 20 microseconds for each protocol and place.
 *
 * ```
 *   host                                                   namespace
 *   our listener :8080 (-t auto)   ◀── wanted ──           somebody's listener :8080
 *   somebody's listener :5432      ── wanted ──▶           our listener 127.0.0.1:5432 (-T auto)
 * ```
 * Our own listeners don't count as somebody's: else each side would make the other listen for ever. A UDP port is also
 * wanted if somebody listens on the TCP port of the same number: programs like iperf3 agree on TCP first.
 *
 * A port that can't be had (in use, privileged) is tried again with each scan, quietly.
 */
import type { Context } from "../context.ts"
import { PORT_MAP_BYTES, SCAN_TCP, SCAN_UDP } from "../kernel.ts"
import { type Group, groupsOf, provideMaps } from "./auto-groups.ts"
import type { Listeners } from "./listen.ts"

/** Time between scans, milliseconds: usually, and after changes. */
const PERIOD_MS = 500
const PERIOD_BUSY_MS = 250
/** Scans at the shorter period after a change. */
const BUSY_SCANS = 12

const PORTS = 65_536

export class AutoPorts {
  readonly #ctx: Context
  readonly #listeners: Listeners
  #groups: readonly Group[] = []
  /** Who listens, by place, and then what is wanted for it; undefined where no rule asks. */
  readonly #tcp: (Uint8Array | undefined)[] = [undefined, undefined]
  readonly #udp: (Uint8Array | undefined)[] = [undefined, undefined]
  /** Whether the maps of a place are of now. */
  readonly #known: boolean[] = [false, false]
  #busy = 0
  /** When the next scan is due, milliseconds. */
  due: number

  constructor(ctx: Context, listeners: Listeners) {
    this.#ctx = ctx
    this.#listeners = listeners
    this.due = ctx.now
    this.rulesChanged()
  }

  /** Looks which rules there are. What is served for one that stays goes on; a new one is served by the next scan. */
  rulesChanged(): void {
    this.#groups = groupsOf(this.#ctx.rules, this.#groups)
    provideMaps(this.#groups, this.#tcp, this.#udp)
    this.due = this.#ctx.now
  }

  /** Whether there is anything to scan for. */
  get active(): boolean {
    return this.#groups.length > 0
  }

  /** Looks who listens, and opens and closes what follows from that. */
  scan(): void {
    const { splice } = this.#ctx.kernel
    if (splice === undefined) return
    for (let place = 0; place < 2; place++) {
      const tcp = this.#tcp[place]
      const udp = this.#udp[place]
      this.#known[place] =
        tcp !== undefined &&
        this.#succeeded(splice.scan(place, SCAN_TCP, tcp)) &&
        (udp === undefined || this.#succeeded(splice.scan(place, SCAN_UDP, udp)))
      // Before anything is opened or closed: from then on the maps don't tell any more what is ours.
      if (tcp !== undefined && this.#known[place]) this.#others(place, tcp, udp)
    }
    let changed = false
    for (let i = 0; i < this.#groups.length; i++) if (this.#serve(this.#groups[i]!)) changed = true
    if (changed) this.#busy = BUSY_SCANS
    else if (this.#busy > 0) this.#busy--
    this.due = (this.#ctx.now + (this.#busy > 0 ? PERIOD_BUSY_MS : PERIOD_MS)) | 0
  }

  /** All ports are to be looked at again: the listeners have been closed. */
  forget(): void {
    for (const group of this.#groups) {
      group.served.fill(0)
      group.failed.fill(0)
    }
  }

  #succeeded(result: number): boolean {
    if (result < 0) this.#ctx.log("warning", "scan", `Can't find out who listens: error ${-result}`)
    return result >= 0
  }

  /** Turns maps of who listens into maps of the ports that are wanted for it. */
  #others(place: number, tcp: Uint8Array, udp: Uint8Array | undefined): void {
    const oursTcp = this.#listeners.ours("tcp", place)
    const oursUdp = this.#listeners.ours("udp", place)
    for (let i = 0; i < PORT_MAP_BYTES; i++) {
      if ((udp === undefined ? tcp[i]! : tcp[i]! | udp[i]!) === 0) continue
      for (let bit = 0; bit < 8; bit++) {
        const port = (i << 3) | bit
        const mask = 1 << bit
        if (oursTcp[port]! > 0) tcp[i] = tcp[i]! & ~mask
        if (udp === undefined) continue
        udp[i] = udp[i]! | (tcp[i]! & mask)
        if (oursUdp[port]! > 0) udp[i] = udp[i]! & ~mask
      }
    }
  }

  /** @returns whether a socket was opened or closed */
  #serve(group: Group): boolean {
    const other = 1 - group.place
    const map = group.protocol === "tcp" ? this.#tcp[other] : this.#udp[other]
    // Where nothing is known nothing changes.
    if (map === undefined || !this.#known[other]) return false
    const { served, failed } = group
    let changed = false
    for (let i = 0; i < PORT_MAP_BYTES; i++) {
      const different = map[i]! ^ served[i]!
      if ((different | failed[i]!) === 0) continue
      for (let bit = 0; bit < 8; bit++) {
        const mask = 1 << bit
        if (((different | failed[i]!) & mask) === 0) continue
        const wanted = (map[i]! & mask) !== 0
        const done = this.#apply(group, (i << 3) | bit, wanted)
        if (wanted && done) served[i] = served[i]! | mask
        else served[i] = served[i]! & ~mask
        if (done) failed[i] = failed[i]! & ~mask
        else failed[i] = failed[i]! | mask
        if (done) changed = true
      }
    }
    return changed
  }

  /** Opens or closes the ports that lead to a target port. @returns false if one could not be opened */
  #apply(group: Group, target: number, open: boolean): boolean {
    const { rules } = this.#ctx
    let done = true
    for (let i = 0; i < group.rules.length; i++) {
      const index = group.rules[i]!
      const rule = rules[index]!
      const port = rule.first + target - rule.targetFirst
      if (port < rule.first || port > rule.last || port >= PORTS) continue
      if (!open) this.#listeners.closePort(index, port)
      else if (this.#listeners.openPort(index, port) < 0) done = false
    }
    return done
  }
}
