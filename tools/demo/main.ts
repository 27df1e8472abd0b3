// npm run demo: a guest in QEMU goes online through passt, without privileges, in a world of its own.
//
//   npm run demo               show everything; exit 0 only if all of it worked
//   npm run demo -- --shell    the same, then a shell in the guest
import { existsSync } from "node:fs"
import { spawnSync } from "node:child_process"
import { bootGuest, QEMU } from "../guest/qemu.ts"
import { guestImage } from "../guest/image.ts"
import { HOST, SERVER } from "../world/addresses.ts"
import { enterSandbox, insideSandbox } from "../world/enter.ts"
import { PASST_BINARY, startPasst } from "../world/passt.ts"
import { createWorld } from "../world/world.ts"
import { FORWARD, showConfiguration, showInbound, showOutbound, showThroughput } from "./checks.ts"
import { createReport } from "./report.ts"

const THROUGHPUT_SECONDS = 2

const USAGE = `usage: npm run demo [-- --shell]
  --shell   leave me in the guest's shell at the end (exit or Ctrl-] ends it)
`

const report = createReport()

/** Outside the sandbox, where the package mirror can be reached: everything that may need it. */
async function prepare(): Promise<void> {
  report.line("passt: a guest goes online without privileges, bridges or NAT\n")
  const who = process.getuid?.() === 0 ? "root" : "an ordinary user"
  report.line(`Running as ${who}; everything below happens in namespaces that end with this program.\n`)
  if (!existsSync(PASST_BINARY)) throw new Error(`${PASST_BINARY} is not there: run npm run build`)
  await report.step(
    "guest image",
    () => guestImage(),
    (image) => `Linux ${image.kernelVersion}, busybox`,
  )
  const version = spawnSync(QEMU, ["--version"], { encoding: "utf8" })
  if (version.error !== undefined) throw new Error(`${QEMU} is missing: as root, run apt-get install qemu-system-x86`)
}

async function show(withShell: boolean): Promise<boolean> {
  const world = await report.step(
    "namespaces: host and world",
    () => createWorld(),
    () => `host ${HOST.ipv4}, ${HOST.ipv6}; server ${SERVER.ipv4}, ${SERVER.ipv6}`,
  )
  const forwards = ["-t", `${FORWARD.tcpHost}:${FORWARD.tcpGuest}`, "-u", `${FORWARD.udpHost}:${FORWARD.udpGuest}`]
  const passt = await report.step(
    "passt",
    () => startPasst(world.host, forwards),
    () => `user id 1000, no capabilities, ${forwards.join(" ")}`,
  )
  try {
    const guest = await report.step(
      "guest boots in QEMU",
      () => bootGuest({ socket: passt.socket, start: world.host.startAsUser }),
      (booted) => (booted.accel === "kvm" ? "KVM" : "TCG: KVM runs no guest here"),
    )
    // Without a network the checks below say what is missing.
    await report.check("guest configures its network", async () => {
      await guest.online()
      return "DHCP and SLAAC are through"
    })
    await showConfiguration(report, guest)
    await showOutbound(report, guest)
    await showInbound(report, guest, world.world)
    await showThroughput(report, guest, THROUGHPUT_SECONDS)
    const worked = report.summary()
    if (withShell) {
      report.line(
        "\nThe guest's shell. Try: ip addr, ping www, wget -q -O - http://www/. It ends with exit or Ctrl-].\n",
      )
      await guest.shell()
      report.line("")
    }
    return worked
  } finally {
    if (passt.process.exitCode !== null || passt.process.signalCode !== null) {
      report.line(`\npasst ended (${passt.process.signalCode ?? `status ${passt.process.exitCode}`}):\n${passt.log()}`)
    }
    await world.close()
  }
}

const options = process.argv.slice(2)
const unknown = options.find((option) => option !== "--shell")
if (unknown !== undefined) {
  process.stderr.write(unknown === "--help" ? USAGE : `unknown option ${unknown}\n${USAGE}`)
  process.exit(unknown === "--help" ? 0 : 2)
}
try {
  if (insideSandbox()) process.exit((await show(options.includes("--shell"))) ? 0 : 1)
  await prepare()
  process.exit(await enterSandbox([process.execPath, ...process.execArgv, import.meta.filename, ...options]))
} catch (error) {
  process.stderr.write(`\n${(error as Error).message}\n`)
  process.exit(1)
}
