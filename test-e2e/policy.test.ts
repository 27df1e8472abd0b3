// A policy between real clients and servers, behind the seal: allow-lists by address and by name, refusals and silence, redirections and
// rate limits, over TCP, UDP and ICMP; rules that are replaced while traffic flows, and files with mistakes.
import { execFileSync } from "node:child_process"
import { mkdtempSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { parseOpenMetrics } from "../packages/control/src/test-support/openmetrics.ts"
import { HOST, NOBODY, PORT, RESOLVER, ROUTER, SEARCH_DOMAIN, SERVER } from "../tools/world/addresses.ts"
import { ask, clientCommand } from "../tools/world/ask.ts"
import { scratchDirectory } from "../tools/world/enter.ts"
import type { Namespace } from "../tools/world/namespace.ts"
import { PASST_BINARY, runPasst } from "../tools/world/passt.ts"
import { type Outcome, run, until } from "../tools/world/process.ts"
import { missing, skipNote } from "./lib/needs.ts"
import { createPastaStage, type PastaStage } from "./lib/pasta.ts"
import { createStage, type Stage } from "./lib/stage.ts"

const PASSTCTL = join(dirname(PASST_BINARY), "passtctl")
const FAMILIES = ["ipv4", "ipv6"] as const

/** Asks a resolver for a name and tells the code of its answer, and the addresses. */
const LOOKUP = `
const [server, name, family] = process.argv.slice(1)
const dns = new (require("node:dns").promises.Resolver)({ timeout: 2000, tries: 1 })
dns.setServers([server])
dns[family === "ipv6" ? "resolve6" : "resolve4"](name).then((found) => console.log(found.join()), (error) => console.log(error.code))`

async function lookup(guest: Namespace, server: string, name: string, family: string = "ipv4"): Promise<string> {
  return (await guest.must([process.execPath, "-e", LOOKUP, server, name, family], { timeoutMs: 20_000 })).trim()
}

/** Asks over one connection for all names at once, in pieces of so many bytes, and closes its side; tells each answer's code and records. */
const OVER_TCP = `
const [server, piece, ...names] = process.argv.slice(1)
const all = Buffer.concat(names.map((name, id) => {
  const labels = name.split(".").map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]))
  const query = Buffer.concat([Buffer.from([0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]), ...labels, Buffer.from([0, 0, 1, 0, 1])])
  return Buffer.concat([Buffer.from([0, query.length]), query])
}))
const socket = require("node:net").connect({ host: server, port: 53, noDelay: true }, async () => {
  for (let at = 0; at < all.length; at += Number(piece)) {
    socket.write(all.subarray(at, at + Number(piece)))
    if (Number(piece) < 100) await new Promise((resolve) => setImmediate(resolve))
  }
  socket.end()
})
let got = Buffer.alloc(0)
socket.on("data", (data) => (got = Buffer.concat([got, data])))
socket.on("error", (error) => console.log(error.code))
socket.on("end", () => {
  const found = []
  for (let at = 0; at < got.length; at += 2 + got.readUInt16BE(at)) {
    found[got[at + 3]] = [got[at + 5] & 15, got.readUInt16BE(at + 8)].join(":")
  }
  console.log(found.join(" "))
})
setTimeout(() => process.exit(), 15_000).unref()`

async function askOverTcp(guest: Namespace, server: string, piece: number, names: readonly string[]): Promise<string> {
  const command = [process.execPath, "-e", OVER_TCP, server, String(piece), ...names]
  return (await guest.must(command, { timeoutMs: 20_000 })).trim()
}

/** As the C library does, which asks for no larger datagrams: what is cut off over UDP it gets over TCP. */
async function stubLookup(guest: Namespace, server: string, name: string): Promise<string[]> {
  const file = join(mkdtempSync(join(scratchDirectory(), "stub-")), "resolv.conf")
  writeFileSync(file, `nameserver ${server}\noptions timeout:2 attempts:1\n`)
  const script = `mount --bind ${file} /etc/resolv.conf && exec getent -s dns ahosts ${name}`
  const outcome = await guest.run(["unshare", "--mount", "sh", "-c", script], { timeoutMs: 20_000 })
  const addresses = outcome.stdout.split("\n").flatMap((line) => /^(\S+) +STREAM/.exec(line)?.[1] ?? [])
  return [...new Set(addresses)]
}

function ping(guest: Namespace, address: string): Promise<Outcome> {
  return guest.run(["ping", "-c", "1", "-W", "2", address], { timeoutMs: 10_000 })
}

function policyFile(folder: string, policy: object | string, name = "policy.json"): string {
  const path = join(folder, name)
  writeFileSync(path, typeof policy === "string" ? policy : JSON.stringify(policy, undefined, 2), { mode: 0o644 })
  return path
}

const BY_PORT = {
  default: "refuse",
  rules: [
    { action: "allow", protocol: "udp", port: PORT.echo, remote: [SERVER.ipv4, SERVER.ipv6], label: "echo" },
    { action: "drop", protocol: "tcp", port: PORT.whoami },
    { action: "refuse", protocol: "tcp", port: PORT.digest, "refuse-with": "prohibited" },
    { action: "redirect", protocol: "tcp", port: 8888, to: `${SERVER.ipv4}:${PORT.http}`, label: "page" },
    { action: "redirect", protocol: "udp", remote: NOBODY.ipv6, port: 8888, to: `[${SERVER.ipv6}]:${PORT.echo}` },
    { action: "allow", protocol: "tcp", port: PORT.stream, limit: { rate: "1M" }, label: "slow" },
    { action: "allow", protocol: "icmp", remote: SERVER.ipv4 },
    { action: "allow", direction: "in", protocol: "tcp", port: 7 },
  ],
}

describe.skipIf(missing(["tun"]).length > 0)(`a policy${skipNote("tun")}`, () => {
  let stage: Stage
  let path: string
  let folder: string
  beforeAll(async () => {
    folder = mkdtempSync(join(scratchDirectory(), "policy-"))
    // The program, which is another user, opens it again later.
    await run(["chmod", "755", folder])
    path = join(folder, "passt.control")
    await run(["chmod", "777", folder])
    const file = policyFile(folder, BY_PORT)
    stage = await createStage(["--control", path, "--policy", file, "-t", "10007:7,10008:8"])
  })
  afterAll(() => stage?.close())

  const control = (...args: string[]): Promise<Outcome> =>
    run([PASSTCTL, "--socket", path, ...args], { timeoutMs: 20_000 })

  describe.each(FAMILIES)("over %s", (family) => {
    const server = SERVER[family]

    test("what no rule allows is refused at once: connections, datagrams", async () => {
      expect(await ask(stage.guest, "tcp", server, PORT.echo, "x")).toMatchObject({ error: "ECONNREFUSED" })
      expect(await ask(stage.guest, "udp", server, 4242, "x", 3000)).toMatchObject({ error: "ECONNREFUSED" })
    })

    test("what a rule allows works", async () => {
      expect(await ask(stage.guest, "udp", server, PORT.echo, "hello", 3000)).toMatchObject({ text: "hello" })
    })

    test("what a rule drops hears nothing", async () => {
      const command = clientCommand("tcp", server, PORT.whoami, "x")
      const outcome = await stage.guest.run(command, { timeoutMs: 2500 })
      expect(outcome.timedOut).toBe(true)
    })

    test("a refusal may be said to be prohibited", async () => {
      expect(await ask(stage.guest, "tcp", server, PORT.digest, "x")).toMatchObject({
        error: family === "ipv4" ? "EHOSTUNREACH" : "EACCES",
      })
    })

    test("a connection goes elsewhere, and the other family with it", async () => {
      const url = family === "ipv4" ? `http://${NOBODY.ipv4}:8888/` : `http://[${NOBODY.ipv6}]:8888/`
      expect(await ask(stage.guest, "http", url)).toMatchObject({ text: expect.stringContaining("It works") })
    })
  })

  test("datagrams go elsewhere, and answers come from where they were sent", async () => {
    expect(await ask(stage.guest, "udp", NOBODY.ipv6, 8888, "round", 3000)).toMatchObject({ text: "round" })
  })

  test("echo requests: allowed to one, prohibited to another", async () => {
    expect((await ping(stage.guest, SERVER.ipv4)).status).toBe(0)
    const refused = await ping(stage.guest, NOBODY.ipv4)
    expect(refused.status).not.toBe(0)
    expect(refused.stdout).toMatch(/Packet filtered|prohibited/i)
  })

  test("a download is as slow as its rule says", async () => {
    const began = performance.now()
    const bytes = 3_000_000
    expect(await ask(stage.guest, "download", SERVER.ipv4, PORT.stream, bytes, 1)).toMatchObject({ count: bytes })
    const seconds = (performance.now() - began) / 1000
    // A quarter of a second's worth may pass at once.
    expect(seconds).toBeGreaterThan((bytes - 250_000 - 65_536) / 1e6 - 0.2)
    expect(seconds).toBeLessThan(12)
  })

  test("flows and rules show what has decided", async () => {
    const hold = stage.guest.start(clientCommand("hold", SERVER.ipv4, PORT.stream))
    const flow = await until("the flow", 10_000, async () => {
      const lines = (await control("flows", "--json", "--protocol", "tcp")).stdout.split("\n").filter(Boolean)
      return lines.map((line) => JSON.parse(line)).find(({ peer }) => peer?.port === PORT.stream)
    })
    expect(flow.policy).toMatchObject({ verdict: "allowed", rule: 5, label: "slow" })
    const top = await control("top", "--once")
    expect(top.stdout).toMatch(/^\d+ flows, .*from the guest/)
    expect(top.stdout).toMatch(/tcp .*:9001 +slow /)
    hold.kill()
    const shown = (await control("policy", "show", "--json")).stdout.split("\n").filter(Boolean)
    const rules = shown.map((line) => JSON.parse(line))
    expect(rules).toHaveLength(BY_PORT.rules.length + 1)
    expect(rules[5]).toMatchObject({ ...BY_PORT.rules[5], limit: 1_000_000, hits: expect.any(Number) })
    expect(rules[5].hits).toBeGreaterThan(0)
    expect(rules.at(-1)).toMatchObject({ default: "refuse", dns: { seen: false } })
  })

  test("policy test tells what would happen, and why", async () => {
    const answer = await control("policy", "test", "tcp", `${SERVER.ipv4}:${PORT.stream}`)
    expect([answer.status, answer.stdout]).toEqual([0, expect.stringMatching(/^allow by rule 5: .*label slow/)])
    const refused = await control("policy", "test", "in", "udp", "[2001:db8::1]:9")
    expect([refused.status, refused.stdout]).toEqual([1, "refuse by default\n"])
    expect((await control("policy", "test", "tcp", "nonsense:")).status).not.toBe(0)
  })

  test("connections to forwarded ports are judged by the guest's port", async () => {
    const listen = ["socat", "-T5", "TCP6-LISTEN:7,fork,reuseaddr,ipv6only=0", "EXEC:cat"]
    const server = stage.guest.start(listen, { stdio: "ignore" })
    const other = stage.guest.start(["socat", "-T5", "TCP6-LISTEN:8,fork,reuseaddr,ipv6only=0", "EXEC:cat"], {
      stdio: "ignore",
    })
    await until("the guest's server", 10_000, async () => {
      const answer = await ask(stage.world.world, "tcp", HOST.ipv4, 10_007, "in")
      return "text" in answer && answer.text === "in"
    })
    expect(await ask(stage.world.world, "tcp", HOST.ipv4, 10_008, "in")).not.toMatchObject({ text: "in" })
    server.kill()
    other.kill()
  })

  test("a file with a mistake is refused whole, with its line, and the old rules stay", async () => {
    const bad = policyFile(
      folder,
      '{\n  "default": "allow",\n  "rules": [\n    { "action": "alow" }\n  ]\n}',
      "bad.json",
    )
    const outcome = await control("policy", "reload", bad)
    expect(outcome.status).toBe(1)
    expect(outcome.stderr).toContain('bad.json: line 4: rules[0].action: "alow" is none of')
    expect(await ask(stage.guest, "tcp", SERVER.ipv4, PORT.echo, "x")).toMatchObject({ error: "ECONNREFUSED" })
    expect((await control("policy", "check", bad)).status).toBe(1)
    const started = await runPasst(stage.world.host, ["--foreground", "--policy", bad])
    expect([started.status, started.stderr]).toEqual([1, expect.stringContaining("line 4: rules[0].action")])
  })

  test("SIGHUP reads the file again, also one that was renamed into its place; a mistake leaves the old rules", async () => {
    const replaced = policyFile(folder, { default: "refuse", rules: [{ action: "allow", protocol: "tcp" }] }, "next")
    renameSync(replaced, join(folder, "policy.json"))
    stage.passt.process.kill("SIGHUP")
    await until("the new rules", 10_000, async () => {
      const answer = await ask(stage.guest, "tcp", SERVER.ipv4, PORT.echo, "now")
      return "text" in answer && answer.text === "now"
    })
    policyFile(folder, "{")
    stage.passt.process.kill("SIGHUP")
    await until("the message", 10_000, () => stage.passt.log().includes("the old rules stay"))
    expect(stage.passt.log()).toMatch(/policy\.json: line 1: .*; the old rules stay/)
    expect(await ask(stage.guest, "tcp", SERVER.ipv4, PORT.echo, "still")).toMatchObject({ text: "still" })
  })

  test("the process that opens the file for that is sealed", () => {
    const openers = execFileSync("pgrep", ["-x", "passt-policy"], { encoding: "utf8" })
    for (const pid of openers.trim().split("\n")) {
      const status = readFileSync(`/proc/${pid}/status`, "latin1")
      expect(status).toMatch(/^CapEff:\t0+\nCapBnd:/m)
      expect(status).toMatch(/^NoNewPrivs:\t1\nSeccomp:\t2$/m)
      expect(readdirSync(`/proc/${pid}/fd`).length).toBeLessThanOrEqual(4)
    }
  })

  test("new rules end what they don't allow, if they say so", async () => {
    const hold = stage.guest.start(clientCommand("hold", SERVER.ipv4, PORT.echo), {
      stdio: ["ignore", "pipe", "ignore"],
    })
    let said = ""
    hold.stdout?.on("data", (chunk: Buffer) => (said += chunk.toString()))
    await until("the connection", 10_000, () => said.includes("connected"))
    const keep = policyFile(folder, { default: "refuse" }, "keep.json")
    expect((await control("policy", "reload", keep)).status).toBe(0)
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(hold.exitCode).toBeNull()
    const end = policyFile(folder, { default: "refuse", "existing-flows": "end" }, "end.json")
    expect((await control("policy", "reload", end)).status).toBe(0)
    await until("the end of the connection", 10_000, () => hold.exitCode !== null)
  })
})

const NAMES = {
  dns: { names: "only-allowed", "private-answers": "refuse" },
  rules: [{ action: "allow", name: `*.${SEARCH_DOMAIN}`, port: PORT.http }],
}

function overTcp(stageOf: () => { readonly guest: Namespace }): void {
  test.each(FAMILIES)("over %s: what is too long for a datagram comes over TCP, and is heard", async (family) => {
    const { guest } = stageOf()
    const found = await stubLookup(guest, RESOLVER[family], `many.${SEARCH_DOMAIN}`)
    expect(found).toHaveLength(102)
    // Known by that answer alone; nobody is there, and so it takes its time.
    const [address = ""] = found.filter((one) => one.startsWith("198.51.100.1") && one !== SERVER.ipv4)
    expect(address).not.toBe("")
    expect(await ask(guest, "http", `http://${address}/`)).not.toMatchObject({ error: "ECONNREFUSED" })
  })

  test.each([1, 7, 4096])("over TCP, in pieces of %d bytes: judged message by message", async (piece) => {
    const { guest } = stageOf()
    const names = ["www", "many", "large", "private", "www"].map((name) => `${name}.${SEARCH_DOMAIN}`)
    const answers = await askOverTcp(guest, RESOLVER.ipv4, piece, [
      ...names,
      "secret.tunnel.example",
      "secret",
      names[0]!,
    ])
    expect(answers).toBe("0:1 0:51 0:0 5:0 0:1 5:0 5:0 0:1")
  })
}

describe.skipIf(missing(["tun"]).length > 0)(`a policy of names, in passt${skipNote("tun")}`, () => {
  const forwarder = "192.0.2.99"
  let stage: Stage
  let path: string
  beforeAll(async () => {
    const folder = mkdtempSync(join(scratchDirectory(), "policy-"))
    await run(["chmod", "777", folder])
    path = join(folder, "passt.control")
    stage = await createStage(["--control", path, "--policy", policyFile(folder, NAMES), "--dns-forward", forwarder])
  })
  afterAll(() => stage?.close())

  overTcp(() => stage)

  test("the forwarder's address serves TCP, too, and flows show it as the guest sees it", async () => {
    expect(await stubLookup(stage.guest, forwarder, `many.${SEARCH_DOMAIN}`)).toHaveLength(102)
    const hold = stage.guest.start(clientCommand("hold", forwarder, 53))
    const flow = await until("the flow", 10_000, async () => {
      const answer = await run([PASSTCTL, "--socket", path, "flows", "--json", "--protocol", "tcp"])
      const lines = answer.stdout.split("\n").filter(Boolean)
      return lines.map((line) => JSON.parse(line)).find(({ far }) => far?.address === forwarder)
    })
    hold.kill()
    expect(flow).toMatchObject({
      kind: "link",
      state: "established",
      far: { address: forwarder, port: 53 },
      peer: { address: RESOLVER.ipv4, port: 53 },
      policy: { verdict: "allowed" },
    })
  })

  test("so many connections at a time are heard, more are refused, and their places are free again", async () => {
    const script = `
      const net = require("node:net")
      const all = Array.from({ length: 40 }, () => new Promise((resolve) => {
        const socket = net.connect(53, "${RESOLVER.ipv4}", () => resolve("connected"))
        socket.on("error", (error) => resolve(error.code))
      }))
      Promise.all(all).then((found) => {
        const count = (what) => found.filter((one) => one === what).length
        console.log(count("connected"), count("ECONNREFUSED"))
        process.exit()
      })`
    const open = async (): Promise<string> =>
      (await stage.guest.must([process.execPath, "-e", script], { timeoutMs: 20_000 })).trim()
    expect(await open()).toBe("32 8")
    await until("all places", 20_000, async () => (await open()) === "32 8")
    const metrics = (await run([PASSTCTL, "--socket", path, "metrics"])).stdout
    expect(metrics).toMatch(/^passt_policy_dns_streams_total\{outcome="refused"\} [1-9]\d+$/m)
  })
})

describe.skipIf(missing(["tun"]).length > 0)(`a policy of names that comes later${skipNote("tun")}`, () => {
  let stage: Stage
  let folder: string
  beforeAll(async () => {
    folder = mkdtempSync(join(scratchDirectory(), "policy-"))
    await run(["chmod", "777", folder])
    stage = await createStage(["--control", join(folder, "passt.control")])
  })
  afterAll(() => stage?.close())

  test("the sealed program still has the memory to overhear DNS over TCP", async () => {
    const command = [PASSTCTL, "--socket", join(folder, "passt.control"), "policy", "reload", policyFile(folder, NAMES)]
    expect((await run(command)).status).toBe(0)
    expect(await stubLookup(stage.guest, RESOLVER.ipv4, `many.${SEARCH_DOMAIN}`)).toHaveLength(102)
    expect(stage.passt.log()).not.toContain("forbidden")
  })
})

describe.skipIf(missing(["tun"]).length > 0)(
  `a policy of names, and a resolver on the host's loopback${skipNote("tun")}`,
  () => {
    let stage: Stage
    let path: string
    beforeAll(async () => {
      const folder = mkdtempSync(join(scratchDirectory(), "policy-"))
      await run(["chmod", "777", folder])
      path = join(folder, "passt.control")
      const args = ["--control", path, "--policy", policyFile(folder, NAMES)]
      stage = await createStage(args, {}, { resolvConf: "nameserver 127.0.0.53\n" })
      for (const protocol of ["TCP", "UDP"]) {
        const listen = `${protocol}4-LISTEN:53,bind=127.0.0.53,reuseaddr,fork`
        stage.world.host.start(["socat", "-T5", listen, `${protocol}4:${RESOLVER.ipv4}:53`], { stdio: "ignore" })
      }
      await until(
        "the resolver",
        10_000,
        async () => (await lookup(stage.world.host, "127.0.0.53", SERVER.name)) !== "",
      )
    })
    afterAll(() => stage?.close())

    test("is heard over TCP at the address that the guest was told", async () => {
      expect(await stubLookup(stage.guest, ROUTER.ipv4, `many.${SEARCH_DOMAIN}`)).toHaveLength(102)
      expect(await ask(stage.guest, "tcp", ROUTER.ipv4, 853, "x")).toMatchObject({ error: "ECONNREFUSED" })
      const tested = await run([PASSTCTL, "--socket", path, "policy", "test", "tcp", `${ROUTER.ipv4}:53`])
      expect([tested.status, tested.stdout]).toEqual([0, expect.stringMatching(/^allow/)])
      const metrics = (await run([PASSTCTL, "--socket", path, "metrics"])).stdout
      expect(metrics).toMatch(/^passt_policy_dns_streams_total\{outcome="overheard"\} [1-9]/m)
    })
  },
)

describe.skipIf(missing(["tun"]).length > 0)(`a policy of names, in pasta${skipNote("tun")}`, () => {
  let stage: PastaStage
  const name = `www.${SEARCH_DOMAIN}`
  beforeAll(async () => {
    const folder = mkdtempSync(join(scratchDirectory(), "policy-"))
    await run(["chmod", "755", folder])
    const file = policyFile(folder, NAMES)
    stage = await createPastaStage(["--config-net", "--policy", file, "--metrics", "9100"])
  })
  afterAll(() => stage?.close())

  test.each(FAMILIES)("over %s: an address is reached once the guest has asked for its name", async (family) => {
    const url = family === "ipv4" ? `http://${SERVER.ipv4}/` : `http://[${SERVER.ipv6}]/`
    expect(await ask(stage.guest, "http", url)).toMatchObject({ error: "ECONNREFUSED" })
    expect(await lookup(stage.guest, RESOLVER[family], name, family)).toBe(SERVER[family])
    expect(await ask(stage.guest, "http", url)).toMatchObject({ text: expect.stringContaining("It works") })
    expect(await ask(stage.guest, "tcp", SERVER[family], PORT.echo, "x")).toMatchObject({ error: "ECONNREFUSED" })
  })

  test("metrics are served over HTTP, behind the seal, beside a client that says nothing", async () => {
    const silent = stage.world.host.start(["sh", "-c", "exec socat -T4 - TCP4:127.0.0.1:9100 >/dev/null"], {
      stdio: ["pipe", "ignore", "ignore"],
    })
    const answer = await ask(stage.world.host, "http", "http://127.0.0.1:9100/metrics")
    silent.kill()
    const families = parseOpenMetrics(answer.text ?? "")
    expect(families.get("passt_policy_decisions")!.samples.get('verdict="allowed"')).toBeGreaterThan(0)
    expect(families.get("passt_turn_duration_seconds")!.samples.get("count{}")).toBeGreaterThan(0)
    expect(families.get("passt_gc_duration_seconds")!.type).toBe("summary")
    const packets = families.get("passt_packets")!.samples
    expect(packets.get('protocol="udp",kind="link",direction="from_guest"')).toBeGreaterThan(0)
    expect(await ask(stage.world.world, "tcp", HOST.ipv4, 9100, "x")).toMatchObject({ error: "ECONNREFUSED" })
  })

  test("no other name is asked for, and no other resolver", async () => {
    expect(await lookup(stage.guest, RESOLVER.ipv4, "tunnel.example")).toBe("EREFUSED")
    expect(await lookup(stage.guest, ROUTER.ipv4, name)).toMatch(/ECONNREFUSED|ETIMEOUT/)
    expect(await ask(stage.guest, "tcp", ROUTER.ipv4, 53, "x")).toMatchObject({ error: "ECONNREFUSED" })
    expect(await ask(stage.guest, "tcp", RESOLVER.ipv4, 853, "x")).toMatchObject({ error: "ECONNREFUSED" })
  })

  overTcp(() => stage)
})
