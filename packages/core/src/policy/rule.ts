/**
 * What a policy is made of: rules as data, questions about flows, and decisions. The first rule that matches decides; where none
 * does, the default.
 */
import type { FlowEnd } from "../live/flows.ts"

export type PolicyProtocol = "tcp" | "udp" | "icmp"
export type PolicyDirection = "in" | "out"

/** The guest is told: connections get a reset, datagrams "port unreachable", echo requests "administratively prohibited", unless the
 * rule says which. Ends of connections on the host's side get a reset always, peers of datagrams nothing. */
export type RefuseWith = "reset" | "port-unreachable" | "prohibited"

export interface RateLimit {
  /** Payload, of each direction, 1,000 … 2^40. */
  readonly bytesPerSecond: number
  /** What may pass at once after a silence: at least 64 KiB; a quarter of a second's unless told. */
  readonly burstBytes?: number
}

/** A range of addresses: the first `bits` of 128; IPv4 is mapped, 96 + n. */
export interface Prefix {
  /** Four words. */
  readonly address: Int32Array
  readonly bits: number
}

export interface PortRange {
  readonly first: number
  readonly last: number
}

/** Where flows go instead. */
export interface Redirect {
  /** Four words; null: where it went anyway, only the port is another. */
  readonly address: Int32Array | null
  /** 0: the same. */
  readonly port: number
}

export type RuleAction =
  | "allow"
  | "refuse"
  /** Without a word. */
  | "drop"
  | "redirect"
  /** The program's function decides. */
  | "ask"

/** What is absent matches everything. */
export interface PolicyRule {
  readonly action: RuleAction
  /** "out": the guest begins. */
  readonly direction?: PolicyDirection
  readonly protocols?: readonly PolicyProtocol[]
  /** The end that is not the guest's, as the host's side has it: after the guest's view of it was translated. */
  readonly remotes?: readonly Prefix[]
  /** The end as the guest has named it: "example.org", or "*.example.org" for everything below that. Lower case, without a dot at the end. Not
   * together with `remotes`; outbound only. */
  readonly names?: readonly string[]
  /** Of the service: where the guest connects to, or which of the guest's ports is connected to. TCP and UDP only. */
  readonly ports?: readonly PortRange[]
  readonly refuseWith?: RefuseWith
  /** With action "redirect", and only then. */
  readonly redirect?: Redirect
  readonly limit?: RateLimit
  /** For lists and metrics. */
  readonly label?: string
}

export type DefaultAction = "allow" | "refuse" | "drop" | "ask"

export interface RuleSet {
  readonly rules: readonly PolicyRule[]
  readonly default: DefaultAction
  readonly dns?: DnsPolicy
}

/** How names come to be known. Absent, and no rule has names: the guest's queries are nobody's business. */
export interface DnsPolicy {
  /** Queries for names that no rule allows are answered with REFUSED. */
  readonly onlyAllowedNames?: boolean
  /** Answers that lead to addresses of the host or of private networks (RFC 1918, 4193, 3927, …) are emptied. */
  readonly refusePrivateAnswers?: boolean
}

/** A flow that is about to begin. */
export interface FlowQuestion {
  /** Row of the flow table: it is the flow's for as long as that lives. */
  readonly flow: number
  readonly protocol: PolicyProtocol
  readonly kind: "link" | "splice" | "group"
  readonly direction: PolicyDirection
  /** The guest's own end; of a flow that goes to a namespace by splicing, the end there. */
  readonly guest: FlowEnd
  /** The other end: what the host's socket will talk to, or talks to. */
  readonly remote: FlowEnd
  /** The same as the guest sees it, if it sees it. */
  readonly far: FlowEnd | null
  /** What a rule's `ports` are compared with; 0 for echo requests. */
  readonly port: number
  /** Names that the guest has found the remote end by, latest first. */
  readonly names: readonly string[]
  /** The rule whose action is "ask"; undefined: the default's is. */
  readonly rule: PolicyRule | undefined
}

export type Decision =
  | "allow"
  | "refuse"
  | "drop"
  | { readonly action: "allow"; readonly limit?: RateLimit; readonly label?: string }
  | { readonly action: "refuse"; readonly with?: RefuseWith; readonly label?: string }
  | { readonly action: "drop"; readonly label?: string }
  /** To another address (text, or four words), another port, or both. */
  | {
      readonly action: "redirect"
      readonly address?: string | Int32Array
      readonly port?: number
      readonly limit?: RateLimit
      readonly label?: string
    }
  /** To a stream socket that is connected already, TCP or UNIX: its descriptor, which becomes the engine's, to close. Outbound TCP on the
   * link only, elsewhere the flow is refused. */
  | { readonly action: "redirect"; readonly socket: number; readonly limit?: RateLimit; readonly label?: string }

/** Asked once for each flow, before anything is opened for it. A flow whose answer is a promise waits: its SYN is not answered, its first
 * datagrams are kept. */
export type Decide = (question: FlowQuestion) => Decision | Promise<Decision>

export interface PolicyOptions extends Partial<RuleSet> {
  /** Without rules and a default of its own, everything is asked. */
  readonly decide?: Decide
  /** Milliseconds after which a flow whose answer is missing is refused, 1 … 600,000. */
  readonly deadlineMs?: number
  /** Resolvers that are believed: addresses that queries may go to, four words each. */
  readonly resolvers?: readonly Int32Array[]
  /** Called for each decision on a flow that is not simply allowed, after it was made; cold. */
  readonly onDecision?: (question: FlowQuestion, verdict: VerdictName, label: string | undefined) => void
}

export const VERDICT_NAMES = ["none", "allowed", "redirected", "waiting", "refused", "dropped"] as const
export type VerdictName = (typeof VERDICT_NAMES)[number]
