import { EAGAIN, EVENT_IN, EVENT_OUT } from "@passt/core"
import { beforeEach, describe, expect, test } from "vitest"

import { HTTP_CLIENTS_MAX, HttpMetrics } from "./http.ts"

const LISTENER = 3

interface Peer {
  input: Buffer[]
  output: string
  room: number
  ended: boolean
  closed: boolean
  ref: number
}

let peers: Map<number, Peer>
let waiting: number[]
let now: number
let pages: number
let server: HttpMetrics
beforeEach(() => {
  peers = new Map()
  waiting = []
  now = 1000
  pages = 0
  const sockets = {
    listen: () => -1,
    accept: () => waiting.shift() ?? -EAGAIN,
    receive: (fd: number, bytes: Uint8Array, from: number) => {
      const peer = peers.get(fd)!
      const next = peer.input.shift()
      if (next === undefined) return peer.ended ? 0 : -EAGAIN
      const taken = next.copy(bytes, from)
      if (taken < next.length) peer.input.unshift(next.subarray(taken))
      return taken
    },
    send: (fd: number, bytes: Uint8Array, from: number, to: number) => {
      const peer = peers.get(fd)!
      const length = Math.min(to - from, peer.room)
      if (length === 0) return -EAGAIN
      peer.room -= length
      peer.output += Buffer.from(bytes.subarray(from, from + length)).toString()
      return length
    },
    close: (fd: number) => void (peers.get(fd)!.closed = true),
    watch: (fd: number, ref: number) => {
      const peer = peers.get(fd)
      if (peer !== undefined) peer.ref = ref
      return 0
    },
  }
  const open = () => {
    let steps = 3
    pages++
    return { step: () => --steps <= 0, text: () => "the text\n# EOF\n" }
  }
  server = new HttpMetrics(sockets, LISTENER, (index) => index, open, now)
  expect(server.watch()).toBe(0)
})

function run(): void {
  for (let i = 0; i < 1000 && server.isDue && ((server.dueAt - now) | 0) <= 0; i++) server.run(now)
}
function connect(room = 1 << 20): Peer & { fd: number } {
  const fd = 10 + peers.size
  const peer = { fd, input: [], output: "", room, ended: false, closed: false, ref: 0 }
  peers.set(fd, peer)
  waiting.push(fd)
  server.event(0, EVENT_IN, now)
  run()
  return peer
}
function write(peer: Peer, text: string): void {
  peer.input.push(Buffer.from(text))
  server.event(peer.ref, EVENT_IN, now)
  run()
}

describe("one request, one answer", () => {
  test("the page", () => {
    const peer = connect()
    write(peer, "GET /metrics HTTP/1.1\r\nHost: x\r\n")
    expect(peer.output).toBe("")
    write(peer, "\r\n")
    expect(peer.output).toMatch(
      /^HTTP\/1\.1 200 OK\r\nContent-Type: application\/openmetrics-text; version=1\.0\.0[^\r]*\r\nContent-Length: 15\r\nConnection: close\r\n\r\nthe text\n# EOF\n$/,
    )
    expect([peer.closed, pages]).toEqual([true, 1])
  })

  test.each([
    ["GET / HTTP/1.1\r\n\r\n", "404"],
    ["POST /metrics HTTP/1.1\r\n\r\n", "405"],
    ["GET /metrics\r\n\r\n", "400"],
    ["\x16\x03\x01\n\n", "400"],
    [`GET /metrics HTTP/1.1\r\nX: ${"x".repeat(9000)}`, "431"],
    ["HEAD /metrics HTTP/1.0\r\n\r\n", "200"],
  ])("%j: %s", (request, status) => {
    const peer = connect()
    write(peer, request)
    expect(peer.output).toMatch(new RegExp(`^HTTP/1.1 ${status} `))
    expect([peer.closed, pages]).toEqual([true, 0])
  })
})

describe("hostile clients", () => {
  test("that say nothing, or read nothing, are left after some seconds", () => {
    const silent = connect()
    const deaf = connect(10)
    write(deaf, "GET /metrics HTTP/1.1\r\n\r\n")
    expect(deaf.output).toHaveLength(10)
    expect([server.isDue, server.dueAt - now]).toEqual([true, 5000])
    now += 5000
    run()
    expect([silent.closed, deaf.closed, server.isDue]).toEqual([true, true, false])
  })

  test("that are many wait for their turn", () => {
    const first = Array.from({ length: HTTP_CLIENTS_MAX }, () => connect())
    const late = connect()
    write(late, "GET /metrics HTTP/1.1\r\n\r\n")
    expect(late.output).toBe("")
    first[0]!.ended = true
    server.event(first[0]!.ref, EVENT_IN, now)
    run()
    expect(late.output).toContain("200 OK")
  })

  test("that take an answer in pieces get all of it", () => {
    const peer = connect(20)
    write(peer, "GET /metrics HTTP/1.1\r\n\r\n")
    while (!peer.closed) {
      peer.room = 7
      server.event(peer.ref, EVENT_OUT, now)
      run()
    }
    expect(peer.output).toMatch(/the text\n# EOF\n$/)
  })
})
