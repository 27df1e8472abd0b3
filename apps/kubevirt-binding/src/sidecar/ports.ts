/**
 * Which ports of the pod lead to the guest. A specification is either "all", or ranges; in both cases without those that belong to somebody
 * else in the pod: a service mesh's proxy, or what the configuration names. Reserved ports are never bound, so they are free for their
 * owner whether it starts before or after us.
 */
import { Refusal } from "./refusal.ts"

export interface PortRange {
  readonly first: number
  readonly last: number
}

/** The ports of one protocol. */
export interface PortSet {
  /** All, as far as they can be had; else only `ranges`. */
  readonly all: boolean
  /** Sorted, disjoint, not adjacent; without reserved ports. */
  readonly ranges: readonly PortRange[]
  /** Sorted, disjoint, not adjacent. */
  readonly reserved: readonly PortRange[]
}

export interface ProtocolPorts {
  readonly tcp: readonly PortRange[]
  readonly udp: readonly PortRange[]
}

export const NO_PORTS: ProtocolPorts = { tcp: [], udp: [] }

/** Sorts, and joins what overlaps or touches. */
export function normalize(ranges: readonly PortRange[]): PortRange[] {
  const result: { first: number; last: number }[] = []
  for (const { first, last } of ranges.toSorted((a, b) => a.first - b.first)) {
    const previous = result.at(-1)
    if (previous !== undefined && first <= previous.last + 1) previous.last = Math.max(previous.last, last)
    else result.push({ first, last })
  }
  return result
}

/** @param without normalized @returns what is in `ranges` and not in `without`, normalized */
export function subtract(ranges: readonly PortRange[], without: readonly PortRange[]): PortRange[] {
  const result: PortRange[] = []
  for (const { first, last } of normalize(ranges)) {
    let from = first
    for (const hole of without) {
      if (hole.last < from || hole.first > last) continue
      if (hole.first > from) result.push({ first: from, last: hole.first - 1 })
      from = hole.last + 1
    }
    if (from <= last) result.push({ first: from, last })
  }
  return result
}

/** @param listed of this protocol @param listsAny whether the interface lists ports of any protocol */
export function portSet(listed: readonly PortRange[], listsAny: boolean, reserved: readonly PortRange[]): PortSet {
  const holes = normalize(reserved)
  return { all: !listsAny, ranges: subtract(listed, holes), reserved: holes }
}

/** The value of `--tcp-ports` and `--udp-ports`; with an interface's name only for what arrives there. */
export function toSpecification(set: PortSet, device?: string): string {
  const numbers = (set.all ? set.reserved : set.ranges).map((range) => `${set.all ? "~" : ""}${rangeText(range)}`)
  if (!set.all && numbers.length === 0) return "none"
  return `${device === undefined ? "" : `%${device}/`}${numbers.length === 0 ? "all" : numbers.join(",")}`
}

export function rangeText({ first, last }: PortRange): string {
  return first === last ? String(first) : `${first}-${last}`
}

/**
 * Reads a list such as "4143,udp:5000-5010": ports without a protocol are those of TCP and UDP.
 * @param what names the list in messages @throws Refusal
 */
export function parsePortList(text: string, what: string): ProtocolPorts {
  const tcp: PortRange[] = []
  const udp: PortRange[] = []
  for (const chunk of text.split(",").map((each) => each.trim())) {
    if (chunk === "") continue
    const match = /^(?:(tcp|udp):)?(\d{1,5})(?:-(\d{1,5}))?$/i.exec(chunk)
    const first = Number(match?.[2])
    const last = Number(match?.[3] ?? match?.[2])
    if (match === null || first < 1 || last > 65_535 || first > last) {
      throw new Refusal(`${what}: "${chunk}" is not a port, a range of ports, or one of these after "tcp:" or "udp:"`)
    }
    const protocol = match[1]?.toLowerCase()
    if (protocol !== "udp") tcp.push({ first, last })
    if (protocol !== "tcp") udp.push({ first, last })
  }
  return { tcp: normalize(tcp), udp: normalize(udp) }
}

/** All of them, in their order. */
export function joinPorts(sets: readonly ProtocolPorts[]): ProtocolPorts {
  return { tcp: sets.flatMap(({ tcp }) => tcp), udp: sets.flatMap(({ udp }) => udp) }
}
