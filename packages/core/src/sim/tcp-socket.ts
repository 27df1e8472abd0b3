/**
 * A TCP socket of the host with the peer behind it, as far as the engine can tell: queues as pairs of positions in
 * streams whose bytes are known (pattern.ts), events as epoll's edge-triggered mode reports them.
 */
import { EAGAIN, ECONNRESET, EINPROGRESS, EPIPE } from "../errno.ts"
import { EVENT_ERR, EVENT_HUP, EVENT_IN, EVENT_OUT, EVENT_PRI, EVENT_RDHUP } from "../kernel.ts"
import type { Clock } from "./clock.ts"
import type { SimError } from "./datagram-kernel.ts"
import { mismatch } from "./pattern.ts"
import type { PeerScript } from "./peer-script.ts"

/** Kernel memory for eight bytes of payload: nine. */
const OVERHEAD_SHIFT = 3

export class TcpSocket {
  readonly fd: number
  readonly family: number
  readonly active: boolean
  /** Event reference, -1: not watched. */
  ref = -1
  /** Whether something happened since the last report. */
  changed = false
  phase: "new" | "connecting" | "connected" | "failed" | "closed" = "new"
  /** Pending error, SO_ERROR. */
  error = 0
  keepalive = false
  /** Hop limits that it was told, in order. */
  readonly hopLimits: number[] = []
  /** Whether ICMP errors are queued, and those that are. */
  queuesErrors = false
  readonly errors: SimError[] = []
  /** From the peer: bytes that arrived, bytes thrown away. */
  arrived = 0
  consumed = 0
  /** Furthest byte that was ever read. */
  peeked = 0
  /** Bytes from `consumed` on that the next peek passes over; -1: peek offset not in use. */
  peekOffset = -1
  peerFin = false
  /** To the peer: bytes written, acknowledged by the peer's kernel, read by the peer. */
  written = 0
  acked = 0
  read = 0
  shut = false
  finAcked = false
  noSpace = false
  sendBuffer = 0
  /** The peer's receive buffer; round-trip time; delivery rate. */
  window = 0
  rtt = 0
  rate = -1
  /** Whether a write met EPIPE: what the guest sends from then on is lost. */
  broken = false
  /** Whether the peer saw a reset; the end of the guest's stream. */
  peerReset = false
  peerEof = false
  /** Whether the peer itself reset the connection. */
  resetByPeer = false
  readonly #clock: Clock
  readonly #onChange: () => void
  readonly #violation: (what: string) => never
  #script: PeerScript | undefined
  #failed = false
  #ackDue = false
  #readDue = false
  #sendDue = false

  constructor(
    fd: number,
    family: number,
    active: boolean,
    clock: Clock,
    onChange: () => void,
    violation: (what: string) => never,
  ) {
    this.fd = fd
    this.family = family
    this.active = active
    this.#clock = clock
    this.#onChange = onChange
    this.#violation = violation
  }

  get script(): PeerScript {
    return this.#script!
  }

  #begin(script: PeerScript): void {
    this.#script = script
    this.sendBuffer = script.sendBuffer
    this.window = script.window
    this.rtt = script.rtt
    this.rate = script.rate
  }

  /** Starts a connection to the peer that `script` describes. @returns 0 or -errno */
  connect(script: PeerScript): number {
    this.#begin(script)
    if (script.connectDelay < 0) {
      this.establish(script)
      return 0
    }
    this.phase = "connecting"
    if (!script.automatic) return -EINPROGRESS
    this.#clock.after(script.connectDelay, () => {
      if (this.phase !== "connecting") return
      if (script.connectError !== 0) this.fail(script.connectError)
      else this.establish(script)
    })
    return -EINPROGRESS
  }

  /** Both ends have shaken hands. */
  establish(script: PeerScript): void {
    if (this.#script === undefined) this.#begin(script)
    this.phase = "connected"
    this.#wake()
    this.#send()
    if (script.resetAt >= 0) this.#clock.after(script.resetAt, () => this.peerResets())
  }

  fail(errno: number): void {
    if (this.phase === "closed" || this.phase === "failed") return
    this.error = errno
    this.#failed = true
    this.phase = "failed"
    this.#wake()
  }

  /** The network says why the connection can't be made: told to those who want it, beside the error number. */
  failByIcmp(error: SimError): void {
    if (this.queuesErrors) this.errors.push(error)
    this.fail(error.errno)
  }

  peerResets(): void {
    if (this.phase === "closed") return
    this.resetByPeer = true
    this.fail(ECONNRESET)
  }

  // What a peer that is not automatic does.

  /** `bytes` more arrive from it. */
  arrive(bytes: number): void {
    this.arrived += bytes
    this.#wake()
  }

  /** Its FIN arrives. */
  finish(): void {
    this.peerFin = true
    this.#wake()
  }

  /** Its kernel acknowledges all that was written, or `bytes` of it. */
  acknowledge(bytes: number = this.written - this.acked): void {
    this.acked += bytes
    if (this.shut && this.acked === this.written) this.finAcked = true
    this.#space()
  }

  /** Whether the peer has seen the end, whatever it was. */
  get settled(): boolean {
    return this.peerEof || this.peerReset || this.resetByPeer || this.#failed
  }

  get memory(): number {
    const bytes = this.written - this.acked
    return bytes + (bytes >> OVERHEAD_SHIFT)
  }

  get peerWindow(): number {
    return Math.max(0, this.window - (this.acked - this.read))
  }

  /** What poll() would tell now. */
  mask(): number {
    if (this.phase === "failed")
      return EVENT_IN | EVENT_OUT | EVENT_RDHUP | EVENT_HUP | (this.error !== 0 ? EVENT_ERR : 0)
    if (this.phase !== "connected") return 0
    let mask = 0
    if (this.arrived > this.consumed || this.peerFin) mask |= EVENT_IN
    if (this.peerFin) mask |= EVENT_RDHUP
    if (this.peerFin && this.shut) mask |= EVENT_HUP
    const urgent = this.script.urgentAt
    if (urgent >= this.consumed && urgent < this.arrived) mask |= EVENT_PRI
    if (this.#writable()) mask |= EVENT_OUT
    else this.noSpace = true
    return mask
  }

  #writable(): boolean {
    return this.sendBuffer - this.memory >= this.memory >> 1
  }

  #wake(): void {
    this.changed = true
    this.#onChange()
  }

  watch(ref: number): void {
    this.ref = ref
    if (this.mask() !== 0) this.#wake()
  }

  /** Takes bytes of the guest's stream, as far as there is room and `limit` lets it.
   * @param check whether they must be the right ones @returns bytes taken or -errno */
  write(pieces: readonly Uint8Array[], limit: (bytes: number) => number, check: boolean): number {
    if (this.phase === "failed" && this.error !== 0) return -this.takeError()
    if (this.phase !== "connected" || this.shut) {
      this.broken = true
      return -EPIPE
    }
    let taken = 0
    let offered = 0
    for (const piece of pieces) offered += piece.length
    const most = limit(offered)
    for (const piece of pieces) {
      const room = Math.min(most - taken, Math.floor(((this.sendBuffer - this.memory) * 8) / 9))
      if (room <= 0) break
      const part = piece.subarray(0, Math.min(room, piece.length))
      const wrong = check ? mismatch(2 * this.script.id, this.written, part) : -1
      if (wrong >= 0) this.#violation(`the byte written at position ${this.written + wrong} is not the guest's`)
      this.written += part.length
      taken += part.length
      if (part.length < piece.length) break
    }
    if (taken < offered) this.refuseForNow()
    if (taken === 0 && offered > 0) return -EAGAIN
    this.#expectAck()
    return taken
  }

  /** Memory is short: an event tells when it is not. */
  refuseForNow(): void {
    this.noSpace = true
    if (!this.#writable()) return
    this.#clock.after(this.rtt, () => this.#space())
  }

  #space(): void {
    if (!this.noSpace || !this.#writable() || this.phase !== "connected") return
    this.noSpace = false
    this.#wake()
  }

  takeError(): number {
    const { error } = this
    this.error = 0
    return error
  }

  /** Bytes that can be read from `from` on without crossing the urgent mark (tcp(7)). */
  #readable(from: number): number {
    const urgent = this.script.urgentAt
    return from < urgent && urgent < this.arrived ? urgent - from : this.arrived - from
  }

  /** Where a peek starts, and how much it can see. @returns the bytes, 0 at the end of the stream, or -errno */
  peek(most: number, skip: number): { from: number; length: number } {
    const from = this.consumed + (this.peekOffset >= 0 ? this.peekOffset : skip)
    if (this.phase === "connecting" || this.phase === "new") this.#violation("read before the connection was made")
    const length = Math.min(most, from < this.arrived ? this.#readable(from) : 0)
    if (length > 0) {
      if (this.peekOffset >= 0) this.peekOffset += length
      this.peeked = Math.max(this.peeked, from + length)
      return { from, length }
    }
    if (this.peerFin) return { from, length: this.peekOffset < 0 && skip > 0 ? -EAGAIN : 0 }
    if (this.error !== 0) return { from, length: -this.takeError() }
    return { from, length: this.phase === "failed" ? 0 : -EAGAIN }
  }

  discard(bytes: number): number {
    if (this.consumed + bytes > this.peeked) this.#violation("discards what was never read")
    const gone = Math.min(bytes, this.#readable(this.consumed))
    this.consumed += gone
    if (this.peekOffset >= 0) this.peekOffset = Math.max(0, this.peekOffset - gone)
    this.#send()
    return gone
  }

  shutdown(): void {
    this.shut = true
    this.#wake()
    this.#expectAck()
  }

  /** Closes the socket. */
  close(reset: boolean): void {
    const unread = this.arrived > this.consumed
    const connected = this.phase === "connected"
    if (this.phase === "connecting") this.#failed = true
    this.phase = "closed"
    if (!connected) return
    if (reset || unread) {
      this.peerReset = true
      return
    }
    this.shut = true
    this.#expectAck()
  }

  /** The peer's kernel acknowledges, as far as its buffer reaches, a round trip after the data left. */
  #expectAck(): void {
    if (!this.script.automatic || this.#ackDue || this.peerReset || this.resetByPeer) return
    if (this.acked === this.written && (!this.shut || this.finAcked)) return
    if (this.acked < this.written && this.peerWindow <= 0) return
    this.#ackDue = true
    this.#clock.after(this.rtt, () => {
      this.#ackDue = false
      if (this.peerReset || this.resetByPeer) return
      this.acked = Math.min(this.written, this.acked + Math.max(0, this.peerWindow))
      if (this.shut && this.acked === this.written) this.finAcked = true
      this.#space()
      this.#expectRead()
      this.#expectAck()
    })
  }

  #expectRead(): void {
    if (!this.script.automatic || this.#readDue || this.script.readChunk === 0) return
    if (this.read === this.acked && (!this.finAcked || this.peerEof)) return
    this.#readDue = true
    this.#clock.after(this.script.readInterval, () => {
      this.#readDue = false
      if (this.peerReset || this.resetByPeer) return
      this.read = Math.min(this.acked, this.read + this.script.readChunk)
      if (this.finAcked && this.read === this.written) {
        this.peerEof = true
        this.#send()
      }
      this.#expectRead()
      this.#expectAck()
    })
  }

  /** The peer sends its next piece, or its FIN. */
  #send(): void {
    if (this.#sendDue || this.peerFin || this.phase === "failed") return
    const { script } = this
    if (!script.automatic) return
    const left = script.bytes - this.arrived
    if (left === 0 && script.closes === "after-eof" && !this.peerEof) return
    if (left > 0 && this.arrived - this.consumed >= script.receiveBuffer) return
    this.#sendDue = true
    this.#clock.after(script.interval, () => {
      this.#sendDue = false
      if (this.peerReset || this.resetByPeer || this.phase === "failed") return
      if (this.phase === "closed") {
        // Nobody is there for it any more.
        if (left > 0) this.peerReset = true
        this.peerFin = true
        return
      }
      const room = script.receiveBuffer - (this.arrived - this.consumed)
      const bytes = Math.min(script.chunk, script.bytes - this.arrived, room)
      this.arrived += bytes
      // The last piece and the FIN often come together.
      if (this.arrived === script.bytes && (script.closes === "after-send" || this.peerEof)) this.peerFin = true
      this.#wake()
      this.#send()
    })
  }
}
