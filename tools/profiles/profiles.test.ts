/** The distribution's own compilers take the profiles. What they are worth is for machines with the modules to tell. */
import { spawnSync } from "node:child_process"
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { expect, test } from "vitest"

const PATH = `${process.env.PATH ?? ""}:/usr/sbin:/sbin`
const env = { ...process.env, PATH }
const isThere = (command: string): boolean => PATH.split(":").some((folder) => existsSync(join(folder, command)))
const missing = ["apparmor_parser", "checkmodule", "semodule_package"].filter((command) => !isThere(command))
if (missing.length > 0)
  console.log(`skipped, profiles: no ${missing.join(", ")} (apparmor, checkpolicy, semodule-utils)`)

test("on a test machine nothing is skipped", () => {
  if (process.env.CI === "true") expect(missing).toEqual([])
})

test.skipIf(missing.includes("apparmor_parser")).each(["passt", "pasta"])(
  "AppArmor takes the profile of %s",
  (name) => {
    const folder = join(import.meta.dirname, "apparmor")
    const where = ["--base", "/etc/apparmor.d", "--Include", folder]
    const args = ["--skip-kernel-load", "--skip-cache", ...where, join(folder, `usr.bin.${name}`)]
    const { status, stderr } = spawnSync("apparmor_parser", args, { encoding: "utf8", env })
    expect([status, stderr.split("\n").filter((line) => /error|conflict/i.test(line))]).toEqual([0, []])
  },
)

test.skipIf(missing.some((command) => command !== "apparmor_parser"))("SELinux takes the module", () => {
  const folder = mkdtempSync(join(tmpdir(), "passt-policy-"))
  try {
    const [module, pack] = [join(folder, "passt.mod"), join(folder, "passt.pp")]
    const source = join(import.meta.dirname, "selinux/passt")
    const steps = [
      ["checkmodule", "-M", "-m", "-o", module, `${source}.te`],
      ["semodule_package", "-o", pack, "-m", module, "-f", `${source}.fc`],
    ] as const
    for (const [command, ...args] of steps) {
      const { status, stderr } = spawnSync(command, args, { encoding: "utf8", env })
      expect([command, status, stderr]).toEqual([command, 0, ""])
    }
    expect(readFileSync(pack).length).toBeGreaterThan(1000)
  } finally {
    rmSync(folder, { recursive: true })
  }
})
