/** What the process is and may do: identity, capabilities, limits, standard streams; and the syslog socket. For start and shutdown. */
import { addon } from "./load.ts"

interface ProcessAddon {
  dropRoot(uid: number, gid: number): number
  isInitialUserNamespaceRoot(): number
  lookupUser(name: string, ids: Uint32Array): number
  lookupGroup(name: string, ids: Uint32Array): number
  dropCapabilities(kept: number): number
  setNoNewPrivs(): number
  setDumpable(dumpable: number): number
  raiseFileLimit(): number
  setProcessName(name: string): number
  redirectStdio(): number
  syslogOpen(path: string): number
  syslogSend(fd: number, bytes: Uint8Array, length: number): number
}

const calls = addon as unknown as ProcessAddon

/** Becomes another user for good, on all threads, without supplementary groups. @returns 0 or -errno */
export function dropRoot(uid: number, gid: number): number {
  return calls.dropRoot(uid, gid)
}

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

/** CAP_NET_BIND_SERVICE: to listen on ports below ip_unprivileged_port_start. */
export const CAPABILITY_BIND_SERVICE = 10

/** Gives up all capabilities, in the ambient, effective, permitted, inheritable and (where allowed) bounding sets of every thread.
 * @param kept one that stays usable, as far as a thread has it @returns the number of threads that could not be reached, or -errno. Node's signal inspector thread is one; `--disable-sigusr1`
 *   keeps it from being started. Capabilities given up before Node starts are gone on every thread. */
export function dropCapabilities(kept = -1): number {
  return calls.dropCapabilities(kept)
}

/** No program that we might execute gains privileges. @returns as dropCapabilities */
export function setNoNewPrivs(): number {
  return calls.setNoNewPrivs()
}

/** Whether processes of the same user may trace us, and core files are written. @returns 0 or -errno */
export function setDumpable(dumpable: boolean): number {
  return calls.setDumpable(dumpable ? 1 : 0)
}

/** Raises the soft limit of open files to the hard one. @returns the limit in force, or -errno */
export function raiseFileLimit(): number {
  return calls.raiseFileLimit()
}

/** What ps and top show, cut to 15 bytes; call it on the main thread. @returns 0 or -errno */
export function setProcessName(name: string): number {
  return calls.setProcessName(name)
}

/** Descriptors 0 to 2 become /dev/null: whoever reads our output sees its end. @returns 0 or -errno */
export function redirectStdio(): number {
  return calls.redirectStdio()
}

/** Connects a datagram socket to the log daemon or service manager. @param path "@…": an abstract address @returns the descriptor or -errno */
export function syslogOpen(path = "/dev/log"): number {
  return calls.syslogOpen(path)
}

/** Sends the first `length` bytes as one message; never waits. @returns bytes sent or -errno */
export function syslogSend(fd: number, bytes: Uint8Array, length: number): number {
  return calls.syslogSend(fd, bytes, length)
}
