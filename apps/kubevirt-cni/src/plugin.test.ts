/**
 * The plugin as it is built, run as a container runtime runs it: as root, with namespaces that the test makes. Without root most of
 * it is skipped, and it says so.
 */
import { execFileSync, spawn, spawnSync } from "node:child_process"
import type { ChildProcess } from "node:child_process"
import { chmodSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { PLUGIN, PROCESSORS, pluginPath } from "./processors.ts"

const VERSIONS = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] as const
const here = PROCESSORS.find(({ node }) => node === process.arch)!
const plugin = pluginPath(here.oci)
const isRoot = process.getuid?.() === 0
if (!isRoot) console.log("skipped without root: what enters network namespaces")

interface Answer {
  status: number | null
  out: string
  err: string
}

function call(command: string, config: unknown, env: Record<string, string> = {}): Answer {
  const input = typeof config === "string" ? config : JSON.stringify(config)
  const result = spawnSync(plugin, [], {
    input,
    encoding: "utf8",
    env: { CNI_COMMAND: command, CNI_CONTAINERID: "c1", CNI_IFNAME: "eth0", CNI_PATH: "/opt/cni/bin", ...env },
  })
  return { status: result.status, out: result.stdout, err: result.stderr }
}

const config = (version?: string, more: object = {}): object => ({
  ...(version === undefined ? {} : { cniVersion: version }),
  name: "net",
  type: PLUGIN,
  ...more,
})

/** What an error has to look like: JSON with version, code and message, and one line for a person. */
function failure(answer: Answer): [code: number, message: string] {
  expect(answer.status).toBe(1)
  const error = JSON.parse(answer.out) as { cniVersion: string; code: number; msg: string }
  expect(VERSIONS).toContain(error.cniVersion)
  expect(answer.err.match(/\n/g)).toHaveLength(1)
  expect(answer.err).toMatch(/^passt-kubevirt-cni: error: /)
  return [error.code, error.msg]
}

/** A network namespace with a process in it. */
class Pod {
  readonly process: ChildProcess
  readonly path: string

  constructor(...flags: string[]) {
    this.process = spawn("unshare", [...flags, "--net", "--", "sleep", "120"], { stdio: "ignore" })
    this.path = `/proc/${this.process.pid}/ns/net`
    const own = statSync("/proc/self/ns/net").ino
    for (let tries = 0; tries < 500; tries++) {
      if (existsSync(this.path) && statSync(this.path).ino !== own && this.isSleeping()) return
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10)
    }
    throw new Error("no namespace")
  }

  private isSleeping(): boolean {
    return readFileSync(`/proc/${this.process.pid}/comm`, "utf8").trim() === "sleep"
  }

  /** Runs a command in it. */
  run(...command: string[]): Answer {
    const result = spawnSync("nsenter", [`--net=${this.path}`, "--", ...command], { encoding: "utf8" })
    return { status: result.status, out: result.stdout, err: result.stderr }
  }

  /** The same as virt-launcher's user, without any privilege. */
  runAs107(...command: string[]): Answer {
    const user = [
      "--reuid=107",
      "--regid=107",
      "--clear-groups",
      "--bounding-set=-all",
      "--inh-caps=-all",
      "--no-new-privs",
    ]
    return this.run("setpriv", ...user, ...command)
  }

  sysctls(): string[] {
    const names = ["ip_unprivileged_port_start", "ping_group_range"].map((name) => `/proc/sys/net/ipv4/${name}`)
    return this.run("cat", ...names)
      .out.trim()
      .split("\n")
  }

  end(): void {
    this.process.kill("SIGKILL")
  }
}

test("VERSION tells the versions, whatever it is asked with", () => {
  for (const input of ["", "{}", "no JSON", '{"cniVersion":"9.9.9"}', '{"cniVersion":7}']) {
    const answer = call("VERSION", input)
    expect(answer.status).toBe(0)
    expect(JSON.parse(answer.out)).toEqual({ cniVersion: "1.1.0", supportedVersions: VERSIONS })
  }
  expect(JSON.parse(call("VERSION", { cniVersion: "0.4.0" }).out).cniVersion).toBe("0.4.0")
})

test("DEL, GC and STATUS say nothing", () => {
  const silent = { status: 0, out: "", err: "" }
  for (const version of VERSIONS) {
    expect(call("DEL", config(version))).toEqual(silent)
    expect(call("DEL", config(version), { CNI_NETNS: "/nowhere" })).toEqual(silent)
  }
  expect(call("STATUS", config("1.1.0"))).toEqual(silent)
  expect(call("GC", config("1.1.0", { "cni.dev/valid-attachments": [] }))).toEqual(silent)
})

describe("what is refused, and by which code", () => {
  const NETNS = { CNI_NETNS: "/nowhere" }

  test.each([
    ["no command", "", config("1.0.0"), {}, 4, "CNI_COMMAND"],
    ["an unknown command", "PING", config("1.0.0"), NETNS, 4, "no such CNI_COMMAND"],
    ["no namespace", "ADD", config("1.0.0"), {}, 4, "missing: CNI_NETNS"],
    [
      "several that are missing",
      "ADD",
      config("1.0.0"),
      { CNI_IFNAME: "", CNI_PATH: "" },
      4,
      "CNI_NETNS, CNI_IFNAME, CNI_PATH",
    ],
    ["a container without name", "DEL", config("1.0.0"), { CNI_CONTAINERID: "" }, 4, "missing: CNI_CONTAINERID"],
    ["a container's name", "ADD", config("1.0.0"), { ...NETNS, CNI_CONTAINERID: "../c" }, 4, "CNI_CONTAINERID"],
    ["an interface's name", "ADD", config("1.0.0"), { ...NETNS, CNI_IFNAME: "a/b" }, 4, "CNI_IFNAME"],
    ["a long interface's name", "ADD", config("1.0.0"), { ...NETNS, CNI_IFNAME: "0123456789abcdef" }, 4, "CNI_IFNAME"],
    ["nothing on standard input", "ADD", "", NETNS, 6, "not JSON"],
    ["half a configuration", "ADD", '{"cniVersion":"1.0.0"', NETNS, 6, "not JSON"],
    ["an array", "ADD", "[]", NETNS, 6, "not a JSON object"],
    ["too deep", "ADD", `${'{"a":'.repeat(100)}1${"}".repeat(100)}`, NETNS, 6, "not JSON"],
    ["too much", "ADD", JSON.stringify({ name: "n", more: "x".repeat(1 << 20) }), NETNS, 6, "longer than 1 MiB"],
    ["a version that is no text", "ADD", config("1.0.0", { cniVersion: 1 }), NETNS, 6, "cniVersion"],
    ["an unknown version", "ADD", config("9.9.9"), NETNS, 1, "9.9.9"],
    ["a version with more behind it", "ADD", config("1.0.0-rc1"), NETNS, 1, "not supported"],
    ["no name", "ADD", { cniVersion: "1.0.0", type: PLUGIN }, NETNS, 7, '"name" is missing'],
    ["a name that is none", "ADD", config("1.0.0", { name: "a/b" }), NETNS, 7, "no name of a network"],
    ["a name that is no text", "ADD", config("1.0.0", { name: {} }), NETNS, 6, "name"],
    ["a group that is text", "ADD", config("1.0.0", { pingGroup: "107" }), NETNS, 7, "pingGroup"],
    ["a negative group", "ADD", config("1.0.0", { pingGroup: -1 }), NETNS, 7, "pingGroup"],
    ["a group that is too large", "ADD", config("1.0.0", { pingGroup: 4294967295 }), NETNS, 7, "pingGroup"],
    ["a result that is none", "ADD", config("1.0.0", { prevResult: [] }), NETNS, 7, "prevResult"],
    ["a result of another form", "ADD", config("1.0.0", { prevResult: { cniVersion: "0.2.0" } }), NETNS, 7, "0.2.0"],
    [
      "attachments that are none",
      "GC",
      config("1.1.0", { "cni.dev/valid-attachments": {} }),
      {},
      7,
      "valid-attachments",
    ],
    ["CHECK before there was one", "CHECK", config("0.3.1"), NETNS, 1, "CHECK is not in version 0.3.1"],
    ["GC before there was one", "GC", config("1.0.0"), {}, 1, "GC is not in version 1.0.0"],
    ["STATUS before there was one", "STATUS", config(), {}, 1, "STATUS is not in version 0.1.0"],
    ["a container that is gone", "ADD", config("1.0.0"), NETNS, 3, "cannot be opened: /nowhere"],
    ["a file that is no namespace", "ADD", config("1.0.0"), { CNI_NETNS: "/etc/passwd" }, 4, "not a network namespace"],
    ["a directory", "ADD", config("1.0.0"), { CNI_NETNS: "/" }, 4, "not a network namespace"],
    [
      "a namespace of another kind",
      "ADD",
      config("1.0.0"),
      { CNI_NETNS: "/proc/self/ns/uts" },
      4,
      "not a network namespace",
    ],
    ["the host's own", "ADD", config("1.0.0"), { CNI_NETNS: "/proc/self/ns/net" }, 8, "the plugin's own"],
  ] as const)("%s", (_what, command, input, env, code, message) => {
    const [gotCode, gotMessage] = failure(call(command, input, env))
    expect([gotCode, gotMessage.includes(message), gotMessage]).toEqual([code, true, gotMessage])
  })

  test("errors are in the configuration's version", () => {
    for (const version of VERSIONS) {
      expect(JSON.parse(call("ADD", config(version), NETNS).out).cniVersion).toBe(version)
      expect(JSON.parse(call("ADD", config(version)).out).cniVersion).toBe(version)
    }
  })

  test("what comes from outside does not get out of its line", () => {
    const answer = call("ADD", config("1.0.0"), { CNI_NETNS: '/no"\nwhere\u001b[31m' })
    expect(failure(answer)).toEqual([3, 'CNI_NETNS cannot be opened: /no"\nwhere\u001b[31m'])
    expect(answer.err).not.toContain("\u001b")
  })

  test("a standard output that is closed is an error", () => {
    const result = spawnSync("sh", ["-c", `exec "${plugin}" >&-`], {
      input: "{}",
      env: { CNI_COMMAND: "VERSION" },
    })
    expect(result.status).toBe(1)
  })
})

describe.skipIf(!isRoot)("in a pod's namespace", () => {
  let pod: Pod
  beforeAll(() => {
    pod = new Pod()
    pod.run("ip", "link", "set", "lo", "up")
  })
  afterAll(() => pod.end())
  const netns = (): Record<string, string> => ({ CNI_NETNS: pod.path })

  test("an ordinary user gets low ports and echo sockets by ADD, and not before", () => {
    const listen = `require("node:net").createServer().on("error", (e) => (console.log(e.code), process.exit(1))).listen(80, function () { this.close() })`
    // Where everybody can execute them, and without the capabilities that the system's ping has.
    const folder = mkdtempSync(join(tmpdir(), "passt-cni-"))
    chmodSync(folder, 0o755)
    const [node, ping] = [join(folder, "node"), join(folder, "ping")]
    execFileSync("cp", [process.execPath, node])
    execFileSync("sh", ["-c", `cp "$(command -v ping)" "${ping}"`])
    for (const program of [node, ping]) chmodSync(program, 0o755)
    const outside = readFileSync("/proc/sys/net/ipv4/ip_unprivileged_port_start", "utf8")
    try {
      expect(pod.runAs107(node, "-e", listen).out).toBe("EACCES\n")
      expect(pod.runAs107(ping, "-c1", "-W1", "127.0.0.1").status).not.toBe(0)
      const answer = call("ADD", config("1.0.0"), netns())
      expect([answer.status, JSON.parse(answer.out)]).toEqual([0, { cniVersion: "1.0.0" }])
      expect(answer.err).toMatch(/^passt-kubevirt-cni: ADD c1 eth0: .*\n$/)
      expect(pod.sysctls()).toEqual(["0", "107\t107"])
      expect(pod.runAs107(node, "-e", listen)).toMatchObject({ status: 0, out: "" })
      expect(pod.runAs107(ping, "-c1", "-W1", "127.0.0.1").status).toBe(0)
      expect(readFileSync("/proc/sys/net/ipv4/ip_unprivileged_port_start", "utf8")).toBe(outside)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  test("CHECK finds what has changed since", () => {
    const check = (): Answer => call("CHECK", config("1.0.0", { prevResult: { cniVersion: "1.0.0" } }), netns())
    call("ADD", config("1.0.0"), netns())
    expect(check()).toEqual({ status: 0, out: "", err: "" })
    pod.run("sysctl", "-qw", "net.ipv4.ping_group_range=1 0")
    expect(failure(check())).toEqual([100, "net.ipv4.ping_group_range is 1\t0 and not 107\t107"])
    pod.run("sysctl", "-qw", "net.ipv4.ip_unprivileged_port_start=1024")
    expect(failure(check())[1]).toBe("net.ipv4.ip_unprivileged_port_start is 1024 and not 0")
    expect(call("ADD", config("1.0.0"), netns()).status).toBe(0)
    expect(check().status).toBe(0)
  })

  test("the group is the configuration's", () => {
    expect(call("ADD", config("1.0.0", { pingGroup: 1000 }), netns()).status).toBe(0)
    expect(pod.sysctls()[1]).toBe("1000\t1000")
    expect(failure(call("CHECK", config("1.0.0"), netns()))[0]).toBe(100)
  })

  test.each(VERSIONS)("a result of version %s: what the plugins before have made, or nothing", (version) => {
    expect(JSON.parse(call("ADD", config(version), netns()).out)).toEqual({ cniVersion: version })
    const form =
      version < "0.3.0"
        ? { ip4: { ip: "10.0.0.2/24" } }
        : { ips: [{ address: "10.0.0.2/24" }], interfaces: [{ name: 'e"0' }] }
    const previous = { ...form, dns: { nameservers: ["10.0.0.1"] }, more: [1.5, null, { deep: "ä\n" }] }
    const chained = call("ADD", config(version, { prevResult: { cniVersion: version, ...previous } }), netns())
    expect(JSON.parse(chained.out)).toEqual({ cniVersion: version, ...previous })
  })

  test("what Multus adds is no obstacle", () => {
    const extended = config("0.3.1", {
      args: { cni: { logicNetworkName: "default" } },
      runtimeConfig: {},
      capabilities: { portMappings: true },
      prevResult: null,
    })
    expect(call("ADD", extended, netns()).status).toBe(0)
  })

  test("if one setting cannot be made, neither is", () => {
    // A user namespace without group 107.
    const fresh = new Pod("--user", "--map-root-user")
    try {
      const before = fresh.sysctls()
      expect(before[0]).toBe("1024")
      const answer = call("ADD", config("1.0.0"), { CNI_NETNS: fresh.path })
      expect(failure(answer)).toEqual([5, "net.ipv4.ping_group_range cannot be set to 107\t107"])
      expect(fresh.sysctls()).toEqual(before)
    } finally {
      fresh.end()
    }
  })

  test("in a pod with a user namespace the group is the pod's", () => {
    const other = new Pod("--user")
    try {
      for (const map of ["uid_map", "gid_map"]) writeFileSync(`/proc/${other.process.pid}/${map}`, "0 100000 65536")
      expect(call("ADD", config("1.0.0"), { CNI_NETNS: other.path }).status).toBe(0)
      // Seen from outside.
      expect(other.sysctls()).toEqual(["0", "100107\t100107"])
      expect(call("CHECK", config("1.0.0"), { CNI_NETNS: other.path }).status).toBe(0)
    } finally {
      other.end()
    }
  })
})

describe("as its own installer", () => {
  let folder: string
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "passt-cni-bin-"))
  })
  afterAll(() => rmSync(folder, { recursive: true }))
  const run = (...args: string[]): Answer => {
    const result = spawnSync(plugin, args, { encoding: "utf8" })
    return { status: result.status, out: result.stdout, err: result.stderr }
  }

  test("copies itself whole, once, and takes itself away", () => {
    const target = join(folder, PLUGIN)
    expect(run("--is-installed", folder).status).toBe(1)
    expect(run("--is-removed", folder).status).toBe(0)
    expect(run("--install", folder, "--once").status).toBe(0)
    expect(readFileSync(target).equals(readFileSync(plugin))).toBe(true)
    expect(statSync(target).mode & 0o777).toBe(0o755)
    expect(run("--is-installed", folder).status).toBe(0)
    const { ino } = statSync(target)
    expect(run("--install", folder, "--once")).toEqual({ status: 0, out: "", err: "" })
    expect(statSync(target).ino).toBe(ino)
    // An earlier version of ours.
    writeFileSync(target, Buffer.concat([readFileSync(plugin), Buffer.from("older")]))
    expect(run("--is-installed", folder).status).toBe(1)
    expect(run("--install", folder, "--once").status).toBe(0)
    expect(run("--is-installed", folder).status).toBe(0)
    expect(run("--remove", folder, "--once").status).toBe(0)
    expect(readdirSync(folder)).toEqual([])
    expect(run("--remove", folder, "--once").status).toBe(0)
  })

  test("another program's file stays", () => {
    const target = join(folder, "bridge")
    writeFileSync(target, "another's")
    expect(run("--install", folder, "--name", "bridge", "--once")).toMatchObject({
      status: 1,
      err: expect.stringContaining("in the way"),
    })
    expect(run("--remove", folder, "--name", "bridge", "--once").status).toBe(0)
    expect(run("--is-removed", folder, "--name", "bridge").status).toBe(0)
    expect(readFileSync(target, "utf8")).toBe("another's")
    rmSync(target)
  })

  test("a folder that is not there is told", () => {
    expect(run("--install", join(folder, "none"), "--once")).toMatchObject({
      status: 1,
      err: expect.stringContaining("No such file"),
    })
  })

  test("stays until a signal, and ends at once by it", async () => {
    const child = spawn(plugin, ["--install", folder], { stdio: ["ignore", "ignore", "pipe"] })
    const ended = new Promise<number | null>((resolve) => child.on("exit", (status) => resolve(status)))
    await new Promise((resolve) => child.stderr.once("data", resolve))
    expect(existsSync(join(folder, PLUGIN))).toBe(true)
    child.kill("SIGTERM")
    expect(await ended).toBe(0)
    run("--remove", folder, "--once")
  })

  test.each([
    ["--install"],
    ["--install", "relative"],
    ["--purge", "/x"],
    ["--install", "/x", "--name", "../y"],
    ["--once"],
  ])("wrong arguments: %s %s", (...args) => {
    expect(run(...args)).toMatchObject({ status: 2, out: "", err: expect.stringMatching(/^passt-kubevirt-cni: .*\n$/) })
  })

  test("--help", () => {
    expect(run("--help")).toMatchObject({ status: 0, err: "", out: expect.stringContaining("--install DIR") })
  })
})

test.each(PROCESSORS.filter(({ oci }) => existsSync(pluginPath(oci))))("is static: $oci", ({ oci, gnu }) => {
  const headers = execFileSync("readelf", ["--file-header", "--program-headers", "--wide", pluginPath(oci)], {
    encoding: "utf8",
  })
  expect(headers).toMatch(gnu === "aarch64" ? "AArch64" : "X86-64")
  expect(headers).not.toMatch(/INTERP|DYNAMIC/)
  expect(statSync(pluginPath(oci)).size).toBeLessThan(2 << 20)
})

const emulator = "qemu-aarch64-static"
const other = pluginPath("arm64")
test.skipIf(here.oci === "arm64" || !existsSync(other) || spawnSync(emulator, ["--version"]).error !== undefined)(
  "the one for arm64 answers too",
  () => {
    const result = spawnSync(emulator, [other], { input: "{}", encoding: "utf8", env: { CNI_COMMAND: "VERSION" } })
    expect(JSON.parse(result.stdout).supportedVersions).toEqual(VERSIONS)
  },
)
