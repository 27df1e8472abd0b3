// Runs in a namespace and does there with sockets what it is told: one line of JSON a request, one an answer.
import { createSocket } from "node:dgram"
import type { Socket as DatagramSocket } from "node:dgram"
import { connect, createServer, isIPv6 } from "node:net"
import type { Server, Socket } from "node:net"
import { createInterface } from "node:readline"
import { SERVE_VARIABLE } from "./peer.ts"
import type { PeerRequest } from "./peer.ts"

/** A queue whose reader may come first. */
class Mailbox<T> {
  readonly #items: T[] = []
  readonly #takers: ((item: T) => void)[] = []
  put(item: T): void {
    const taker = this.#takers.shift()
    if (taker === undefined) this.#items.push(item)
    else taker(item)
  }
  take(timeoutMs: number): Promise<T> {
    const item = this.#items.shift()
    if (item !== undefined) return Promise.resolve(item)
    return new Promise((resolve, reject) => {
      const taker = (value: T): void => {
        clearTimeout(timer)
        resolve(value)
      }
      const timer = setTimeout(() => {
        this.#takers.splice(this.#takers.indexOf(taker), 1)
        reject(new Error("ETIMEDOUT"))
      }, timeoutMs)
      this.#takers.push(taker)
    })
  }
}

interface Stream {
  readonly socket: Socket
  readonly events: Mailbox<"data">
  bytes: Buffer
  state: "open" | "ended" | string
}
interface Datagram {
  readonly hex: string
  readonly address: string
  readonly port: number
}

let lastKey = 0
const servers = new Map<number, { readonly server: Server; readonly accepted: Mailbox<object> }>()
const streams = new Map<number, Stream>()
const datagrams = new Map<number, { readonly socket: DatagramSocket; readonly received: Mailbox<Datagram> }>()

function adopt(socket: Socket): { key: number } & Record<string, unknown> {
  const stream: Stream = { socket, events: new Mailbox(), bytes: Buffer.alloc(0), state: "open" }
  const change = (state: string): void => {
    if (stream.state === "open" || state !== "ended") stream.state = state
    stream.events.put("data")
  }
  socket.on("data", (chunk: Buffer) => {
    stream.bytes = Buffer.concat([stream.bytes, chunk])
    stream.events.put("data")
  })
  socket.on("end", () => change("ended"))
  socket.on("error", (error: NodeJS.ErrnoException) => change(error.code ?? error.message))
  const key = ++lastKey
  streams.set(key, stream)
  const { localAddress, localPort, remoteAddress, remotePort } = socket
  return { key, localAddress, localPort, remoteAddress, remotePort }
}

function listen(address: string, port: number): Promise<object> {
  return new Promise((resolve, reject) => {
    const accepted = new Mailbox<object>()
    const server = createServer({ allowHalfOpen: true }, (socket) => accepted.put(adopt(socket)))
    server.once("error", reject)
    server.listen({ host: address, port, ipv6Only: address.includes(":") && address !== "::" }, () => {
      const key = ++lastKey
      servers.set(key, { server, accepted })
      resolve({ key })
    })
  })
}

function open(request: PeerRequest): Promise<object> {
  return new Promise((resolve, reject) => {
    const { address = "", port = 0, localAddress, localPort } = request
    const local = { ...(localAddress && { localAddress }), ...(localPort && { localPort }) }
    const socket = connect({ host: address, port, allowHalfOpen: true, ...local })
    socket.once("connect", () => resolve(adopt(socket)))
    socket.once("error", reject)
  })
}

function bind(request: PeerRequest): Promise<object> {
  return new Promise((resolve, reject) => {
    const { address = "", port = 0, group } = request
    const socket = createSocket({ type: isIPv6(address) ? "udp6" : "udp4", reuseAddr: group !== undefined })
    const received = new Mailbox<Datagram>()
    socket.on("message", (message, peer) =>
      received.put({ hex: message.toString("hex"), address: peer.address, port: peer.port }),
    )
    socket.once("error", reject)
    socket.bind(port, address, () => {
      try {
        if (group !== undefined) socket.addMembership(group)
        socket.setBroadcast(true)
      } catch (error) {
        reject(error)
        return
      }
      const key = ++lastKey
      datagrams.set(key, { socket, received })
      resolve({ key, port: socket.address().port })
    })
  })
}

async function read(stream: Stream, count: number, timeoutMs: number): Promise<object> {
  const deadline = performance.now() + timeoutMs
  while (stream.bytes.length < count && stream.state === "open") {
    await stream.events.take(Math.max(1, deadline - performance.now()))
  }
  const taken = stream.bytes.subarray(0, count)
  stream.bytes = stream.bytes.subarray(taken.length)
  return { hex: taken.toString("hex"), state: stream.state }
}

/** The answer; a thrown error's code is the answer's error. */
async function obey(request: PeerRequest): Promise<object> {
  const { op, key = 0, timeoutMs = 5000 } = request
  const bytes = Buffer.from(request.hex ?? "", "hex")
  const stream = streams.get(key)
  switch (op) {
    case "listen":
      return await listen(request.address ?? "", request.port ?? 0)
    case "accept":
      return await servers.get(key)!.accepted.take(timeoutMs)
    case "connect":
      return await open(request)
    case "write":
      stream!.socket.write(bytes)
      return {}
    case "end":
      stream!.socket.end()
      return {}
    case "reset":
      stream!.socket.resetAndDestroy()
      return {}
    case "read":
      return await read(stream!, request.count ?? 0, timeoutMs)
    case "bind":
      return await bind(request)
    case "send": {
      const { socket } = datagrams.get(key)!
      await new Promise<void>((resolve, reject) =>
        socket.send(bytes, request.port ?? 0, request.address, (error) => (error ? reject(error) : resolve())),
      )
      return {}
    }
    case "receive":
      return await datagrams.get(key)!.received.take(timeoutMs)
    case "clear":
      for (const { server } of servers.values()) server.close()
      for (const { socket } of streams.values()) socket.destroy()
      for (const { socket } of datagrams.values()) socket.close()
      for (const table of [servers, streams, datagrams]) table.clear()
      return {}
  }
}

// They say "ready" on standard output, which the other side passes over.
if (process.env[SERVE_VARIABLE] === "yes") await import("../../tools/world/servers.ts")

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line) as PeerRequest
  const answer = (value: object): void => void process.stdout.write(`${JSON.stringify({ id: request.id, ...value })}\n`)
  obey(request).then(answer, (error: NodeJS.ErrnoException) => answer({ error: error.code ?? error.message }))
}
