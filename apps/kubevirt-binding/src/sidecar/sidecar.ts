/**
 * The sidecar of a virtual machine: answers hooks and domain plugins, both over `mutate`, and keeps the machine's engines.
 *
 *   <hooks>/passt-<container>.sock       hook sockets are known by their base names, so this one is nobody else's
 *   <hooks>/engine/                      all the rest: directories are passed over when sockets are looked for
 *   <plugins>/<plugin>/passt.sock, engine/
 */
import { statSync } from "node:fs"
import { join } from "node:path"
import { Engines } from "./engines.ts"
import type { Log } from "./log.ts"
import { Metrics } from "./metrics.ts"
import { type Context, mutate } from "./mutate.ts"
import { Refusal } from "./refusal.ts"
import { RpcServer, type Service } from "./rpc/server.ts"
import {
  CALLBACK_VERSIONS,
  callbackService,
  type CloudInitParams,
  type DefineParams,
  DOMAIN_HOOK_SERVICE,
  INFO_SERVICE,
  type InfoResult,
  type MutateRequest,
} from "./rpc/services.ts"
import type { Settings } from "./settings.ts"

/** The name of KubeVirt's own sidecar, whose place this one takes. */
const INFO_NAME = "network-passt-binding"
const ENGINE_DIRECTORY = "engine"
/** Where virt-launcher has the directory of all hook sidecars. */
const HOOKS_IN_MACHINE = "/var/run/kubevirt-hooks"

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

export class Sidecar {
  readonly #settings: Settings
  readonly #log: Log
  readonly #engines: Engines
  readonly #metrics: Metrics
  readonly #servers: RpcServer[] = []
  readonly #ended: () => void
  #onTerminate: "end" | "wait"
  #ending: Promise<void> | undefined

  /** @param ended called when the Shutdown hook has been answered, and everything has ended */
  constructor(settings: Settings, log: Log, ended: () => void) {
    this.#settings = settings
    this.#log = log
    this.#ended = ended
    this.#engines = new Engines(settings.passt, log)
    this.#metrics = new Metrics(this.#engines, log)
    this.#onTerminate = settings.onTerminate
  }

  /** Listens wherever there is a directory for it. @throws Refusal if there is none */
  async start(): Promise<void> {
    const { hookDirectory, pluginDirectory, pluginName, containerName, metricsPort } = this.#settings
    if (isDirectory(hookDirectory)) {
      const path = join(hookDirectory, `passt-${containerName}.sock`)
      const inMachine = join(HOOKS_IN_MACHINE, containerName, ENGINE_DIRECTORY)
      this.#listen(path, join(hookDirectory, ENGINE_DIRECTORY), this.#hooks(hookDirectory, inMachine))
    }
    const own = join(pluginDirectory, pluginName)
    if (isDirectory(own)) {
      const context = this.#context(join(own, ENGINE_DIRECTORY), join(own, ENGINE_DIRECTORY), false)
      this.#listen(join(own, "passt.sock"), context.engineDirectory, [
        {
          definition: DOMAIN_HOOK_SERVICE,
          handlers: {
            MutateDomain: ({ domainType, domain, vmi, invocation }: MutateRequest) =>
              this.#mutate("MutateDomain", domainType, domain, vmi, invocation, context),
          },
        },
      ])
    }
    if (this.#servers.length === 0) {
      throw new Refusal(`there is neither a directory ${hookDirectory} nor ${own} to listen in`)
    }
    this.#metrics.serve(metricsPort)
    for (const server of this.#servers) {
      await server.listen()
      this.#log.info("listening", { socket: server.path })
    }
  }

  /** What SIGTERM asks for. @returns whether it ends now */
  terminate(): boolean {
    if (this.#onTerminate === "end") return true
    this.#log.info("asked to terminate: waiting for the machine's end")
    return false
  }

  /** Ends everything, within a second. */
  stop(): Promise<void> {
    this.#ending ??= this.#stop()
    return this.#ending
  }

  async #stop(): Promise<void> {
    this.#metrics.close()
    await Promise.all([this.#engines.stop(), ...this.#servers.map((server) => server.close())])
  }

  #listen(path: string, directory: string, services: readonly Service[]): void {
    this.#servers.push(new RpcServer(path, join(directory, "hook.sock"), services))
  }

  #context(engineDirectory: string, engineDirectoryInMachine: string, needsInterface: boolean): Context {
    return { settings: this.#settings, engineDirectory, engineDirectoryInMachine, needsInterface }
  }

  #hooks(hookDirectory: string, inMachine: string): Service[] {
    const context = this.#context(join(hookDirectory, ENGINE_DIRECTORY), inMachine, true)
    const versions = CALLBACK_VERSIONS.map(([version]) => version)
    const info: InfoResult = { name: INFO_NAME, versions, hookPoints: ["OnDefineDomain", "Shutdown"] }
    const all = {
      OnDefineDomain: ({ domain, vmi }: DefineParams) =>
        this.#mutate("OnDefineDomain", "libvirt", domain, vmi, "", context),
      // Not announced; who calls it all the same gets its data back.
      PreCloudInitIso: (params: CloudInitParams) => params,
      Shutdown: () => this.#shutdown(),
    }
    const callbacks = CALLBACK_VERSIONS.map(([version, points]) => {
      const handlers = Object.fromEntries(Object.entries(all).filter(([name]) => points.includes(name)))
      return { definition: callbackService(version, points), handlers }
    })
    return [{ definition: INFO_SERVICE, handlers: { Info: () => info } }, ...callbacks]
  }

  #shutdown(): object {
    this.#log.info("the machine has ended")
    // First the answer, then the end.
    setImmediate(() => void this.stop().then(this.#ended))
    return {}
  }

  async #mutate(
    hook: string,
    domainType: string,
    domain: Buffer,
    vmi: Buffer,
    invocation: string,
    context: Context,
  ): Promise<Buffer> {
    const began = performance.now()
    const seconds = (): number => (performance.now() - began) / 1000
    try {
      if (domainType !== "libvirt") throw new Refusal(`the domain is of the type "${domainType}" instead of "libvirt"`)
      const text = decode(domain, "domain")
      const mutation = mutate(decode(vmi, "VirtualMachineInstance"), text, context)
      const { machine, wishes, engines } = mutation
      for (const warning of machine.warnings) this.#log.warning(warning, { machine: machine.title })
      await this.#engines.follow(engines)
      this.#onTerminate = wishes.onTerminate
      this.#metrics.serve(wishes.metricsPort)
      const interfaces = machine.interfaces.map(({ name }) => name)
      this.#log.info("domain defined", {
        hook,
        ...(invocation === "" ? {} : { invocation }),
        machine: machine.title,
        interfaces,
        engine: wishes.engine,
        meshes: wishes.meshes,
        changed: mutation.domain !== text,
        milliseconds: Math.round(seconds() * 1000),
      })
      this.#metrics.count(hook, "ok", seconds())
      return Buffer.from(mutation.domain)
    } catch (error) {
      const isRefusal = error instanceof Refusal
      this.#metrics.count(hook, isRefusal ? "refused" : "failed", seconds())
      this.#log.error((error as Error).message, { hook, ...(isRefusal ? {} : { stack: (error as Error).stack }) })
      throw error
    }
  }
}

function decode(bytes: Buffer, what: string): string {
  if (bytes.length === 0) throw new Refusal(`the ${what} is empty`)
  try {
    return utf8.decode(bytes)
  } catch {
    throw new Refusal(`the ${what} is not UTF-8`)
  }
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true
}
