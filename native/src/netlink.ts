/**
 * Route netlink sockets (rtnetlink(7)), for the network namespace of the calling thread. Results are >= 0 or -errno.
 * Close the descriptor with `fs.closeSync`.
 */
import { addon } from "./load.ts"

interface NetlinkAddon {
  netlinkOpen(groups: number, nonBlocking: number): number
  netlinkSend(fd: number, bytes: Uint8Array, length: number): number
  netlinkReceive(fd: number, bytes: Uint8Array, peek: number): number
}

const calls = addon as unknown as NetlinkAddon

/** Opens a socket. @param groups RTMGRP_* bits of the notifications wanted
 * @param nonBlocking false: receiving waits, up to five seconds @returns the descriptor */
export function netlinkOpen(groups: number, nonBlocking: boolean): number {
  return calls.netlinkOpen(groups, nonBlocking ? 1 : 0)
}

/** Sends the first `length` bytes as one request to the kernel. @returns bytes sent */
export function netlinkSend(fd: number, bytes: Uint8Array, length: number): number {
  return calls.netlinkSend(fd, bytes, length)
}

/** Receives one datagram of the kernel's. @param peek leaves it in the queue
 * @returns its whole length; what exceeds `bytes` is cut off */
export function netlinkReceive(fd: number, bytes: Uint8Array, peek: boolean): number {
  return calls.netlinkReceive(fd, bytes, peek ? 1 : 0)
}
