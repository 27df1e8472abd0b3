// Sockets in another namespace: of the host beside the program under test, of the world behind it, or of what it serves.
import type { ChildProcess } from "node:child_process"
import { join } from "node:path"
import { createInterface } from "node:readline"
import type { Namespace } from "../../tools/world/namespace.ts"

export interface PeerRequest {
  readonly id: number
  readonly op:
    | "listen"
    | "accept"
    | "connect"
    | "write"
    | "end"
    | "reset"
    | "read"
    | "bind"
    | "send"
    | "receive"
    | "clear"
  readonly key?: number
  readonly address?: string
  readonly port?: number
  readonly localAddress?: string
  readonly localPort?: number
  readonly group?: string
  readonly hex?: string
  readonly count?: number
  readonly timeoutMs?: number
}

/** Set for a peer that is also the world's servers. */
export const SERVE_VARIABLE = "PASST_PEER_SERVES"

interface Answer {
  readonly id: number
  readonly error?: string
  readonly key?: number
  readonly port?: number
  readonly localAddress?: string
  readonly localPort?: number
  readonly remoteAddress?: string
  readonly remotePort?: number
  readonly hex?: string
  readonly state?: string
  readonly address?: string
}

/** How long sockets may take. */
const PATIENCE_MS = 20_000

/** What a socket call failed with, such as ECONNREFUSED or ETIMEDOUT. */
export class SocketError extends Error {
  readonly code: string
  constructor(what: string, code: string) {
    super(`${what}: ${code}`)
    this.code = code
  }
}

/** An IPv4 address as such, where a socket of both families says ::ffff:192.0.2.1. */
const plain = (address: string | undefined): string => (address ?? "").replace(/^::ffff:/, "")

export class Connection {
  readonly #peer: Peer
  readonly #key: number
  readonly remoteAddress: string
  readonly remotePort: number
  readonly localAddress: string
  readonly localPort: number
  constructor(peer: Peer, answer: Answer) {
    this.#peer = peer
    this.#key = answer.key!
    this.remoteAddress = plain(answer.remoteAddress)
    this.remotePort = answer.remotePort!
    this.localAddress = plain(answer.localAddress)
    this.localPort = answer.localPort!
  }
  async write(data: Buffer | string): Promise<void> {
    await this.#peer.ask({ op: "write", key: this.#key, hex: Buffer.from(data).toString("hex") })
  }
  /** Up to `count` bytes, fewer if the stream ends before. */
  async read(count: number): Promise<Buffer> {
    const { hex } = await this.#peer.ask({ op: "read", key: this.#key, count, timeoutMs: PATIENCE_MS })
    return Buffer.from(hex!, "hex")
  }
  /** Reads to the end; "ended", or the code of the error that ended it. */
  async finish(): Promise<string> {
    const { state } = await this.#peer.ask({ op: "read", key: this.#key, count: 2 ** 30, timeoutMs: PATIENCE_MS })
    return state!
  }
  async end(): Promise<void> {
    await this.#peer.ask({ op: "end", key: this.#key })
  }
  async reset(): Promise<void> {
    await this.#peer.ask({ op: "reset", key: this.#key })
  }
}

export class Listener {
  readonly #peer: Peer
  readonly #key: number
  constructor(peer: Peer, key: number) {
    this.#peer = peer
    this.#key = key
  }
  async accept(timeoutMs: number = PATIENCE_MS): Promise<Connection> {
    return new Connection(this.#peer, await this.#peer.ask({ op: "accept", key: this.#key, timeoutMs }))
  }
}

export interface Received {
  readonly data: Buffer
  readonly address: string
  readonly port: number
}

export class DatagramEnd {
  readonly #peer: Peer
  readonly #key: number
  readonly port: number
  constructor(peer: Peer, key: number, port: number) {
    this.#peer = peer
    this.#key = key
    this.port = port
  }
  async send(address: string, port: number, data: Buffer | string): Promise<void> {
    await this.#peer.ask({ op: "send", key: this.#key, address, port, hex: Buffer.from(data).toString("hex") })
  }
  async receive(timeoutMs: number = PATIENCE_MS): Promise<Received> {
    const { hex, address, port } = await this.#peer.ask({ op: "receive", key: this.#key, timeoutMs })
    return { data: Buffer.from(hex!, "hex"), address: plain(address), port: port! }
  }
}

export class Peer {
  readonly #child: ChildProcess
  readonly #waiting = new Map<number, (answer: Answer) => void>()
  readonly #name: string
  #last = 0

  /** @param options serve: with the servers of the small world (tools/world/servers.ts) in the same process */
  constructor(namespace: Namespace, options: { readonly serve?: boolean } = {}) {
    this.#name = namespace.name
    const command = [
      process.execPath,
      "--disable-warning=ExperimentalWarning",
      join(import.meta.dirname, "peer-main.ts"),
    ]
    const env = { ...process.env, [SERVE_VARIABLE]: options.serve ? "yes" : "" }
    this.#child = namespace.start(command, { stdio: ["pipe", "pipe", "inherit"], env })
    this.#child.stdin!.on("error", () => {})
    createInterface({ input: this.#child.stdout! }).on("line", (line) => {
      if (!line.startsWith("{")) return
      const answer = JSON.parse(line) as Answer
      this.#waiting.get(answer.id)?.(answer)
      this.#waiting.delete(answer.id)
    })
    this.#child.once("exit", () => {
      for (const [id, resolve] of this.#waiting) resolve({ id, error: "the namespace is gone" })
    })
  }

  async ask(request: Omit<PeerRequest, "id">): Promise<Answer> {
    const id = ++this.#last
    const answer = await new Promise<Answer>((resolve) => {
      this.#waiting.set(id, resolve)
      this.#child.stdin!.write(`${JSON.stringify({ id, ...request })}\n`)
    })
    if (answer.error !== undefined) throw new SocketError(`${request.op} in ${this.#name}`, answer.error)
    return answer
  }

  async listen(address: string, port: number): Promise<Listener> {
    return new Listener(this, (await this.ask({ op: "listen", address, port })).key!)
  }
  async connect(
    address: string,
    port: number,
    local: Pick<PeerRequest, "localAddress" | "localPort"> = {},
  ): Promise<Connection> {
    return new Connection(this, await this.ask({ op: "connect", address, port, ...local }))
  }
  /** The code that a connection attempt fails with; undefined if it doesn't. */
  async connectError(address: string, port: number): Promise<string | undefined> {
    try {
      await this.connect(address, port)
      return undefined
    } catch (error) {
      if (error instanceof SocketError) return error.code
      throw error
    }
  }
  /** A datagram socket; with a group, a member of it. */
  async bind(address: string, port: number = 0, group?: string): Promise<DatagramEnd> {
    const answer = await this.ask({ op: "bind", address, port, ...(group !== undefined && { group }) })
    return new DatagramEnd(this, answer.key!, answer.port!)
  }
  /** Closes all sockets. */
  async clear(): Promise<void> {
    await this.ask({ op: "clear" })
  }
}
