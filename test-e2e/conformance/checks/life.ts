// Section 1.11: background, files, logs, signals and exit statuses.
import { deepEqual, equal, match, ok } from "node:assert/strict"
import { existsSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from "node:fs"
import { PORT, ROUTER, SERVER } from "../../../tools/world/addresses.ts"
import { until } from "../../../tools/world/process.ts"
import type { Area } from "../check.ts"
import { Guest } from "../guest.ts"
import { isAlive } from "../stage.ts"
import type { Stage } from "../stage.ts"
import { parse } from "../wire/parse.ts"

/** passt in the background; its process id from the PID file. */
async function background(t: Stage, args: readonly string[] = []): Promise<number> {
  const { status, stderr } = await t.run(["-s", t.path("socket"), "-P", t.path("pid"), ...args])
  equal(status, 0, stderr)
  return Number(t.read("pid"))
}

const mode = (path: string): string => (statSync(path).mode & 0o777).toString(8)

/** Frames in a capture file. */
function captured(path: string): Buffer[] {
  const file = readFileSync(path)
  const frames: Buffer[] = []
  for (let at = 24; at + 16 <= file.length;) {
    const length = file.readUInt32LE(at + 8)
    frames.push(file.subarray(at + 16, at + 16 + length))
    at += 16 + length
  }
  return frames
}

const ended = (pid: number): Promise<boolean> => until("its end", 15_000, () => !isAlive(pid))

export const life: Area = {
  title: "Background, files, logs and signals",
  checks: [
    {
      id: "1.11.background",
      title: "status 0 means ready: socket and ports are open, the PID file is there; it runs in a session of its own",
      async run(t) {
        const pid = await background(t, ["-t", "20008", "-u", "20008"])
        match(t.read("pid"), /^[1-9]\d*\n$/)
        ok(isAlive(pid))
        match(await t.host.must(["ss", "-Htln"]), /:20008/)
        match(await t.host.must(["ss", "-Huln"]), /:20008/)
        const stat = readFileSync(`/proc/${pid}/stat`, "latin1")
        equal(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[3], String(pid))
        const guest = await Guest.connect(t.path("socket"))
        await guest.resolve(ROUTER.ipv4)
        guest.close()
      },
    },
    {
      id: "1.11.pipes",
      title:
        "the caller's standard output and error come to their end when it is ready: libvirt and Podman wait for that",
      async run(t) {
        const outcome = await t.run(["-s", t.path("socket"), "-P", t.path("pid")])
        deepEqual([outcome.status, outcome.timedOut], [0, false])
        const pid = Number(t.read("pid"))
        for (const fd of [0, 1, 2]) equal(readlinkSync(`/proc/${pid}/fd/${fd}`), "/dev/null")
      },
    },
    {
      id: "1.11.pid-file",
      title: "the PID file is replaced, readable by its owner only, and stays at the end",
      reference: "differs",
      because: "the version of 2023 makes files of mode 0600 only where they are new",
      async run(t) {
        writeFileSync(t.path("pid"), "something longer than a number\n")
        const pid = await background(t)
        ok(isAlive(pid))
        process.kill(pid, "SIGTERM")
        await ended(pid)
        equal(t.read("pid"), `${pid}\n`)
        const fresh = t.path("fresh")
        await t.run(["-s", t.path("other"), "-P", fresh])
        equal(mode(fresh), "600")
      },
    },
    {
      id: "1.11.pid-foreground",
      title: "in the foreground the PID file holds the process that was started",
      async run(t) {
        const running = await t.start(["-P", t.path("pid")])
        await (await t.connect(running)).resolve(ROUTER.ipv4)
        ok(isAlive(Number(t.read("pid"))))
        running.process.kill("SIGTERM")
        await running.exit()
        ok(!isAlive(Number(t.read("pid"))))
      },
    },
    {
      id: "1.11.files-refused",
      title: "a PID, log or capture file that can't be made is told",
      async run(t) {
        await t.refused([
          ["--pid", "/nowhere/pid"],
          ["--log-file", "/nowhere/log"],
        ])
        const { stderr } = await t.run(["-s", t.path("socket"), "--pcap", "/nowhere/pcap"])
        match(stderr, /\/nowhere\/pcap/)
      },
    },
    {
      id: "1.11.sigterm",
      title: "SIGTERM and SIGQUIT end it with status 0",
      async run(t) {
        for (const signal of ["SIGTERM", "SIGQUIT"] as const) {
          const running = await t.start([], t.path(signal))
          await (await t.connect(running)).resolve(ROUTER.ipv4)
          running.process.kill(signal)
          equal(await running.exit(), 0)
        }
      },
    },
    {
      id: "1.11.sigpipe",
      title: "SIGPIPE is ignored",
      reference: "differs",
      because: "the version of 2023 is ended by it",
      async run(t) {
        const running = await t.start()
        const guest = await t.connect(running)
        await guest.resolve(ROUTER.ipv4)
        running.process.kill("SIGPIPE")
        await guest.resolve(SERVER.ipv4)
      },
    },
    {
      id: "1.11.sigint",
      title: "SIGINT, as a terminal sends it, ends it",
      async run(t) {
        const running = await t.start()
        await (await t.connect(running)).resolve(ROUTER.ipv4)
        running.process.kill("SIGINT")
        ok(["SIGINT", 130].includes(await running.exit()))
      },
    },
    {
      id: "1.11.ports-closed",
      title: "at the end the ports are free again",
      async run(t) {
        const pid = await background(t, ["-t", "20008"])
        process.kill(pid, "SIGTERM")
        await ended(pid)
        ok(!(await t.host.must(["ss", "-Htln"])).includes(":20008"))
      },
    },
    {
      id: "1.11.nothing-left",
      title: "a start that fails leaves neither a process nor a socket that is in use",
      reference: "differs",
      because: "older versions start without the port",
      async run(t) {
        await t.hostPeer.listen("0.0.0.0", 20_009)
        await t.refused([["-t", "20009"]], /20009|[Pp]ort/)
        const unix = await t.host.must(["ss", "-Hxl"])
        ok(!unix.includes(t.folder), unix)
      },
    },
    {
      id: "1.11.log-file",
      title: "--log-file: messages go there, its first line tells version and process; readable by its owner only",
      async run(t) {
        const pid = await background(t, ["-l", t.path("log")])
        const [first, ...rest] = t.read("log").split("\n")
        match(first!, /^passt .*\(\d+\)$/)
        ok(rest.join("\n").includes("192.0.2.2"), "the summary")
        equal(mode(t.path("log")), "600")
        process.kill(pid, "SIGTERM")
      },
    },
    {
      id: "1.11.log-time",
      title: "lines in the log file have time stamps: seconds since the start",
      async run(t) {
        await background(t, ["-l", t.path("log")])
        const [, second] = t.read("log").split("\n")
        match(second!, /^\s*\d+\.\d{4}: /)
      },
    },
    {
      id: "1.11.log-size",
      title: "--log-size: the file stays below it, keeps its first line, and the newest messages",
      timeoutMs: 120_000,
      async run(t) {
        const running = await t.start(["--trace", "-l", t.path("log"), "--log-size", "40960"])
        const guest = await t.connect(running)
        for (let round = 0; round < 40; round++) {
          for (let index = 0; index < 20; index++) {
            guest.sendUdp(SERVER.ipv4, PORT.echo, "hello")
            guest.sendIp(guest.dhcpPacket([[53, Buffer.from([1])]]))
          }
          await guest.fence()
          ok(statSync(t.path("log")).size <= 41_960, `${statSync(t.path("log")).size} bytes`)
        }
        match(t.read("log").split("\n")[0]!, /^passt .*\(\d+\)/)
      },
    },
    {
      id: "1.11.log-size-refused",
      title: "--log-size refuses what is too small, or no number",
      reference: "differs",
      because: "the reference takes negative numbers",
      run: (t) =>
        t.refused(
          ["1", "40000", "many", "-5", "40960x"].map((size) => ["-l", t.path("log"), "--log-size", size]),
          /log-size/,
        ),
    },
    {
      id: "1.11.pcap",
      title: "--pcap: both directions in the classic format, readable by its owner only",
      async run(t) {
        const running = await t.start(["--pcap", t.path("pcap")])
        const guest = await t.connect(running)
        await guest.ping(SERVER.ipv4, 90, 1, "captured")
        guest.close()
        running.process.kill("SIGTERM")
        equal(await running.exit(), 0)
        const header = readFileSync(t.path("pcap")).subarray(0, 24)
        deepEqual([header.readUInt32LE(0), header.readUInt16LE(4), header.readUInt16LE(6)], [0xa1b2c3d4, 2, 4])
        equal(header.readUInt32LE(20), 1)
        const types = captured(t.path("pcap")).map((frame) => parse(frame).icmp?.type)
        ok(types.includes(8) && types.includes(0), "request and reply")
        equal(mode(t.path("pcap")), "600")
      },
    },
    {
      id: "1.11.pcap-time",
      title: "--pcap: frames have the time of day, and the length that they had",
      async run(t) {
        const running = await t.start(["--pcap", t.path("pcap")])
        const guest = await t.connect(running)
        await guest.ping(SERVER.ipv4, 91, 1, "captured")
        running.process.kill("SIGTERM")
        await running.exit()
        const file = readFileSync(t.path("pcap"))
        const seconds = file.readUInt32LE(24)
        ok(Math.abs(seconds - Date.now() / 1000) < 120, `${seconds}`)
        ok(file.readUInt32LE(28) < 1_000_000)
        equal(file.readUInt32LE(32), file.readUInt32LE(36))
      },
    },
    {
      id: "1.11.pcap-truncated",
      title: "--pcap: a file that is there is begun anew",
      async run(t) {
        writeFileSync(t.path("pcap"), "x".repeat(10_000))
        const running = await t.start(["--pcap", t.path("pcap")])
        await (await t.connect(running)).resolve(ROUTER.ipv4)
        running.process.kill("SIGTERM")
        await running.exit()
        const file = readFileSync(t.path("pcap"))
        equal(file.readUInt32LE(0), 0xa1b2c3d4)
        ok(!file.includes("xxxxxxxx"))
      },
    },
    {
      id: "1.11.closed-standard-streams",
      title: "it starts with standard input, output and error closed, and takes no other file for them",
      reference: "differs",
      because: "older versions lose the guest's socket then",
      async run(t) {
        const script = 'exec "$@" <&- >&- 2>&-'
        const command = [...t.commands.passt, "-s", t.path("socket"), "-P", t.path("pid")]
        const { status } = await t.host.run([
          "unshare",
          "--user",
          "--map-user=1000",
          "--map-group=1000",
          "sh",
          "-c",
          script,
          "sh",
          ...command,
        ])
        equal(status, 0)
        const guest = await Guest.connect(t.path("socket"))
        await guest.resolve(ROUTER.ipv4)
        guest.close()
      },
    },
    {
      id: "1.11.leaked-descriptors",
      title: "descriptors that the caller left open are closed",
      reference: "differs",
      because: "the version of 2023 keeps them",
      async run(t) {
        const script = `exec 9>${t.path("leak")}; exec "$@"`
        const command = [...t.commands.passt, "-s", t.path("socket"), "-P", t.path("pid")]
        const user = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
        const { status, stderr } = await t.host.run([...user, "sh", "-c", script, "sh", ...command])
        equal(status, 0, stderr)
        const folder = `/proc/${Number(t.read("pid"))}/fd`
        const open = readdirSync(folder).map((fd) => readlinkSync(`${folder}/${fd}`))
        ok(!open.includes(t.path("leak")), "still open")
      },
    },
    {
      id: "1.11.unprivileged",
      title: "no capability and no root identity is left while it runs",
      async run(t) {
        const pid = await background(t)
        const status = readFileSync(`/proc/${pid}/status`, "latin1")
        match(status, /^NoNewPrivs:\t1$/m)
        // What it may have counts in a user namespace of its own at most.
        if (!/^CapEff:\t0+$/m.test(status)) {
          ok(
            readlinkSync(`/proc/${pid}/ns/user`) !== readlinkSync("/proc/self/ns/user"),
            "capabilities in the caller's namespace",
          )
        }
        ok(existsSync(t.path("socket")))
      },
    },
  ],
}
