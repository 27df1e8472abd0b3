/**
 * Listening sockets of the forwarding rules: one per port, opened at start, each with a ref that leads back to its rule.
 */
import { type Context, REF_LISTENER, REF_SHIFT } from "../context.ts"
import { ADDRESS_LOCAL, ADDRESS_WORDS } from "../kernel.ts"
import { LISTENER_MAX } from "../limits.ts"
import { EACCES, EADDRINUSE, EADDRNOTAVAIL, EMFILE, ENFILE } from "../errno.ts"
import { format, isMapped } from "../wire/address.ts"
import type { ForwardRule } from "./rule.ts"

export class Listeners {
  readonly #ctx: Context
  /** Per listener: descriptor (-1: closed), index of its rule, port. */
  readonly fd: Int32Array
  readonly rule: Int32Array
  readonly port: Int32Array
  count = 0

  constructor(ctx: Context) {
    this.#ctx = ctx
    let ports = 0
    for (const rule of ctx.config.rules) ports += rule.last - rule.first + 1
    ports = Math.min(ports, LISTENER_MAX)
    this.fd = new Int32Array(ports).fill(-1)
    this.rule = new Int32Array(ports)
    this.port = new Int32Array(ports)
  }

  /** Opens all sockets, or none.
   * @throws Error with one line for the user if a rule can't be served */
  open(): void {
    const { rules } = this.#ctx.config
    try {
      for (let r = 0; r < rules.length; r++) this.#openRule(rules[r]!, r)
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
      const result = this.#openPort(rule, index, port)
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

  #openPort(rule: ForwardRule, index: number, port: number): number {
    if (this.count >= this.fd.length) return -EMFILE
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
    const fd =
      rule.protocol === "tcp"
        ? ctx.kernel.listenTcp(family, dualStack, rule.device, ctx.config.freebind)
        : ctx.kernel.listenUdp(family, dualStack, rule.device, ctx.config.freebind)
    if (fd < 0) return fd
    const listener = this.count
    const result = ctx.kernel.watchLevel(fd, (REF_LISTENER << REF_SHIFT) | listener)
    if (result < 0) {
      ctx.kernel.close(fd)
      return result
    }
    this.fd[listener] = fd
    this.rule[listener] = index
    this.port[listener] = port
    this.count++
    return fd
  }

  /** Closes all sockets. */
  close(): void {
    for (let i = 0; i < this.count; i++) {
      if (this.fd[i]! >= 0) this.#ctx.kernel.close(this.fd[i]!)
      this.fd[i] = -1
    }
    this.count = 0
  }
}

function describe(rule: ForwardRule, port: number): string {
  const where = rule.address ? (isMapped(rule.address, 0) ? format(rule.address) : `[${format(rule.address)}]`) : "*"
  return `${rule.protocol.toUpperCase()} ${where}${rule.device ? `%${rule.device}` : ""}:${port}`
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
