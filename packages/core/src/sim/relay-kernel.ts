/**
 * A model of the kernel as far as relays see it: stream sockets in pairs, whose other ends the test has, edge-triggered events. What must
 * not be done (naming a closed descriptor, writing behind an end, ending twice) throws.
 */
import { EAGAIN, ECONNRESET, EMFILE, EPIPE } from "../errno.ts"
import { type Kernel, type RelayKernel } from "../kernel.ts"

const FIRST_FD = 100

export class SimEnd {
  readonly fd: number
  other!: SimEnd
  /** Arrived and not read; room for it, bytes. */
  inbox: Uint8Array = new Uint8Array(0)
  room = 65_536
  /** No more is written here. */
  shut = false
  isClosed = false
  error = 0
  ref = -1
  edge = false
  /** Told that there is no room. */
  isFull = false

  constructor(fd: number) {
    this.fd = fd
  }

  /** @returns bytes taken, or -errno */
  write(bytes: Uint8Array): number {
    const { other } = this
    if (this.isClosed || this.shut) throw new Error("written behind the end")
    if (this.error !== 0) return -ECONNRESET
    if (other.isClosed) return -EPIPE
    const taken = Math.min(bytes.length, other.room - other.inbox.length)
    if (taken < bytes.length) this.isFull = true
    if (taken <= 0) return -EAGAIN
    const all = new Uint8Array(other.inbox.length + taken)
    all.set(other.inbox)
    all.set(bytes.subarray(0, taken), other.inbox.length)
    other.inbox = all
    other.edge = true
    return taken
  }

  /** @returns bytes; undefined: nothing new; a number: -errno */
  read(most: number): Uint8Array | undefined | number {
    if (this.isClosed) throw new Error("read of what is closed")
    if (this.inbox.length > 0) {
      const got = this.inbox.slice(0, most)
      this.inbox = this.inbox.slice(got.length)
      if (this.other.isFull) {
        this.other.isFull = false
        this.other.edge = true
      }
      return got
    }
    if (this.error !== 0) return -this.error
    return this.other.shut || this.other.isClosed ? new Uint8Array(0) : undefined
  }

  shutdown(): void {
    if (this.shut || this.isClosed) throw new Error("ended twice")
    this.shut = true
    this.other.edge = true
  }

  close(reset: boolean): void {
    if (this.isClosed) throw new Error("closed twice")
    if (reset || this.inbox.length > 0) this.other.error = ECONNRESET
    this.isClosed = true
    this.other.edge = true
  }
}

export class SimRelayKernel {
  /** Milliseconds. */
  time = 1000
  readonly ends: Map<number, SimEnd> = new Map()
  /** Room of each end of the next pairs, bytes. */
  room = 65_536
  /** The next call of a name fails with this errno. */
  readonly fails: Map<string, number> = new Map()
  /** Bytes that one call moves at most. */
  most: () => number = () => 1 << 20
  /** Called before something is written. */
  onSend: (fd: number, bytes: Uint8Array) => void = () => {}
  #next = FIRST_FD
  #memory: Uint8Array = new Uint8Array(0)

  readonly relay: RelayKernel = {
    ends: new Int32Array(2),
    attach: (memory) => {
      this.#memory = memory
      return 0
    },
    pair: () => {
      const errno = this.#fault("pair")
      if (errno !== 0) return -errno
      const [one, other] = this.connect()
      this.relay.ends.set([one.fd, other.fd])
      return 0
    },
    receive: (fd, offset, length) => {
      if (length <= 0 || offset < 0 || offset + length > this.#memory.length) throw new Error(`${offset} + ${length}`)
      const got = this.#end(fd).read(Math.min(length, this.most()))
      if (got === undefined) return -EAGAIN
      if (typeof got === "number") return got
      this.#memory.set(got, offset)
      return got.length
    },
    send: (fd, offset, length) => {
      if (length <= 0 || offset < 0 || offset + length > this.#memory.length) throw new Error(`${offset} + ${length}`)
      const bytes = this.#memory.subarray(offset, offset + Math.min(length, this.most()))
      this.onSend(fd, bytes)
      return this.#end(fd).write(bytes)
    },
  }

  /** What the engine gets. */
  get kernel(): Kernel {
    return this as unknown as Kernel
  }

  /** Descriptors that are open. */
  get open(): number {
    return [...this.ends.values()].filter(({ isClosed }) => !isClosed).length
  }

  connect(): [SimEnd, SimEnd] {
    const pair: [SimEnd, SimEnd] = [new SimEnd(this.#next++), new SimEnd(this.#next++)]
    pair[0].other = pair[1]
    pair[1].other = pair[0]
    for (const end of pair) {
      end.room = this.room
      this.ends.set(end.fd, end)
    }
    return pair
  }

  /** Hands out what has happened since the last time. @returns whether anything has */
  deliver(event: (ref: number) => void): boolean {
    const ready = [...this.ends.values()].filter(({ edge, ref, isClosed }) => edge && ref >= 0 && !isClosed)
    for (const end of ready) {
      end.edge = false
      event(end.ref)
    }
    return ready.length > 0
  }

  #fault(call: string): number {
    const errno = this.fails.get(call) ?? 0
    this.fails.delete(call)
    return errno
  }

  #end(fd: number): SimEnd {
    const end = this.ends.get(fd)
    if (end === undefined || end.isClosed) throw new Error(`descriptor ${fd} is not open`)
    return end
  }

  now(): number {
    return this.time
  }
  watch(fd: number, ref: number): number {
    const errno = this.#fault("watch")
    if (errno !== 0) return -errno
    const end = this.#end(fd)
    end.ref = ref
    end.edge = true
    return 0
  }
  close(fd: number): number {
    this.#end(fd).close(false)
    return 0
  }
  reset(fd: number): number {
    this.#end(fd).close(true)
    return 0
  }
  shutdownWrite(fd: number): number {
    this.#end(fd).shutdown()
    return 0
  }
  tcpSocket(): number {
    return -EMFILE
  }
}
