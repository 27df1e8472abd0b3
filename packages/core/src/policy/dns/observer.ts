/**
 * The guest's conversation with its resolvers, overheard: answers are remembered before the guest has them, so that what it does next can be
 * judged by name; queries and answers that must not be become refusals.
 *
 * Only resolvers that the guest was told are believed, and only over the sockets that are connected to them: datagrams in the rows that they
 * travel in, streams by way of a relay (relay.ts). Other ways to ask (another resolver, DNS over TLS) are refused as long as names matter,
 * unless a rule with that port says otherwise: what is not seen can't be judged.
 */
import type { Context } from "../../context.ts"
import { BATCH_HEAD, FAR, FLOW_SHIFT, KIND, KIND_TCP, PORT } from "../../flow/table.ts"
import { FRAME_SEGMENT_UDP } from "../../frames.ts"
import { COUNTER } from "../../stats.ts"
import { datagramHeaderLength, emitDatagram } from "../../udp/to-guest.ts"
import { equal, isLinkLocal, isLoopback, isMapped, isUnicast, read6, setMapped } from "../../wire/address.ts"
import type { Matcher } from "../matcher.ts"
import type { RuleSet } from "../rule.ts"
import { NameMemory } from "./memory.ts"
import { readAnswer, readQuery, refuse } from "./message.ts"

export const PORT_DNS = 53
/** DNS over TLS, and over QUIC: RFC 7858, RFC 9250. */
export const PORT_DNS_TLS = 853

/** What `judgeQuery` says of messages that go on, and of those that are none, or can't be read. */
export const MAY_BE_ASKED = 0
export const NO_QUERY = -1

export class DnsObserver {
  readonly memory: NameMemory = new NameMemory()
  /** Whether there is a reason to look at all. */
  isActive = false
  /** Resolvers that the guest was told. */
  resolvers: readonly Int32Array[] = []
  readonly #ctx: Context
  #matcher: Matcher
  #onlyAllowed = false
  #refusePrivate = false
  /** Whether what no pattern is about may be asked for. */
  #defaultAllows = true
  #allowed = new Set<string>()
  #refused = new Set<string>()
  readonly #address: Int32Array = new Int32Array(4)
  /** A clock that does not wrap, milliseconds. */
  #time = 0
  #last = 0

  constructor(ctx: Context, matcher: Matcher) {
    this.#ctx = ctx
    this.#matcher = matcher
    this.#last = ctx.now
  }

  load(set: RuleSet, matcher: Matcher): void {
    this.#matcher = matcher
    this.#onlyAllowed = set.dns?.onlyAllowedNames === true
    this.#refusePrivate = set.dns?.refusePrivateAnswers === true
    this.isActive = matcher.hasNames || set.dns !== undefined
    this.#defaultAllows = set.default === "allow"
    this.#allowed = new Set()
    this.#refused = new Set()
    for (const { action, names } of set.rules) {
      const patterns = action === "refuse" || action === "drop" ? this.#refused : this.#allowed
      for (const name of names ?? []) patterns.add(name)
    }
  }

  now(): number {
    const { now } = this.#ctx
    this.#time += (now - this.#last) >>> 0
    this.#last = now
    return this.#time
  }

  /** Whether the far end of a flow is a resolver that is believed. */
  isTrusted(base: number): boolean {
    const w = this.#ctx.words
    return this.resolvers.some((address) => equal(w, base + FAR, address, 0))
  }

  /** Whether a flow is a conversation that is to be overheard. @param base of its row */
  overhears(base: number): boolean {
    const w = this.#ctx.words
    return this.hears(w[base + KIND] === KIND_TCP) && w[base + FAR + PORT] === PORT_DNS && this.isTrusted(base)
  }

  /** Whether conversations of this kind can be overheard. */
  hears(isTcp: boolean): boolean {
    return !isTcp || this.#ctx.kernel.relay !== undefined
  }

  /** Judges a message of the guest. @returns MAY_BE_ASKED, NO_QUERY, or where the question ends that is to be answered by a refusal; the
   * last two are counted */
  judgeQuery(d: DataView, start: number, end: number): number {
    if (!this.#onlyAllowed) return MAY_BE_ASKED
    const query = readQuery(d, start, end)
    if (query !== undefined && this.mayAsk(query.name)) return MAY_BE_ASKED
    this.#ctx.count(COUNTER.policyNamesRefused)
    return query === undefined ? NO_QUERY : query.end
  }

  /** Looks at an answer that the guest does not have yet; may make it another. @returns its length */
  judgeAnswer(d: DataView, start: number, end: number): number {
    const ctx = this.#ctx
    const answer = readAnswer(d, start, end)
    if (answer === undefined) return end - start
    const a = this.#address
    // What is not looked at may be anything.
    let isRefused = this.#refusePrivate && answer.isCut
    for (const { at, length } of answer.addresses) {
      this.#read(d, at, length)
      if (this.#refusePrivate && isPrivate(a)) isRefused = true
    }
    if (isRefused) {
      ctx.count(COUNTER.policyAnswersRefused)
      return refuse(d, start, answer.question.end)
    }
    const now = this.now()
    for (const { at, length, ttl } of answer.addresses) {
      this.#read(d, at, length)
      // Nodes that can't be connected to have no use for a name; nor have those of IPv4 in the clothes of IPv6.
      if (!isUnicast(a, 0) || (length === 16 && isMapped(a, 0))) continue
      for (const name of answer.names) this.memory.learn(name, a, 0, ttl, now, this.#matcher)
    }
    return end - start
  }

  /** Whether the guest may ask for a name. */
  mayAsk(name: string): boolean {
    if (!this.#onlyAllowed) return true
    if (holds(this.#allowed, name)) return true
    return this.#defaultAllows && !holds(this.#refused, name)
  }

  /** Looks at queries of the guest, the batch of a flow: what it must not ask for is answered here, and taken out.
   * @returns whether anything is left */
  filterQueries(flow: number): boolean {
    if (!this.#onlyAllowed) return true
    const ctx = this.#ctx
    const { frames, words } = ctx
    const head = (flow << FLOW_SHIFT) + BATCH_HEAD
    let previous = -1
    for (let row = words[head]!; row >= 0;) {
      const next = frames.next[row]!
      const start = frames.offset[row]! + frames.payload[row]!
      const end = start + frames.payloadLength[row]!
      // Several in one would have to be taken apart; no resolver's client sends such.
      const isOne = (frames.flags[row]! & FRAME_SEGMENT_UDP) === 0
      const verdict = isOne ? this.judgeQuery(ctx.view, start, end) : NO_QUERY
      if (verdict === MAY_BE_ASKED) {
        previous = row
      } else {
        if (previous < 0) words[head] = next
        else frames.next[previous] = next
        if (!isOne) ctx.count(COUNTER.policyNamesRefused)
        if (verdict !== NO_QUERY) this.#answerRefused(flow, start, verdict)
      }
      row = next
    }
    return words[head]! >= 0
  }

  #answerRefused(flow: number, start: number, end: number): void {
    const ctx = this.#ctx
    const { frames, link } = ctx
    const header = datagramHeaderLength(ctx.words, flow << FLOW_SHIFT)
    const row = link.reserve(header + end - start)
    if (row < 0) {
      ctx.count(COUNTER.dropNoRoom)
      return
    }
    const to = frames.offset[row]! + header
    frames.arena.copyWithin(to, start, end)
    frames.payload[row] = header
    frames.payloadLength[row] = refuse(ctx.view, to, to + end - start)
    frames.hopLimit[row] = 0
    emitDatagram(ctx, flow, row)
  }

  /** Looks at an answer, which lies in a row and has not been sent yet; may make it another. */
  observe(row: number): void {
    const { frames, view } = this.#ctx
    const start = frames.offset[row]! + frames.payload[row]!
    frames.payloadLength[row] = this.judgeAnswer(view, start, start + frames.payloadLength[row]!)
  }

  #read(d: DataView, at: number, length: number): void {
    if (length === 4) setMapped(this.#address, 0, d.getInt32(at))
    else read6(this.#address, 0, d, at)
  }
}

/** Whether a set of patterns is about a name. */
function holds(patterns: ReadonlySet<string>, name: string): boolean {
  if (patterns.size === 0) return false
  if (patterns.has(name) || patterns.has("*")) return true
  for (let dot = name.indexOf("."); dot >= 0; dot = name.indexOf(".", dot + 1)) {
    if (patterns.has(`*${name.slice(dot)}`)) return true
  }
  return false
}

/** Addresses that no name of the world outside leads to: of this host, of its links, of private networks (RFC 6890). */
function isPrivate(a: Int32Array): boolean {
  if (!isUnicast(a, 0) || isLoopback(a, 0) || isLinkLocal(a, 0)) return true
  if (!isMapped(a, 0)) {
    // fc00::/7 (RFC 4193); ::/96, and 64:ff9b:1::/48 (RFC 8215).
    return a[0]! >>> 25 === 0x7e || (a[0] === 0 && a[1] === 0) || (a[0] === 0x0064ff9b && a[1]! >>> 16 === 1)
  }
  const v = a[3]! >>> 0
  // 0/8, 10/8, 100.64/10, 172.16/12, 192.168/16.
  return v >>> 24 === 0 || v >>> 24 === 10 || v >>> 22 === 0x191 || v >>> 20 === 0xac1 || v >>> 16 === 0xc0a8
}
