// A Debian system with Podman in a folder, for containers that run with our pasta: newer than the host's own, and with
// nothing installed on the host. Made once, by debootstrap, which takes root; it may be deleted at any time.
import { execFileSync } from "node:child_process"
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { must } from "../world/process.ts"

const CACHE: string = join(import.meta.dirname, "../../.cache/containers")
const RELEASE = "trixie"
const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

/** What debootstrap has to name beyond dependencies: it takes no recommended package by itself. */
const PACKAGES: readonly string[] = [
  "aardvark-dns",
  "busybox-static",
  "conmon",
  "crun",
  "iproute2",
  "netavark",
  "nftables",
  "podman",
  "rootlesskit",
  "uidmap",
]

/** The mirror that serves this system's own main archive. */
function systemMirror(): string {
  const format = ["--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian", "Component: main"]
  const mirrors = execFileSync("apt-get", ["indextargets", ...format], { encoding: "utf8" }).split("\n")
  const mirror = mirrors.find((uri) => uri !== "" && !uri.includes("security"))
  if (mirror === undefined) throw new Error("no Debian archive is known to apt here; run: apt-get update")
  return mirror
}

/** The system's folder, made unless it is there. Its files belong to root. */
export async function containerTree(): Promise<string> {
  const folder = join(CACHE, RELEASE)
  // What it was made of is written last.
  const mark = join(folder, "packages")
  const wanted = PACKAGES.join("\n")
  if (existsSync(mark) && readFileSync(mark, "utf8") === wanted) return join(folder, "tree")
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(CACHE, { recursive: true })
  const work = `${folder}.${process.pid}`
  const tree = join(work, "tree")
  try {
    mkdirSync(work)
    const options = [`--include=${PACKAGES.join(",")}`, `--keyring=${KEYRING}`]
    // In a mount namespace of its own: it mounts /proc in there.
    const command = [
      "unshare",
      "--mount",
      "debootstrap",
      "--variant=minbase",
      ...options,
      RELEASE,
      tree,
      systemMirror(),
    ]
    await must(command, { timeoutMs: 600_000 })
    for (const name of ["archives", "lists"]) {
      rmSync(join(tree, name === "lists" ? "var/lib/apt" : "var/cache/apt", name), { recursive: true })
    }
    // A device of its own, open to all as udev makes it: that of a container's /dev may be root's alone.
    mkdirSync(join(tree, "dev/net"), { recursive: true })
    await must(["mknod", "--mode=666", join(tree, "dev/net/tun"), "c", "10", "200"])
    writeFileSync(join(work, "packages"), wanted)
    renameSync(work, folder)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
  return join(folder, "tree")
}
