/** The published packages: packed, installed into an empty project without a registry, and used there. */
import { execFileSync, spawnSync } from "node:child_process"
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { packAll } from "../tools/packages/pack.ts"
import { prebuild } from "../tools/packages/prebuild.ts"

const TOOLS = join(import.meta.dirname, "../node_modules/.bin")
const TIMEOUT_MS = 300_000
const folder = mkdtempSync(join(tmpdir(), "passt-packages-"))
const project = join(folder, "project")
let files = new Map<string, string>()

/** Asks the gateway of a guest in memory for its address, by ARP. */
const PROGRAM = `
import { MemoryLink, startEngine } from "@passt/engine"
import * as core from "@passt/core"
import * as wire from "@passt/core/wire"
const link = new MemoryLink()
await using engine = await startEngine({ guest: link, ipv6: false, address: "192.0.2.15/24", gateway: "192.0.2.1" })
const reply = new Promise((resolve) => (link.onFrame = (frame) => frame[13] === 6 && resolve(frame)))
const mac = [0x52, 0x54, 0, 0x12, 0x34, 0x56]
link.send(Uint8Array.of(255, 255, 255, 255, 255, 255, ...mac, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, ...mac, 192, 0, 2, 15, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1))
const frame = await reply
console.log(frame.subarray(28, 32).join("."), engine.stats().framesFromGuest, typeof core.Engine, typeof wire.tcp.HEADER_LENGTH)
`

const TYPED = `
import { type Flow, MemoryLink, startEngine } from "@passt/engine"
import type { Kernel } from "@passt/core"
const engine = await startEngine({ guest: new MemoryLink(), onFlow: (flow) => (flow.protocol === "tcp" ? "allow" : "drop") })
engine.on("flowClose", (flow: Flow) => console.log(flow.bytesToGuest.toFixed()))
for await (const event of engine.events()) if (event.type === "lost") console.log(event.count)
// @ts-expect-error no such field
await startEngine({ guest: new MemoryLink(), adress: "192.0.2.1" })
export type K = Kernel["wait"]
`

beforeAll(async () => {
  await prebuild([`linux-${process.arch}-glibc`])
  files = packAll(join(folder, "packed"))
  mkdirSync(project)
  writeFileSync(join(project, "package.json"), JSON.stringify({ name: "project", type: "module", private: true }))
  const install = ["install", "--offline", "--no-audit", "--no-fund", "--silent", ...files.values()]
  execFileSync("npm", install, { cwd: project, stdio: ["ignore", "ignore", "inherit"] })
}, TIMEOUT_MS)
afterAll(() => rmSync(folder, { recursive: true }))

describe("the packages", () => {
  it("work in an empty project, by their names alone", { timeout: TIMEOUT_MS }, () => {
    writeFileSync(join(project, "program.mjs"), PROGRAM)
    const out = execFileSync(process.execPath, ["program.mjs"], { cwd: project, encoding: "utf8" })
    expect(out).toBe("192.0.2.1 1 function number\n")
  })

  it("bring their types", { timeout: TIMEOUT_MS }, () => {
    writeFileSync(join(project, "typed.ts"), TYPED)
    const options = [
      "--module",
      "nodenext",
      "--target",
      "es2024",
      "--lib",
      "es2024,esnext.disposable",
      "--strict",
      "--noEmit",
    ]
    const types = ["--typeRoots", join(import.meta.dirname, "../node_modules/@types"), "--types", "node"]
    const result = spawnSync(join(TOOLS, "tsc"), [...options, ...types, "typed.ts"], { cwd: project, encoding: "utf8" })
    expect(result.stdout).toBe("")
    expect(result.status).toBe(0)
  })

  it("need nothing but each other, and run nothing when they are installed", () => {
    for (const name of files.keys()) {
      const manifest = JSON.parse(readFileSync(join(project, "node_modules", name, "package.json"), "utf8")) as Record<
        string,
        Record<string, string> | undefined
      >
      expect(Object.keys(manifest["dependencies"] ?? {}).filter((other) => !files.has(other))).toEqual([])
      expect(manifest["scripts"]).toBeUndefined()
      for (const field of ["license", "description", "exports", "types", "engines"])
        expect(manifest[field]).toBeDefined()
    }
  })

  it("say what they have where no addon fits", () => {
    const script = `Object.defineProperty(process, "arch", { value: "riscv64" }); await import("@passt/native")`
    const result = spawnSync(process.execPath, ["--input-type=module", "--eval", script], {
      cwd: project,
      encoding: "utf8",
    })
    expect(result.stderr).toContain("@passt/native: no addon for linux-riscv64-glibc, only for ")
    expect(result.stderr).toContain(`linux-${process.arch}-glibc`)
  })

  it("are clean for publint and attw", { timeout: TIMEOUT_MS }, () => {
    for (const file of files.values()) {
      const lint = spawnSync(join(TOOLS, "publint"), [file, "--strict"], { encoding: "utf8" })
      expect(lint.stdout + lint.stderr).toContain("All good!")
      const types = spawnSync(join(TOOLS, "attw"), [file, "--profile", "esm-only", "--no-emoji", "-f", "json"], {
        encoding: "utf8",
      })
      expect([file, types.status, types.status === 0 ? "" : types.stdout]).toEqual([file, 0, ""])
    }
  })
})
