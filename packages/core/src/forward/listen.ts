/**
 * Listening sockets of the forwarding rules. Each port of each rule has a slot, whose number is the index of its events;
 * slots of rules that are `auto` open and close as listeners on the other side come and go (auto.ts).
 */
import { type Context, REF_LISTENER, REF_SHIFT } from "../context.ts"
import { ADDRESS_LOCAL, ADDRESS_WORDS, PLACE_HOST, PLACE_NAMESPACE } from "../kernel.ts"
import { LISTENER_MAX } from "../limits.ts"
import { EACCES, EADDRINUSE, EADDRNOTAVAIL, EMFILE, ENFILE } from "../errno.ts"
import { equal, format, isMapped } from "../wire/address.ts"
import type { ForwardRule } from "./rule.ts"

const PORTS = 65_536

export class Listeners {
  readonly #ctx: Context
  /** Per slot: descriptor (negative: closed, if other than -1 for this error), index of its rule, port. Others take their place
   * when rules are added. */
  fd: Int32Array
  rule: Int32Array
  port: Int32Array
  /** First slot of each rule. */
  readonly #first: number[]
  /** Slots of rules that were removed, as first and count. */
  readonly #holes: { first: number; count: number }[] = []
  /** Our sockets per port, by protocol and place: so that what we listen for does not pass for somebody else's. */
  #ours: readonly Uint8Array[]
  /** Called with the first and the last slot of sockets that were closed because their ports are not wanted any more. */
  onClosed: ((first: number, last: number) => void) | undefined
  /** Sockets that are open. */
  count = 0

  constructor(ctx: Context) {
    this.#ctx = ctx
    const { rules } = ctx.config
    this.#first = []
    let ports = 0
    rules.forEach((rule, r) => {
      this.#first[r] = ports
      ports += rule.last - rule.first + 1
    })
    ports = Math.min(ports, LISTENER_MAX)
    this.fd = new Int32Array(ports).fill(-1)
    this.rule = new Int32Array(ports)
    this.port = new Int32Array(ports)
    rules.forEach((rule, r) => {
      for (let port = rule.first; port <= rule.last; port++) {
        const slot = this.#first[r]! + port - rule.first
        if (slot >= ports) break
        this.rule[slot] = r
        this.port[slot] = port
      }
    })
    this.#ours = newCounts(rules.some((rule) => rule.auto))
  }

  /** Gives a rule a number and slots; its sockets are still to be opened.
   * @returns its index in `Context.rules`, or -EMFILE when there would be too many sockets */
  reserve(rule: ForwardRule): number {
    const { rules } = this.#ctx
    const ports = rule.last - rule.first + 1
    const first = this.#take(ports)
    if (first < 0) return -EMFILE
    const hole = rules.indexOf(undefined)
    const index = hole < 0 ? rules.length : hole
    rules[index] = rule
    this.#first[index] = first
    this.fd.fill(-1, first, first + ports)
    this.rule.fill(index, first, first + ports)
    for (let i = 0; i < ports; i++) this.port[first + i] = rule.first + i
    if (rule.auto === true && this.#ours[0]!.length === 0) this.#countOurs()
    return index
  }

  /** Forgets a rule whose sockets are closed. */
  release(index: number): void {
    const { rules } = this.#ctx
    const rule = rules[index]!
    // A scan may have opened some meanwhile.
    if (rule.auto) this.closePorts(index, rule.first, rule.last)
    this.#holes.push({ first: this.#first[index]!, count: rule.last - rule.first + 1 })
    rules[index] = undefined
  }

  /** Finds slots in a row. @returns the first, -1: too many */
  #take(count: number): number {
    const hole = this.#holes.findIndex((free) => free.count >= count)
    if (hole >= 0) {
      const free = this.#holes[hole]!
      const { first } = free
      free.first += count
      free.count -= count
      if (free.count === 0) this.#holes.splice(hole, 1)
      return first
    }
    const first = this.fd.length
    if (first + count > LISTENER_MAX) return -1
    this.fd = grown(this.fd, first + count)
    this.rule = grown(this.rule, first + count)
    this.port = grown(this.port, first + count)
    return first
  }

  /** The first rule that is `auto` came late. */
  #countOurs(): void {
    this.#ours = newCounts(true)
    for (let slot = 0; slot < this.fd.length; slot++) if (this.fd[slot]! >= 0) this.#count(slot, 1)
  }

  #count(slot: number, change: number): void {
    const rule = this.#ctx.rules[this.rule[slot]!]!
    const ours = this.ours(rule.protocol, rule.place ?? PLACE_HOST)
    const port = this.port[slot]!
    ours[port] = ours[port]! + change
  }

  /** How many sockets of ours listen on each port. @param protocol of the rules @param place PLACE_… */
  ours(protocol: "tcp" | "udp", place: number): Uint8Array {
    return this.#ours[(protocol === "tcp" ? 0 : 2) + place]!
  }

  /** Opens the sockets of all rules that are not `auto`, or none.
   * @throws Error with one line for the user if a rule can't be served */
  open(): void {
    const { rules } = this.#ctx
    try {
      rules.forEach((rule, r) => {
        if (rule !== undefined && rule.auto !== true) this.#openRule(rule, r)
      })
    } catch (error) {
      this.close()
      throw error
    }
  }

  #openRule(rule: ForwardRule, index: number): void {
    let opened = 0
    let lastError = 0
    let failed = 0
    for (let port = rule.first; port <= rule.last; port++) {
      const result = this.openPort(index, port)
      if (result >= 0) {
        opened++
        continue
      }
      lastError = result
      failed++
      if (!rule.weak) throw new Error(listenFailed(rule, port, result))
      // With no descriptor left, none of the other ports can succeed.
      if (result === -EMFILE || result === -ENFILE) {
        failed += rule.last - port
        break
      }
    }
    if (opened === 0) {
      throw new Error(nothingOpened(rule, lastError))
    }
    if (failed > 0) {
      this.#ctx.log(
        "warning",
        "listen",
        `${failed} of ${opened + failed} ports of ${rule.protocol.toUpperCase()} ${rule.first}-${rule.last} couldn't be bound, the last because: ${reason(lastError, rule.last)}`,
      )
    }
  }

  /** Opens the socket of a port, unless it is open. @param index of the rule @returns the descriptor, or -errno */
  openPort(index: number, port: number): number {
    const ctx = this.#ctx
    const rule = ctx.rules[index]!
    const slot = this.#first[index]! + port - rule.first
    if (slot >= this.fd.length) return -EMFILE
    if (this.fd[slot]! >= 0) return this.fd[slot]!
    const result = this.#listen(rule, port, slot)
    if (result < 0) {
      if (rule.auto && this.fd[slot] !== result) {
        ctx.log("debug", "listen-auto", `Can't listen on ${describe(rule, port)}: ${reason(result, port)}`)
      }
      this.fd[slot] = result
      return result
    }
    this.fd[slot] = result
    this.count++
    this.#count(slot, 1)
    return result
  }

  #listen(rule: ForwardRule, port: number, slot: number): number {
    const ctx = this.#ctx
    const { address } = ctx.kernel
    address.fill(0, ADDRESS_LOCAL, ADDRESS_LOCAL + ADDRESS_WORDS)
    const dualStack = rule.address === null
    let family = 6
    if (rule.address) {
      address.set(rule.address, ADDRESS_LOCAL)
      if (isMapped(rule.address, 0)) family = 4
    }
    address[ADDRESS_LOCAL + 4] = port
    const place = rule.place ?? PLACE_HOST
    const fd =
      rule.protocol === "tcp"
        ? ctx.kernel.listenTcp(family, dualStack, rule.device, ctx.config.freebind, place)
        : ctx.kernel.listenUdp(family, dualStack, rule.device, ctx.config.freebind, place)
    if (fd < 0) return fd
    const result = ctx.kernel.watchLevel(fd, (REF_LISTENER << REF_SHIFT) | slot)
    if (result < 0) {
      ctx.kernel.close(fd)
      return result
    }
    return fd
  }

  /** Closes the socket of a port, if it is open. @param index of the rule */
  closePort(index: number, port: number): void {
    this.closePorts(index, port, port)
  }

  /** Closes the sockets of ports of a rule, as far as they are open. */
  closePorts(index: number, firstPort: number, lastPort: number): void {
    const first = this.#first[index]! + firstPort - this.#ctx.rules[index]!.first
    const last = Math.min(first + lastPort - firstPort, this.fd.length - 1)
    let closed = 0
    for (let slot = first; slot <= last; slot++) {
      if (this.fd[slot]! >= 0) closed++
      this.#closeSlot(slot)
    }
    if (closed > 0) this.onClosed?.(first, last)
  }

  /** Hands open sockets of ports of one rule to another one that is to listen in the same way; closes those that are in its way
   * because it listens in another. Flows of datagrams end with either.
   * @param to,from indices of rules */
  takeOver(to: number, from: number, firstPort: number, lastPort: number): void {
    const { rules, kernel } = this.#ctx
    const [rule, old] = [rules[to]!, rules[from]!]
    const first = Math.max(firstPort, old.first)
    const last = Math.min(lastPort, old.last)
    if (first > last || rule.protocol !== old.protocol) return
    if ((rule.place ?? PLACE_HOST) !== (old.place ?? PLACE_HOST)) return
    if (!listensAlike(rule, old)) {
      this.closePorts(from, first, last)
      return
    }
    const source = this.#first[from]! + first - old.first
    const target = this.#first[to]! + first - rule.first
    const count = Math.min(last - first + 1, this.fd.length - source, this.fd.length - target)
    let moved = 0
    for (let i = 0; i < count; i++) {
      const fd = this.fd[source + i]!
      if (fd < 0 || this.fd[target + i]! >= 0) continue
      if (kernel.watchLevel(fd, (REF_LISTENER << REF_SHIFT) | (target + i)) < 0) continue
      this.fd[source + i] = -1
      this.fd[target + i] = fd
      moved++
    }
    if (moved > 0) this.onClosed?.(source, source + count - 1)
  }

  /** How many ports of a rule are listened on. */
  openOf(index: number): number {
    const rule = this.#ctx.rules[index]!
    const first = this.#first[index]!
    const end = Math.min(first + rule.last - rule.first + 1, this.fd.length)
    let count = 0
    for (let slot = first; slot < end; slot++) if (this.fd[slot]! >= 0) count++
    return count
  }

  #closeSlot(slot: number): void {
    const fd = this.fd[slot]!
    this.fd[slot] = -1
    if (fd < 0) return
    this.#ctx.kernel.close(fd)
    this.count--
    this.#count(slot, -1)
  }

  /** Closes all sockets. */
  close(): void {
    for (let slot = 0; slot < this.fd.length; slot++) this.#closeSlot(slot)
  }
}

/** Whether sockets of both rules for the same port are the same. */
function listensAlike(a: ForwardRule, b: ForwardRule): boolean {
  if (a.device !== b.device) return false
  return a.address === null || b.address === null ? a.address === b.address : equal(a.address, 0, b.address, 0)
}

function newCounts(wanted: boolean): Uint8Array[] {
  return Array.from({ length: 4 }, () => new Uint8Array(wanted ? PORTS : 0))
}

function grown(old: Int32Array, length: number): Int32Array {
  const more = new Int32Array(length)
  more.set(old)
  return more
}

/** Of a port that can't be had. */
export function listenFailed(rule: ForwardRule, port: number, error: number): string {
  return `Listen failed for ${describe(rule, port)}: ${reason(error, port)}`
}

/** Of a rule with none that can. */
export function nothingOpened(rule: ForwardRule, error: number): string {
  return `Couldn't listen on requested ports: ${describe(rule, rule.first)}: ${reason(error, rule.first)}`
}

function describe(rule: ForwardRule, port: number): string {
  const where = rule.address ? (isMapped(rule.address, 0) ? format(rule.address) : `[${format(rule.address)}]`) : "*"
  const what = `${rule.protocol.toUpperCase()} ${where}${rule.device ? `%${rule.device}` : ""}:${port}`
  return rule.place === PLACE_NAMESPACE ? `${what} in the namespace` : what
}

function reason(error: number, port: number): string {
  switch (-error) {
    case EACCES:
      return port < 1024
        ? "Permission denied (ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE)"
        : "Permission denied"
    case EADDRINUSE:
      return "Address already in use"
    case EADDRNOTAVAIL:
      return "Cannot assign requested address"
    case EMFILE:
    case ENFILE:
      return "Too many open files"
    default:
      return `error ${-error}`
  }
}
