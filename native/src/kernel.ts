/**
 * core's Kernel over Linux. Each method is one call into the addon with integers, and none allocates: an integer is no
 * heap object in V8, results that don't fit one land in `events`, `address`, `info` and `error`.
 */
import {
  ADDRESS_WORDS,
  COLUMN_COUNT,
  ERROR_WORDS,
  EVENT_MAX,
  FRAME_MAX,
  type FrameTable,
  GATHER_MAX,
  INFO_WORDS,
  type Kernel,
  PLACE_HOST,
} from "@passt/core"

import type { RawEngine } from "./addon.ts"
import { NativeGroups } from "./groups.ts"
import { addon } from "./load.ts"
import { NativeRelay } from "./relay.ts"
import { NativeSplice } from "./splice.ts"

/** Signals worth catching; numbers are the same on every Linux that Node runs on. */
export const SIGNAL = { hangup: 1, interrupt: 2, quit: 3, terminate: 15, child: 17 } as const

export class NativeKernel implements Kernel {
  readonly events: Int32Array<ArrayBuffer> = new Int32Array(2 * EVENT_MAX)
  readonly address: Int32Array<ArrayBuffer> = new Int32Array(3 * ADDRESS_WORDS)
  readonly info: Int32Array<ArrayBuffer> = new Int32Array(INFO_WORDS)
  readonly error: Int32Array<ArrayBuffer> = new Int32Array(ERROR_WORDS)
  readonly peekOffset4: boolean
  readonly peekOffset6: boolean
  readonly groups: NativeGroups
  readonly relay: NativeRelay
  /** Absent until `enableSplice`. */
  splice: NativeSplice | undefined
  /** Calls of the addon that belong to this kernel; for transports, which add their own on the native side. */
  readonly raw: RawEngine

  /** @throws when the host gives no epoll descriptor or no memory. */
  constructor() {
    const raw = addon.createEngine(this.events, this.address, this.info, this.error)
    if (typeof raw === "number") throw new Error(`cannot create an engine: errno ${-raw}`)
    this.raw = raw
    this.groups = new NativeGroups(raw)
    this.relay = new NativeRelay(raw)
    this.peekOffset4 = raw.probePeekOffset(4) === 1
    this.peekOffset6 = raw.probePeekOffset(6) === 1
  }

  /** Prepares for calls from socket to socket: for an engine whose guest is a namespace.
   * @throws when the host gives no pipe or no memory. */
  enableSplice(): void {
    this.splice ??= new NativeSplice(this.raw)
  }

  /** Lends the frame memory to native code, for the life of this kernel. Calls that name rows fail before.
   * @throws when native code was built for another table. */
  attach(frames: FrameTable): void {
    const result = this.raw.attach(frames.arena, frames.columns, frames.gather, FRAME_MAX, GATHER_MAX, COLUMN_COUNT)
    if (result < 0) throw new Error(`cannot attach the frame table: errno ${-result}`)
  }

  /** Closes what the kernel itself holds (not the sockets that it made) and lets go of the frame memory. */
  destroy(): void {
    this.raw.close()
  }

  /** The epoll descriptor: readable when `wait` would report something. For an event loop of somebody else's. */
  get epollFd(): number {
    return this.raw.epollFd()
  }

  /** Has Node's own loop watch this kernel, instead of somebody who blocks in `wait`: `callback` is called when `wait` would report
   * something, or when the time of `armLoop` has come. It keeps the loop alive until `leaveLoop`, see `keepLoop`.
   * @returns 0 or -errno: -EALREADY for the second time, -ENOSYS in a runtime without libuv */
  joinLoop(callback: () => void): number {
    return this.raw.joinLoop(callback)
  }
  /** Calls back once after `milliseconds`, 0: in the loop's next round, -1: not at all; in place of what was set before. */
  armLoop(milliseconds: number): number {
    return this.raw.armLoop(milliseconds)
  }
  /** Whether the loop goes on as long as this kernel is in it. */
  keepLoop(keep: boolean): number {
    return this.raw.keepLoop(keep ? 1 : 0)
  }
  /** Forgets the callback; it is not called any more. */
  leaveLoop(): number {
    return this.raw.leaveLoop()
  }

  wait(timeoutMs: number): number {
    return this.raw.wait(timeoutMs)
  }
  now(): number {
    return this.raw.now()
  }
  nowMicros(): number {
    return this.raw.nowMicros()
  }
  watch(fd: number, ref: number): number {
    return this.raw.watch(fd, ref)
  }
  watchLevel(fd: number, ref: number): number {
    return this.raw.watchLevel(fd, ref)
  }
  unwatch(fd: number): number {
    return this.raw.unwatch(fd)
  }
  close(fd: number): number {
    return this.raw.closeFd(fd)
  }
  reset(fd: number): number {
    return this.raw.reset(fd)
  }

  tcpSocket(family: number, place: number = PLACE_HOST): number {
    return this.raw.tcpSocket(family, place)
  }
  bind(fd: number, family: number): number {
    return this.raw.bind(fd, family)
  }
  bindToDevice(fd: number, name: string): number {
    return this.raw.bindToDevice(fd, name)
  }
  connect(fd: number, family: number): number {
    return this.raw.connect(fd, family)
  }
  listenTcp(family: number, dualStack: boolean, device: string, freebind: boolean, place: number = PLACE_HOST): number {
    return this.raw.listenTcp(family, dualStack ? 1 : 0, device, freebind ? 1 : 0, place)
  }
  accept(fd: number): number {
    return this.raw.accept(fd)
  }
  socketError(fd: number): number {
    return this.raw.socketError(fd)
  }
  shutdownWrite(fd: number): number {
    return this.raw.shutdownWrite(fd)
  }
  setMss(fd: number, mss: number): number {
    return this.raw.setMss(fd, mss)
  }
  setKeepalive(fd: number): number {
    return this.raw.setKeepalive(fd)
  }
  queueErrors(fd: number, family: number, on: boolean): number {
    return this.raw.queueErrors(fd, family, on ? 1 : 0)
  }
  localAddress(fd: number, family: number): number {
    return this.raw.localAddress(fd, family)
  }
  setHopLimit(fd: number, family: number, hopLimit: number): number {
    return this.raw.setHopLimit(fd, family, hopLimit)
  }
  tcpInfo(fd: number): number {
    return this.raw.tcpInfo(fd)
  }

  sendFrames(fd: number, start: number, count: number): number {
    return this.raw.sendFrames(fd, start, count)
  }
  sendHeld(fd: number, offset: number, length: number): number {
    return this.raw.sendHeld(fd, offset, length)
  }
  holdPayload(row: number, from: number, length: number, to: number): number {
    return this.raw.holdPayload(row, from, length, to)
  }
  peekIntoFrames(fd: number, row: number, count: number, bytes: number, skip: number): number {
    return this.raw.peekIntoFrames(fd, row, count, bytes, skip)
  }
  setPeekOffset(fd: number, offset: number): number {
    return this.raw.setPeekOffset(fd, offset)
  }
  discard(fd: number, bytes: number): number {
    return this.raw.discard(fd, bytes)
  }

  udpSocket(family: number, freebind: boolean, place: number = PLACE_HOST): number {
    return this.raw.udpSocket(family, freebind ? 1 : 0, place)
  }
  listenUdp(family: number, dualStack: boolean, device: string, freebind: boolean, place: number = PLACE_HOST): number {
    return this.raw.listenUdp(family, dualStack ? 1 : 0, device, freebind ? 1 : 0, place)
  }
  wantHopLimits(fd: number, family: number): number {
    return this.raw.wantHopLimits(fd, family)
  }
  setReuseAddress(fd: number): number {
    return this.raw.setReuseAddress(fd)
  }
  receiveFrom(fd: number, row: number, peek: boolean): number {
    return this.raw.receiveFrom(fd, row, peek ? 1 : 0)
  }
  sendDatagrams(fd: number, start: number, count: number): number {
    return this.raw.sendDatagrams(fd, start, count)
  }
  /** As the interface says; of a datagram that is longer than its room, the room is filled. */
  receiveDatagrams(fd: number, row: number, count: number, bytes: number): number {
    return this.raw.receiveDatagrams(fd, row, count, bytes)
  }
  pingSocket(family: number): number {
    return this.raw.pingSocket(family)
  }
  readError(fd: number, row: number, bytes: number): number {
    return this.raw.readError(fd, row, bytes)
  }

  /** Starts a thread in another network namespace; from then on sockets can be created there.
   * @param netnsFd an open nsfs file, /proc/PID/ns/net or the like; it can be closed afterwards
   * @param bare whether the thread gives up all capabilities, once it is there: it can make sockets, but no devices
   * @returns 0 or -errno: EPERM without CAP_SYS_ADMIN in our user namespace and in the one that owns the other */
  enterNamespace(netnsFd: number, bare = false): number {
    return this.raw.enterNamespace(netnsFd, bare ? 1 : 0)
  }
  /** Ends that thread. What was made in the namespace stays, and it may be entered again. */
  leaveNamespace(): void {
    this.raw.leaveNamespace()
  }
  /** As `netlinkOpen`, in the namespace that was entered. @returns the descriptor, or -errno: ENONET before */
  netlinkOpenInNamespace(groups: number, nonBlocking: boolean): number {
    return this.raw.netlinkOpenInNamespace(groups, nonBlocking ? 1 : 0)
  }

  /** Turns signals into events: `wait` reports `ref` when one of `signals` (SIGNAL) has arrived, for this process.
   * @returns 0 or -errno */
  watchSignals(ref: number, signals: readonly number[]): number {
    const result = this.raw.watchSignals(ref)
    if (result < 0) return result
    for (const signal of signals) {
      const caught = this.raw.catchSignal(signal)
      if (caught < 0) return caught
    }
    return 0
  }
  /** Takes a signal that has arrived. @returns its number, 0 when there is none */
  takeSignal(): number {
    return this.raw.takeSignal()
  }

  /** Records the guest's frames, both ways, as classic pcap; the file is created or emptied, mode 0600.
   * @returns 0 or -errno */
  openCapture(path: string): number {
    return this.raw.openCapture(path)
  }
  /** As `openCapture`, into a file that somebody else has opened; it is ours from then on, whatever the result.
   * @returns 0, or -errno: EINVAL for what is no regular file or can't be written */
  captureTo(fd: number): number {
    return this.raw.captureTo(fd)
  }
  /** Ends the capture and syncs its file. */
  closeCapture(): number {
    return this.raw.closeCapture()
  }
}
