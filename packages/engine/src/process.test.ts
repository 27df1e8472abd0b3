/** What an engine means for the process around it: whether it goes on, workers, errors of callbacks. Each test is a program. */
import { spawn } from "node:child_process"
import { join } from "node:path"
import { expect, it, vi } from "vitest"

// A program takes a second to start; on a machine with much to do, twenty.
vi.setConfig({ testTimeout: 110_000 })

const PRELUDE = `
  import { createEngine, MemoryLink, startEngine } from ${JSON.stringify(new URL("./index.ts", import.meta.url).href)}
  import { Worker, isMainThread, parentPort } from "node:worker_threads"
  const NETWORK = { ipv6: false, address: "192.0.2.15/24", gateway: "192.0.2.1" }
`

/** @returns what it prints, and how it ends; a program that goes on is ended after a while */
function run(program: string): Promise<{ out: string; code: number | string | null }> {
  const child = spawn(process.execPath, ["--input-type=module-typescript", "--eval", PRELUDE + program], {
    stdio: ["ignore", "pipe", "pipe"],
  })
  let out = ""
  child.stdout.on("data", (chunk) => (out += String(chunk)))
  child.stderr.on("data", (chunk) => (out += String(chunk)))
  const timer = setTimeout(() => child.kill("SIGKILL"), 100_000)
  return new Promise((resolve) => {
    child.on("close", (code, signal) => {
      clearTimeout(timer)
      resolve({ out, code: code ?? signal })
    })
  })
}

it("a process goes on while an engine runs, and ends when it is disposed of", async () => {
  const { out, code } = await run(`
    const engine = await startEngine({ guest: new MemoryLink(), ...NETWORK })
    let lived = false
    setTimeout(() => { lived = true; void engine[Symbol.asyncDispose]() }, 300).unref()
    process.on("exit", () => console.log(engine.state, lived))
  `)
  expect([out, code]).toEqual(["stopped true\n", 0])
})

it("an engine that is not to keep the process does not", async () => {
  const { out, code } = await run(`
    const engine = (await startEngine({ guest: new MemoryLink(), ...NETWORK })).unref()
    process.on("exit", () => console.log(engine.state))
  `)
  expect([out, code]).toEqual(["running\n", 0])
})

it("an engine lives in a worker, and ends with it", async () => {
  const { out, code } = await run(`
    import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
    import { tmpdir } from "node:os"
    import { dirname, join } from "node:path"
    const source = ${JSON.stringify(PRELUDE)} + \`
      const engine = await startEngine({ guest: new MemoryLink(), ...NETWORK })
      parentPort.postMessage(engine.state)
    \`
    const file = join(mkdtempSync(join(tmpdir(), "passt-worker-")), "worker.mts")
    writeFileSync(file, source)
    process.on("exit", () => rmSync(dirname(file), { recursive: true }))
    const other = await startEngine({ guest: new MemoryLink(), ...NETWORK })
    const worker = new Worker(file, { execArgv: [] })
    worker.on("message", async (state) => {
      console.log(state)
      await worker.terminate()
      console.log(other.state)
      await other.stop()
    })
  `)
  expect([out, code]).toEqual(["running\nrunning\n", 0])
})

it("errors of the program's callbacks are its own, and the engine goes on", async () => {
  const { out, code } = await run(`
    import { TinyGuest } from ${JSON.stringify(join(import.meta.dirname, "test-support/tiny-guest.ts"))}
    const link = new MemoryLink()
    const engine = await startEngine({ guest: link, ...NETWORK })
    const guest = new TinyGuest(link, "192.0.2.15")
    const errors = []
    process.on("uncaughtException", (error) => errors.push(error.message))
    engine.on("flowOpen", () => { throw new Error("listener") })
    link.onFrame = () => { throw new Error("frame") }
    // Asked for the address of its gateway, which answers.
    link.send(Buffer.from("ffffffffffff525400123456080600010800060400015254001234" + "56c000020f000000000000c0000201", "hex"))
    guest.sendDatagram("192.0.2.1", 9, Buffer.from("x"))
    setTimeout(async () => {
      console.log(engine.state, errors.join(" "))
      await engine.stop()
    }, 500)
  `)
  expect(out).toMatch(/^running (frame|listener)( (frame|listener))+\n$/)
  expect(out).toContain("frame")
  expect(out).toContain("listener")
  expect(code).toBe(0)
})
