/** `--policy`: rules from a file, at the start and on SIGHUP. */
import { readFileSync } from "node:fs"
import type { CommonOptions, Launch } from "@passt/cli"
import { PolicyLoad } from "@passt/control"
import { type Engine, parsePolicy, PolicyError, type PolicyOptions } from "@passt/core"
import { errnoText, type Logger } from "@passt/host"
import { type NativeKernel, receiveControl, sendControl } from "@passt/native"
import { externalRef } from "./assemble.ts"
import type { Chore, Chores } from "./chores.ts"
import { StartError } from "./error.ts"
import type { GuestConfig } from "./guest.ts"
import { trustedResolvers } from "./resolvers.ts"

/** What the engine is to be configured with. Without a file, but with a control socket: something that rules can be loaded into.
 * @throws StartError */
export function startPolicy(options: CommonOptions, config: GuestConfig): { readonly policy?: PolicyOptions } {
  const resolvers = trustedResolvers(config)
  if (options.policyFile === null) {
    return options.controlPath === null ? {} : { policy: { default: "allow", resolvers } }
  }
  let text: string
  try {
    text = readFileSync(options.policyFile, "utf8")
  } catch (error) {
    const { errno } = error as NodeJS.ErrnoException
    throw new StartError(`Couldn't read policy ${options.policyFile}: ${errnoText(-(errno ?? 0))}`)
  }
  try {
    return { policy: { ...parsePolicy(text), resolvers } }
  } catch (error) {
    if (error instanceof PolicyError) throw new StartError(`Policy ${options.policyFile}: ${error.message}`)
    throw error
  }
}

/** Makes ready for SIGHUP, if there is a file. @param index of the opener's events */
export function openPolicy(
  options: CommonOptions,
  launch: Launch,
  engine: Engine,
  kernel: NativeKernel,
  logger: Logger,
  chores: Chores,
  index: number,
): PolicyReloader | undefined {
  if (options.policyFile === null) return undefined
  const ref = externalRef(index)
  const reloader = new PolicyReloader(engine, kernel, logger, options.policyFile, launch.policyFd, ref)
  chores.add(reloader)
  return reloader
}

const ANSWER_BYTES = 64

/** Reads the file again when it is asked to. */
export class PolicyReloader implements Chore {
  isDue = false
  dueAt = 0
  readonly #engine: Engine
  readonly #kernel: NativeKernel
  readonly #logger: Logger
  readonly #file: string
  readonly #openerFd: number
  readonly #bytes: Buffer = Buffer.alloc(ANSWER_BYTES)
  readonly #passed: Int32Array = new Int32Array(1)
  #load: PolicyLoad | undefined

  /** @param openerFd where the file is to be had, see native/launcher/README.md; null: nowhere @param ref of its events */
  constructor(
    engine: Engine,
    kernel: NativeKernel,
    logger: Logger,
    file: string,
    openerFd: number | null,
    ref: number,
  ) {
    this.#engine = engine
    this.#kernel = kernel
    this.#logger = logger
    this.#file = file
    this.#openerFd = openerFd ?? -1
    if (this.#openerFd >= 0) kernel.watchLevel(this.#openerFd, ref)
  }

  /** Asks for the file. */
  reload(): void {
    if (this.#openerFd < 0) {
      this.#logger.error(`Policy ${this.#file} can't be read again: there is nobody to open it; the old rules stay`)
      return
    }
    if (sendControl(this.#openerFd, this.#bytes, 0, 1) < 0) this.#gone()
  }

  /** The opener has answered. */
  opened(): void {
    const got = receiveControl(this.#openerFd, this.#bytes, 0, this.#passed)
    const fd = this.#passed[0]!
    this.#passed[0] = -1
    if (got <= 0) {
      this.#gone()
      return
    }
    if (fd < 0) {
      const errno = Number(this.#bytes.toString("latin1", 1, got))
      this.#logger.error(`Couldn't read policy ${this.#file}: ${errnoText(errno)}; the old rules stay`)
      return
    }
    this.#load?.cancel()
    this.#load = new PolicyLoad(this.#engine, fd)
    this.isDue = true
    this.dueAt = this.#kernel.now()
  }

  #gone(): void {
    this.#kernel.unwatch(this.#openerFd)
    this.#logger.error("The process that opens the policy's file has ended: it can't be read again")
  }

  run(now: number): void {
    const load = this.#load
    if (load === undefined) return
    load.step()
    this.dueAt = now
    if (!load.isDone) return
    this.isDue = false
    this.#load = undefined
    if (load.error === "") this.#logger.info(`Policy ${this.#file}: ${load.rules} rules`)
    else this.#logger.error(`Policy ${this.#file}: ${load.error}; the old rules stay`)
  }
}
