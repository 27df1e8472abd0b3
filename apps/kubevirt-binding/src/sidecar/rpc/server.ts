/** A gRPC server on a UNIX socket, which appears at its place only when it answers. */
import { chmodSync, mkdirSync, renameSync, rmSync } from "node:fs"
import { dirname } from "node:path"
import {
  Server,
  ServerCredentials,
  type ServiceDefinition,
  status,
  type sendUnaryData,
  type ServerUnaryCall,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js"
import { Refusal } from "../refusal.ts"

/** Domains and virtual machines are some ten kilobytes; cloud-init data may be more. */
const MESSAGE_BYTES_MAX = 16 << 20
/** For calls that are still under way when the server ends. */
const GRACE_MS = 200

// oxlint-disable-next-line typescript/no-explicit-any -- each method has messages of its own
export type Handler = (request: any) => unknown

export interface Service {
  readonly definition: ServiceDefinition
  readonly handlers: Readonly<Record<string, Handler>>
}

export class RpcServer {
  readonly path: string
  readonly #workPath: string
  readonly #server: Server = new Server({
    "grpc.max_receive_message_length": MESSAGE_BYTES_MAX,
    "grpc.max_send_message_length": MESSAGE_BYTES_MAX,
    // Its bookkeeping for debuggers is memory.
    "grpc.enable_channelz": 0,
  })

  /**
   * @param path of the socket
   * @param workPath where it is made, out of sight: a path in another directory of the same file system
   */
  constructor(path: string, workPath: string, services: readonly Service[]) {
    this.path = path
    this.#workPath = workPath
    for (const { definition, handlers } of services) {
      const methods = Object.entries(handlers).map(([name, handler]) => [name, unary(handler)])
      this.#server.addService(definition, Object.fromEntries(methods) as UntypedServiceImplementation)
    }
  }

  async listen(): Promise<void> {
    mkdirSync(dirname(this.#workPath), { recursive: true, mode: 0o700 })
    rmSync(this.#workPath, { force: true })
    await new Promise<void>((resolve, reject) => {
      this.#server.bindAsync(`unix:${this.#workPath}`, ServerCredentials.createInsecure(), (error) =>
        error === null ? resolve() : reject(error),
      )
    })
    chmodSync(this.#workPath, 0o660)
    renameSync(this.#workPath, this.path)
  }

  async close(): Promise<void> {
    rmSync(this.path, { force: true })
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => {
        this.#server.forceShutdown()
        resolve()
      }, GRACE_MS)
      this.#server.tryShutdown(() => {
        clearTimeout(timer)
        resolve()
      })
    })
  }
}

function unary(handler: Handler) {
  return (call: ServerUnaryCall<unknown, unknown>, reply: sendUnaryData<unknown>): void => {
    const answer = async (): Promise<void> => {
      try {
        reply(null, await handler(call.request))
      } catch (error) {
        const code = error instanceof Refusal ? status.INVALID_ARGUMENT : status.INTERNAL
        reply({ code, details: (error as Error).message })
      }
    }
    void answer()
  }
}
