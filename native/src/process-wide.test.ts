import { expect, test } from "vitest"

import { runChild } from "./test-support/child.ts"

test("a caught signal wakes wait, and is taken once", () => {
  const out = runChild(`
    const { kernel } = l.bench()
    console.log(kernel.watchSignals(99, [15, 3]))
    process.kill(process.pid, 15)
    process.kill(process.pid, 3)
    process.kill(process.pid, 15)
    console.log(kernel.wait(1000), kernel.events[0])
    console.log(kernel.takeSignal(), kernel.wait(0), kernel.takeSignal(), kernel.takeSignal(), kernel.wait(0))
    // One that arrives while waiting ends the wait.
    const { spawn } = await import("node:child_process")
    spawn("sh", ["-c", "sleep 0.2; kill -15 " + process.pid])
    const before = kernel.now()
    let ready = 0
    while (ready === 0 && kernel.now() - before < 5000) ready = kernel.wait(5000)
    console.log(ready, kernel.takeSignal(), kernel.now() - before < 4000)
  `)
  expect(out.trim().split("\n")).toEqual(["0", "1 99", "3 1 15 0 0", "1 15 true"])
})

test("an uncatchable signal is refused", () => {
  const out = runChild(`
    const { kernel } = l.bench()
    console.log(kernel.watchSignals(1, [9]), kernel.raw.catchSignal(0), kernel.raw.catchSignal(64))
  `)
  expect(out.trim()).toBe("-22 -22 -22")
})

test("a signal after the kernel is gone writes to nobody's descriptor", () => {
  const out = runChild(`
    const { kernel } = l.bench()
    kernel.watchSignals(1, [15])
    kernel.destroy()
    const other = l.bench()
    const { client, server } = l.tcpPair(other.kernel)
    process.kill(process.pid, 15)
    console.log(client > 0, other.kernel.peekIntoFrames(server, l.layRows(other.frames, 1, 10), 1, 10, 0))
  `)
  expect(out.trim()).toBe("true -11")
})

test("the addon works in worker threads, several at a time, beside the main thread", () => {
  const out = runChild(`
    const { Worker, isMainThread, parentPort } = await import("node:worker_threads")
    const { kernel, frames } = l.bench()
    const { client, server } = l.tcpPair(kernel)
    const row = l.layRows(frames, 1, 100)
    l.fillPayload(frames, row, l.pattern(100))
    kernel.sendFrames(client, 0, 1)
    const good = kernel.peekIntoFrames(server, row, 1, 100, 0) === 100 && l.payloadAt(frames, row).equals(l.pattern(100))
    if (isMainThread) {
      for (let round = 0; round < 3; round++) {
        const workers = [0, 1, 2].map(() => new Worker(new URL(import.meta.url)))
        const answers = await Promise.all(workers.map((w) => new Promise((done, fail) => { w.on("message", done); w.on("error", fail) })))
        await Promise.all(workers.map((w) => w.terminate()))
        console.log(good, ...answers)
      }
    } else parentPort.postMessage(good)
  `)
  expect(out.trim().split("\n")).toEqual(Array(3).fill("true true true true"))
})

test("several engines in one thread do not share anything", () => {
  const out = runChild(`
    const a = l.bench(), b = l.bench()
    const { client, server } = l.tcpPair(a.kernel)
    a.kernel.watch(client, 5)
    console.log(b.kernel.wait(0), a.kernel.wait(0), a.kernel.events[0], b.kernel.address.every((w) => w === 0))
    b.kernel.destroy()
    console.log(a.kernel.wait(0), a.kernel.epollFd >= 0, b.kernel.epollFd)
  `)
  expect(out.trim().split("\n")).toEqual(["0 1 5 true", "0 true -9"])
})

test("hot calls leave no garbage", () => {
  const out = runChild(
    `
    const { kernel, frames } = l.bench()
    const { client, server } = l.tcpPair(kernel)
    const udp = l.onFreePort((port) => { l.setAddress(kernel, core.ADDRESS_LOCAL, "127.0.0.1", port); return kernel.listenUdp(4, false, "", false) })
    const sender = kernel.udpSocket(4, false)
    l.setAddress(kernel, core.ADDRESS_REMOTE, "127.0.0.1", udp.port)
    kernel.connect(sender, 4)
    kernel.watch(server, 0x7fffffff)
    const row = l.layRows(frames, 4, 200)
    let sum = 0
    function turn() {
      sum = (sum + kernel.wait(0)) | 0
      sum = (sum + kernel.now() + kernel.nowMicros()) | 0
      sum = (sum + kernel.sendFrames(client, 0, 2)) | 0
      sum = (sum + kernel.peekIntoFrames(server, row, 4, 200, 0)) | 0
      sum = (sum + kernel.discard(server, 1000)) | 0
      sum = (sum + kernel.peekIntoFrames(server, row, 4, 200, 0)) | 0
      sum = (sum + kernel.holdPayload(row, 54, 100, core.HOLD_AREA)) | 0
      sum = (sum + kernel.tcpInfo(client) + kernel.info[core.INFO_RTT]) | 0
      sum = (sum + kernel.sendDatagrams(sender, 0, 2)) | 0
      sum = (sum + kernel.receiveFrom(udp.fd, row, true) + kernel.receiveFrom(udp.fd, row, false)) | 0
      sum = (sum + kernel.receiveDatagrams(udp.fd, row, 2, 200)) | 0
      sum = (sum + kernel.readError(sender, row, 100)) | 0
      frames.payloadLength.fill(200, row, row + 4)
    }
    for (let i = 0; i < 20_000; i++) turn()
    await new Promise((done) => setTimeout(done, 100))
    gc()
    console.log("measured part begins")
    for (let i = 0; i < 150_000; i++) turn()
    console.log("measured part ends", sum === sum)
  `,
    ["--expose-gc", "--trace-gc", "--min-semi-space-size=1", "--max-semi-space-size=1"],
  )
  const part = out.slice(out.indexOf("measured part begins"), out.indexOf("measured part ends"))
  // One heap number (16 bytes) per turn would fill the semi-space twice.
  expect(part.split("\n").filter((line) => /Scavenge|Mark-Compact/.test(line))).toEqual([])
})
