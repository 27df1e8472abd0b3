/**
 * A network namespace of a test's own, and why there can't be one. It lives as long as the process that holds it.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process"
import { accessSync, closeSync, constants, openSync, readlinkSync } from "node:fs"

/** Why there can't be tap devices here; undefined if there can. */
export function tapsUnavailable(): string | undefined {
  try {
    accessSync("/dev/net/tun", constants.R_OK | constants.W_OK)
  } catch {
    return "/dev/net/tun is missing, or not ours to open"
  }
  const probe = spawnSync("unshare", ["--net", "ip", "link"], { encoding: "utf8" })
  return probe.status === 0 ? undefined : (probe.error?.message ?? probe.stderr).trim()
}

function sleep(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)
}

export class Space {
  readonly fd: number
  readonly #holder: ChildProcess

  constructor() {
    const own = readlinkSync("/proc/self/ns/net")
    this.#holder = spawn("unshare", ["--net", "sleep", "600"], { stdio: "ignore" })
    const path = `/proc/${this.#holder.pid}/ns/net`
    for (let i = 0; readlinkSync(path) === own; i++) {
      if (i === 500) throw new Error("unshare does not begin")
      sleep(2)
    }
    this.fd = openSync(path, "r")
    // Neighbour discovery would mix its own frames in.
    this.shell("sysctl -qw net.ipv6.conf.default.disable_ipv6=1; ip link set lo up")
  }

  /** Runs a shell command in it. @returns what it printed */
  shell(command: string): string {
    const prefix = ["--target", String(this.#holder.pid), "--net", "sh", "-ec"]
    return execFileSync("nsenter", [...prefix, command], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] })
  }

  end(): void {
    closeSync(this.fd)
    this.#holder.kill("SIGKILL")
  }
}
