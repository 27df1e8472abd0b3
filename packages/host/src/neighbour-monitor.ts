/**
 * The host's neighbour table, followed: first all entries, then each change. The guest sees the MAC addresses of the
 * host's own neighbours through it.
 *
 * One socket carries the notifications and the answers to dumps. A burst that overflows it is told by ENOBUFS; then
 * the whole table is asked again, and what is no longer in it is reported as gone.
 */
import { errnoText } from "./errno-text.ts"
import {
  NLMSG_DONE,
  NLMSG_ERROR,
  NLM_F_DUMP_INTR,
  RTM_DELNEIGH,
  RTM_NEWNEIGH,
  RTMGRP_NEIGH,
} from "./netlink/constants.ts"
import type { NetlinkMessage } from "./netlink/message.ts"
import type { Neighbour } from "./netlink/neighbour.ts"
import { parseNeighbour } from "./netlink/neighbour.ts"
import { neighbourDump } from "./netlink/request.ts"
import type { NetlinkCalls } from "./netlink/socket.ts"
import { nativeCalls, NetlinkError, NetlinkSocket, outcome } from "./netlink/socket.ts"

const EAGAIN = 11
const EBUSY = 16
const ENOBUFS = 105

/** Entries whose last state is remembered, so that repeated notifications are dropped: the kernel keeps 1024 of each
 * family by default (neigh/default/gc_thresh3). Beyond it changes are reported without that. */
const REMEMBERED_MAX = 4096
/** Datagrams per turn: a storm of changes must not hold up traffic. */
const DATAGRAMS_PER_TURN = 64

export interface NeighbourMonitorOptions {
  /** Interfaces whose neighbours count, by family; 0: none. */
  readonly interfaceIndex4: number
  readonly interfaceIndex6: number
  /** A neighbour that appeared or has another MAC address; without `mac`: one that is gone. */
  readonly onChange: (neighbour: Neighbour) => void
  /** The kernel doesn't tell what neighbours there are (kernels that are emulated, some in user space): changes may still come. */
  readonly onRefused?: (error: NetlinkError) => void
}

interface Remembered {
  readonly neighbour: Neighbour
  readonly mac: string
  /** The last dump that held it. */
  round: number
}

export class NeighbourMonitor {
  readonly #options: NeighbourMonitorOptions
  #interfaceIndex4: number
  #interfaceIndex6: number
  readonly #socket: NetlinkSocket
  readonly #known = new Map<string, Remembered>()
  readonly #visit: (view: DataView, message: NetlinkMessage) => void
  /** Number of the last dump asked for. */
  #round = 0
  /** Sequence number of the dump under way; 0: none. */
  #dumpSequence = 0
  #interrupted = false
  #wantsDump = false

  /** Opens the socket and asks for the table; `process` takes the answer.
   * @throws NetlinkError */
  constructor(options: NeighbourMonitorOptions, calls: NetlinkCalls = nativeCalls) {
    this.#options = options
    this.#interfaceIndex4 = options.interfaceIndex4
    this.#interfaceIndex6 = options.interfaceIndex6
    this.#socket = new NetlinkSocket(RTMGRP_NEIGH, true, calls)
    this.#visit = (view, message) => this.#take(view, message)
    this.#wantsDump = true
  }

  /** To be watched for input, level-triggered. */
  get fd(): number {
    return this.#socket.fd
  }

  /** Takes what is there, without waiting; to be called once after construction and whenever `fd` is ready.
   * @returns whether there may be more: the descriptor is then still ready
   * @throws NetlinkError when the socket is of no use any more */
  process(): boolean {
    this.#askIfWanted()
    for (let i = 0; i < DATAGRAMS_PER_TURN; i++) {
      const length = this.#socket.receive(this.#visit)
      if (length === -EAGAIN) return false
      if (length === -ENOBUFS) this.#wantsDump = true
      else if (length < 0) {
        throw new NetlinkError(`Couldn't read neighbour notifications: ${errnoText(-length)}`, -length)
      }
      this.#askIfWanted()
    }
    return true
  }

  /** Follows other interfaces from now on; neighbours on the former ones are reported as gone. `fd` becomes ready with the rest. */
  follow(interfaceIndex4: number, interfaceIndex6: number): void {
    if (interfaceIndex4 === this.#interfaceIndex4 && interfaceIndex6 === this.#interfaceIndex6) return
    this.#interfaceIndex4 = interfaceIndex4
    this.#interfaceIndex6 = interfaceIndex6
    for (const [key, { neighbour }] of this.#known) {
      if (neighbour.interfaceIndex === (neighbour.family === 4 ? interfaceIndex4 : interfaceIndex6)) continue
      this.#known.delete(key)
      this.#options.onChange({ ...neighbour, mac: undefined })
    }
    this.#wantsDump = true
    this.#askIfWanted()
  }

  close(): void {
    this.#socket.close()
  }

  #askIfWanted(): void {
    // The kernel serves one dump per socket at a time.
    if (!this.#wantsDump || this.#dumpSequence !== 0) return
    this.#wantsDump = false
    this.#interrupted = false
    this.#round++
    try {
      this.#dumpSequence = this.#socket.send(neighbourDump())
    } catch (error) {
      this.#options.onRefused?.(error as NetlinkError)
    }
  }

  #take(view: DataView, message: NetlinkMessage): void {
    if (message.sequence !== 0 && message.sequence === this.#dumpSequence) {
      if (message.flags & NLM_F_DUMP_INTR) this.#interrupted = true
      if (message.type === NLMSG_DONE || message.type === NLMSG_ERROR) {
        this.#dumpSequence = 0
        const error = outcome(view, message)
        // Busy: an answer that was lost is still being sent. Any other refusal would only be repeated.
        if (this.#interrupted || error?.errno === EBUSY) this.#wantsDump = true
        else if (error) this.#options.onRefused?.(error)
        else if (message.type === NLMSG_DONE) this.#forgetUnseen()
        return
      }
    }
    if (message.type !== RTM_NEWNEIGH && message.type !== RTM_DELNEIGH) return
    const neighbour = parseNeighbour(view, message)
    if (neighbour) this.#update(neighbour)
  }

  #update(neighbour: Neighbour): void {
    const { onChange } = this.#options
    const wanted = neighbour.family === 4 ? this.#interfaceIndex4 : this.#interfaceIndex6
    if (wanted === 0 || neighbour.interfaceIndex !== wanted) return
    const key = neighbour.address.join()
    const known = this.#known.get(key)
    if (neighbour.mac === undefined) {
      if (known) this.#known.delete(key)
      if (known || this.#known.size >= REMEMBERED_MAX) onChange(neighbour)
      return
    }
    const mac = neighbour.mac.join()
    if (known && known.mac === mac) {
      known.round = this.#round
      return
    }
    if (known || this.#known.size < REMEMBERED_MAX) this.#known.set(key, { neighbour, mac, round: this.#round })
    onChange(neighbour)
  }

  /** After a whole dump: entries that it did not hold are gone. */
  #forgetUnseen(): void {
    for (const [key, known] of this.#known) {
      if (known.round === this.#round) continue
      this.#known.delete(key)
      this.#options.onChange({ ...known.neighbour, mac: undefined })
    }
  }
}
