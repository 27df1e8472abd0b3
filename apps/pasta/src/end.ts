/**
 * When it is over: the spawned command has ended, or the namespace that was joined is gone. A process tells by a descriptor, a
 * file by inotify on its directory. What is watched is opened at start: afterwards there are no files.
 */
import { closeSync, lstatSync, openSync, readSync, statfsSync } from "node:fs"
import { basename, dirname } from "node:path"
import type { Target } from "@passt/cli"
import { errnoText, type Logger } from "@passt/host"
import { entryGone, openProcess, watchDirectory } from "@passt/native"

/** File systems without notifications (linux/magic.h): procfs, sysfs, devpts. */
const BLIND: readonly number[] = [0x9fa0, 0x62656572, 0x1cd1]
/** Podman allows five seconds. */
const LOOK_MS = 1000
const ESRCH = 3

export interface NamespaceWatch {
  /** To be watched for input; -1: none. */
  readonly fd: number
  /** Longest time between calls of `gone`, milliseconds; -1: only when `fd` says so. */
  readonly everyMs: number
  /** Whether it was gone before it was watched. */
  readonly goneBefore: boolean
  /** What is watched, for messages. */
  readonly name: string
  /** Looks whether the namespace is gone. */
  gone(): boolean
}

/**
 * Watches what the namespace was named by.
 * @param directoryFd the directory of its file, which we may have no other way to; null: none. Closed.
 * @returns undefined for that of a spawned command, and for what can't be watched, which is logged
 */
export function watchNamespace(target: Target, directoryFd: number | null, logger: Logger): NamespaceWatch | undefined {
  if (target.kind === "command") return undefined
  const path = target.kind === "process" ? `/proc/${target.pid}/ns/net` : target.path
  try {
    // A process has no files in procfs once it has ended, and it is there to be asked.
    const process = /^\/proc\/(\d+)\//.exec(path)
    if (process) return watchProcess(Number(process[1]), path)
    return watchFile(path, directoryFd === null ? dirname(path) : `/proc/self/fd/${directoryFd}`)
  } catch (error) {
    logger.warning(`Will not notice the end of namespace ${path}: ${(error as Error).message}`)
    return undefined
  } finally {
    if (directoryFd !== null) closeSync(directoryFd)
  }
}

function watchProcess(pid: number, name: string): NamespaceWatch {
  const fd = openProcess(pid)
  if (fd >= 0) return { fd, everyMs: -1, goneBefore: false, name, gone: () => true }
  if (fd === -ESRCH) return { fd: -1, everyMs: -1, goneBefore: true, name, gone: () => true }
  // A kernel without such descriptors: a file of the process can't be read any more when there is no process.
  const file = openSync(`/proc/${pid}/stat`, "r")
  const room = new Uint8Array(16)
  return {
    fd: -1,
    everyMs: LOOK_MS,
    goneBefore: false,
    name,
    gone() {
      try {
        return readSync(file, room, 0, room.length, 0) === 0
      } catch {
        return true
      }
    },
  }
}

function watchFile(path: string, directory: string): NamespaceWatch {
  if (BLIND.includes(statfsSync(directory).type)) throw new Error("its file system does not tell")
  const entry = basename(path)
  const fd = watchDirectory(directory)
  if (fd < 0) throw new Error(errnoText(-fd))
  return {
    fd,
    everyMs: -1,
    goneBefore: !isThere(`${directory}/${entry}`),
    name: path,
    gone: () => entryGone(fd, entry) === 1,
  }
}

/** What a directory of another user's holds is not for us to see. */
function isThere(path: string): boolean {
  try {
    return lstatSync(path) !== undefined
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ENOENT"
  }
}
