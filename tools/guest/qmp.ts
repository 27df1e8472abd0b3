// QEMU's monitor (QMP): commands and events, one JSON object a line.
import type { Socket } from "node:net"
import { until } from "../world/process.ts"
import { connectWhenThere } from "./channel.ts"

export interface Qmp {
  /** @returns what the command returns. Rejects with what QEMU says if it fails. */
  command(name: string, args?: Readonly<Record<string, unknown>>): Promise<unknown>
  close(): void
}

interface Answer {
  readonly return?: unknown
  readonly error?: { readonly desc: string }
  readonly event?: string
}

/** @param path of a socket: `-qmp unix:PATH,server=on,wait=off` */
export async function openQmp(path: string, timeoutMs = 30_000): Promise<Qmp> {
  const socket: Socket = await connectWhenThere(path, timeoutMs)
  const answers: Answer[] = []
  let buffered = ""
  socket.setEncoding("utf8")
  socket.on("data", (text: string) => {
    buffered += text
    const lines = buffered.split("\n")
    buffered = lines.pop() ?? ""
    for (const line of lines) {
      const answer = JSON.parse(line) as Answer
      if (answer.return !== undefined || answer.error !== undefined) answers.push(answer)
    }
  })
  // A QEMU that ends takes its monitor along.
  socket.on("error", () => {})
  async function command(name: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    socket.write(`${JSON.stringify({ execute: name, arguments: args })}\n`)
    const answer = await until(`QEMU's answer to ${name}`, timeoutMs, () => Promise.resolve(answers.shift()))
    if (answer.error !== undefined) throw new Error(`${name}: ${answer.error.desc}`)
    return answer.return
  }
  await command("qmp_capabilities")
  return { command, close: () => void socket.destroy() }
}
