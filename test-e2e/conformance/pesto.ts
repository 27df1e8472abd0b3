// A client of --conf-path, as pesto is one, byte by byte.
import { createConnection } from "node:net"
import type { Socket } from "node:net"
import { until } from "../../tools/world/process.ts"

const GREETING = "626173696c3a7300" + "00000002" + "00000080" + "00000010"
const NAME_BYTES = 128
const RULE_BYTES = 56

/** A table as the program tells it. */
export interface Table {
  readonly id: number
  readonly name: string
  readonly capabilities: number
  /** Rules in hexadecimal digits. */
  readonly rules: readonly string[]
}

export interface RuleOptions {
  /** Sixteen bytes as hexadecimal digits; default: any, of both families. */
  readonly address?: string
  readonly target?: string
  readonly device?: string
  readonly first: number
  readonly last?: number
  readonly to?: number
  readonly protocol?: number
  readonly flags?: number
}

export const ANY: string = "0".repeat(32)
export const LOOPBACK4: string = "00000000000000000000ffff7f000001"

export function rule(options: RuleOptions): string {
  const { address = ANY, target = ANY, device = "", first, last = first, to = first, protocol = 6 } = options
  const { flags = address === ANY ? 1 : 0 } = options
  const bytes = Buffer.alloc(RULE_BYTES - 32)
  bytes.write(device)
  bytes.writeUInt16BE(first, 16)
  bytes.writeUInt16BE(last, 18)
  bytes.writeUInt16BE(to, 20)
  bytes.writeUInt8(protocol, 22)
  bytes.writeUInt8(flags, 23)
  return address + target + bytes.toString("hex")
}

/** A table to send. */
export function table(id: number, rules: readonly string[]): string {
  return id.toString(16).padStart(2, "0") + rules.length.toString(16).padStart(8, "0") + rules.join("")
}

export class PestoClient {
  readonly #socket: Socket
  #bytes: Buffer = Buffer.alloc(0)
  closed = false

  constructor(path: string) {
    this.#socket = createConnection(path)
    this.#socket.on("data", (chunk: Buffer) => (this.#bytes = Buffer.concat([this.#bytes, chunk])))
    this.#socket.on("error", () => {}).on("close", () => (this.closed = true))
  }

  /** What the program tells, once it is all there. */
  told(timeoutMs: number = 10_000): Promise<readonly Table[]> {
    return until("the tables", timeoutMs, () => this.#parse())
  }

  #parse(): Table[] | undefined {
    const bytes = this.#bytes
    if (bytes.length < 20) return undefined
    if (bytes.toString("hex", 0, 20) !== GREETING) throw new Error(`greeted by ${bytes.toString("hex", 0, 20)}`)
    const tables: Table[] = []
    for (let at = 20; at < bytes.length;) {
      const id = bytes[at++]!
      if (id === 0) return tables
      if (bytes.length < at + NAME_BYTES + 8) return undefined
      const name = bytes.toString("latin1", at, at + NAME_BYTES).replace(/\0+$/, "")
      const [capabilities, count] = [bytes.readUInt32BE(at + NAME_BYTES), bytes.readUInt32BE(at + NAME_BYTES + 4)]
      at += NAME_BYTES + 8
      const text = bytes.toString("hex", at, at + count * RULE_BYTES)
      at += count * RULE_BYTES
      tables.push({ id, name, capabilities, rules: text.match(new RegExp(`.{${2 * RULE_BYTES}}`, "g")) ?? [] })
    }
    return undefined
  }

  send(...parts: readonly string[]): void {
    this.#socket.write(Buffer.from(parts.join(""), "hex"))
  }

  async end(): Promise<void> {
    this.#socket.destroy()
    await until("the end of a client", 5000, () => this.closed)
  }
}

/** What the program tells now. */
export async function tablesOf(path: string): Promise<readonly Table[]> {
  const client = new PestoClient(path)
  try {
    return await client.told()
  } finally {
    await client.end()
  }
}

/** Sends tables as pesto does, and leaves. @returns what the program tells the next one */
export async function update(path: string, ...parts: readonly string[]): Promise<readonly Table[]> {
  const client = new PestoClient(path)
  await client.told()
  client.send(...parts, "00")
  await until("the end of the exchange", 10_000, () => client.closed).catch(() => {})
  await client.end()
  return tablesOf(path)
}
