/** What can be measured. "out" is from the guest to the host, "in" is from the host to the guest. */

import type { Program } from "./debian-release.ts"
import type { Family, Link } from "./world.ts"

export type Unit = "Gbit/s" | "per second"

export interface ScenarioKind {
  readonly id: string
  readonly title: string
  readonly unit: Unit
  /** Commands of `traffic`: the server's, and the client's. */
  readonly server: string
  readonly client: string
  /** Which of the two counts and says when the measurement begins and ends. */
  readonly meter: "server" | "client"
  /** Where the client is: out, the guest. */
  readonly direction: "out" | "in"
  /** MTUs measured unless others are asked for. */
  readonly mtus: readonly number[]
  /** Whose scenario it is; undefined: of both programs. */
  readonly program?: Program
  /** Of pasta: by the tap device, or from loopback to loopback. "tap" unless told. */
  readonly path?: "tap" | "splice"
  /** Bytes of a call, request or datagram, other than usual. */
  readonly bytes?: number
}

/** The MTU that passt gives a guest unless told otherwise. */
const MTU_DEFAULT = 65520

const bulk = { unit: "Gbit/s", server: "tcp-sink", client: "tcp-send", meter: "server", mtus: [65520, 1500] } as const
const flood = { unit: "per second", server: "udp-sink", client: "udp-flood", meter: "server" } as const
const transactions = { unit: "per second", meter: "client", mtus: [MTU_DEFAULT] } as const
const rr = { ...transactions, server: "tcp-echo", client: "tcp-rr" } as const
const crr = { ...transactions, server: "tcp-echo", client: "tcp-crr" } as const
const burst = { ...transactions, server: "tcp-echo", client: "tcp-burst", program: "pasta" } as const
const udpRr = { ...transactions, server: "udp-echo", client: "udp-rr" } as const
const fetch = { ...bulk, server: "tcp-source", client: "tcp-get", meter: "client", program: "pasta" } as const
const splice = { program: "pasta", path: "splice", mtus: [MTU_DEFAULT] } as const

export const SCENARIO_KINDS: readonly ScenarioKind[] = [
  { id: "tcp-out", title: "TCP bulk, guest to host", direction: "out", ...bulk },
  { id: "tcp-in", title: "TCP bulk, host to guest", direction: "in", ...bulk },
  { id: "tcp-serve", title: "TCP bulk, guest to host on a forwarded connection", direction: "in", ...fetch },
  { id: "rr-out", title: "TCP request/response, guest asks", direction: "out", ...rr },
  { id: "rr-in", title: "TCP request/response, host asks", direction: "in", ...rr },
  { id: "crr-out", title: "TCP connect/request/response/close, guest asks", direction: "out", ...crr },
  { id: "crr-in", title: "TCP connect/request/response/close, host asks", direction: "in", ...crr },
  { id: "burst-out", title: "TCP, 1000 connections at once, guest asks", direction: "out", ...burst },
  { id: "burst-in", title: "TCP, 1000 connections at once, host asks", direction: "in", ...burst },
  { id: "udp-out", title: "UDP, 64-byte datagrams, guest to host", direction: "out", ...flood, mtus: [MTU_DEFAULT] },
  { id: "udp-in", title: "UDP, 64-byte datagrams, host to guest", direction: "in", ...flood, mtus: [MTU_DEFAULT] },
  {
    id: "udp-large-out",
    title: "UDP, 1452-byte datagrams, guest to host",
    direction: "out",
    ...flood,
    mtus: [1500],
    bytes: 1452,
    program: "pasta",
  },
  {
    id: "udp-large-in",
    title: "UDP, 1452-byte datagrams, host to guest",
    direction: "in",
    ...flood,
    mtus: [1500],
    bytes: 1452,
    program: "pasta",
  },
  { id: "udp-rr-out", title: "UDP request/response, guest asks", direction: "out", ...udpRr },
  { id: "udp-rr-in", title: "UDP request/response, host asks", direction: "in", ...udpRr },
  { id: "splice-tcp-out", title: "loopback TCP bulk, guest to host", direction: "out", ...bulk, ...splice },
  { id: "splice-tcp-in", title: "loopback TCP bulk, host to guest", direction: "in", ...bulk, ...splice },
  { id: "splice-rr-out", title: "loopback TCP request/response, guest asks", direction: "out", ...rr, ...splice },
  { id: "splice-rr-in", title: "loopback TCP request/response, host asks", direction: "in", ...rr, ...splice },
  { id: "splice-crr-out", title: "loopback TCP connections, guest asks", direction: "out", ...crr, ...splice },
  { id: "splice-crr-in", title: "loopback TCP connections, host asks", direction: "in", ...crr, ...splice },
  { id: "splice-burst-out", title: "loopback TCP, 1000 at once, guest asks", direction: "out", ...burst, ...splice },
  { id: "splice-udp-out", title: "loopback UDP, 64 bytes, guest to host", direction: "out", ...flood, ...splice },
  { id: "splice-udp-in", title: "loopback UDP, 64 bytes, host to guest", direction: "in", ...flood, ...splice },
]

/** Measured when nothing is asked for. */
const DEFAULTS: Record<Program, readonly string[]> = {
  passt: ["tcp-out", "tcp-in", "rr-out", "crr-out", "udp-out", "udp-in"],
  pasta: ["tcp-out", "tcp-in", "tcp-serve", "rr-out", "crr-out", "burst-out", "udp-out", "udp-in", "splice-tcp-out"],
}

export const kindsOf = (program: Program): readonly ScenarioKind[] =>
  SCENARIO_KINDS.filter((kind) => kind.program === undefined || kind.program === program)

export const defaultsOf = (program: Program): readonly string[] => DEFAULTS[program]

/** MTUs of a kind: pasta's bulk is also measured at that of jumbo frames. */
export const mtusOf = (kind: ScenarioKind, program: Program): readonly number[] =>
  program === "pasta" && kind.mtus.includes(1500) && kind.mtus.length > 1 ? [65520, 9000, 1500] : kind.mtus

/** One line of the result: a kind with an MTU and an address family, of one program. */
export interface Scenario {
  readonly kind: ScenarioKind
  readonly mtu: number
  readonly family: Family
  readonly program: Program
  /** Of passt: by which its guest is reached. */
  readonly link: Link
}

export const scenarioName = ({ kind, mtu, family, link }: Scenario): string =>
  `${kind.title}, MTU ${mtu}, IPv${family}${link === "unix" ? "" : `, ${link}`}`

/** What a scenario must reach: a factor of another implementation's rate. */
export interface Target {
  readonly factor: number
  /** Undefined: the newest of the reference's. */
  readonly of?: "veth" | "slirp4netns"
  /** What our slowest run must reach, not our median. */
  readonly each?: boolean
  /** Of CPU time per unit instead of the rate: at most the factor. */
  readonly cost?: boolean
}

/** None where the rate is only reported. */
export const targetsOf = ({ kind, mtu, program, link }: Scenario): readonly Target[] => {
  if (program === "pasta") return pastaTargets(kind, mtu)
  if (link === "vhost-user") return vhostTargets(kind, mtu)
  switch (kind.id) {
    case "tcp-out":
      // The reference collapses here: it answers a lost segment with too few duplicate acknowledgements.
      return mtu === 1500 ? [{ factor: 10 }] : mtu === 65520 ? [{ factor: 0.9 }] : []
    case "tcp-in":
      return mtu === 1500 || mtu === 65520 ? [{ factor: 0.9 }] : []
    case "rr-out":
    case "rr-in":
    case "crr-out":
    case "crr-in":
      return [{ factor: 0.9 }]
    case "udp-out":
    case "udp-in":
      return [{ factor: 1 }]
    default:
      return []
  }
}

/** The reference takes no segments from the guest larger than the MTU, and gives it none. */
const vhostTargets = (kind: ScenarioKind, mtu: number): readonly Target[] => {
  switch (kind.id) {
    case "tcp-out":
    case "tcp-in":
      return [{ factor: mtu <= 1500 ? 3 : 1.1 }, { factor: 0.8, cost: true }]
    case "udp-out":
    case "udp-in":
      return [{ factor: 1.5 }]
    case "rr-out":
    case "rr-in":
    case "crr-out":
    case "crr-in":
    case "udp-rr-out":
    case "udp-rr-in":
      return [{ factor: 1 / 1.1 }]
    default:
      return []
  }
}

const pastaTargets = (kind: ScenarioKind, mtu: number): readonly Target[] => {
  switch (kind.id) {
    case "tcp-out":
    case "tcp-serve": {
      // The reference overflows the device's queue, and waits for timers.
      const share = mtu >= 65520 ? 0.5 : mtu >= 9000 ? 0.45 : 0.35
      return [
        { factor: share, of: "veth", each: true },
        { factor: 1, of: "slirp4netns" },
      ]
    }
    case "tcp-in":
      return [{ factor: mtu >= 65520 ? 1 : 2 }]
    case "burst-out":
    case "burst-in":
    case "splice-burst-out":
      return [{ factor: 1 / 0.7 }]
    case "udp-out":
    case "udp-large-out":
      return [{ factor: 1.2 }]
    case "udp-large-in":
      return [{ factor: 1.8 }]
    case "udp-in":
    case "splice-udp-out":
    case "splice-udp-in":
      return [{ factor: 2 }]
    case "rr-out":
    case "rr-in":
      return [{ factor: 1 }, { factor: 1, of: "slirp4netns" }]
    default:
      return [{ factor: 1 }]
  }
}

/** The rate of a measurement in the scenario's unit. */
export const rateOf = (kind: ScenarioKind, count: number, seconds: number): number =>
  kind.unit === "Gbit/s" ? (count * 8) / 1e9 / seconds : count / seconds

/** CPU seconds per GiB, or per million transactions or datagrams. */
export const costOf = (kind: ScenarioKind, count: number, cpuSeconds: number): number =>
  cpuSeconds / (kind.unit === "Gbit/s" ? count / 2 ** 30 : count / 1e6)
