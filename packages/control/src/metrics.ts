/**
 * Metrics in the text format of OpenMetrics 1.0 (https://openmetrics.io): a family is its type, unit and help, then its samples; "#
 * EOF" ends the text. Flows are counted by walking the table in slices, everything else is counted anyway.
 */
import {
  COUNTER,
  type Gate,
  LATENCY_BOUNDS_MICROS,
  type LatencyHistogram,
  KIND_GROUP,
  KIND_PING,
  KIND_TCP,
  KIND_TCP_SPLICE,
  KIND_UDP,
  KIND_UDP_SPLICE_IN,
  KIND_UDP_SPLICE_OUT,
} from "@passt/core"
import type { ControlContext } from "./calls.ts"
import { type CounterName, DROPS } from "./drops.ts"

export const METRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

const ROWS_PER_STEP = 256

type Labels = Readonly<Record<string, string>>

/** What each protocol and way of flows is counted by. */
const WAYS: readonly { readonly labels: Labels; readonly kinds: readonly number[]; readonly begun: CounterName }[] = [
  { labels: { protocol: "tcp", kind: "link" }, kinds: [KIND_TCP], begun: "tcpFlows" },
  { labels: { protocol: "udp", kind: "link" }, kinds: [KIND_UDP], begun: "udpFlows" },
  { labels: { protocol: "icmp", kind: "link" }, kinds: [KIND_PING], begun: "pingFlows" },
  { labels: { protocol: "udp", kind: "group" }, kinds: [KIND_GROUP], begun: "groupFlows" },
  { labels: { protocol: "tcp", kind: "splice" }, kinds: [KIND_TCP_SPLICE], begun: "tcpSpliceFlows" },
  {
    labels: { protocol: "udp", kind: "splice" },
    kinds: [KIND_UDP_SPLICE_IN, KIND_UDP_SPLICE_OUT],
    begun: "udpSpliceFlows",
  },
]
const DIRECTIONS = ["from_guest", "to_guest"] as const

export class Metrics {
  readonly #context: ControlContext
  readonly #flows = new Map<string, { labels: Labels; count: number }>()
  #row = 0
  #lines: string[] = []

  constructor(context: ControlContext) {
    this.#context = context
  }

  /** Counts flows. @returns whether all have been counted */
  step(): boolean {
    this.#row = this.#context.engine.flowClasses(this.#row, ROWS_PER_STEP, ({ protocol, kind, state }) => {
      const key = `${protocol} ${kind} ${state}`
      const known = this.#flows.get(key)
      if (known) known.count++
      else this.#flows.set(key, { labels: { protocol, kind, state }, count: 1 })
    })
    return this.#row < 0
  }

  /** @returns the text, once everything is counted */
  text(): string {
    const { engine, forwards, program, version, uptimeSeconds } = this.#context
    const counted = (name: CounterName): number => engine.counters[COUNTER[name]]!
    const { kindBytes, kindPackets } = engine.ctx.flows
    this.#lines = []
    this.#family("passt", "info", "The program.")
    this.#sample("passt_info", { program, version }, 1)
    this.#family("passt_uptime_seconds", "gauge", "Time since the program is ready.", "seconds")
    this.#sample("passt_uptime_seconds", {}, uptimeSeconds())
    this.#family("passt_flows", "gauge", "Flows that are alive.")
    for (const { labels, count } of this.#flows.values()) this.#sample("passt_flows", labels, count)
    this.#family("passt_flows_begun", "counter", "Flows that have begun.")
    for (const { labels, begun } of WAYS) this.#sample("passt_flows_begun_total", labels, counted(begun))
    this.#family("passt_payload_bytes", "counter", "Payload of TCP, UDP and ICMP.", "bytes")
    for (const { labels, kinds } of WAYS) {
      DIRECTIONS.forEach((direction, d) => {
        const bytes = kinds.reduce((sum, kind) => sum + kindBytes[2 * kind + d]!, 0)
        this.#sample("passt_payload_bytes_total", { ...labels, direction }, bytes)
      })
    }
    this.#family("passt_packets", "counter", "Segments with payload, and datagrams; spliced connections have none.")
    for (const { labels, kinds } of WAYS) {
      if (labels["protocol"] === "tcp" && labels["kind"] === "splice") continue
      DIRECTIONS.forEach((direction, d) => {
        const packets = kinds.reduce((sum, kind) => sum + kindPackets[2 * kind + d]!, 0)
        this.#sample("passt_packets_total", { ...labels, direction }, packets)
      })
    }
    this.#family("passt_frames", "counter", "Ethernet frames on the guest's link; one may carry many segments.")
    this.#sample("passt_frames_total", { direction: "from_guest" }, counted("framesFromGuest"))
    this.#sample("passt_frames_total", { direction: "to_guest" }, counted("framesToGuest"))
    this.#family("passt_drops", "counter", "What was dropped, by reason.")
    for (const { name, reason } of DROPS) this.#sample("passt_drops_total", { reason }, counted(name))
    this.#family("passt_tcp_retransmissions", "counter", "Segments sent to the guest again.")
    this.#sample("passt_tcp_retransmissions_total", { cause: "timeout" }, counted("tcpRetransmits"))
    this.#sample("passt_tcp_retransmissions_total", { cause: "duplicates" }, counted("tcpFastRetransmits"))
    this.#family("passt_tcp_resets", "counter", "Connections that were reset.")
    this.#sample("passt_tcp_resets_total", {}, counted("tcpResets"))
    this.#family("passt_forwards", "gauge", "Forwarding rules.")
    this.#sample("passt_forwards", {}, forwards.count)
    this.#family("passt_listening_sockets", "gauge", "Ports of forwarding rules that are listened on.")
    this.#sample("passt_listening_sockets", {}, engine.listeners.count)
    this.#family("passt_group_memberships", "counter", "Multicast groups that the guest has joined.")
    this.#sample("passt_group_memberships_total", {}, counted("memberships"))
    if (engine.policy !== undefined) this.#policy(engine.policy)
    if (engine.latency !== undefined) this.#latency(engine.latency)
    this.#collections()
    this.#family("passt_turns", "counter", "Turns of the loop.")
    this.#sample("passt_turns_total", {}, counted("turns"))
    this.#lines.push("# EOF", "")
    return this.#lines.join("\n")
  }

  #policy(gate: Gate): void {
    const counted = (name: CounterName): number => this.#context.engine.counters[COUNTER[name]]!
    this.#family("passt_policy_decisions", "counter", "Flows that the policy has decided about.")
    this.#sample("passt_policy_decisions_total", { verdict: "allowed" }, counted("policyAllowed"))
    this.#sample("passt_policy_decisions_total", { verdict: "refused" }, counted("policyRefused"))
    this.#sample("passt_policy_decisions_total", { verdict: "dropped" }, counted("policyDropped"))
    this.#sample("passt_policy_decisions_total", { verdict: "redirected" }, counted("policyRedirected"))
    this.#family("passt_policy_failures", "counter", "Times that the policy's function threw or did not answer.")
    this.#sample("passt_policy_failures_total", {}, counted("policyFailures"))
    this.#family("passt_policy_ended_flows", "counter", "Flows that new rules have ended.")
    this.#sample("passt_policy_ended_flows_total", {}, counted("policyEnded"))
    this.#family(
      "passt_policy_dns_refusals",
      "counter",
      "Queries and answers that the policy has turned into refusals.",
    )
    this.#sample("passt_policy_dns_refusals_total", { message: "query" }, counted("policyNamesRefused"))
    this.#sample("passt_policy_dns_refusals_total", { message: "answer" }, counted("policyAnswersRefused"))
    this.#family(
      "passt_policy_dns_streams",
      "counter",
      "Connections to resolvers that were overheard, had no place, were given up.",
    )
    this.#sample("passt_policy_dns_streams_total", { outcome: "overheard" }, counted("policyStreams"))
    this.#sample("passt_policy_dns_streams_total", { outcome: "refused" }, counted("policyStreamsRefused"))
    this.#sample("passt_policy_dns_streams_total", { outcome: "given_up" }, counted("policyStreamsGivenUp"))
    this.#family("passt_policy_rules", "gauge", "Rules of the policy.")
    this.#sample("passt_policy_rules", {}, gate.rules.rules.length)
    this.#family("passt_policy_known_addresses", "gauge", "Addresses whose names are remembered.")
    this.#sample("passt_policy_known_addresses", {}, gate.dns.memory.size)
  }

  #latency({ counts, sumMicros }: LatencyHistogram): void {
    this.#family(
      "passt_turn_duration_seconds",
      "histogram",
      "How long turns of the loop take, waiting apart.",
      "seconds",
    )
    let below = 0
    counts.forEach((count, i) => {
      below += count
      const bound = LATENCY_BOUNDS_MICROS[i]
      this.#sample(
        "passt_turn_duration_seconds_bucket",
        { le: bound === undefined ? "+Inf" : String(bound / 1e6) },
        below,
      )
    })
    this.#sample("passt_turn_duration_seconds_count", {}, below)
    this.#sample("passt_turn_duration_seconds_sum", {}, sumMicros / 1e6)
  }

  #collections(): void {
    const { collections } = this.#context
    if (collections === undefined) return
    this.#family("passt_gc_duration_seconds", "summary", "Garbage collections, by kind.", "seconds")
    for (const [kind, { count, seconds }] of collections()) {
      this.#sample("passt_gc_duration_seconds_count", { kind }, count)
      this.#sample("passt_gc_duration_seconds_sum", { kind }, seconds)
    }
  }

  #family(name: string, type: string, help: string, unit?: string): void {
    this.#lines.push(`# TYPE ${name} ${type}`)
    if (unit !== undefined) this.#lines.push(`# UNIT ${name} ${unit}`)
    this.#lines.push(`# HELP ${name} ${escape(help)}`)
  }

  #sample(name: string, labels: Labels, value: number): void {
    const text = Object.entries(labels).map(([label, content]) => `${label}="${escape(content)}"`)
    this.#lines.push(`${name}${text.length > 0 ? `{${text.join(",")}}` : ""} ${value}`)
  }
}

function escape(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n")
}
