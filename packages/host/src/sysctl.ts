/** Kernel settings that the engine follows. What can't be read or makes no sense has the kernel's own default. */
import { readFileSync } from "node:fs"

export interface HostSettings {
  /** Ports that the kernel hands out itself, first and last, 1…65535. */
  readonly ephemeralPorts: readonly [first: number, last: number]
  /** Retransmissions of a SYN with doubled delay, and before those with a constant one (tcp(7)). */
  readonly tcpSynRetries: number
  readonly tcpSynLinearTimeouts: number
  /** Longest retransmission delay, milliseconds. */
  readonly tcpRtoMaxMs: number
  /** Lifetime of a UDP flow that went one way only, and of one that was answered, seconds. */
  readonly udpTimeout: number
  readonly udpStreamTimeout: number
  /** Groups that may open ping sockets, first and last; first > last: none (icmp(7)). */
  readonly pingGroups: readonly [first: number, last: number]
}

/** RFC 6335 section 6: the dynamic ports; when the kernel's range is unknown. */
const EPHEMERAL_PORTS = [49152, 65535] as const
const TCP_SYN_RETRIES = 6
const TCP_SYN_LINEAR_TIMEOUTS = 4
const TCP_RTO_MAX_MS = 120_000
const UDP_TIMEOUT = 30
const UDP_STREAM_TIMEOUT = 120
const PING_GROUPS = [1, 0] as const

/** Reads a file below /proc/sys; undefined when that is not possible. */
export type ReadSysctl = (name: string) => string | undefined

function readProcSys(name: string): string | undefined {
  try {
    return readFileSync(`/proc/sys/${name}`, "latin1")
  } catch {
    return undefined
  }
}

function numbers(text: string | undefined, count: number, min: number, max: number): number[] | undefined {
  if (text === undefined) return undefined
  const words = text.trim().split(/\s+/)
  if (words.length !== count) return undefined
  const values = words.map((word) => (/^\d{1,10}$/.test(word) ? Number(word) : -1))
  return values.every((value) => value >= min && value <= max) ? values : undefined
}

export function readSettings(read: ReadSysctl = readProcSys): HostSettings {
  const one = (name: string, absent: number, min: number, max: number): number =>
    numbers(read(name), 1, min, max)?.[0] ?? absent
  const range = (
    name: string,
    absent: readonly [number, number],
    min: number,
    max: number,
  ): readonly [number, number] => {
    const values = numbers(read(name), 2, min, max)
    return values ? [values[0]!, values[1]!] : absent
  }
  const ports = range("net/ipv4/ip_local_port_range", EPHEMERAL_PORTS, 1, 65535)
  return {
    ephemeralPorts: ports[0] <= ports[1] ? ports : EPHEMERAL_PORTS,
    tcpSynRetries: one("net/ipv4/tcp_syn_retries", TCP_SYN_RETRIES, 0, 255),
    tcpSynLinearTimeouts: one("net/ipv4/tcp_syn_linear_timeouts", TCP_SYN_LINEAR_TIMEOUTS, 0, 255),
    tcpRtoMaxMs: one("net/ipv4/tcp_rto_max_ms", TCP_RTO_MAX_MS, 1000, 0x7fffffff),
    udpTimeout: one("net/netfilter/nf_conntrack_udp_timeout", UDP_TIMEOUT, 1, 86_400),
    udpStreamTimeout: one("net/netfilter/nf_conntrack_udp_timeout_stream", UDP_STREAM_TIMEOUT, 1, 86_400),
    pingGroups: range("net/ipv4/ping_group_range", PING_GROUPS, 0, 0xffffffff),
  }
}
