// The usual mDNS responder, in a namespace, with a message bus of its own that its clients reach it by.
import { mkdtempSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { scratchDirectory } from "../../tools/world/enter.ts"
import type { Namespace } from "../../tools/world/namespace.ts"
import { until } from "../../tools/world/process.ts"

export interface Avahi {
  /** Looks a name up. @returns the address, or what is wrong */
  resolve(name: string): Promise<string>
}

/** @param name the host's name, without ".local" */
export async function startAvahi(where: Namespace, name: string): Promise<Avahi> {
  const folder = mkdtempSync(join(scratchDirectory(), "avahi-"))
  const bus = `unix:path=${folder}/bus`
  const policy = `<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>`
  writeFileSync(
    join(folder, "bus.conf"),
    `<busconfig><type>system</type><listen>${bus}</listen><auth>EXTERNAL</auth>${policy}</busconfig>\n`,
  )
  writeFileSync(
    join(folder, "avahi.conf"),
    [
      "[server]",
      `host-name=${name}`,
      "use-ipv6=no",
      "allow-interfaces=eth0",
      "enable-dbus=yes",
      "[publish]",
      "publish-workstation=no",
      "[wide-area]",
      "enable-wide-area=no",
      "",
    ].join("\n"),
  )
  // The daemon keeps its files in a fixed place, and wants users of its own, of which there are none in here but root.
  await where.must(["mount", "-t", "tmpfs", "tmpfs", "/run"])
  for (const [file, fields] of [
    ["passwd", "::/:/bin/false"],
    ["group", ""],
  ] as const) {
    const users = ["root", "avahi", "messagebus"].map(
      (user) => `${user}:x:0:${file === "passwd" ? "0" : ""}${fields}\n`,
    )
    writeFileSync(join(folder, file), users.join(""))
    await where.must(["mount", "--bind", join(folder, file), `/etc/${file}`])
  }
  where.start(["dbus-daemon", "--config-file", join(folder, "bus.conf"), "--nofork", "--nopidfile"], {
    stdio: "ignore",
  })
  const env = { ...process.env, DBUS_SYSTEM_BUS_ADDRESS: bus }
  const daemon = ["avahi-daemon", "-f", join(folder, "avahi.conf"), "--no-drop-root", "--no-chroot", "--no-rlimits"]
  let said = ""
  await until("the bus", 10_000, async () => (await where.run(["test", "-S", join(folder, "bus")])).status === 0)
  const child = where.start(daemon, { stdio: ["ignore", "pipe", "pipe"], env })
  const keep = (chunk: Buffer): void => {
    said += chunk.toString()
  }
  child.stdout?.on("data", keep)
  child.stderr?.on("data", keep)
  await until("avahi-daemon", 20_000, () => {
    if (child.exitCode !== null) throw new Error(`avahi-daemon ended: ${said}`)
    return said.includes("startup complete")
  })
  return {
    async resolve(wanted) {
      const client = ["env", `DBUS_SYSTEM_BUS_ADDRESS=${bus}`, "avahi-resolve", "-4", "-n", wanted]
      const outcome = await where.run(client, { timeoutMs: 15_000 })
      return outcome.stdout.trim().split("\t")[1] ?? outcome.stderr.trim()
    },
  }
}
