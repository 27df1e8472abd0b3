/**
 * A socket pair between the engine and a child process: QEMU, or another machine monitor that takes a connected stream socket.
 * No path, so nobody else can connect and nothing is left behind.
 */
import { closeDescriptor, socketPair } from "@passt/native"
import { errnoText } from "@passt/host"
import { EngineError } from "./config-error.ts"

/** One end is the engine's, the other the guest's. */
export class GuestSocket {
  readonly kind = "socketpair"
  /** The guest's end, for the `stdio` of `child_process.spawn`. */
  readonly fd: number
  #ours: number
  #released = false

  /** @throws EngineError when the host gives no socket */
  constructor() {
    const pair = socketPair()
    if (typeof pair === "number") throw new EngineError("ERR_PASST_START", `no socket pair: ${errnoText(-pair)}`)
    this.#ours = pair[0]
    this.fd = pair[1]
  }

  /** Options of QEMU (7.2 or later) for a network card behind the socket.
   * @param childFd the number that it has in the child: its place in `stdio` @param model of the card @param id of the netdev */
  qemuArgs(childFd = 3, model = "virtio-net-pci", id = "net0"): string[] {
    return ["-netdev", `stream,id=${id},addr.type=fd,addr.str=${childFd}`, "-device", `${model},netdev=${id}`]
  }

  /** Closes the guest's end here: after `spawn`, or the end of the child would not be seen. */
  release(): void {
    if (!this.#released) closeDescriptor(this.fd)
    this.#released = true
  }

  /** Our end, for the engine: once. */
  take(): number {
    const fd = this.#ours
    this.#ours = -1
    if (fd < 0) throw new EngineError("ERR_PASST_STATE", "this socket pair is in use already")
    return fd
  }

  /** Closes what is still here. */
  [Symbol.dispose](): void {
    this.release()
    if (this.#ours >= 0) closeDescriptor(this.#ours)
    this.#ours = -1
  }
}
