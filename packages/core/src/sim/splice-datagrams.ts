/** The model of datagram sockets, with places and the calls from socket to socket. */
import { EAGAIN, EINVAL } from "../errno.ts"
import {
  ADDRESS_LOCAL,
  ADDRESS_REMOTE,
  SPLICE_BYTES,
  SPLICE_DELIVERED,
  SPLICE_WORDS,
  type SpliceKernel,
} from "../kernel.ts"
import { DatagramKernel, type SimSocket } from "./datagram-kernel.ts"

export class SpliceDatagramKernel extends DatagramKernel implements SpliceKernel {
  readonly result: Int32Array = new Int32Array(SPLICE_WORDS)
  readonly splice: SpliceKernel = this
  /** PLACE_… of each socket. */
  readonly places: Map<number, number> = new Map()
  /** Sockets that get datagrams merged. */
  readonly merged: Set<number> = new Set()

  place(socket: SimSocket): number {
    return this.places.get(socket.fd)!
  }

  override udpSocket(family: number, _freebind = false, place = 0): number {
    const fd = super.udpSocket(family)
    if (fd >= 0) this.places.set(fd, place)
    return fd
  }
  override listenUdp(family: number, dualStack: boolean, device: string, _freebind = false, place = 0): number {
    const fd = super.listenUdp(family, dualStack, device)
    if (fd >= 0) this.places.set(fd, place)
    return fd
  }

  peekAddresses(fd: number): number {
    this.calls.push("peekAddresses")
    const socket = this.sockets.get(fd)
    if (socket === undefined) return -EINVAL
    if (socket.pendingError !== 0) return -this.socketError(fd)
    const first = socket.queue[0]
    if (first === undefined) return -EAGAIN
    this.address.set(first.remote, ADDRESS_REMOTE)
    this.address.set(first.local, ADDRESS_LOCAL)
    return first.bytes.length
  }
  datagrams(from: number, to: number, count: number): number {
    this.calls.push("datagrams")
    const source = this.sockets.get(from)
    const target = this.sockets.get(to)
    if (source === undefined || (to >= 0 && target === undefined)) throw new Error("no such socket")
    if (target !== undefined && target.remote === undefined) throw new Error("the target is not connected")
    if (source.pendingError !== 0) return -this.socketError(from)
    const taken = source.queue.splice(0, count)
    if (taken.length === 0) return -EAGAIN
    this.result[SPLICE_DELIVERED] = 0
    this.result[SPLICE_BYTES] = 0
    if (target === undefined) return taken.length
    for (const { bytes } of taken) {
      if (this.result[SPLICE_DELIVERED]! >= this.sendMax) break
      this.sent.push({ fd: to, hopLimit: 0, remote: target.remote!, local: target.local, bytes })
      this.result[SPLICE_DELIVERED]!++
      this.result[SPLICE_BYTES]! += bytes.length
    }
    return taken.length
  }
  wantMerged(fd: number): number {
    this.merged.add(fd)
    return 0
  }
  scan(): number {
    return 0
  }
  stream(): number {
    return -EINVAL
  }
  dropPipe(): number {
    return -EINVAL
  }
  unsent(): number {
    return 0
  }
}
