import { mkdtempSync, rmSync } from "node:fs"
import { createServer } from "node:net"
import type { Socket } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, expect, test } from "vitest"
import { connectWhenThere, openChannel, parseAnswer } from "./channel.ts"
import type { Channel } from "./channel.ts"

test.each([
  ["1 0 - -", { id: 1, result: { status: 0, stdout: "", stderr: "" } }],
  ["12 127 - bm8=", { id: 12, result: { status: 127, stdout: "", stderr: "no" } }],
  ["7 0 aGkK -", { id: 7, result: { status: 0, stdout: "hi\n", stderr: "" } }],
])("an answer: %s", (line, parsed) => expect(parseAnswer(line)).toEqual(parsed))

test.each(["", "ready", "x 0 - -", "1 0 -", "1 0 - - -", "1 0 $ -"])("no answer: %j", (line) => {
  expect(parseAnswer(line)).toBeUndefined()
})

let folder: string
let guest: Socket
let channel: Channel
let close: () => void

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "channel-"))
  const path = join(folder, "socket")
  const accepted = new Promise<Socket>((resolve) => {
    const server = createServer((socket) => resolve(socket))
    close = () => server.close()
    // Later than the first attempt to connect: QEMU is slower than its starter, too.
    setTimeout(() => server.listen(path), 50)
  })
  channel = openChannel(await connectWhenThere(path, 5000))
  guest = await accepted
})
afterEach(() => {
  channel.close()
  guest.destroy()
  close()
  rmSync(folder, { recursive: true })
})

test("is ready when the agent says so", async () => {
  guest.write("re")
  guest.write("ady\n")
  await channel.ready
})

test("answers find their requests in any order, whatever else is said", async () => {
  const requests: string[] = []
  guest.on("data", (chunk: Buffer) => {
    requests.push(...chunk.toString().trim().split("\n"))
    if (requests.length === 2) guest.write(`noise\n2 0 ${Buffer.from("two").toString("base64")} -\n9 0 - -\n1 3 - -\n`)
  })
  const both = await Promise.all([channel.run("first", 1000), channel.run("second", 1000)])
  expect(both.map((result) => [result.status, result.stdout])).toEqual([
    [3, ""],
    [0, "two"],
  ])
  expect(requests[0]).toBe(`1 1 ${Buffer.from("first").toString("base64")}`)
})

test("a guest that goes away ends what waits, and what comes later", async () => {
  const waiting = channel.run("anything", 1000)
  guest.destroy()
  await expect(waiting).rejects.toThrow("the guest is gone")
  await expect(channel.run("more", 1000)).rejects.toThrow("the guest is gone")
})
