/**
 * What is spoken with pesto, the reference's client: version 2, integers in network order.
 *
 * ```
 *   server: "basil:s\0"  version  bytes of a table's name (128)  bytes of an interface's name (16)
 *           tables as they are: id  name[128]  capabilities  count  rule × count  …  0
 *   client: tables as they shall be: id  count  rule × count  …  0
 *
 *   rule:   address[16]  target address[16]  interface[16]  first  last  target  protocol  flags          56 bytes
 * ```
 * A table that the client does not send is empty. IPv4 addresses are mapped (RFC 4291 section 2.5.5.2). Nothing is sent back: the
 * client is gone by the time that the rules are in use.
 */
import { type ForwardRule, isInterfaceName, type PortContext } from "@passt/cli"
import { PLACE_HOST, PLACE_NAMESPACE } from "@passt/core"
import { address } from "@passt/core/wire"

const MAGIC = "basil:s\0"
export const VERSION = 2
export const NAME_BYTES = 128
const INTERFACE_BYTES = 16
export const RULE_BYTES = 56
/** Rules of a table. */
export const RULES_MAX = 255

const CAPABILITY = { ipv4: 1, ipv6: 2, tcp: 4, udp: 8, auto: 16, device: 32 } as const
const FLAG = { dualStack: 1, weak: 2, auto: 4 } as const
const PROTOCOL_TCP = 6
const PROTOCOL_UDP = 17

/** The tables: by where their rules listen. */
export interface Table {
  readonly id: number
  readonly name: string
  readonly place: ForwardRule["place"]
}

const HOST: Table = { id: 1, name: "HOST", place: PLACE_HOST }
const SPLICE: Table = { id: 3, name: "SPLICE", place: PLACE_NAMESPACE }

/** The tables of a program. */
export function tablesOf(context: PortContext): readonly Table[] {
  return context.auto ? [HOST, SPLICE] : [HOST]
}

/** Bytes of the longest greeting. */
export const GREETING_BYTES: number = 20 + 2 * (1 + NAME_BYTES + 8 + RULES_MAX * RULE_BYTES) + 1

function capabilities({ ipv4, ipv6, tcp, udp, auto }: PortContext): number {
  return (
    (ipv4 ? CAPABILITY.ipv4 : 0) |
    (ipv6 ? CAPABILITY.ipv6 : 0) |
    (tcp ? CAPABILITY.tcp : 0) |
    (udp ? CAPABILITY.udp : 0) |
    (auto ? CAPABILITY.auto : 0) |
    CAPABILITY.device
  )
}

/** Writes what a client is told: at most RULES_MAX rules of each table. @returns bytes, at most GREETING_BYTES */
export function writeGreeting(out: Buffer, context: PortContext, rules: readonly ForwardRule[]): number {
  let at = out.write(MAGIC, 0, "latin1")
  for (const word of [VERSION, NAME_BYTES, INTERFACE_BYTES]) at = out.writeUInt32BE(word, at)
  for (const { id, name, place } of tablesOf(context)) {
    const own = rules.filter((rule) => rule.place === place).slice(0, RULES_MAX)
    at = out.writeUInt8(id, at)
    out.fill(0, at, at + NAME_BYTES).write(name, at, "latin1")
    at = out.writeUInt32BE(capabilities(context), at + NAME_BYTES)
    at = out.writeUInt32BE(own.length, at)
    for (const rule of own) at = writeRule(out, at, rule)
  }
  return out.writeUInt8(0, at)
}

/** @returns where it ends */
export function writeRule(out: Buffer, at: number, rule: ForwardRule): number {
  writeAddress(out, at, rule.address)
  writeAddress(out, at + 16, rule.targetAddress)
  out.fill(0, at + 32, at + 48).write(rule.device, at + 32, INTERFACE_BYTES - 1, "utf8")
  out.writeUInt16BE(rule.first, at + 48)
  out.writeUInt16BE(rule.last, at + 50)
  out.writeUInt16BE(rule.targetFirst, at + 52)
  out.writeUInt8(rule.protocol === "tcp" ? PROTOCOL_TCP : PROTOCOL_UDP, at + 54)
  const flags = (rule.dualStack ? FLAG.dualStack : 0) | (rule.weak ? FLAG.weak : 0) | (rule.auto ? FLAG.auto : 0)
  return out.writeUInt8(flags, at + 55)
}

function writeAddress(out: Buffer, at: number, words: Int32Array | null): void {
  for (let i = 0; i < 4; i++) out.writeInt32BE(words?.[i] ?? 0, at + 4 * i)
}

/** What a client sent makes no sense. The message is for our log: it can't be told. */
export class WireError extends Error {}

/** @throws WireError for what the command line would not take either */
export function readRule(bytes: Buffer, at: number, { place, name }: Table, context: PortContext): ForwardRule {
  const words = readAddress(bytes, at)
  const targetWords = readAddress(bytes, at + 16)
  const device = readInterface(bytes.subarray(at + 32, at + 48))
  const [first, last, targetFirst] = [48, 50, 52].map((field) => bytes.readUInt16BE(at + field)) as [
    number,
    number,
    number,
  ]
  const protocol = readProtocol(bytes[at + 54]!, context)
  const flags = bytes[at + 55]!
  if ((flags & ~(FLAG.dualStack | FLAG.weak | FLAG.auto)) !== 0) {
    throw new WireError(`Rule has invalid flags 0x${flags.toString(16)}`)
  }
  const dualStack = (flags & FLAG.dualStack) !== 0
  const weak = (flags & FLAG.weak) !== 0
  const auto = (flags & FLAG.auto) !== 0
  if (auto && !context.auto) throw new WireError("'auto' port forwarding is only allowed for pasta")
  if (first === 0) throw new WireError("Forwarding rule attempts to map from port 0")
  if (last < first) throw new WireError(`Rule has invalid port range ${first}-${last}`)
  if (targetFirst === 0) throw new WireError("Forwarding rule attempts to map to port 0")
  if (targetFirst + last - first > 65_535) {
    throw new WireError(`Forwarding rule attempts to map ${first}-${last} beyond port 65535`)
  }
  checkAddress(words, dualStack, context)
  const targetAddress = targetWords.every((word) => word === 0) ? null : targetWords
  if (targetAddress) checkTarget(targetAddress, words, dualStack)
  if (place === PLACE_NAMESPACE) {
    if (targetAddress) throw new WireError(`Target address not allowed in ${name}`)
    if (device !== "lo" && !address.isLoopback(words, 0)) {
      throw new WireError(`Rule in ${name} does not listen on the loopback interface`)
    }
  }
  const listen = dualStack ? null : words
  return { protocol, place, address: listen, dualStack, device, first, last, targetFirst, targetAddress, weak, auto }
}

function readAddress(bytes: Buffer, at: number): Int32Array {
  return Int32Array.from([0, 4, 8, 12], (offset) => bytes.readInt32BE(at + offset))
}

function readInterface(bytes: Buffer): string {
  const end = bytes.indexOf(0)
  if (end < 0) throw new WireError("Interface name was not NULL terminated")
  const device = bytes.toString("utf8", 0, end)
  if (device !== "" && !isInterfaceName(device)) {
    throw new WireError(`Invalid interface name in rule: ${JSON.stringify(device)}`)
  }
  return device
}

function readProtocol(number: number, context: PortContext): "tcp" | "udp" {
  if (number !== PROTOCOL_TCP && number !== PROTOCOL_UDP) {
    throw new WireError(`Unsupported protocol 0x${number.toString(16)} for forwarding rule`)
  }
  const protocol = number === PROTOCOL_TCP ? "tcp" : "udp"
  if (!context[protocol]) {
    throw new WireError(`${protocol.toUpperCase()} forwarding rule, but it is disabled by --no-${protocol}`)
  }
  return protocol
}

function checkAddress(words: Int32Array, dualStack: boolean, { ipv4, ipv6 }: PortContext): void {
  if (dualStack && words.some((word) => word !== 0)) {
    throw new WireError(`Dual stack rule has non-wildcard address ${address.format(words)}`)
  }
  const mapped = address.isMapped(words, 0)
  if ((dualStack || mapped) && !ipv4) throw new WireError("IPv4 forwarding rule, but it is disabled")
  if ((dualStack || !mapped) && !ipv6) throw new WireError("IPv6 forwarding rule, but it is disabled")
}

function checkTarget(target: Int32Array, listen: Int32Array, dualStack: boolean): void {
  const text = address.format(target)
  if (!address.isUnicast(target, 0)) {
    throw new WireError(`Target address ${text} of forwarding rule is no unicast address`)
  }
  const mapped = address.isMapped(target, 0)
  if (dualStack) throw new WireError(`Dual stack forward to IPv${mapped ? 4 : 6} address ${text} unsupported`)
  if (mapped !== address.isMapped(listen, 0)) {
    const [from, to] = mapped ? ["IPv6", "IPv4"] : ["IPv4", "IPv6"]
    throw new WireError(`Forward from ${from} (${address.format(listen)}) to ${to} (${text}) unsupported`)
  }
}

/** Reads an update as it comes in, a few rules at a time. */
export class UpdateReader {
  /** The rules so far, of all tables, in the order that they came in. */
  readonly rules: ForwardRule[] = []
  /** Bytes taken off the input by the last `read`. */
  taken = 0
  readonly #context: PortContext
  readonly #counts = new Map<Table, number>()
  #table: Table | undefined
  /** Rules of the table that are still to come. */
  #left = 0

  constructor(context: PortContext) {
    this.#context = context
  }

  /** @param bytes what has come in, from the first byte that was not taken yet @param items rules and tables to take at most
   * @returns "more" bytes are needed, call "again", or "done" @throws WireError */
  read(bytes: Buffer, items: number): "more" | "again" | "done" {
    this.taken = 0
    for (let left = items; left > 0; left--) {
      const rest = bytes.length - this.taken
      if (this.#left > 0) {
        if (rest < RULE_BYTES) return "more"
        this.rules.push(readRule(bytes, this.taken, this.#table!, this.#context))
        this.taken += RULE_BYTES
        this.#left--
        continue
      }
      if (rest === 0) return "more"
      const id = bytes[this.taken]!
      if (id === 0) {
        this.taken++
        return "done"
      }
      const table = tablesOf(this.#context).find((candidate) => candidate.id === id)
      if (table === undefined) throw new WireError("Received rules for non-existent table")
      if (rest < 5) return "more"
      this.#begin(table, bytes.readUInt32BE(this.taken + 1))
      this.taken += 5
    }
    return "again"
  }

  #begin(table: Table, count: number): void {
    const total = (this.#counts.get(table) ?? 0) + count
    if (total > RULES_MAX) throw new WireError(`Received ${total} rules (maximum ${RULES_MAX})`)
    this.#counts.set(table, total)
    this.#table = table
    this.#left = count
  }
}
