// What the world serves, in one process, on every address of addresses.ts. Prints "ready" when all of it listens.
//
//   node servers.ts                  on the world's addresses, with DNS
//   node servers.ts ADDRESS...       on these addresses, without DNS: the same services in a guest
import { createHash } from "node:crypto"
import { createSocket } from "node:dgram"
import { createServer as createHttpServer } from "node:http"
import { createServer, isIPv6 } from "node:net"
import type { Socket } from "node:net"
import { Readable } from "node:stream"
import { PAGE, PORT, RESOLVER, SEARCH_DOMAIN, SERVER } from "./addresses.ts"
import { serveDns } from "./dns.ts"
import type { Zone } from "./dns.ts"
import { streamChunks } from "./stream.ts"

const ZONE: Zone = {
  [SERVER.name]: { A: [SERVER.ipv4], AAAA: [SERVER.ipv6], TXT: ["hello from the world"] },
  [`four.${SEARCH_DOMAIN}`]: { A: [SERVER.ipv4] },
  [`six.${SEARCH_DOMAIN}`]: { AAAA: [SERVER.ipv6] },
  // Too large for 512 bytes over UDP: the resolver has to come back over TCP.
  [`large.${SEARCH_DOMAIN}`]: { TXT: ["x".repeat(2000)] },
  [`many.${SEARCH_DOMAIN}`]: {
    A: [SERVER.ipv4, ...Array.from({ length: 50 }, (_, i) => `198.51.100.${100 + i}`)],
    AAAA: [SERVER.ipv6, ...Array.from({ length: 50 }, (_, i) => `2001:db8:2::1:${i + 1}`)],
  },
  [`private.${SEARCH_DOMAIN}`]: { A: [...Array.from({ length: 50 }, (_, i) => `198.51.100.${100 + i}`), "10.1.2.3"] },
}

/** Streams of more than this are refused: a server for tests has no use for them. */
const STREAM_BYTES_MAX = 2 ** 32

function listenTcp(address: string, port: number, serve: (socket: Socket) => void): Promise<void> {
  // Half-open sockets: the other side may close first and still wants its answer.
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => socket.destroy())
    serve(socket)
  })
  return new Promise((resolve) => server.listen({ host: address, port, backlog: 4096 }, resolve))
}

function listenUdpEcho(address: string, port: number): Promise<void> {
  const socket = createSocket(isIPv6(address) ? "udp6" : "udp4")
  socket.on("message", (message, peer) => socket.send(message, peer.port, peer.address))
  return new Promise((resolve) => socket.bind(port, address, resolve))
}

function serveDigest(socket: Socket): void {
  const hash = createHash("sha256")
  let count = 0
  socket.on("data", (chunk: Buffer) => {
    hash.update(chunk)
    count += chunk.length
  })
  socket.on("end", () => socket.end(`${count} ${hash.digest("hex")}\n`))
}

function serveStream(socket: Socket, afterEnd: boolean): void {
  let request = ""
  let done = false
  const send = (): void => {
    if (done) return
    done = true
    const [count = Number.NaN, seed = 0] = request.trim().split(/\s+/).map(Number)
    if (!Number.isSafeInteger(count) || count < 0 || count > STREAM_BYTES_MAX) socket.destroy()
    else Readable.from(streamChunks(count, seed), { objectMode: false }).pipe(socket)
  }
  socket.setEncoding("utf8")
  socket.on("data", (text: string) => {
    request += text
    if (request.length > 100) socket.destroy()
    else if (!afterEnd && request.includes("\n")) send()
  })
  socket.on("end", send)
}

async function serve(address: string): Promise<void> {
  await listenTcp(address, PORT.echo, (socket) => void socket.pipe(socket))
  await listenTcp(address, PORT.digest, serveDigest)
  await listenTcp(address, PORT.stream, (socket) => serveStream(socket, false))
  await listenTcp(address, PORT.streamAfterEnd, (socket) => serveStream(socket, true))
  await listenTcp(address, PORT.whoami, (socket) => {
    socket.resume()
    socket.end(`${socket.remoteAddress} ${socket.remotePort}\n`)
  })
  await listenTcp(address, PORT.silent, (socket) => void socket.resume())
  await listenUdpEcho(address, PORT.echo)
  const http = createHttpServer((request, response) => {
    if (request.url === "/") response.end(PAGE)
    else response.writeHead(404).end("no such page\n")
  })
  await new Promise<void>((resolve) => http.listen(PORT.http, address, resolve))
}

const asked = process.argv.slice(2)
await Promise.all((asked.length === 0 ? [SERVER.ipv4, SERVER.ipv6] : asked).map(serve))
if (asked.length === 0) {
  await Promise.all([RESOLVER.ipv4, RESOLVER.ipv6].map((address) => serveDns(address, ZONE)))
}
process.stdout.write("ready\n")
