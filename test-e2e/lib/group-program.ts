// A program that talks to groups, one job per run; each line that it prints is one line of JSON.
//
//   hear GROUP PORT [PATTERN]                    join (a broadcast address: just listen), print "ready", then every datagram
//   answer GROUP PORT                            the same, and answer each from a socket of its own to its sender
//   ask GROUP PORT TEXT SOURCE_PORT MS [TTL]     send one, print every datagram that comes within that time
import { createSocket } from "node:dgram"
import type { RemoteInfo, Socket } from "node:dgram"
import { isIPv6 } from "node:net"

export interface Heard {
  readonly from: string
  readonly port: number
  readonly text: string
}

const DEVICE = "eth0"
const [job = "", group = "", portText = "0", ...rest] = process.argv.slice(2)
const port = Number(portText)
const v6 = isIPv6(group)
const multicast = v6 || Number(group.split(".")[0]) >>> 4 === 0xe

function say(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}
function heard(message: Buffer, from: RemoteInfo): void {
  say({ from: from.address, port: from.port, text: message.toString() } satisfies Heard)
}
function make(reuseAddr: boolean): Socket {
  return createSocket({ type: v6 ? "udp6" : "udp4", reuseAddr, ipv6Only: v6 })
}

if (job === "hear" || job === "answer") {
  const socket = make(true)
  socket.on("message", (message, from) => {
    heard(message, from)
    if (job !== "answer") return
    const own = make(false)
    own.send(`answer to ${message.toString()}`, from.port, from.address, () => own.close())
  })
  socket.bind(port, () => {
    if (multicast) socket.addMembership(group, v6 ? `::%${DEVICE}` : undefined)
    process.stdout.write("ready\n")
  })
} else if (job === "ask") {
  const [text = "", sourcePort = "0", ms = "0", ttl = ""] = rest
  const socket = make(true)
  socket.on("message", heard)
  socket.on("error", (error) => {
    say({ from: "", port: 0, text: error.message } satisfies Heard)
    process.exit(0)
  })
  socket.bind(Number(sourcePort), () => {
    if (v6) socket.setMulticastInterface(`::%${DEVICE}`)
    if (!multicast) socket.setBroadcast(true)
    if (ttl !== "" && multicast) socket.setMulticastTTL(Number(ttl))
    socket.send(text, port, group)
    setTimeout(() => process.exit(0), Number(ms))
  })
} else throw new RangeError(`no such job: ${job}`)
