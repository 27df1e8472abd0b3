/**
 * Conversations with the kernel over a route netlink socket.
 *
 * A dump is one request and many datagrams of messages, the last message being NLMSG_DONE. The kernel fills the next
 * datagram while we take the last one, so the set may change in between; it then marks the dump as interrupted and it
 * has to be asked again (Linux Documentation/userspace-api/netlink/intro.rst, "Dump consistency").
 */
import * as native from "@passt/native"
import {
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSGERR_ATTR_MSG,
  NLM_F_ACK_TLVS,
  NLM_F_CAPPED,
  NLM_F_DUMP_INTR,
} from "./constants.ts"
import type { NetlinkMessage } from "./message.ts"
import { attributes, eachMessage, HEADER_BYTES, HOST_ORDER, align, text } from "./message.ts"
import { setSequence } from "./request.ts"
import { errnoText } from "../errno-text.ts"

/** The system calls used here; results are >= 0 or -errno. */
export interface NetlinkCalls {
  netlinkOpen(groups: number, nonBlocking: boolean): number
  netlinkSend(fd: number, bytes: Uint8Array, length: number): number
  netlinkReceive(fd: number, bytes: Uint8Array, peek: boolean): number
  close(fd: number): void
}

export const nativeCalls: NetlinkCalls = {
  netlinkOpen: (groups, nonBlocking) => native.netlinkOpen(groups, nonBlocking),
  netlinkSend: (fd, bytes, length) => native.netlinkSend(fd, bytes, length),
  netlinkReceive: (fd, bytes, peek) => native.netlinkReceive(fd, bytes, peek),
  close: (fd) => void native.closeDescriptor(fd),
}

/** The kernel refused a request, or the conversation failed. */
export class NetlinkError extends Error {
  /** Positive errno; 0 for a damaged answer. */
  readonly errno: number
  constructor(message: string, errno: number) {
    super(message)
    this.name = "NetlinkError"
    this.errno = errno
  }
}

/** More than the kernel ever puts into one datagram of a dump (32 KiB), so that growing is rare. */
const BUFFER_BYTES = 64 * 1024
/** The kernel clamps what it sends far below this: a larger announcement is an error, not a reason to allocate. */
const BUFFER_BYTES_MAX = 16 * 1024 * 1024
/** How often an interrupted dump is asked again; then the last answer has to do. */
const DUMP_ATTEMPTS = 8

/** What the kernel says in NLMSG_ERROR or NLMSG_DONE: 0 for success, else a NetlinkError. */
export function outcome(view: DataView, message: NetlinkMessage): NetlinkError | undefined {
  const { start, end } = message
  if (end - start < 4) return message.type === NLMSG_DONE ? undefined : new NetlinkError("damaged netlink error", 0)
  const code = view.getInt32(start, HOST_ORDER)
  if (code >= 0) return undefined
  let detail = ""
  if (message.flags & NLM_F_ACK_TLVS) {
    // After an error: the header of our request and, unless capped, its body. After DONE: nothing.
    let at = start + 4
    if (message.type === NLMSG_ERROR && end - at >= HEADER_BYTES) {
      const requestBytes = message.flags & NLM_F_CAPPED ? HEADER_BYTES : view.getUint32(at, HOST_ORDER)
      // Compared before it is rounded up: that would make a negative number of a large one.
      at = requestBytes <= end - at ? at + align(requestBytes) : end
    }
    if (at <= end) detail = text(view, attributes(view, at, end).get(NLMSGERR_ATTR_MSG))
  }
  return new NetlinkError(errnoText(-code) + (detail === "" ? "" : `: ${detail}`), -code)
}

/** Requests that are sent together. Each is acknowledged, and the acknowledgements must fit into the receive buffer, where the
 * kernel counts at least 768 bytes for each. */
const BATCH_REQUESTS = 64

export class NetlinkSocket {
  readonly fd: number
  readonly #calls: NetlinkCalls
  #buffer: Uint8Array<ArrayBuffer> = new Uint8Array(BUFFER_BYTES)
  #view: DataView = new DataView(this.#buffer.buffer)
  #sequence = 0

  /** @param groups RTMGRP_* bits of the notifications wanted @param nonBlocking for a descriptor that an event loop watches
   * @throws NetlinkError when the socket can't be opened */
  constructor(groups = 0, nonBlocking = false, calls: NetlinkCalls = nativeCalls) {
    this.#calls = calls
    this.fd = calls.netlinkOpen(groups, nonBlocking)
    if (this.fd < 0) throw new NetlinkError(`Couldn't open netlink socket: ${errnoText(-this.fd)}`, -this.fd)
  }

  close(): void {
    this.#calls.close(this.fd)
  }

  /** Sends a request without waiting for the answer. @returns its sequence number */
  send(request: DataView<ArrayBuffer>): number {
    this.#sequence = (this.#sequence + 1) >>> 0
    setSequence(request, this.#sequence)
    const sent = this.#calls.netlinkSend(this.fd, new Uint8Array(request.buffer), request.byteLength)
    if (sent < 0) throw new NetlinkError(`Couldn't send netlink request: ${errnoText(-sent)}`, -sent)
    return this.#sequence
  }

  /** Takes one whole datagram and visits its messages; the buffer grows for large ones.
   * @returns the datagram's length, or -errno (-EAGAIN: none there; -ENOBUFS: notifications were lost) */
  receive(visit: (view: DataView, message: NetlinkMessage) => boolean | void): number {
    let length = this.#calls.netlinkReceive(this.fd, this.#buffer, true)
    if (length > this.#buffer.length && length <= BUFFER_BYTES_MAX) {
      this.#buffer = new Uint8Array(length)
      this.#view = new DataView(this.#buffer.buffer)
    }
    if (length >= 0) length = this.#calls.netlinkReceive(this.fd, this.#buffer, false)
    if (length < 0) return length
    eachMessage(this.#view, length, (message) => visit(this.#view, message))
    return length
  }

  /** Asks for a set of objects and parses each; those for which `parse` gives undefined are left out.
   * @throws NetlinkError when the kernel refuses or does not answer in time */
  dump<T>(
    request: DataView<ArrayBuffer>,
    parse: (view: DataView, message: NetlinkMessage) => T | undefined,
  ): readonly T[] {
    let found: T[] = []
    for (let attempt = 0; attempt < DUMP_ATTEMPTS; attempt++) {
      found = []
      if (!this.#dumpOnce(request, parse, found)) break
    }
    return found
  }

  /** Asks for one change. @returns why the kernel did not make it; undefined if it did */
  change(request: DataView<ArrayBuffer>): NetlinkError | undefined {
    return this.changeAll([request])[0]
  }

  /** Asks for changes, in order, many with one system call; a refused one does not stop the others. Requests must ask for an
   * acknowledgement (NLM_F_ACK).
   * @returns for each request why it was not made; undefined if it was @throws NetlinkError when the kernel does not answer */
  changeAll(requests: readonly DataView<ArrayBuffer>[]): readonly (NetlinkError | undefined)[] {
    const results: (NetlinkError | undefined)[] = []
    for (let first = 0; first < requests.length; first += BATCH_REQUESTS) {
      this.#changeBatch(requests.slice(first, first + BATCH_REQUESTS), results)
    }
    return results
  }

  #changeBatch(requests: readonly DataView<ArrayBuffer>[], results: (NetlinkError | undefined)[]): void {
    const batch = new Uint8Array(requests.reduce((sum, request) => sum + align(request.byteLength), 0))
    const first = (this.#sequence + 1) >>> 0
    let at = 0
    for (const request of requests) {
      this.#sequence = (this.#sequence + 1) >>> 0
      setSequence(request, this.#sequence)
      batch.set(new Uint8Array(request.buffer), at)
      at += align(request.byteLength)
    }
    const sent = this.#calls.netlinkSend(this.fd, batch, batch.length)
    if (sent < 0) throw new NetlinkError(`Couldn't send netlink request: ${errnoText(-sent)}`, -sent)
    const answers: (NetlinkError | undefined)[] = Array.from({ length: requests.length })
    let missing = requests.length
    while (missing > 0) {
      const length = this.receive((view, message) => {
        const index = (message.sequence - first) >>> 0
        if (message.type !== NLMSG_ERROR || index >= requests.length) return
        answers[index] = outcome(view, message)
        missing--
      })
      if (length < 0) throw new NetlinkError(`Couldn't read netlink answer: ${errnoText(-length)}`, -length)
    }
    results.push(...answers)
  }

  /** @returns whether the dump was interrupted by a change */
  #dumpOnce<T>(
    request: DataView<ArrayBuffer>,
    parse: (view: DataView, message: NetlinkMessage) => T | undefined,
    found: T[],
  ): boolean {
    const sequence = this.send(request)
    let done = false
    let interrupted = false
    let failure: NetlinkError | undefined
    while (!done) {
      const length = this.receive((view, message) => {
        // Answers to an earlier request that was given up, and notifications.
        if (message.sequence !== sequence) return true
        if (message.flags & NLM_F_DUMP_INTR) interrupted = true
        if (message.type === NLMSG_DONE || message.type === NLMSG_ERROR) {
          done = true
          failure = outcome(view, message)
          return false
        }
        const object = parse(view, message)
        if (object !== undefined) found.push(object)
        return true
      })
      if (length < 0) throw new NetlinkError(`Couldn't read netlink answer: ${errnoText(-length)}`, -length)
    }
    if (failure) throw failure
    return interrupted
  }
}
