/** What can be measured. "out" is from the guest to the host, "in" is from the host to the guest. */

import type { Family } from "./world.ts"

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
  readonly direction: "out" | "in"
  /** MTUs measured unless others are asked for. */
  readonly mtus: readonly number[]
}

/** The MTU that passt gives a guest unless told otherwise. */
const MTU_DEFAULT = 65520

const bulk = { unit: "Gbit/s", server: "tcp-sink", client: "tcp-send", meter: "server", mtus: [65520, 1500] } as const
const flood = { unit: "per second", server: "udp-sink", client: "udp-flood", meter: "server" } as const
const transactions = { unit: "per second", meter: "client", mtus: [MTU_DEFAULT] } as const
const rr = { ...transactions, server: "tcp-echo", client: "tcp-rr" } as const
const crr = { ...transactions, server: "tcp-echo", client: "tcp-crr" } as const
const udpRr = { ...transactions, server: "udp-echo", client: "udp-rr" } as const

export const SCENARIO_KINDS: readonly ScenarioKind[] = [
  { id: "tcp-out", title: "TCP bulk, guest to host", direction: "out", ...bulk },
  { id: "tcp-in", title: "TCP bulk, host to guest", direction: "in", ...bulk },
  { id: "rr-out", title: "TCP request/response, guest asks", direction: "out", ...rr },
  { id: "rr-in", title: "TCP request/response, host asks", direction: "in", ...rr },
  { id: "crr-out", title: "TCP connect/request/response/close, guest asks", direction: "out", ...crr },
  { id: "crr-in", title: "TCP connect/request/response/close, host asks", direction: "in", ...crr },
  { id: "udp-out", title: "UDP, 64-byte datagrams, guest to host", direction: "out", ...flood, mtus: [MTU_DEFAULT] },
  { id: "udp-in", title: "UDP, 64-byte datagrams, host to guest", direction: "in", ...flood, mtus: [MTU_DEFAULT] },
  { id: "udp-rr-out", title: "UDP request/response, guest asks", direction: "out", ...udpRr },
  { id: "udp-rr-in", title: "UDP request/response, host asks", direction: "in", ...udpRr },
]

/** Measured when nothing is asked for. */
export const SCENARIOS_DEFAULT: readonly string[] = ["tcp-out", "tcp-in", "rr-out", "crr-out", "udp-out", "udp-in"]

/** One line of the result: a kind with an MTU and an address family. */
export interface Scenario {
  readonly kind: ScenarioKind
  readonly mtu: number
  readonly family: Family
}

export const scenarioName = (scenario: Scenario): string =>
  `${scenario.kind.title}, MTU ${scenario.mtu}, IPv${scenario.family}`

/** What a scenario must reach, as a factor of the reference; undefined where it is only reported. */
export const targetOf = ({ kind, mtu }: Scenario): number | undefined => {
  switch (kind.id) {
    case "tcp-out":
      // The reference collapses here: it answers a lost segment with too few duplicate acknowledgements.
      return mtu === 1500 ? 10 : mtu === 65520 ? 0.9 : undefined
    case "tcp-in":
      return mtu === 1500 || mtu === 65520 ? 0.9 : undefined
    case "rr-out":
    case "rr-in":
    case "crr-out":
    case "crr-in":
      return 0.9
    case "udp-out":
    case "udp-in":
      return 1
    default:
      return undefined
  }
}

/** The rate of a measurement in the scenario's unit. */
export const rateOf = (kind: ScenarioKind, count: number, seconds: number): number =>
  kind.unit === "Gbit/s" ? (count * 8) / 1e9 / seconds : count / seconds

/** CPU seconds per GiB, or per million transactions or datagrams. */
export const costOf = (kind: ScenarioKind, count: number, cpuSeconds: number): number =>
  cpuSeconds / (kind.unit === "Gbit/s" ? count / 2 ** 30 : count / 1e6)
