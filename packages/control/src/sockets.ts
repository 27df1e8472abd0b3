/** The system calls of the control socket, as an interface, so that tests can be hostile without a kernel. */
import { acceptControl, listenControl, type NativeKernel, receiveControl, sendControl } from "@passt/native"

export interface ControlSockets {
  /** @param mode of the socket's file, less the umask; default: its owner's alone @returns the listening descriptor or -errno */
  listen(path: string, mode?: number): number
  /** @returns a connection, or -errno: -EAGAIN when nobody waits */
  accept(listener: number): number
  /** Reads once into `bytes`, from `from` on. @param passed gets a descriptor that came along, else -1
   * @returns bytes, 0 at the end, or -errno */
  receive(fd: number, bytes: Uint8Array, from: number, passed: Int32Array): number
  /** Writes once. @returns bytes or -errno */
  send(fd: number, bytes: Uint8Array, from: number, to: number): number
  close(fd: number): void
  /** Reports changes under `ref`: edge-triggered. */
  watch(fd: number, ref: number): number
}

export function nativeSockets(kernel: NativeKernel): ControlSockets {
  return {
    listen: listenControl,
    accept: acceptControl,
    receive: receiveControl,
    send: sendControl,
    close: (fd) => kernel.close(fd),
    watch: (fd, ref) => kernel.watch(fd, ref),
  }
}
