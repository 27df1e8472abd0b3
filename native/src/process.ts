/** What the process is: who is who, limits, name, standard streams; and the syslog socket. For start and shutdown. */
import { addon } from "./load.ts"

interface ProcessAddon {
  isInitialUserNamespaceRoot(): number
  socketPair(ends: Int32Array): number
  closeDescriptor(fd: number): number
  lookupUser(name: string, ids: Uint32Array): number
  lookupGroup(name: string, ids: Uint32Array): number
  raiseFileLimit(): number
  setProcessName(name: string): number
  redirectStdio(fd: number): number
  syslogOpen(path: string): number
  syslogSend(fd: number, bytes: Uint8Array, length: number): number
}

const calls = addon as unknown as ProcessAddon

/** Whether we are root of the whole machine rather than of a user namespace. */
export function isInitialUserNamespaceRoot(): boolean {
  return calls.isInitialUserNamespaceRoot() === 1
}

/** A login name's user id and primary group id; undefined for an unknown name. Asks the system's name service. */
export function lookupUser(name: string): { readonly uid: number; readonly gid: number } | undefined {
  const ids = new Uint32Array(2)
  return calls.lookupUser(name, ids) === 0 ? { uid: ids[0]!, gid: ids[1]! } : undefined
}

/** A group's id; undefined for an unknown name. */
export function lookupGroup(name: string): number | undefined {
  const ids = new Uint32Array(1)
  return calls.lookupGroup(name, ids) === 0 ? ids[0]! : undefined
}

/** Raises the soft limit of open files to the hard one. @returns the limit in force, or -errno */
export function raiseFileLimit(): number {
  return calls.raiseFileLimit()
}

/** What ps and top show, cut to 15 bytes; call it on the main thread. @returns 0 or -errno */
export function setProcessName(name: string): number {
  return calls.setProcessName(name)
}

/** Descriptors 0 to 2 become copies of another, /dev/null, which is closed: whoever reads our output sees its end.
 * @returns 0 or -errno */
export function redirectStdio(fd: number): number {
  return calls.redirectStdio(fd)
}

/** Connects a datagram socket to the log daemon or service manager. @param path "@…": an abstract address @returns the descriptor or -errno */
export function syslogOpen(path = "/dev/log"): number {
  return calls.syslogOpen(path)
}

/** Sends the first `length` bytes as one message; never waits. @returns bytes sent or -errno */
export function syslogSend(fd: number, bytes: Uint8Array, length: number): number {
  return calls.syslogSend(fd, bytes, length)
}

/** Two connected UNIX stream sockets, which a program that is executed does not inherit. @returns both, or -errno */
export function socketPair(): readonly [number, number] | number {
  const ends = new Int32Array(2)
  const result = calls.socketPair(ends)
  return result < 0 ? result : [ends[0]!, ends[1]!]
}

/** Closes a descriptor that native code has opened; of those node:fs knows nothing, and warns in workers. @returns 0 or -errno */
export function closeDescriptor(fd: number): number {
  return calls.closeDescriptor(fd)
}
