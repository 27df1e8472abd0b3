/**
 * Tells that links, addresses or routes of the host have changed, and what they are then.
 *
 * What a notification says is not looked at: after any number of them, however many were lost (ENOBUFS), everything is asked for
 * again. So nothing that happens on the host can be missed for good, and a flood of changes is no more work than one.
 */
import {
  RTMGRP_IPV4_IFADDR,
  RTMGRP_IPV4_ROUTE,
  RTMGRP_IPV6_IFADDR,
  RTMGRP_IPV6_ROUTE,
  RTMGRP_LINK,
} from "./netlink/constants.ts"
import type { NetlinkCalls } from "./netlink/socket.ts"
import { nativeCalls, NetlinkSocket } from "./netlink/socket.ts"
import { takeSnapshot } from "./host.ts"
import type { Snapshot } from "./template.ts"

const GROUPS: number = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE
const ENOBUFS = 105
/** Notifications thrown away per call. What is left keeps the descriptor ready. */
const DATAGRAMS_PER_CALL = 1024

export class HostMonitor {
  readonly #calls: NetlinkCalls
  readonly #notices: NetlinkSocket
  readonly #questions: NetlinkSocket
  /** Notices are thrown away: as much as fits is enough. */
  readonly #room = new Uint8Array(256)

  /** Opens both sockets, for good. @throws NetlinkError */
  constructor(calls: NetlinkCalls = nativeCalls) {
    this.#calls = calls
    this.#notices = new NetlinkSocket(GROUPS, true, calls)
    try {
      this.#questions = new NetlinkSocket(0, false, calls)
    } catch (error) {
      this.#notices.close()
      throw error
    }
  }

  /** Readable once something has changed, until `look`. */
  get fd(): number {
    return this.#notices.fd
  }

  /** Forgets the changes so far, then looks: what changes meanwhile makes `fd` ready again.
   * @throws NetlinkError when the kernel does not answer; `fd` tells of the next change nevertheless */
  look(): Snapshot {
    for (let i = 0; i < DATAGRAMS_PER_CALL; i++) {
      const length = this.#calls.netlinkReceive(this.fd, this.#room, false)
      // ENOBUFS is told once per loss; what is left in the queue comes after it.
      if (length < 0 && length !== -ENOBUFS) break
    }
    return takeSnapshot(this.#questions)
  }

  close(): void {
    this.#notices.close()
    this.#questions.close()
  }
}
