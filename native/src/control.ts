/**
 * The control socket: a UNIX stream socket of lines of text, with which an open file may come along. Results are >= 0 or -errno.
 */
import { addon } from "./load.ts"

interface ControlAddon {
  listenControl(path: string, mode: number): number
  connectControl(path: string): number
  acceptControl(fd: number): number
  receiveControl(fd: number, bytes: Uint8Array, from: number, passed: Int32Array): number
  sendControl(fd: number, bytes: Uint8Array, from: number, to: number, descriptor: number): number
  isReadableFile(fd: number): number
}

const calls = addon as unknown as ControlAddon

/** Listens. A socket that nobody listens on any more is replaced, another file is not.
 * @param mode of the socket's file, less the umask; default: its owner's alone @returns the descriptor, non-blocking */
export function listenControl(path: string, mode: number = 0o600): number {
  return calls.listenControl(path, mode)
}

/** The client's side. @returns the descriptor, blocking */
export function connectControl(path: string): number {
  return calls.connectControl(path)
}

/** @returns a connection, non-blocking; -EAGAIN when nobody waits */
export function acceptControl(fd: number): number {
  return calls.acceptControl(fd)
}

/** Reads once, behind the first `from` bytes. @param passed the first word gets a descriptor that came along, else -1
 * @returns bytes, 0 at the end of the stream */
export function receiveControl(fd: number, bytes: Uint8Array, from: number, passed: Int32Array): number {
  return calls.receiveControl(fd, bytes, from, passed)
}

/** Writes once. @param descriptor goes along with the first byte; -1: none @returns bytes */
export function sendControl(fd: number, bytes: Uint8Array, from: number, to: number, descriptor: number = -1): number {
  return calls.sendControl(fd, bytes, from, to, descriptor)
}

/** Whether a descriptor is that of a regular file that can be read: reading it never waits for anybody. */
export function isReadableFile(fd: number): boolean {
  return calls.isReadableFile(fd) === 1
}
