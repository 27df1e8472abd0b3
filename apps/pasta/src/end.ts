/**
 * When it is over: the spawned command has ended, or the namespace that was joined is gone. A process tells by a descriptor,
 * a file by inotify on its directory; where that is blind (procfs and the like), the path is looked at every second.
 */
import { existsSync, lstatSync, statfsSync, statSync } from "node:fs"
import { basename, dirname } from "node:path"
import type { Target } from "@passt/cli"
import { drain, openProcess, watchDirectory } from "@passt/native"

/** File systems without notifications (linux/magic.h): procfs, sysfs, devpts. */
const BLIND: readonly number[] = [0x9fa0, 0x62656572, 0x1cd1]
/** Podman allows five seconds. */
const LOOK_MS = 1000

export interface NamespaceWatch {
  /** To be watched for input; -1: none. */
  readonly fd: number
  /** Longest time between calls of `gone`, milliseconds; -1: only when `fd` says so. */
  readonly everyMs: number
  /** What is watched, for messages. */
  readonly name: string
  /** Looks whether the namespace is gone. */
  gone(): boolean
}

/**
 * Watches what the namespace was named by.
 * @param directoryFd the directory of its file, which we may have no other way to; null: none
 * @returns undefined for that of a spawned command
 */
export function watchNamespace(target: Target, directoryFd: number | null): NamespaceWatch | undefined {
  if (target.kind === "command") return undefined
  const path = target.kind === "process" ? `/proc/${target.pid}/ns/net` : target.path
  // A process has no namespace once it has ended, and it is there to be asked.
  const process = /^\/proc\/(\d+)\/ns\/net$/.exec(path)
  if (process) {
    const fd = openProcess(Number(process[1]))
    if (fd >= 0) return { fd, everyMs: -1, name: path, gone: () => true }
    return { fd: -1, everyMs: LOOK_MS, name: path, gone: () => !existsSync(`/proc/${process[1]}`) }
  }
  const directory = directoryFd === null ? dirname(path) : `/proc/self/fd/${directoryFd}`
  const file = `${directory}/${basename(path)}`
  // What a link in procfs leads to is not for everybody to see; that it is there is.
  if (isBlind(directory)) return { fd: -1, everyMs: LOOK_MS, name: path, gone: () => !isThere(file) }
  const fd = watchDirectory(directory)
  const inode = identify(file)
  return {
    fd,
    everyMs: fd < 0 ? LOOK_MS : -1,
    name: path,
    gone() {
      if (fd >= 0) drain(fd)
      const now = identify(file)
      if (now === GONE) return true
      // Another namespace may have got the name by now.
      return inode !== HIDDEN && now !== HIDDEN && now !== inode
    },
  }
}

function isThere(path: string): boolean {
  try {
    return lstatSync(path) !== undefined
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EACCES"
  }
}

function isBlind(directory: string): boolean {
  try {
    return BLIND.includes(statfsSync(directory).type)
  } catch {
    return true
  }
}

const GONE = "gone"
/** Not for us to see, in a directory of another user's: nothing can be told then. */
const HIDDEN = "hidden"

/** What a path leads to. */
function identify(path: string): string {
  try {
    const { dev, ino } = statSync(path)
    return `${dev}:${ino}`
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT" ? GONE : HIDDEN
  }
}
