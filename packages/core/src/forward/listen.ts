/**
 * Listening sockets of the forwarding rules. Each port of each rule has a slot, whose number is the index of its events;
 * slots of rules that are `auto` open and close as listeners on the other side come and go (auto.ts).
 */
import { type Context, REF_LISTENER, REF_SHIFT } from "../context.ts"
import { ADDRESS_LOCAL, ADDRESS_WORDS, PLACE_HOST, PLACE_NAMESPACE } from "../kernel.ts"
import { LISTENER_MAX } from "../limits.ts"
import { EACCES, EADDRINUSE, EADDRNOTAVAIL, EMFILE, ENFILE } from "../errno.ts"
import { format, isMapped } from "../wire/address.ts"
import type { ForwardRule } from "./rule.ts"

const PORTS = 65_536

export class Listeners {
  readonly #ctx: Context
  /** Per slot: descriptor (negative: closed, if other than -1 for this error), index of its rule, port. */
  readonly fd: Int32Array
  readonly rule: Int32Array
  readonly port: Int32Array
  /** First slot of each rule. */
  readonly #first: Int32Array
  /** Our sockets per port, by protocol and place: so that what we listen for does not pass for somebody else's. */
  readonly #ours: readonly Uint8Array[]
  /** Called with the slot of a socket that was closed because its port is not wanted any more. */
  onClosed: ((slot: number) => void) | undefined
  /** Sockets that are open. */
  count = 0

  constructor(ctx: Context) {
    this.#ctx = ctx
    const { rules } = ctx.config
    this.#first = new Int32Array(rules.length)
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
    const some = rules.some((rule) => rule.auto)
    this.#ours = Array.from({ length: 4 }, () => new Uint8Array(some ? PORTS : 0))
  }

  /** How many sockets of ours listen on each port. @param protocol of the rules @param place PLACE_… */
  ours(protocol: "tcp" | "udp", place: number): Uint8Array {
    return this.#ours[(protocol === "tcp" ? 0 : 2) + place]!
  }

  /** Opens the sockets of all rules that are not `auto`, or none.
   * @throws Error with one line for the user if a rule can't be served */
  open(): void {
    const { rules } = this.#ctx.config
    try {
      for (let r = 0; r < rules.length; r++) if (!rules[r]!.auto) this.#openRule(rules[r]!, r)
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
      if (!rule.weak) throw new Error(`Listen failed for ${describe(rule, port)}: ${reason(result, port)}`)
      // With no descriptor left, none of the other ports can succeed.
      if (result === -EMFILE || result === -ENFILE) {
        failed += rule.last - port
        break
      }
    }
    if (opened === 0) {
      throw new Error(
        `Couldn't listen on requested ports: ${describe(rule, rule.first)}: ${reason(lastError, rule.first)}`,
      )
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
    const rule = ctx.config.rules[index]!
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
    const ours = this.ours(rule.protocol, rule.place ?? PLACE_HOST)
    ours[port] = ours[port]! + 1
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
    const rule = this.#ctx.config.rules[index]!
    const slot = this.#first[index]! + port - rule.first
    if (slot >= this.fd.length || this.fd[slot]! < 0) return
    this.#closeSlot(slot)
    this.onClosed?.(slot)
  }

  #closeSlot(slot: number): void {
    const fd = this.fd[slot]!
    this.fd[slot] = -1
    if (fd < 0) return
    this.#ctx.kernel.close(fd)
    this.count--
    const rule = this.#ctx.config.rules[this.rule[slot]!]!
    const ours = this.ours(rule.protocol, rule.place ?? PLACE_HOST)
    ours[this.port[slot]!] = ours[this.port[slot]!]! - 1
  }

  /** Closes all sockets. */
  close(): void {
    for (let slot = 0; slot < this.fd.length; slot++) this.#closeSlot(slot)
  }
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
