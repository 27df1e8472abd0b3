// Hooks as virt-launcher calls them, with a client that was made from the .proto files.
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync } from "node:fs"
import { connect } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { type ServiceError, status } from "@grpc/grpc-js"
import fc from "fast-check"
import { afterEach, beforeEach, describe, expect, test } from "vitest"
import { Log } from "../log.ts"
import { Sidecar } from "../sidecar.ts"
import { call } from "../test-support/client.ts"
import { DOMAINS, machineJson, settings } from "../test-support/machines.ts"
import { bytesField, bytesOf, decodeFields } from "./wire.ts"

let folder: string
let hooks: string
let socket: string
let lines: string[]
let ended: boolean
let sidecar: Sidecar

function start(variables: NodeJS.ProcessEnv = {}): Promise<void> {
  const own = settings({
    PASST_ENGINE: "libvirt",
    PASST_HOOK_DIRECTORY: hooks,
    PASST_PLUGIN_DIRECTORY: join(folder, "plugins"),
    ...variables,
  })
  const log = new Log("debug", (line) => lines.push(line))
  sidecar = new Sidecar(own, log, () => (ended = true))
  return sidecar.start()
}

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "binding-"))
  hooks = join(folder, "hooks")
  socket = join(hooks, "passt-hook-sidecar-0.sock")
  mkdirSync(hooks)
  lines = []
  ended = false
})

afterEach(async () => {
  await sidecar.stop()
  rmSync(folder, { recursive: true })
})

describe("hook sidecar", () => {
  test("tells its name, versions and hook points", async () => {
    await start()
    expect(await call(socket, "kubevirt.hooks.info.Info/Info")).toEqual({
      name: "network-passt-binding",
      versions: ["v1alpha1", "v1alpha2", "v1alpha3"],
      hookPoints: [
        { name: "OnDefineDomain", priority: 0 },
        { name: "Shutdown", priority: 0 },
      ],
    })
  })

  test("nothing but its own socket beside directories, whatever was there before", async () => {
    await start()
    await sidecar.stop()
    expect(readdirSync(hooks).filter((name) => !statSync(join(hooks, name)).isDirectory())).toEqual([])
    // One that was killed leaves its socket behind.
    symlinkSync("/nonexistent", socket)
    await start()
    const names = readdirSync(hooks)
    expect(names.filter((name) => !statSync(join(hooks, name)).isDirectory())).toEqual(["passt-hook-sidecar-0.sock"])
    expect(readdirSync(join(hooks, "engine"))).toEqual([])
  })

  test("its socket has its container's name: two sidecars of a machine are told apart by it", async () => {
    await start({ CONTAINER_NAME: "hook-sidecar-7" })
    expect(readdirSync(hooks)).toContain("passt-hook-sidecar-7.sock")
  })

  describe.each(["v1alpha1", "v1alpha2", "v1alpha3"])("%s", (version) => {
    test.each(Object.entries(DOMAINS))("OnDefineDomain: %s", async (_, domain) => {
      await start()
      const request = { domainXML: Buffer.from(domain), vmi: Buffer.from(machineJson()) }
      const path = `kubevirt.hooks.${version}.Callbacks/OnDefineDomain`
      const { domainXML } = await call<{ domainXML: Buffer }>(socket, path, request)
      expect(domainXML.toString()).toContain("<interface type='vhostuser'><alias name='ua-default'/>")
      const again = await call<{ domainXML: Buffer }>(socket, path, { ...request, domainXML })
      expect(again.domainXML.equals(domainXML)).toBe(true)
    })
  })

  test.each(["v1alpha2", "v1alpha3"])("%s: PreCloudInitIso gives back what it gets", async (version) => {
    await start()
    const data = { cloudInitNoCloudSource: Buffer.from("{}"), cloudInitData: Buffer.from([0, 255, 1]) }
    const path = `kubevirt.hooks.${version}.Callbacks/PreCloudInitIso`
    expect(await call(socket, path, { ...data, vmi: Buffer.from(machineJson()) })).toEqual(data)
  })

  test("Shutdown is answered, and then everything ends and is gone", async () => {
    await start()
    expect(await call(socket, "kubevirt.hooks.v1alpha3.Callbacks/Shutdown")).toEqual({})
    await expect.poll(() => ended, { timeout: 1000 }).toBe(true)
    expect(readdirSync(hooks)).toEqual(["engine"])
  })

  test.each([
    ["the domain is empty", "", machineJson()],
    ["the domain is not UTF-8", Buffer.from([0x3c, 0xff, 0x3e]), machineJson()],
    ["not well-formed", "<domain>", machineJson()],
    ["the VirtualMachineInstance is empty", DOMAINS["v1.8"], ""],
    ["not JSON", DOMAINS["v1.8"], "{"],
    ["interface status was not found", DOMAINS["v1.8"], machineJson({ statuses: [] })],
  ])("refused with the reason, and logged: %s", async (message, domain, vmi) => {
    await start()
    const request = { domainXML: Buffer.from(domain), vmi: Buffer.from(vmi) }
    const called = call(socket, "kubevirt.hooks.v1alpha3.Callbacks/OnDefineDomain", request)
    const error = await called.then(
      () => undefined,
      (reason: ServiceError) => reason,
    )
    expect(error).toMatchObject({ code: status.INVALID_ARGUMENT, details: expect.stringContaining(message) })
    const logged = lines.map((line) => JSON.parse(line)).find(({ level }) => level === "error")
    expect(logged).toMatchObject({ hook: "OnDefineDomain", message: error?.details })
  })

  test("a client that speaks something else, or nothing, harms nobody", async () => {
    await start()
    const strangers = ["GET / HTTP/1.1\r\n\r\n", "\0".repeat(1000), ""].map((text) => {
      const stranger = connect(socket)
      stranger.on("error", () => {})
      stranger.write(text)
      return stranger
    })
    expect(await call(socket, "kubevirt.hooks.info.Info/Info")).toMatchObject({ name: "network-passt-binding" })
    for (const stranger of strangers) stranger.destroy()
  })
})

describe("domain plugin", () => {
  const METHOD = "kubevirt.hooks.plugins.v1alpha1.DomainHookService/MutateDomain"
  let own: string
  beforeEach(() => {
    own = join(folder, "plugins/passt")
    mkdirSync(own, { recursive: true })
  })

  test.each(["Boot", "MigrationSource", "MigrationTarget"])("MutateDomain, %s", async (invocation) => {
    await start({ PASST_HOOK_DIRECTORY: "/nonexistent" })
    const request = {
      domain_type: "libvirt",
      domain: Buffer.from(DOMAINS["v1.9, in one line"]),
      vmi: Buffer.from(machineJson()),
      sidecar_context: { invocation_context: invocation },
    }
    const { domain } = await call<{ domain: Buffer }>(join(own, "passt.sock"), METHOD, request)
    expect(domain.toString()).toContain("<interface type='vhostuser'><alias name='ua-default'/>")
    expect(lines.map((line) => JSON.parse(line))).toContainEqual(expect.objectContaining({ invocation, changed: true }))
  })

  test("machines without our binding come back as they are; other kinds of domains are refused", async () => {
    await start()
    const request = {
      domain_type: "libvirt",
      domain: Buffer.from(DOMAINS["v1.8"]),
      vmi: Buffer.from(machineJson({ interfaces: [{ binding: { name: "other" } }] })),
    }
    const { domain } = await call<{ domain: Buffer }>(join(own, "passt.sock"), METHOD, request)
    expect(domain.equals(request.domain)).toBe(true)
    const other = { ...request, domain_type: "cloud-hypervisor" }
    await expect(call(join(own, "passt.sock"), METHOD, other)).rejects.toThrow('type "cloud-hypervisor"')
  })
})

test("without a directory to listen in it says so", async () => {
  await expect(start({ PASST_HOOK_DIRECTORY: "/nonexistent" })).rejects.toThrow(/neither a directory \/nonexistent nor/)
})

test("metrics, in OpenMetrics' format", async () => {
  const port = 20_000 + (process.pid % 20_000)
  await start({ PASST_METRICS_PORT: String(port) })
  const request = { domainXML: Buffer.from(DOMAINS["v1.8"]), vmi: Buffer.from(machineJson()) }
  await call(socket, "kubevirt.hooks.v1alpha3.Callbacks/OnDefineDomain", request)
  await call(socket, "kubevirt.hooks.v1alpha3.Callbacks/OnDefineDomain", { ...request, domainXML: "" }).catch(() => {})
  const response = await fetch(`http://127.0.0.1:${port}/metrics`)
  expect(response.headers.get("content-type")).toContain("application/openmetrics-text; version=1.0.0")
  const text = await response.text()
  expect(text).toContain('passt_binding_hook_seconds_count{hook="OnDefineDomain",result="ok"} 1\n')
  expect(text).toContain('passt_binding_hook_seconds_count{hook="OnDefineDomain",result="refused"} 1\n')
  expect(text).toMatch(/^process_resident_memory_bytes \d+$/m)
  expect(text.endsWith("\n# EOF\n")).toBe(true)
  expect((await fetch(`http://127.0.0.1:${port}/`)).status).toBe(404)
})

describe("protocol buffers by hand", () => {
  test("what was written is read, in any order, the last of a field counts", () => {
    const entry = fc.tuple(fc.integer({ min: 1, max: 2 ** 20 }), fc.uint8Array({ minLength: 1, maxLength: 300 }))
    fc.assert(
      fc.property(fc.array(entry), (entries) => {
        const message = Buffer.concat(entries.map(([number, value]) => bytesField(number, Buffer.from(value))))
        const fields = decodeFields(message)
        for (const [number, value] of new Map(entries)) expect(bytesOf(fields, number)).toEqual(Buffer.from(value))
      }),
    )
  })

  test("any bytes are a message, or an error", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        try {
          for (const value of decodeFields(Buffer.from(bytes)).values()) expect(value.length).toBeLessThan(61)
        } catch (error) {
          expect((error as Error).message).toMatch(/^the message /)
        }
      }),
      { numRuns: 2000 },
    )
  })
})
