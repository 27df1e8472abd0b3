/** Network namespaces of our own, for tests that ask a real kernel. */
import { execFileSync } from "node:child_process"
import { fileURLToPath } from "node:url"

function run(file: string, args: readonly string[], input?: string): string {
  return execFileSync(file, args, { encoding: "utf8", input: input ?? "", stdio: "pipe" })
}

/** Why there can't be namespaces here; undefined if there can. */
export function namespacesUnavailable(): string | undefined {
  const name = `passt-probe-${process.pid}`
  try {
    run("ip", ["netns", "add", name])
    run("ip", ["netns", "delete", name])
    return undefined
  } catch (error) {
    return `needs root and iproute2: ${String(error).split("\n")[0]}`
  }
}

export class Namespace {
  readonly name: string

  constructor(label: string) {
    this.name = `passt-${label}-${process.pid}`
    run("ip", ["netns", "add", this.name])
  }
  /** Runs `ip` commands in it, one per line. */
  ip(commands: string): void {
    run("ip", ["-netns", this.name, "-batch", "-"], commands)
  }
  /** Runs a program of test-support in it, with its argument as JSON on standard input. @returns what it printed, as JSON */
  node(program: string, argument: unknown = {}): unknown {
    const path = fileURLToPath(new URL(program, import.meta.url))
    return JSON.parse(run("ip", ["netns", "exec", this.name, process.execPath, path], JSON.stringify(argument)))
  }
  delete(): void {
    run("ip", ["netns", "delete", this.name])
  }
}
