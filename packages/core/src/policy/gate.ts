/**
 * The gate: every flow that is about to begin passes it once, before a socket is opened for it.
 *
 * ```
 *   row of the flow, both ends known ──▶ rules ──▶ verdict ──▶ go on │ REFUSED, DROPPED: told, remembered │ WAITING
 *                                          └ "ask" ▶ function ───┘                                          │
 *                                                       └ promise ─────── kept datagrams, deadline ◀───────┘ ─▶ resume
 * ```
 * - Without a gate nothing is asked and nothing costs anything. With one, a flow costs a look at the compiled rules
 *   (matcher.ts); its packets cost nothing.
 * - What was refused or dropped stays in the flow table for REMEMBER_MS, without a socket: further datagrams, and repeated SYNs, are
 *   not asked about anew. A connection that was reset is forgotten at once, for the next SYN is another attempt.
 * - A flow that waits has its row and its timer, and no socket. Its protocol's `resume` goes on where it was.
 */
import type { Context } from "../context.ts"
import {
  BATCH_HEAD,
  BATCH_TAIL,
  FAR,
  FD,
  FLOW_SHIFT,
  GUEST,
  GUEST_FAMILY,
  HOST_FAMILY,
  KIND,
  KIND_GROUP,
  KIND_PING,
  KIND_TCP,
  KIND_TCP_SPLICE,
  KIND_UDP,
  PEER,
  PORT,
  SCOPE,
  isSplicedKind,
} from "../flow/table.ts"
import { FRAME_ELSEWHERE } from "../frames.ts"
import { FLOW_MAX } from "../limits.ts"
import type { FlowEnd, FlowPolicy } from "../live/flows.ts"
import type { Protocol } from "../protocol.ts"
import { COUNTER } from "../stats.ts"
import { copy, equal, format, isMapped, isUnicast, parse } from "../wire/address.ts"
import { type KnownName, ruleByName } from "./dns/memory.ts"
import { DnsObserver, PORT_DNS, PORT_DNS_TLS } from "./dns/observer.ts"
import { DnsRelays } from "./dns/relay.ts"
import { HeldDatagrams } from "./held.ts"
import {
  DIRECTION_IN,
  DIRECTION_OUT,
  Matcher,
  NO_RULE,
  PROTOCOL_ICMP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  PROTOCOLS,
} from "./matcher.ts"
import {
  type Decide,
  type Decision,
  type DnsPolicy,
  type FlowQuestion,
  type PolicyOptions,
  type PolicyRule,
  type RefuseWith,
  type RuleSet,
  VERDICT_NAMES,
} from "./rule.ts"
import { RATE_MAX, RATE_MIN } from "./rate.ts"
import { Shaper } from "./shaper.ts"
import {
  ALLOWED,
  DROPPED,
  NONE,
  REDIRECTED,
  REFUSED,
  TELL_PORT,
  TELL_PROHIBITED,
  TELL_RESET,
  TELL_USUAL,
  WAITING,
} from "./verdict.ts"

/** How long a decision against a flow of datagrams, or against a connection without a word, holds, milliseconds. */
export const REMEMBER_MS = 10_000
/** Such flows at a time: they have no socket, so nothing else bounds them. */
const REMEMBERED_MAX = 16_384
const DEADLINE_MS = 10_000
const DEADLINE_MS_MAX = 600_000

/** `ruleOf` of flows that no rule has decided: the default did, or the function. */
export const BY_DEFAULT = -1
export const BY_FUNCTION = -2
/** Names matter, and it is a way to ask for them. */
export const BY_DNS = -3

interface Waiting {
  readonly question: FlowQuestion
}

export class Gate {
  /** Per flow: verdict.ts. */
  readonly verdicts: Uint8Array<ArrayBuffer> = new Uint8Array(FLOW_MAX)
  /** Per flow: index of the rule that decided, or BY_…. */
  readonly ruleOf: Int32Array<ArrayBuffer> = new Int32Array(FLOW_MAX)
  /** Goes on with a flow that has waited; `verdicts` has the verdict. Set by the engine. */
  onSettled: (flow: number) => void = () => {}
  readonly shaper: Shaper
  readonly dns: DnsObserver
  /** Between connections to resolvers and those. */
  readonly relays: DnsRelays
  /** Per flow: 1 if it is a conversation with a resolver that is overheard. */
  readonly overheard: Uint8Array<ArrayBuffer> = new Uint8Array(FLOW_MAX)
  readonly #ctx: Context
  /** Per flow: TELL_…. */
  readonly #tell: Uint8Array<ArrayBuffer> = new Uint8Array(FLOW_MAX)
  /** Per flow: 1, its row is kept so that what follows is known. */
  readonly #kept: Uint8Array<ArrayBuffer> = new Uint8Array(FLOW_MAX)
  readonly #labels = new Map<number, string>()
  readonly #sockets = new Map<number, number>()
  readonly #waiting = new Map<number, Waiting>()
  readonly #held = new HeldDatagrams()
  readonly #onDecision: PolicyOptions["onDecision"]
  readonly #deadlineMs: number
  #remembered = 0
  #decide: Decide | undefined
  #rules: readonly PolicyRule[] = []
  #default: RuleSet["default"]
  #dns: DnsPolicy | undefined
  /** Flows that each rule has decided about. */
  #hits: Float64Array
  #matcher: Matcher
  /** The end that rules are compared with, and its service's port: of the flow being asked about. */
  #remote = 0
  #port = 0
  #names: readonly KnownName[] = NO_NAMES
  readonly #flowNames = new Map<number, readonly string[]>()

  constructor(ctx: Context, options: PolicyOptions) {
    this.#ctx = ctx
    this.shaper = new Shaper(ctx)
    this.#decide = options.decide
    this.#onDecision = options.onDecision
    this.#deadlineMs = Math.min(Math.max(1, options.deadlineMs ?? DEADLINE_MS), DEADLINE_MS_MAX)
    this.#rules = options.rules ?? []
    this.#default = options.default ?? (options.decide !== undefined ? "ask" : "allow")
    this.#matcher = Matcher.of(this.#rules)
    this.#hits = new Float64Array(this.#rules.length)
    this.dns = new DnsObserver(ctx, this.#matcher)
    this.dns.resolvers = options.resolvers ?? []
    this.relays = new DnsRelays(ctx, this.dns)
    this.#dns = options.dns
    this.dns.load(this.rules, this.#matcher)
    if (this.dns.isActive) this.relays.prepare()
  }

  /** Rules that hold for flows that begin from now on. @param matcher of these rules, if it was made before */
  load(set: RuleSet, matcher: Matcher = Matcher.of(set.rules)): void {
    this.#rules = set.rules
    this.#default = set.default
    this.#dns = set.dns
    this.#matcher = matcher
    this.#hits = new Float64Array(set.rules.length)
    this.dns.load(set, matcher)
    if (this.dns.isActive) this.relays.prepare()
    // Indices mean other rules now.
    for (let flow = 0; flow < this.#ctx.flows.highWater; flow++) {
      if (this.ruleOf[flow]! >= 0) this.ruleOf[flow] = BY_DEFAULT
    }
    this.#forgetRefused()
  }

  /** Asks this function from now on. */
  set decide(decide: Decide | undefined) {
    this.#decide = decide
    this.#forgetRefused()
  }

  get rules(): RuleSet {
    return { rules: this.#rules, default: this.#default, ...(this.#dns === undefined ? {} : { dns: this.#dns }) }
  }

  /** Flows that a rule has decided about since it was loaded. @param index of the rule */
  hits(index: number): number {
    return this.#hits[index] ?? 0
  }

  /** Flows that wait for a decision. */
  get waiting(): number {
    return this.#waiting.size
  }

  /** What was decided about a flow, for those who look from outside. */
  describe(flow: number): FlowPolicy {
    const rule = this.ruleOf[flow]!
    return {
      verdict: VERDICT_NAMES[this.verdicts[flow]!]!,
      rule: rule < 0 ? null : rule,
      label: this.#labels.get(flow) ?? this.#rules[rule]?.label ?? null,
      names: this.#flowNames.get(flow) ?? [],
    }
  }

  /** Decides about a flow, both ends of which are in its row. @param direction DIRECTION_…
   * @returns a verdict: up to REDIRECTED the flow begins, with the ends that are in the row now; else it must not */
  ask(flow: number, direction: number): number {
    const ctx = this.#ctx
    const w = ctx.words
    const base = flow << FLOW_SHIFT
    const kind = w[base + KIND]!
    const protocol =
      kind === KIND_TCP || kind === KIND_TCP_SPLICE ? PROTOCOL_TCP : kind === KIND_PING ? PROTOCOL_ICMP : PROTOCOL_UDP
    this.#place(base, direction, protocol)
    this.#tell[flow] = TELL_USUAL
    this.overheard[flow] = 0
    let index = this.#matcher.match(direction, protocol, w, this.#remote, this.#port)
    this.#names = NO_NAMES
    let verdict: number
    if (direction === DIRECTION_OUT && this.dns.isActive) {
      // What was translated is not where the name has led to.
      if (this.#remote === base + PEER && equal(w, base + PEER, w, base + FAR)) {
        this.#names = this.dns.memory.namesOf(w, base + FAR, this.dns.now())
        const named = ruleByName(this.#names, this.#matcher, protocol, this.#port)
        if (named < index) index = named
      }
      if (this.#names.length > 0) this.#flowNames.set(flow, this.#names.map(nameOf))
      verdict = this.#askResolver(flow, base, kind, index)
      if (verdict !== NONE) return this.#note(flow, verdict)
    }
    if (index === NO_RULE) {
      this.ruleOf[flow] = BY_DEFAULT
      verdict = this.#obey(flow, direction, this.#default, undefined)
    } else {
      this.ruleOf[flow] = index
      this.#hits[index] = this.#hits[index]! + 1
      verdict = this.#obey(flow, direction, this.#rules[index]!.action, this.#rules[index])
    }
    return this.#note(flow, verdict)
  }

  /** Conversations with resolvers are overheard, or can't be had. @returns NONE: the rules say what becomes of the flow */
  #askResolver(flow: number, base: number, kind: number, index: number): number {
    const rule = this.#rules[index]
    if (kind !== KIND_TCP && kind !== KIND_UDP) return NONE
    if (this.#ctx.words[base + FAR + PORT] !== PORT_DNS && this.#ctx.words[base + FAR + PORT] !== PORT_DNS_TLS)
      return NONE
    const isHeard = this.dns.overhears(base)
    if (isHeard && (kind !== KIND_TCP || this.relays.take(flow))) {
      this.overheard[flow] = 1
      if (rule !== undefined) return NONE
      this.ruleOf[flow] = BY_DNS
      return ALLOWED
    }
    if (!isHeard && rule !== undefined && isAboutPort(rule)) return NONE
    this.ruleOf[flow] = BY_DNS
    if (this.#onDecision !== undefined) this.#report(flow, this.#question(flow, DIRECTION_OUT, undefined), REFUSED)
    return REFUSED
  }

  #note(flow: number, verdict: number): number {
    this.verdicts[flow] = verdict
    count(this.#ctx, verdict)
    if (verdict > WAITING && this.relays.used > 0) this.relays.release(flow)
    return verdict
  }

  /** What a flow that begins now would meet.
   * @param address four words; undefined: only a name is known @param name by which the guest has found it
   * @returns index of the rule, or BY_… */
  find(direction: number, protocol: number, address: Int32Array | undefined, port: number, name?: string): number {
    let index = address === undefined ? NO_RULE : this.#matcher.match(direction, protocol, address, 0, port)
    if (direction === DIRECTION_OUT) {
      const { dns } = this
      const remembered = address === undefined ? NO_NAMES : dns.memory.namesOf(address, 0, dns.now())
      const names = name === undefined ? remembered : [known(name)]
      index = Math.min(index, ruleByName(names, this.#matcher, protocol, port))
      if (dns.isActive && protocol !== PROTOCOL_ICMP && (port === PORT_DNS || port === PORT_DNS_TLS)) {
        const rule = this.#rules[index]
        const isTrusted = address !== undefined && dns.resolvers.some((one) => equal(one, 0, address, 0))
        const isSeen = isTrusted && dns.hears(protocol === PROTOCOL_TCP) && port === PORT_DNS
        if (rule === undefined || (!isSeen && !isAboutPort(rule))) return BY_DNS
      }
    }
    return index === NO_RULE ? BY_DEFAULT : index
  }

  /** Whether a conversation with an address and port is one that names are learnt from. */
  isSeen(protocol: number, address: Int32Array, port: number): boolean {
    const { dns } = this
    return (
      dns.isActive &&
      protocol !== PROTOCOL_ICMP &&
      dns.hears(protocol === PROTOCOL_TCP) &&
      port === PORT_DNS &&
      dns.resolvers.some((one) => equal(one, 0, address, 0))
    )
  }

  /** Judges a flow that has begun by the rules that hold now. @returns whether they still allow it */
  judge(flow: number, direction: number): boolean {
    const w = this.#ctx.words
    const base = flow << FLOW_SHIFT
    const kind = w[base + KIND]!
    if (this.ruleOf[flow] === BY_FUNCTION || this.ruleOf[flow] === BY_DNS) return true
    const protocol =
      kind === KIND_TCP || kind === KIND_TCP_SPLICE ? PROTOCOL_TCP : kind === KIND_PING ? PROTOCOL_ICMP : PROTOCOL_UDP
    this.#place(base, direction, protocol)
    // What was redirected is judged by where it wanted to go.
    const wasRedirected =
      this.verdicts[flow] === REDIRECTED && direction === DIRECTION_OUT && this.#remote === base + PEER
    const remote = wasRedirected ? base + FAR : this.#remote
    const port = wasRedirected && protocol !== PROTOCOL_ICMP ? w[base + FAR + PORT]! : this.#port
    const names = (this.#flowNames.get(flow) ?? []).map(known)
    const index = Math.min(
      this.#matcher.match(direction, protocol, w, remote, port),
      ruleByName(names, this.#matcher, protocol, port),
    )
    this.ruleOf[flow] = index === NO_RULE ? BY_DEFAULT : index
    const action = index === NO_RULE ? this.#default : this.#rules[index]!.action
    return action !== "refuse" && action !== "drop"
  }

  #place(base: number, direction: number, protocol: number): void {
    const w = this.#ctx.words
    const kind = w[base + KIND]!
    const isSplice = isSplicedKind(kind)
    // A spliced flow from the namespace: its target is the host's.
    this.#remote = base + (isSplice && direction === DIRECTION_OUT ? GUEST : PEER)
    if (protocol === PROTOCOL_ICMP) this.#port = 0
    else if (direction === DIRECTION_IN || isSplice) this.#port = w[base + GUEST + PORT]!
    else this.#port = w[base + PEER + PORT]!
  }

  /** Does what a rule, or the default, says. @returns the verdict */
  #obey(flow: number, direction: number, action: PolicyRule["action"], rule: PolicyRule | undefined): number {
    switch (action) {
      case "allow":
        if (rule?.limit !== undefined) this.shaper.start(flow, rule.limit)
        return ALLOWED
      case "redirect": {
        const target = rule!.redirect!
        if (rule!.limit !== undefined) this.shaper.start(flow, rule!.limit)
        return this.#redirect(flow, direction, target.address, target.port) ? REDIRECTED : REFUSED
      }
      case "ask":
        return this.#askFunction(flow, direction, rule)
      case "refuse":
        this.#tell[flow] = tellOf(rule?.refuseWith)
        if (this.#onDecision !== undefined) this.#report(flow, this.#question(flow, direction, rule), REFUSED)
        return REFUSED
      default:
        if (this.#onDecision !== undefined) this.#report(flow, this.#question(flow, direction, rule), DROPPED)
        return DROPPED
    }
  }

  #askFunction(flow: number, direction: number, rule: PolicyRule | undefined): number {
    const decide = this.#decide
    this.ruleOf[flow] = BY_FUNCTION
    if (decide === undefined) return REFUSED
    const question = this.#question(flow, direction, rule)
    let answer: Decision | Promise<Decision>
    try {
      answer = decide(question)
    } catch (error) {
      this.#failed("threw", error)
      return REFUSED
    }
    if (typeof answer === "object" && answer !== null && "then" in answer) {
      const waiting = { question }
      this.#waiting.set(flow, waiting)
      // Not `answer.then`: a program's own thenable may throw, or have a `then` that is none.
      Promise.resolve(answer).then(
        (decision) => this.#answered(flow, waiting, decision),
        (error: unknown) => {
          if (this.#waiting.get(flow) !== waiting) return
          this.#failed("rejected its promise", error)
          this.#settle(flow, question, REFUSED)
        },
      )
      return WAITING
    }
    const verdict = this.#take(flow, question, answer)
    this.#report(flow, question, verdict)
    return verdict
  }

  #answered(flow: number, waiting: Waiting, decision: Decision): void {
    // Late: the deadline has passed, the flow has ended, its row may be another's.
    if (this.#waiting.get(flow) !== waiting) {
      if (typeof decision === "object" && decision !== null && "socket" in decision) this.#closeSocket(decision.socket)
      return
    }
    this.#settle(flow, waiting.question, this.#take(flow, waiting.question, decision))
  }

  /** A flow that has waited goes on. */
  #settle(flow: number, question: FlowQuestion, verdict: number): void {
    this.#waiting.delete(flow)
    this.#ctx.timers.disarm(flow)
    this.#note(flow, verdict)
    this.relays.goesOn(flow)
    this.#report(flow, question, verdict)
    this.onSettled(flow)
    this.#held.take(flow)
  }

  /** Does what the function has answered. @returns the verdict */
  #take(flow: number, question: FlowQuestion, decision: Decision): number {
    const direction = question.direction === "out" ? DIRECTION_OUT : DIRECTION_IN
    const problem = problemOf(decision)
    if (problem !== "") {
      this.#failed(`answered with ${problem}`, undefined)
      return REFUSED
    }
    const full: Exclude<Decision, string> = typeof decision === "string" ? { action: decision } : decision
    if (full.label !== undefined) this.#labels.set(flow, full.label)
    if ("limit" in full && full.limit !== undefined) this.shaper.start(flow, full.limit)
    switch (full.action) {
      case "allow":
        return ALLOWED
      case "drop":
        return DROPPED
      case "refuse":
        this.#tell[flow] = tellOf("with" in full ? full.with : undefined)
        return REFUSED
      default:
    }
    if ("socket" in full) {
      if (this.#takesSocket(flow, direction)) {
        this.#sockets.set(flow, full.socket)
        return REDIRECTED
      }
      this.#failed("answered with a socket for a flow that can't have one", undefined)
      this.#closeSocket(full.socket)
      return REFUSED
    }
    const address = typeof full.address === "string" ? parse(full.address)! : (full.address ?? null)
    if (this.#redirect(flow, direction, address, full.port ?? 0)) return REDIRECTED
    this.#failed("answered with a redirection that is not possible for this flow", undefined)
    return REFUSED
  }

  #takesSocket(flow: number, direction: number): boolean {
    return direction === DIRECTION_OUT && this.#ctx.words[(flow << FLOW_SHIFT) + KIND] === KIND_TCP
  }

  /** The connected socket that an allowed flow is to use; it is the caller's from now on. @returns -1: it has none */
  takeSocket(flow: number): number {
    const socket = this.#sockets.get(flow)
    if (socket === undefined) return -1
    this.#sockets.delete(flow)
    return socket
  }

  #closeSocket(socket: number): void {
    if (socket >= 0) this.#ctx.kernel.close(socket)
  }

  /** Puts another target into a flow's row. @returns false: not possible for this one */
  #redirect(flow: number, direction: number, address: Int32Array | null, port: number): boolean {
    const w = this.#ctx.words
    const base = flow << FLOW_SHIFT
    const kind = w[base + KIND]!
    if (kind === KIND_GROUP) return false
    const isSplice = isSplicedKind(kind)
    const target = base + (isSplice || direction === DIRECTION_IN ? GUEST : PEER)
    const family = isSplice || direction === DIRECTION_IN ? GUEST_FAMILY : HOST_FAMILY
    if (address !== null) {
      if (!isUnicast(address, 0)) return false
      // The guest's end has its family; and an echo request of one family has no socket of the other.
      const fixed = kind === KIND_PING || (direction === DIRECTION_IN && !isSplice)
      if (fixed && isMapped(address, 0) !== isMapped(w, target)) return false
      copy(w, target, address, 0)
      w[target + SCOPE] = 0
      w[base + family] = isMapped(address, 0) ? 4 : 6
    }
    if (port !== 0 && kind !== KIND_PING) w[target + PORT] = port
    return true
  }

  #question(flow: number, direction: number, rule: PolicyRule | undefined): FlowQuestion {
    const w = this.#ctx.words
    const base = flow << FLOW_SHIFT
    const kind = w[base + KIND]!
    const isSplice = isSplicedKind(kind)
    const isTcp = kind === KIND_TCP || kind === KIND_TCP_SPLICE
    return {
      flow,
      protocol: PROTOCOLS[isTcp ? PROTOCOL_TCP : kind === KIND_PING ? PROTOCOL_ICMP : PROTOCOL_UDP]!,
      kind: isSplice ? "splice" : kind === KIND_GROUP ? "group" : "link",
      direction: direction === DIRECTION_OUT ? "out" : "in",
      guest: endOf(w, base + (this.#remote === base + GUEST ? PEER : GUEST)),
      remote: endOf(w, this.#remote),
      far: isSplice ? null : endOf(w, base + FAR),
      port: this.#port,
      names: this.#names.map(nameOf),
      rule,
    }
  }

  #report(flow: number, question: FlowQuestion, verdict: number): void {
    if (this.#onDecision === undefined || verdict === ALLOWED || verdict === WAITING) return
    this.#onDecision(question, VERDICT_NAMES[verdict]!, this.describe(flow).label ?? undefined)
  }

  #failed(how: string, error: unknown): void {
    this.#ctx.count(COUNTER.policyFailures)
    const why = error === undefined ? "" : `: ${error instanceof Error ? error.message : String(error)}`
    this.#ctx.log("error", "policy-function", `The policy's function ${how}${why}; the flow is refused`)
  }

  /** A flow waits: from now on until its deadline. Its row is in an index. */
  wait(flow: number): void {
    this.#ctx.timers.arm(flow, (this.#ctx.now + this.#deadlineMs) | 0)
  }

  /** Keeps the row of a flow that must not be, so that what follows is known. @returns false: there are too many such, the caller retires it */
  remember(flow: number): boolean {
    if (this.#remembered >= REMEMBERED_MAX) return false
    this.#remembered++
    this.#kept[flow] = 1
    this.#ctx.timers.arm(flow, (this.#ctx.now + REMEMBER_MS) | 0)
    return true
  }

  /** How a refusal is to be told: TELL_…. */
  tellOf(flow: number): number {
    return this.#tell[flow]!
  }

  /** The timer of a flow that is not open. */
  timer(flow: number): void {
    const waiting = this.#waiting.get(flow)
    if (waiting === undefined) {
      this.#ctx.retire(flow, false)
      return
    }
    this.#failed(`has not answered within ${this.#deadlineMs} ms`, undefined)
    this.#settle(flow, waiting.question, REFUSED)
  }

  /** A row ends. @returns whether it was a flow that had begun */
  ended(flow: number): boolean {
    const verdict = this.verdicts[flow]!
    this.verdicts[flow] = NONE
    this.shaper.end(flow)
    if (this.relays.used > 0) this.relays.release(flow)
    if (this.#labels.size > 0) this.#labels.delete(flow)
    if (this.#flowNames.size > 0) this.#flowNames.delete(flow)
    if (verdict < WAITING) {
      if (this.#sockets.size > 0) this.#closeSocket(this.takeSocket(flow))
      return true
    }
    if (verdict === WAITING) {
      this.#waiting.delete(flow)
      this.#held.take(flow)
    } else if (this.#kept[flow] !== 0) {
      this.#kept[flow] = 0
      this.#remembered--
    }
    return false
  }

  /** Work that needs no exact time. */
  sweep(): void {
    this.relays.sweep((flow) => this.verdicts[flow] === WAITING)
  }

  /** Frames of a flow that has no socket: kept while it waits, else dropped. */
  blocked(flow: number): void {
    const ctx = this.#ctx
    const { frames } = ctx
    const waits = this.verdicts[flow] === WAITING
    for (let row = ctx.words[(flow << FLOW_SHIFT) + BATCH_HEAD]!; row >= 0; row = frames.next[row]!) {
      if (!waits || !this.#hold(flow, row, 0, frames.payload[row]! + frames.payloadLength[row]!)) {
        ctx.count(COUNTER.dropPolicy)
      }
    }
  }

  /** Keeps the payload of a datagram from the host's side, which lies in a row. */
  holdPayload(flow: number, row: number): void {
    if (this.verdicts[flow] === WAITING) {
      const { payload, payloadLength } = this.#ctx.frames
      if (this.#hold(flow, row, payload[row]!, payload[row]! + payloadLength[row]!)) return
    }
    this.#ctx.count(COUNTER.dropPolicy)
  }

  #hold(flow: number, row: number, from: number, end: number): boolean {
    const { frames } = this.#ctx
    const start = frames.offset[row]!
    // Payload that is not here is data of a connection that is not there yet.
    if ((frames.flags[row]! & FRAME_ELSEWHERE) !== 0) return false
    return this.#held.add(flow, {
      bytes: frames.arena.slice(start + from, start + end),
      transport: frames.checksumStart[row]!,
      payload: frames.payload[row]!,
      payloadLength: frames.payloadLength[row]!,
      hopLimit: frames.hopLimit[row]!,
      flags: frames.flags[row]!,
      segmentSize: frames.segmentSize[row]!,
    })
  }

  /** Hands what was kept of the guest's frames to the flow's protocol, as batches of one. */
  replayFrames(flow: number, protocol: Protocol): void {
    const ctx = this.#ctx
    const { frames, link, words } = ctx
    const base = flow << FLOW_SHIFT
    for (const held of this.#held.take(flow)) {
      // A row that is reserved and never committed is free again with the next one.
      if (words[base + FD]! < 0 || link.reserveRows(1, held.bytes.length) === 0) {
        ctx.count(COUNTER.dropPolicy)
        continue
      }
      const row = link.reservedRow
      frames.arena.set(held.bytes, frames.offset[row])
      frames.length[row] = held.bytes.length
      frames.checksumStart[row] = held.transport
      frames.payload[row] = held.payload
      frames.payloadLength[row] = held.payloadLength
      frames.flags[row] = held.flags
      frames.segmentSize[row] = held.segmentSize
      frames.next[row] = -1
      words[base + BATCH_HEAD] = row
      words[base + BATCH_TAIL] = row
      protocol.fromGuest(flow)
      words[base + BATCH_HEAD] = -1
      words[base + BATCH_TAIL] = -1
    }
  }

  /** Puts what was kept of datagrams from the host's side into rows, one after the other.
   * @param header bytes to leave in front @param emit gets the row */
  replayPayloads(flow: number, header: number, emit: (row: number) => void): void {
    const ctx = this.#ctx
    const { frames, link } = ctx
    for (const held of this.#held.take(flow)) {
      if (link.reserveRows(1, header + held.bytes.length) === 0) {
        ctx.count(COUNTER.dropPolicy)
        continue
      }
      const row = link.reservedRow
      frames.arena.set(held.bytes, frames.offset[row]! + header)
      frames.payload[row] = header
      frames.payloadLength[row] = held.bytes.length
      frames.hopLimit[row] = held.hopLimit
      emit(row)
    }
  }

  /** What was decided against flows is asked about anew. */
  #forgetRefused(): void {
    const ctx = this.#ctx
    for (let flow = 0; flow < ctx.flows.highWater && this.#remembered > 0; flow++) {
      if (this.#kept[flow] !== 0) ctx.retire(flow, false)
    }
  }
}

/** Somebody has thought of this port, or it is refused anyway. */
function isAboutPort(rule: PolicyRule): boolean {
  return rule.ports !== undefined || rule.action === "refuse" || rule.action === "drop"
}

function known(name: string): KnownName {
  return { name, until: 0, buckets: [], matcher: undefined }
}

const NO_NAMES: readonly KnownName[] = []

function nameOf({ name }: KnownName): string {
  return name
}

function endOf(w: Int32Array, at: number): FlowEnd {
  return { address: format(w, at), port: w[at + PORT]! }
}

function tellOf(how: RefuseWith | undefined): number {
  switch (how) {
    case "reset":
      return TELL_RESET
    case "port-unreachable":
      return TELL_PORT
    case "prohibited":
      return TELL_PROHIBITED
    default:
      return TELL_USUAL
  }
}

function count(ctx: Context, verdict: number): void {
  if (verdict === ALLOWED) ctx.count(COUNTER.policyAllowed)
  else if (verdict === REDIRECTED) ctx.count(COUNTER.policyRedirected)
  else if (verdict === REFUSED) ctx.count(COUNTER.policyRefused)
  else if (verdict === DROPPED) ctx.count(COUNTER.policyDropped)
}

/** @returns what is wrong with an answer, empty: nothing */
function problemOf(decision: unknown): string {
  if (decision === "allow" || decision === "refuse" || decision === "drop") return ""
  if (typeof decision !== "object" || decision === null) return String(decision)
  const { action, address, port, socket, label, limit } = decision as Record<string, unknown>
  if (label !== undefined && typeof label !== "string") return "a label that is no text"
  if (limit !== undefined && !isLimit(limit)) return "a limit that is none"
  if (action === "allow" || action === "refuse" || action === "drop") return ""
  if (action !== "redirect") return `the action ${String(action)}`
  if (socket !== undefined) return Number.isInteger(socket) && (socket as number) >= 0 ? "" : "a socket that is none"
  if (address === undefined && port === undefined) return "a redirection to nowhere"
  if (typeof address === "string" ? parse(address) === undefined : address !== undefined && !isWords(address)) {
    return "an address that is none"
  }
  return port === undefined || (Number.isInteger(port) && (port as number) >= 1 && (port as number) <= 0xffff)
    ? ""
    : `the port ${String(port)}`
}

function isLimit(limit: unknown): boolean {
  if (typeof limit !== "object" || limit === null) return false
  const { bytesPerSecond, burstBytes } = limit as Record<string, unknown>
  return isRate(bytesPerSecond) && (burstBytes === undefined || isRate(burstBytes))
}

function isRate(rate: unknown): boolean {
  return typeof rate === "number" && rate >= RATE_MIN && rate <= RATE_MAX
}

function isWords(address: unknown): boolean {
  return address instanceof Int32Array && address.length === 4
}
