// A client for use inside a namespace, one job per run. Prints one line of JSON; a failed job is a result, too, with the
// system's error code, and exits 0: only wrong use exits otherwise.
//
//   http URL                             fetch a page
//   tcp ADDRESS PORT TEXT                send, close our side, read to the end
//   udp ADDRESS PORT TEXT TIMEOUT_MS     send a datagram from a connected socket, wait for one back or for an error
//   upload ADDRESS PORT COUNT SEED       send the deterministic stream, close our side, read the answer
//   download ADDRESS PORT COUNT SEED     ask for the deterministic stream, hash what comes
//   downloadAfterEnd ADDRESS PORT COUNT SEED    the same, our side closed before the first byte comes
//   many ADDRESS PORT COUNT              that many echo connections open at once, each with an exchange of its own
//   short ADDRESS PORT COUNT RATE        echo connections one after the other, several at a time, RATE begun per second
//   hold ADDRESS PORT                    connect, print "connected", stay until the peer closes
import { createHash } from "node:crypto"
import { createSocket } from "node:dgram"
import { connect, isIPv6 } from "node:net"
import type { Socket } from "node:net"
import { Readable } from "node:stream"
import { streamChunks } from "./stream.ts"

export interface ClientResult {
  /** The system's code, such as "ECONNREFUSED", when the job failed. */
  readonly error?: string
  readonly elapsedMs: number
  /** What came back, for the jobs that read text. */
  readonly text?: string
  /** What came back, for the jobs that hash it. */
  readonly count?: number
  readonly digest?: string
}

type Result = Omit<ClientResult, "elapsedMs">

function opened(address: string, port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: address, port, allowHalfOpen: true })
    socket.once("connect", () => resolve(socket))
    socket.once("error", reject)
  })
}

function collected(socket: Readable): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ""
    socket.setEncoding("utf8")
    socket.on("data", (chunk: string) => (text += chunk))
    socket.on("end", () => resolve(text))
    socket.on("error", reject)
  })
}

async function exchange(address: string, port: number, input: Readable): Promise<Result> {
  const socket = await opened(address, port)
  input.pipe(socket)
  const text = await collected(socket)
  socket.destroy()
  return { text }
}

async function download(address: string, port: number, request: string, endFirst: boolean): Promise<Result> {
  const socket = await opened(address, port)
  if (endFirst) socket.end(request)
  else socket.write(request)
  const hash = createHash("sha256")
  let count = 0
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    hash.update(chunk)
    count += chunk.length
  }
  return { count, digest: hash.digest("hex") }
}

function datagram(address: string, port: number, text: string, timeoutMs: number): Promise<Result> {
  return new Promise((resolve) => {
    const socket = createSocket(isIPv6(address) ? "udp6" : "udp4")
    const finish = (result: Result): void => {
      clearTimeout(timer)
      socket.close()
      resolve(result)
    }
    const timer = setTimeout(() => finish({ error: "ETIMEDOUT" }), timeoutMs)
    socket.on("message", (message) => finish({ text: message.toString() }))
    socket.on("error", (error: NodeJS.ErrnoException) => finish({ error: error.code ?? error.message }))
    // Connected, so that an ICMP error comes back to this socket.
    socket.connect(port, address, () => socket.send(text))
  })
}

async function many(address: string, port: number, count: number): Promise<Result> {
  const sockets = await Promise.all(Array.from({ length: count }, () => opened(address, port)))
  const answers = await Promise.all(
    sockets.map(async (socket, index) => {
      const answer = collected(socket)
      socket.end(`connection ${index}`)
      return (await answer) === `connection ${index}`
    }),
  )
  for (const socket of sockets) socket.destroy()
  return { count: answers.filter(Boolean).length }
}

async function short(address: string, port: number, count: number, rate: number): Promise<Result> {
  const began = performance.now()
  const running: Promise<boolean>[] = []
  const one = async (index: number): Promise<boolean> => {
    const text = `connection ${index}`
    const result = await exchange(address, port, Readable.from([text])).catch(() => ({ text: "" }))
    return result.text === text
  }
  for (let index = 0; index < count;) {
    const due = Math.min(count, Math.floor(((performance.now() - began) * rate) / 1000) + 1)
    while (index < due) running.push(one(index++))
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  const answers = await Promise.all(running)
  return { count: answers.filter(Boolean).length }
}

async function hold(address: string, port: number): Promise<Result> {
  const socket = await opened(address, port)
  process.stdout.write("connected\n")
  const text = await collected(socket)
  return { text }
}

async function job(name: string, rest: readonly string[]): Promise<Result> {
  const [address = "", portText = "0", third = "", fourth = "0"] = rest
  const port = Number(portText)
  switch (name) {
    case "http":
      return { text: await (await fetch(address, { signal: AbortSignal.timeout(10_000) })).text() }
    case "tcp":
      return await exchange(address, port, Readable.from([third]))
    case "udp":
      return await datagram(address, port, third, Number(fourth))
    case "upload":
      return await exchange(address, port, Readable.from(streamChunks(Number(third), Number(fourth))))
    case "download":
      return await download(address, port, `${third} ${fourth}\n`, false)
    case "downloadAfterEnd":
      return await download(address, port, `${third} ${fourth}\n`, true)
    case "many":
      return await many(address, port, Number(third))
    case "short":
      return await short(address, port, Number(third), Number(fourth))
    case "hold":
      return await hold(address, port)
    default:
      throw new RangeError(`no such job: ${name}`)
  }
}

const [name = "", ...rest] = process.argv.slice(2)
const began = performance.now()
let result: Result
try {
  result = await job(name, rest)
} catch (error) {
  if (error instanceof RangeError) throw error
  const { code, cause, message } = error as NodeJS.ErrnoException
  result = { error: code ?? (cause as NodeJS.ErrnoException | undefined)?.code ?? message }
}
process.stdout.write(`${JSON.stringify({ ...result, elapsedMs: performance.now() - began })}\n`, () => process.exit(0))
