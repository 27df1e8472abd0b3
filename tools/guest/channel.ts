// The host's end of the command channel: see rootfs/agent for the lines.
import { connect } from "node:net"
import type { Socket } from "node:net"
import { until } from "../world/process.ts"

export interface CommandResult {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

export interface Channel {
  /** Resolves when the agent has said that it is there. */
  readonly ready: Promise<void>
  /** Run a shell command in the guest. Rejects when the guest goes away or does not answer in time. */
  run(command: string, timeoutMs: number): Promise<CommandResult>
  close(): void
}

/** An answer line; undefined if it is none (the guest is not trusted to keep to the form). */
export function parseAnswer(line: string): { id: number; result: CommandResult } | undefined {
  const match = /^(\d+) (\d+) (-|[A-Za-z0-9+/=]+) (-|[A-Za-z0-9+/=]+)$/.exec(line)
  if (match === null) return undefined
  const text = (field: string | undefined): string =>
    field === undefined || field === "-" ? "" : Buffer.from(field, "base64").toString()
  return { id: Number(match[1]), result: { status: Number(match[2]), stdout: text(match[3]), stderr: text(match[4]) } }
}

interface Pending {
  readonly resolve: (result: CommandResult) => void
  readonly reject: (error: Error) => void
}

/** Connect to the chardev's socket, which QEMU creates a moment after it was started. */
export async function connectWhenThere(path: string, timeoutMs: number): Promise<Socket> {
  return await until(`the socket ${path}`, timeoutMs, () => {
    return new Promise<Socket | undefined>((resolve) => {
      const socket = connect(path)
      socket.once("connect", () => resolve(socket))
      socket.once("error", () => resolve(undefined))
    })
  })
}

export function openChannel(socket: Socket): Channel {
  const pending = new Map<number, Pending>()
  let lastId = 0
  let buffered = ""
  let gone: Error | undefined
  let markReady: () => void = () => {}
  let markGone: (error: Error) => void = () => {}
  const ready = new Promise<void>((resolve, reject) => {
    markReady = resolve
    markGone = reject
  })
  // Nobody may be waiting for it when the guest ends; that is not an error of its own.
  ready.catch(() => {})

  function end(): void {
    if (gone !== undefined) return
    gone = new Error("the guest is gone")
    markGone(gone)
    for (const { reject } of pending.values()) reject(gone)
    pending.clear()
  }
  socket.setEncoding("latin1")
  socket.on("data", (text: string) => {
    buffered += text
    const lines = buffered.split("\n")
    buffered = lines.pop() ?? ""
    for (const line of lines) {
      if (line === "ready") {
        markReady()
        continue
      }
      const answer = parseAnswer(line)
      if (answer === undefined) continue
      pending.get(answer.id)?.resolve(answer.result)
      pending.delete(answer.id)
    }
  })
  socket.on("error", end)
  socket.on("close", end)

  return {
    ready,
    run(command, timeoutMs) {
      if (gone !== undefined) return Promise.reject(gone)
      const id = ++lastId
      return new Promise((resolve, reject) => {
        // The guest ends the command itself; the second limit is for a guest that no longer answers.
        const timer = setTimeout(() => {
          pending.delete(id)
          reject(new Error(`the guest did not answer within ${timeoutMs} ms: ${command}`))
        }, timeoutMs + 2000)
        pending.set(id, {
          resolve: (result) => {
            clearTimeout(timer)
            resolve(result)
          },
          reject: (error) => {
            clearTimeout(timer)
            reject(error)
          },
        })
        const seconds = Math.ceil(timeoutMs / 1000)
        socket.write(`${id} ${seconds} ${Buffer.from(command).toString("base64")}\n`)
      })
    },
    close() {
      socket.destroy()
      end()
    },
  }
}
