/**
 * Connections to resolvers, overheard: DNS over TCP (RFC 1035 section 4.2.2, RFC 7766).
 *
 * ```
 *   guest ──▶ flow ──▶ end │ near ──▶ queries ──▶ judged ──▶ far ──▶ resolver
 *                 a pair of sockets ◀── judged ◀── answers ◀──
 * ```
 * The flow is one like any other: its socket has connected to the resolver, as if nobody listened, and so the guest hears what there is to
 * hear of that. Only then the socket is exchanged for one end of a pair, and what lies between the other end and the resolver is this:
 * two buffers, into which the streams are read, and out of which only whole messages go, that were judged where they lie. What is judged
 * is what is sent: the buffers are ours, and what the guest writes has gone through a socket before it is here.
 *
 * - The flow's own packets cost what those of any flow do: nothing asks whether it has a relay.
 * - Whoever does not read fills sockets of known size, and nothing else waits for that.
 * - A query that must not be asked becomes a refusal in its place, which goes back between two answers.
 * - A resolver that fails, or a guest that says nothing for IDLE_MS, ends the conversation (RFC 7766 section 6.2.3): the guest gets a FIN behind
 *   the last whole answer, and a reset if it holds on to its side.
 */
import { type Context, REF_FLOW, REF_RELAY, REF_SHIFT } from "../../context.ts"
import { EAGAIN } from "../../errno.ts"
import { FD, FLOW_SHIFT, STATE } from "../../flow/table.ts"
import type { RelayKernel } from "../../kernel.ts"
import { RELAY_BUFFER_BYTES, RELAY_MAX } from "../../limits.ts"
import { COUNTER } from "../../stats.ts"
import { LOCAL } from "../../tcp/state.ts"
import { type DnsObserver, MAY_BE_ASKED, NO_QUERY } from "./observer.ts"
import { refuse } from "./message.ts"

/** How long a connection may be without a message, and how long a guest may keep its side open after that, milliseconds. Servers of our
 * days wait for 10 to 30 seconds. */
export const IDLE_MS = 30_000
/** Messages, reads and writes of one relay in a turn. */
const STEPS_MAX = 256
/** Bytes in front of a message that tell its length. */
const PREFIX = 2

/** What a place is used for: nothing; a flow that may begin, or is connecting; two streams; a flow whose streams have ended. */
const FREE = 0
const TAKEN = 1
const OPEN = 2
const OVER = 3

/** Directions: what the guest asks, what the resolver says. */
const QUERIES = 0
const ANSWERS = 1
const NOBODY = -1

/** Of a direction. The stream has ended, or failed; and its end has been passed on. */
const ENDED = 1
const SHUT = 2
/** What comes is thrown away, for there is nobody to have it. */
const DISCARD = 4

export class DnsRelays {
  /** Ends a connection of the guest by a reset. Set by the engine. */
  onStuck: (flow: number) => void = () => {}
  /** Places in use. */
  used = 0
  readonly #ctx: Context
  readonly #dns: DnsObserver
  #kernel: RelayKernel | undefined
  #bytes: Uint8Array<ArrayBuffer> = new Uint8Array(0)
  #view: DataView<ArrayBuffer> = new DataView(this.#bytes.buffer)
  readonly #stage: Uint8Array = new Uint8Array(RELAY_MAX)
  readonly #flow: Int32Array = new Int32Array(RELAY_MAX).fill(-1)
  /** Our end of the pair, and the resolver's socket. */
  readonly #near: Int32Array = new Int32Array(RELAY_MAX).fill(-1)
  readonly #far: Int32Array = new Int32Array(RELAY_MAX).fill(-1)
  /** Of the last message, milliseconds. */
  readonly #active: Int32Array = new Int32Array(RELAY_MAX)
  /** Direction that has written a part of a message to the guest: the other must wait. */
  readonly #writer: Int8Array = new Int8Array(RELAY_MAX).fill(NOBODY)
  // The rest is of directions: twice the place, plus the direction.
  /** Where the bytes in a buffer begin, and how many there are. */
  readonly #start: Int32Array = new Int32Array(2 * RELAY_MAX)
  readonly #fill: Int32Array = new Int32Array(2 * RELAY_MAX)
  /** Bytes of the first message that are still to be sent, once it has been judged; and those behind them that are not. */
  readonly #due: Int32Array = new Int32Array(2 * RELAY_MAX)
  readonly #rest: Int32Array = new Int32Array(2 * RELAY_MAX)
  readonly #state: Uint8Array = new Uint8Array(2 * RELAY_MAX)
  /** Whether the first query has become a refusal. */
  readonly #isRefusal: Uint8Array = new Uint8Array(RELAY_MAX)

  constructor(ctx: Context, dns: DnsObserver) {
    this.#ctx = ctx
    this.#dns = dns
  }

  /** Gets the memory for all that may come, once there is a reason to listen. */
  prepare(): void {
    const { relay } = this.#ctx.kernel
    if (relay === undefined || this.#kernel !== undefined) return
    // Pages that are not used cost nothing.
    this.#bytes = new Uint8Array(new ArrayBuffer(2 * RELAY_MAX * RELAY_BUFFER_BYTES))
    this.#view = new DataView(this.#bytes.buffer)
    if (relay.attach(this.#bytes) >= 0) this.#kernel = relay
  }

  /** Takes a place for a flow that may be about to begin. @returns false: there is none left */
  take(flow: number): boolean {
    const place = this.#kernel === undefined ? -1 : this.#flow.indexOf(-1)
    if (place < 0) {
      this.#ctx.count(COUNTER.policyStreamsRefused)
      this.#ctx.log("warning", "dns-relays", "Too many connections to resolvers at a time, one more is refused")
      return false
    }
    this.#flow[place] = flow
    this.#stage[place] = TAKEN
    this.#active[place] = this.#ctx.now
    this.used++
    return true
  }

  /** A flow goes on after it has waited: its time begins. */
  goesOn(flow: number): void {
    const place = this.#flow.indexOf(flow)
    if (place >= 0) this.#active[place] = this.#ctx.now
  }

  /** A flow that may have a place has ended. */
  release(flow: number): void {
    const place = this.#flow.indexOf(flow)
    if (place < 0) return
    // As the guest did: all that it and the resolver had to say has been said, or not.
    if (this.#stage[place] === OPEN) this.#close(place, (this.#state[2 * place + ANSWERS]! & SHUT) === 0)
    this.#stage[place] = FREE
    this.#flow[place] = -1
    this.used--
  }

  /** The flow's socket is connected: from here on it is the relay's, and the flow has an end of a pair. @returns 0 or -errno */
  interpose(flow: number): number {
    const ctx = this.#ctx
    const w = ctx.words
    const base = flow << FLOW_SHIFT
    const place = this.#flow.indexOf(flow)
    const result = this.#kernel!.pair()
    if (result < 0) {
      ctx.count(COUNTER.dropNoFlow)
      ctx.log("warning", "dns-relay", "Can't open another socket, connection to the resolver refused")
      return result
    }
    const end = this.#kernel!.ends[0]!
    const near = this.#kernel!.ends[1]!
    const far = w[base + FD]!
    const ref = (REF_RELAY << REF_SHIFT) | place
    let watched = ctx.kernel.watch(end, (REF_FLOW << REF_SHIFT) | flow)
    if (watched >= 0) watched = ctx.kernel.watch(near, ref)
    // In place of the flow's: what has happened there is told once more.
    if (watched >= 0) watched = ctx.kernel.watch(far, ref)
    if (watched < 0) {
      ctx.kernel.close(end)
      ctx.kernel.close(near)
      return watched
    }
    w[base + FD] = end
    w[base + STATE] = w[base + STATE]! | LOCAL
    this.#stage[place] = OPEN
    this.#near[place] = near
    this.#far[place] = far
    this.#active[place] = ctx.now
    this.#writer[place] = NOBODY
    this.#isRefusal[place] = 0
    for (let i = 2 * place; i <= 2 * place + 1; i++) {
      this.#start[i] = i * RELAY_BUFFER_BYTES
      this.#fill[i] = 0
      this.#due[i] = 0
      this.#rest[i] = 0
      this.#state[i] = 0
    }
    ctx.count(COUNTER.policyStreams)
    return 0
  }

  /** Something has happened at a socket of a relay. */
  event(place: number): void {
    if (this.#stage[place] === OPEN) this.#run(place)
  }

  /** Once a second: conversations that have fallen silent end. @param waits whether a flow waits for the policy's function */
  sweep(waits: (flow: number) => boolean): void {
    if (this.used === 0) return
    const { now } = this.#ctx
    for (let place = 0; place < RELAY_MAX; place++) {
      const flow = this.#flow[place]!
      if (flow < 0 || ((now - this.#active[place]!) | 0) < IDLE_MS || waits(flow)) continue
      if (this.#stage[place] === OPEN && (this.#state[2 * place + ANSWERS]! & ENDED) === 0) {
        this.#giveUp(place)
        this.#run(place)
      } else {
        this.onStuck(flow)
      }
    }
  }

  /** The resolver's end is no good, or not wanted any more: what it has said goes to the guest, and a FIN behind it. */
  #giveUp(place: number): void {
    this.#ctx.count(COUNTER.policyStreamsGivenUp)
    this.#active[place] = this.#ctx.now
    this.#state[2 * place + ANSWERS] = this.#state[2 * place + ANSWERS]! | ENDED
    this.#discardQueries(place)
  }

  #discardQueries(place: number): void {
    this.#state[2 * place + QUERIES] = this.#state[2 * place + QUERIES]! | DISCARD
  }

  #run(place: number): void {
    for (let steps = 0; steps < STEPS_MAX; steps++) {
      const asked = this.#step(place, QUERIES)
      if (this.#stage[place] !== OPEN) return
      const answered = this.#step(place, ANSWERS)
      if (this.#stage[place] !== OPEN || (!asked && !answered)) return
    }
    // Others have their turn, and then this one is told again.
    const ref = (REF_RELAY << REF_SHIFT) | place
    this.#ctx.kernel.watch(this.#near[place]!, ref)
    this.#ctx.kernel.watch(this.#far[place]!, ref)
  }

  /** @returns whether there may be more to do in this direction */
  #step(place: number, direction: number): boolean {
    const i = 2 * place + direction
    const state = this.#state[i]!
    if ((state & SHUT) !== 0) return false
    if ((state & DISCARD) !== 0 && (this.#isRefusal[place] === 0 || this.#writer[place] !== QUERIES)) {
      this.#isRefusal[place] = 0
      this.#due[i] = 0
      this.#rest[i] = 0
      this.#fill[i] = 0
    }
    if (this.#due[i]! > 0) return this.#send(place, direction)
    const fill = this.#fill[i]!
    if (fill >= PREFIX) {
      const length = this.#view.getUint16(this.#start[i]!)
      if (fill >= PREFIX + length) {
        this.#active[place] = this.#ctx.now
        if (direction === QUERIES) this.#judgeQuery(place, i, length)
        else this.#judgeAnswer(i, length)
        return true
      }
    }
    return (state & ENDED) !== 0 ? this.#shut(place, direction) : this.#receive(place, direction)
  }

  #judgeQuery(place: number, i: number, length: number): void {
    const start = this.#start[i]!
    const message = start + PREFIX
    const verdict = this.#dns.judgeQuery(this.#view, message, message + length)
    if (verdict === NO_QUERY) {
      this.#consume(i, PREFIX + length)
      return
    }
    let kept = length
    if (verdict !== MAY_BE_ASKED) {
      kept = refuse(this.#view, message, verdict)
      this.#view.setUint16(start, kept)
      this.#isRefusal[place] = 1
    }
    this.#due[i] = PREFIX + kept
    this.#rest[i] = length - kept
  }

  #judgeAnswer(i: number, length: number): void {
    const start = this.#start[i]!
    const message = start + PREFIX
    const kept = this.#dns.judgeAnswer(this.#view, message, message + length)
    this.#view.setUint16(start, kept)
    this.#due[i] = PREFIX + kept
    this.#rest[i] = length - kept
  }

  #consume(i: number, bytes: number): void {
    this.#start[i] = this.#start[i]! + bytes
    this.#fill[i] = this.#fill[i]! - bytes
  }

  #send(place: number, direction: number): boolean {
    const i = 2 * place + direction
    const isToGuest = direction === ANSWERS || this.#isRefusal[place] !== 0
    if (isToGuest && this.#writer[place] !== NOBODY && this.#writer[place] !== direction) return false
    const fd = isToGuest ? this.#near[place]! : this.#far[place]!
    const sent = this.#kernel!.send(fd, this.#start[i]!, this.#due[i]!)
    if (sent < 0) {
      if (sent === -EAGAIN) return false
      // The flow's own end tells the guest's side what there is to tell.
      if (isToGuest) this.#close(place, true)
      // What the resolver has said is still to be read.
      else this.#discardQueries(place)
      return true
    }
    this.#consume(i, sent)
    this.#due[i] = this.#due[i]! - sent
    if (isToGuest) this.#writer[place] = direction
    if (this.#due[i]! > 0) return true
    this.#consume(i, this.#rest[i]!)
    this.#rest[i] = 0
    if (isToGuest) this.#writer[place] = NOBODY
    if (direction === QUERIES) this.#isRefusal[place] = 0
    return true
  }

  #receive(place: number, direction: number): boolean {
    const i = 2 * place + direction
    const first = i * RELAY_BUFFER_BYTES
    const end = first + RELAY_BUFFER_BYTES
    const fill = this.#fill[i]!
    if (fill === 0) {
      this.#start[i] = first
    } else if (this.#start[i]! + fill === end) {
      // Less than a message: there is room behind it then.
      this.#bytes.copyWithin(first, this.#start[i]!, end)
      this.#start[i] = first
    }
    const at = this.#start[i]! + fill
    const fd = direction === QUERIES ? this.#near[place]! : this.#far[place]!
    const got = this.#kernel!.receive(fd, at, end - at)
    if (got > 0) {
      this.#fill[i] = fill + got
    } else if (got === -EAGAIN) {
      return false
    } else if (got === 0) {
      this.#state[i] = this.#state[i]! | ENDED
    } else if (direction === QUERIES) {
      this.#close(place, true)
    } else {
      this.#giveUp(place)
    }
    return true
  }

  /** A stream has ended, and all of it has been passed on, but for a message without an end. */
  #shut(place: number, direction: number): boolean {
    const i = 2 * place + direction
    // A refusal is on its way to the guest.
    if (direction === ANSWERS && this.#writer[place] === QUERIES) return false
    this.#fill[i] = 0
    this.#state[i] = this.#state[i]! | SHUT
    this.#active[place] = this.#ctx.now
    this.#ctx.kernel.shutdownWrite(direction === QUERIES ? this.#far[place]! : this.#near[place]!)
    if (direction === ANSWERS) this.#discardQueries(place)
    if ((this.#state[2 * place]! & this.#state[2 * place + 1]! & SHUT) !== 0) this.#close(place, false)
    return true
  }

  /** Both streams have ended, or one in a way that leaves nothing to be said. @param reset whether the resolver is told so */
  #close(place: number, reset: boolean): void {
    const { kernel } = this.#ctx
    this.#stage[place] = OVER
    this.#active[place] = this.#ctx.now
    kernel.close(this.#near[place]!)
    if (reset) kernel.reset(this.#far[place]!)
    else kernel.close(this.#far[place]!)
    this.#near[place] = -1
    this.#far[place] = -1
  }
}
