/** A netlink socket that answers from a script: what the kernel would put into its queue. */
import { HOST_ORDER } from "../netlink/message.ts"
import type { NetlinkCalls } from "../netlink/socket.ts"

/** One message without sequence number. */
export function message(type: number, flags: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array((16 + payload.length + 3) & ~3)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, 16 + payload.length, HOST_ORDER)
  view.setUint16(4, type, HOST_ORDER)
  view.setUint16(6, flags, HOST_ORDER)
  bytes.set(payload, 16)
  return bytes
}

/** Payload of NLMSG_DONE and NLMSG_ERROR. */
export function code(value: number): Uint8Array {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setInt32(0, value, HOST_ORDER)
  return bytes
}

/** Copies a message with the sequence number of the request that it answers; 0 for notifications. */
export function withSequence(bytes: Uint8Array, sequence: number): Uint8Array {
  const copy = bytes.slice()
  new DataView(copy.buffer).setUint32(8, sequence, HOST_ORDER)
  return copy
}

export class ScriptedNetlink implements NetlinkCalls {
  /** Datagrams to be received, or errors as -errno. */
  readonly queue: (Uint8Array | number)[] = []
  requests = 0
  closed = false
  /** Called with the sequence number of each request. @returns what the kernel queues for it */
  answer: (sequence: number, request: number) => readonly (Uint8Array | number)[]

  constructor(answer: (sequence: number, request: number) => readonly (Uint8Array | number)[]) {
    this.answer = answer
  }
  netlinkOpen(): number {
    return 1000
  }
  netlinkSend(_fd: number, bytes: Uint8Array, length: number): number {
    const sequence = new DataView(bytes.buffer).getUint32(8, HOST_ORDER)
    this.queue.push(...this.answer(sequence, this.requests++))
    return length
  }
  netlinkReceive(_fd: number, bytes: Uint8Array, peek: boolean): number {
    const next = this.queue[0]
    if (next === undefined) return -11
    if (typeof next === "number") {
      this.queue.shift()
      return next
    }
    if (!peek) this.queue.shift()
    bytes.set(next.subarray(0, bytes.length))
    return next.length
  }
  close(): void {
    this.closed = true
  }
}

/** Several messages in one datagram. */
export function datagram(...messages: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(messages))
}
