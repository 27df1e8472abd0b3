/**
 * A TCP endpoint of the guest: small but whole (RFC 9293; RFC 7323 window scale; RFC 5681 fast retransmit, delayed
 * acknowledgements; RFC 6298 timer; RFC 5961 resets), with an application that sends and reads a known stream.
 */
import * as tcp from "../wire/tcp.ts"
import type { Clock } from "./clock.ts"
import { mismatch, pattern } from "./pattern.ts"
import { extent, type Segment } from "./segment.ts"

export interface GuestScript {
  readonly id: number
  /** Bytes that the guest's application sends. */
  readonly bytes: number
  /** When it closes its direction: after its last byte, or only when it has seen the end of the peer's stream. */
  readonly closes: "after-send" | "after-eof"
  /** Bytes that it reads every `readInterval` microseconds; 0: none. */
  readonly readChunk: number
  readonly readInterval: number
  readonly buffer: number
  /** Announced; -1: no option. */
  readonly mss: number
  readonly scale: number
  /** It resets the connection when it has received this much; -1: never. */
  readonly resetAfter: number
  readonly delayedAck: boolean
  /** Length of a segment that could carry `bytes`: 1 to `bytes`. */
  readonly cut: (bytes: number) => number
}

export const QUIET_GUEST: GuestScript = {
  id: 0,
  bytes: 0,
  closes: "after-eof",
  readChunk: 1 << 20,
  readInterval: 50,
  buffer: 1 << 16,
  mss: 1460,
  scale: 7,
  resetAfter: -1,
  delayedAck: false,
  cut: (bytes) => bytes,
}

const RTO_MIN = 200_000
const RTO_MAX = 60_000_000
const DELAYED_ACK = 40_000
const TIME_WAIT = 60_000_000
/** Retransmissions before the guest gives up. */
const RETRIES_MAX = 15
const NOTHING: Uint8Array = new Uint8Array(0)

export type GuestState = "closed" | "syn-sent" | "syn-received" | "established" | "time-wait"

export interface Ends {
  readonly local: Int32Array
  readonly remote: Int32Array
  readonly localPort: number
  readonly remotePort: number
}

export class GuestTcp {
  readonly ends: Ends
  readonly script: GuestScript
  state: GuestState = "closed"
  /** How it ended: by two FINs, by a reset from outside, by its own, by giving up. */
  outcome: "open" | "done" | "reset" | "aborted" | "gave-up" = "open"
  /** Sending side. */
  readonly iss: number
  una: number
  nxt: number
  max: number
  window = 0
  /** Bytes per segment to the peer. */
  mss = 536
  peerMss = -1
  peerScale = -1
  /** Receiving side. */
  irs = 0
  rcv = 0
  edge = 0
  /** Bytes that arrived in order, and that the application has read. */
  received = 0
  consumed = 0
  eof = false
  /** Counted for tests. */
  retransmissions = 0
  fastRetransmissions = 0
  resetsHeard = 0
  readonly #clock: Clock
  readonly #emit: (s: Segment) => void
  readonly #violation: (what: string) => never
  /** Beyond a hole: pairs of stream positions, sorted. */
  #ahead: [number, number][] = []
  #finAt = -1
  #cwnd = 10
  #duplicates = 0
  #recover: number
  #recovering = false
  #retries = 0
  #timer = 0
  #timerRunning = false
  #ackTimer = 0
  #unacked = 0
  #readDue = false
  #finSent = false

  constructor(
    ends: Ends,
    script: GuestScript,
    iss: number,
    clock: Clock,
    emit: (s: Segment) => void,
    violation: (what: string) => never,
  ) {
    this.ends = ends
    this.script = script
    this.iss = iss | 0
    this.una = this.iss
    this.nxt = this.iss
    this.max = this.iss
    this.#recover = this.iss
    this.#clock = clock
    this.#emit = emit
    this.#violation = violation
  }

  get open(): boolean {
    return this.state === "syn-sent" || this.state === "syn-received" || this.state === "established"
  }

  /** Position in its own stream of a sequence number. */
  #position(sequence: number): number {
    return (sequence - this.iss - 1) | 0
  }

  connect(): void {
    this.state = "syn-sent"
    this.nxt = (this.iss + 1) | 0
    this.max = this.nxt
    this.#sendSyn()
    this.#arm()
  }

  #sendSyn(): void {
    const { mss, scale } = this.script
    const answer = this.state === "syn-received"
    const window = Math.min(this.script.buffer, 0xffff)
    if (answer) this.edge = (this.rcv + window) | 0
    this.#emit({
      source: this.ends.local,
      destination: this.ends.remote,
      sourcePort: this.ends.localPort,
      destinationPort: this.ends.remotePort,
      sequence: this.iss,
      acknowledgement: answer ? this.rcv : 0,
      flags: answer ? tcp.SYN | tcp.ACK : tcp.SYN,
      window,
      mss,
      scale,
      payload: NOTHING,
    })
  }

  get #scaled(): boolean {
    return this.script.scale >= 0 && this.peerScale >= 0
  }

  #send(sequence: number, flags: number, payload: Uint8Array): void {
    const scale = this.#scaled ? this.script.scale : 0
    const free = this.script.buffer - (this.received - this.consumed)
    let edge = (this.rcv + Math.max(0, free)) | 0
    const least = Math.min(this.script.mss > 0 ? this.script.mss : 536, this.script.buffer >> 1)
    // Never back; and never by less than it is worth.
    if (((edge - this.edge) | 0) < least) edge = this.edge
    const wide = (edge - this.rcv) | 0
    const field = wide <= 0 ? 0 : Math.min(0xffff, (wide + (1 << scale) - 1) >> scale)
    const seen = (this.rcv + (field << scale)) | 0
    if (((seen - this.edge) | 0) > 0) this.edge = seen
    this.#unacked = 0
    this.#ackTimer++
    this.#emit({
      source: this.ends.local,
      destination: this.ends.remote,
      sourcePort: this.ends.localPort,
      destinationPort: this.ends.remotePort,
      sequence,
      acknowledgement: this.rcv,
      flags: flags | tcp.ACK,
      window: field,
      mss: -1,
      scale: -1,
      payload,
    })
  }

  /** An acknowledgement and nothing else. */
  acknowledge(): void {
    this.#send(this.max, 0, NOTHING)
  }

  /** Sends what the windows allow. */
  #transmit(): void {
    if (this.state !== "established") return
    const { bytes, closes } = this.script
    for (;;) {
      const position = this.#position(this.nxt)
      const inFlight = (this.nxt - this.una) | 0
      const limit = Math.min(this.window, this.#cwnd * this.mss)
      if (position < bytes) {
        const room = limit - inFlight
        let length = Math.min(this.mss, bytes - position, room)
        if (length <= 0 || (length < this.mss && length < bytes - position && inFlight > 0)) break
        length = this.script.cut(length)
        const fin = position + length === bytes && closes === "after-send" && room > length
        this.#data(position, length, fin)
        continue
      }
      if (position === bytes && (closes === "after-send" || this.eof)) {
        this.#finSent = true
        this.#send(this.nxt, tcp.FIN, NOTHING)
        this.#advance((this.nxt + 1) | 0)
      }
      break
    }
    const waiting = this.#position(this.una) < bytes || ((this.max - this.una) | 0) > 0
    if (waiting) this.#arm()
  }

  #data(position: number, length: number, fin: boolean): void {
    const again = ((this.nxt - this.max) | 0) < 0
    if (again) this.retransmissions++
    if (fin) this.#finSent = true
    this.#send(
      this.nxt,
      (fin ? tcp.FIN : 0) | (position + length === this.script.bytes ? tcp.PSH : 0),
      pattern(2 * this.script.id, position, length),
    )
    this.#advance((this.nxt + length + (fin ? 1 : 0)) | 0)
  }

  #advance(to: number): void {
    this.nxt = to
    if (((to - this.max) | 0) > 0) this.max = to
  }

  /** Starts the retransmission timer unless it runs. */
  #arm(): void {
    if (this.#timerRunning) return
    this.#timerRunning = true
    const mine = ++this.#timer
    this.#clock.after(Math.min(RTO_MAX, RTO_MIN * 2 ** this.#retries), () => {
      if (mine !== this.#timer || !this.#timerRunning) return
      this.#timerRunning = false
      this.#timeout()
    })
  }

  #disarm(): void {
    this.#timerRunning = false
    this.#timer++
  }

  #timeout(): void {
    if (!this.open) return
    if (++this.#retries > RETRIES_MAX) {
      this.#end("gave-up")
      return
    }
    this.retransmissions++
    if (this.state === "syn-sent" || this.state === "syn-received") {
      this.#sendSyn()
      this.#arm()
      return
    }
    if (this.window === 0 && this.una === this.nxt) {
      // RFC 9293 section 3.8.6.1; as Linux probes: an old number, no data.
      this.#send((this.una - 1) | 0, 0, NOTHING)
      this.#arm()
      return
    }
    this.#cwnd = 1
    this.#recovering = false
    this.#duplicates = 0
    this.#recover = this.max
    this.nxt = this.una
    if (this.window === 0) {
      // The window closed over what is in flight: one byte asks.
      const position = this.#position(this.una)
      if (position < this.script.bytes) this.#data(position, 1, false)
      this.nxt = this.una
      this.#arm()
      return
    }
    this.#transmit()
    this.#arm()
  }

  /** The application resets the connection. */
  abort(): void {
    if (!this.open) return
    this.#send(this.max, tcp.RST, NOTHING)
    this.#end("aborted")
  }

  /** It loses its memory of the connection, as if it had been started anew. */
  forget(): void {
    if (this.outcome === "open") this.#end("aborted")
  }

  #end(outcome: "done" | "reset" | "aborted" | "gave-up"): void {
    this.outcome = outcome
    this.#disarm()
    this.#ackTimer++
    if (outcome === "done") {
      this.state = "time-wait"
      this.#clock.after(TIME_WAIT, () => {
        this.state = "closed"
      })
    } else {
      this.state = "closed"
    }
  }

  /** A segment for this connection. @returns false if a reset is the answer */
  receive(s: Segment): boolean {
    const { flags } = s
    switch (this.state) {
      case "closed":
        return this.#listen(s)
      case "syn-sent":
        return this.#inSynSent(s)
      case "time-wait":
        if ((flags & tcp.FIN) !== 0) this.#send(this.max, 0, NOTHING)
        return true
      default:
        return this.#synchronized(s)
    }
  }

  /** An ICMP error quotes a SYN: while it connects, the end (as in Linux), if the number is ours (RFC 5927 section 4). */
  unreachable(quoted: Segment): void {
    if (this.state !== "syn-sent" || quoted.sequence !== this.iss) return
    this.resetsHeard++
    this.#end("reset")
  }

  #takeOptions(s: Segment): void {
    this.peerMss = s.mss
    this.peerScale = s.scale
    this.mss = Math.min(s.mss >= 0 ? s.mss : 536, this.script.mss > 0 ? this.script.mss : 536)
    this.irs = s.sequence
    this.rcv = (s.sequence + 1) | 0
    this.edge = (this.rcv + Math.min(this.script.buffer, 0xffff)) | 0
  }

  #listen(s: Segment): boolean {
    if (this.outcome !== "open" || (s.flags & tcp.RST) !== 0) return (s.flags & tcp.RST) !== 0
    if ((s.flags & (tcp.SYN | tcp.ACK)) !== tcp.SYN) return false
    this.#takeOptions(s)
    this.window = s.window
    this.state = "syn-received"
    this.nxt = (this.iss + 1) | 0
    this.max = this.nxt
    this.#sendSyn()
    this.#arm()
    return true
  }

  #inSynSent(s: Segment): boolean {
    const acknowledges = (s.flags & tcp.ACK) !== 0 && s.acknowledgement === this.nxt
    if ((s.flags & tcp.RST) !== 0) {
      if (acknowledges) {
        this.resetsHeard++
        this.#end("reset")
      }
      return true
    }
    if ((s.flags & tcp.ACK) !== 0 && !acknowledges) return false
    if ((s.flags & tcp.SYN) === 0 || !acknowledges) return true
    this.#takeOptions(s)
    this.una = this.nxt
    this.window = s.window
    this.#established()
    this.#send(this.nxt, 0, NOTHING)
    this.#transmit()
    return true
  }

  #established(): void {
    this.state = "established"
    this.#retries = 0
    this.#disarm()
  }

  #synchronized(s: Segment): boolean {
    const { flags } = s
    const first = (s.sequence - this.rcv) | 0
    const last = (first + extent(s)) | 0
    const wide = (this.edge - this.rcv) | 0
    if ((flags & tcp.RST) !== 0) {
      if (first === 0) {
        this.resetsHeard++
        this.#end("reset")
      } else if (first > 0 && first < wide) {
        this.acknowledge()
      }
      return true
    }
    if ((flags & tcp.SYN) !== 0) {
      if (this.state === "syn-received" && s.sequence === this.irs) this.#sendSyn()
      else if (this.state === "syn-received") return false
      else this.acknowledge()
      return true
    }
    if ((flags & tcp.ACK) === 0) return true
    // RFC 9293 section 3.10.7.4: out of the window.
    if (last < 0 || first > Math.max(0, wide) || (last === 0 && first < 0)) {
      this.acknowledge()
      if (first > Math.max(0, wide)) return true
    }
    if (this.state === "syn-received") {
      if (s.acknowledgement !== this.nxt) return false
      this.una = this.nxt
      this.#established()
    }
    if (((s.acknowledgement - this.max) | 0) > 0) {
      this.#violation(`acknowledges ${this.#position(s.acknowledgement)} bytes, sent were ${this.#position(this.max)}`)
    }
    this.#takeAck(s)
    if (!this.open) return true
    this.#takeData(s)
    if (this.open) this.#transmit()
    return true
  }

  #takeAck(s: Segment): void {
    const scale = this.#scaled ? this.peerScale : 0
    const window = s.window << scale
    const newer = (s.acknowledgement - this.una) | 0
    if (newer < 0) return
    if (newer > 0) {
      this.una = s.acknowledgement
      if (((this.una - this.nxt) | 0) > 0) this.nxt = this.una
      this.#retries = 0
      this.#duplicates = 0
      this.#cwnd = Math.min(1000, this.#cwnd + 1)
      this.#disarm()
      if (this.#recovering) {
        if (((this.una - this.#recover) | 0) >= 0) this.#recovering = false
        else this.#resendFirst()
      }
    } else if (
      s.payload.length === 0 &&
      (s.flags & tcp.FIN) === 0 &&
      window === this.window &&
      this.una !== this.max &&
      !this.#recovering
    ) {
      if (++this.#duplicates === 3) {
        this.#recovering = true
        this.#recover = this.max
        this.#cwnd = Math.max(2, this.#cwnd >> 1)
        this.fastRetransmissions++
        this.#resendFirst()
      }
    }
    if (window > 0 && this.window === 0) {
      this.#retries = 0
      this.#disarm()
    }
    this.window = window
    if (this.#finSent && this.una === this.max && this.#position(this.una) === this.script.bytes + 1 && this.eof) {
      this.#end("done")
    }
  }

  #resendFirst(): void {
    const position = this.#position(this.una)
    const { nxt } = this
    this.nxt = this.una
    if (position < this.script.bytes) {
      const length = Math.min(this.mss, this.script.bytes - position, Math.max(1, this.window))
      this.#data(position, this.script.cut(length), false)
    } else if (position === this.script.bytes) {
      this.#send(this.nxt, tcp.FIN, NOTHING)
      this.#advance((this.nxt + 1) | 0)
    }
    if (((nxt - this.nxt) | 0) > 0) this.nxt = nxt
    this.#arm()
  }

  #takeData(s: Segment): void {
    const from = (s.sequence - this.irs - 1) | 0
    // What lies beyond the window is not taken: a probe.
    const room = Math.max(0, (this.edge - s.sequence) | 0)
    const length = Math.min(s.payload.length, room)
    if (length > 0) {
      const wrong = mismatch(2 * this.script.id + 1, from, s.payload)
      if (wrong >= 0) this.#violation(`the byte at position ${from + wrong} is not the peer's`)
    }
    if (length < s.payload.length) {
      if (length === 0) {
        this.acknowledge()
        return
      }
    } else if ((s.flags & tcp.FIN) !== 0) {
      if (this.#finAt >= 0 && this.#finAt !== from + length) this.#violation("FIN at two positions")
      this.#finAt = from + length
    }
    if (extent(s) === 0) return
    const expected = this.received
    if (from > expected) {
      this.#keep(from, from + length)
      this.acknowledge()
      return
    }
    if (from + length > this.received) this.received = from + length
    while (this.#ahead.length > 0 && this.#ahead[0]![0] <= this.received) {
      this.received = Math.max(this.received, this.#ahead.shift()![1])
    }
    this.rcv = (this.irs + 1 + this.received + (this.eof ? 1 : 0)) | 0
    if (!this.eof && this.#finAt >= 0 && this.received === this.#finAt) {
      this.eof = true
      this.rcv = (this.rcv + 1) | 0
    }
    this.#expectRead()
    if (this.script.resetAfter >= 0 && this.received >= this.script.resetAfter) {
      this.abort()
      return
    }
    if (this.#finSent && this.una === this.max && this.#position(this.una) === this.script.bytes + 1 && this.eof) {
      this.acknowledge()
      this.#end("done")
      return
    }
    this.#unacked++
    const late = from + length <= expected || this.eof || this.#ahead.length > 0
    if (late || !this.script.delayedAck || this.#unacked >= 2) {
      this.acknowledge()
    } else {
      const mine = ++this.#ackTimer
      this.#clock.after(DELAYED_ACK, () => {
        if (mine === this.#ackTimer && this.open) this.acknowledge()
      })
    }
  }

  #keep(from: number, to: number): void {
    const ahead = this.#ahead
    ahead.push([from, to])
    ahead.sort((a, b) => a[0] - b[0])
    for (let i = 1; i < ahead.length;) {
      if (ahead[i]![0] <= ahead[i - 1]![1]) {
        ahead[i - 1]![1] = Math.max(ahead[i - 1]![1], ahead[i]![1])
        ahead.splice(i, 1)
      } else {
        i++
      }
    }
  }

  #expectRead(): void {
    if (this.#readDue || this.script.readChunk === 0 || this.consumed === this.received) return
    this.#readDue = true
    this.#clock.after(this.script.readInterval, () => {
      this.#readDue = false
      if (!this.open) return
      this.consumed = Math.min(this.received, this.consumed + this.script.readChunk)
      const free = this.script.buffer - (this.received - this.consumed)
      const open = (this.edge - this.rcv) | 0
      const worth = Math.min(2 * (this.script.mss > 0 ? this.script.mss : 536), this.script.buffer >> 1)
      if (free - open >= worth) this.acknowledge()
      this.#expectRead()
    })
  }
}
