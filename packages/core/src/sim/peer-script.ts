/**
 * What the far end of a host connection does, and what the path to it is like. Times are microseconds.
 */
export interface PeerScript {
  /** Whether it does all this by itself; if not, a test does it (tcp-socket.ts). */
  readonly automatic: boolean
  /** Names the pair of streams: the guest's is `2 * id`, the peer's `2 * id + 1` (pattern.ts). */
  readonly id: number
  /** Errno that a connection attempt ends with, 0 if it succeeds; and how long that takes, -1: it succeeds at once. */
  readonly connectError: number
  readonly connectDelay: number
  /** Bytes that the peer sends, at most `chunk` every `interval`. */
  readonly bytes: number
  readonly chunk: number
  readonly interval: number
  /** When it closes its direction: after its last byte, or only when it has seen the end of the guest's stream. */
  readonly closes: "after-send" | "after-eof"
  /** Bytes that it reads every `readInterval`; 0: none. */
  readonly readChunk: number
  readonly readInterval: number
  /** Its receive buffer. */
  readonly window: number
  readonly rtt: number
  /** What TCP_INFO tells of the delivery rate, bytes per second, -1: nothing. */
  readonly rate: number
  /** The host's buffers for this connection. */
  readonly sendBuffer: number
  readonly receiveBuffer: number
  /** It resets the connection this long after it was established; -1: never. */
  readonly resetAt: number
  /** Position of a byte of urgent data in what it sends; -1: none. */
  readonly urgentAt: number
}

export const QUIET_PEER: PeerScript = {
  automatic: true,
  id: 0,
  connectError: 0,
  connectDelay: 1000,
  bytes: 0,
  chunk: 1 << 16,
  interval: 100,
  closes: "after-eof",
  readChunk: 1 << 20,
  readInterval: 100,
  window: 1 << 16,
  rtt: 1000,
  rate: -1,
  sendBuffer: 1 << 18,
  receiveBuffer: 1 << 18,
  resetAt: -1,
  urgentAt: -1,
}
