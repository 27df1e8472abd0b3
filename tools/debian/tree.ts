// Debian systems in folders, for programs that run ours: newer or older than the host's own, and with nothing installed
// on the host. Each is made once, by debootstrap or mmdebstrap, which take root; it may be deleted at any time.
import { execFileSync } from "node:child_process"
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { must } from "../world/process.ts"

const CACHE: string = join(import.meta.dirname, "../../.cache/debian")
const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

/** The releases in use. "testing" and not "sid", which can't be installed every day. */
export type Release = "trixie" | "testing"

/** The environment variable that tells tests where a release's tree is. */
export function treeVariable(release: Release): string {
  return `PASST_TREE_${release.toUpperCase()}`
}

/** The tree of a release, inside the sandbox. */
export function givenTree(release: Release): string {
  const tree = process.env[treeVariable(release)]
  if (tree === undefined) throw new Error(`${treeVariable(release)} is not set: run this through test-e2e/main.ts`)
  return tree
}

const VIRTUAL_MACHINES: readonly string[] = [
  "libvirt-clients",
  "libvirt-daemon",
  "libvirt-daemon-driver-qemu",
  "qemu-system-x86",
]

const CONTAINERS: readonly string[] = [
  "aardvark-dns",
  "conmon",
  "crun",
  "netavark",
  "nftables",
  "podman",
  "rootlesskit",
  "uidmap",
]

/** What has to be named beyond dependencies: no recommended package comes by itself. */
const PACKAGES: Readonly<Record<Release, readonly string[]>> = {
  trixie: ["busybox-static", "iproute2", ...CONTAINERS],
  testing: ["busybox-static", "iproute2", "mount", "passwd", ...VIRTUAL_MACHINES],
}

/** What makes a release's tree: debootstrap knows no testing that is younger than itself. */
const MAKERS: Readonly<Record<Release, readonly string[]>> = {
  trixie: ["debootstrap"],
  testing: [
    "mmdebstrap",
    "--mode=root",
    // Archives of a moment of testing stay the same, and their date runs out after a week; what is in them is still signed.
    '--aptopt=Acquire::Check-Valid-Until "false"',
    ...["doc", "info", "locale", "man"].map((name) => `--dpkgopt=path-exclude=/usr/share/${name}/*`),
  ],
}

/** The mirror that serves this system's own main archive. */
function systemMirror(): string {
  const format = ["--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian", "Component: main"]
  const mirrors = execFileSync("apt-get", ["indextargets", ...format], { encoding: "utf8" }).split("\n")
  const mirror = mirrors.find((uri) => uri !== "" && !uri.includes("security"))
  if (mirror === undefined) throw new Error("no Debian archive is known to apt here; run: apt-get update")
  return mirror
}

/** The system's folder, made unless it is there. Its files belong to root. */
export async function debianTree(release: Release): Promise<string> {
  const folder = join(CACHE, release)
  // What it was made of is written last.
  const mark = join(folder, "packages")
  const wanted = PACKAGES[release].join("\n")
  if (existsSync(mark) && readFileSync(mark, "utf8") === wanted) return join(folder, "tree")
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(CACHE, { recursive: true })
  const work = `${folder}.${process.pid}`
  const tree = join(work, "tree")
  try {
    mkdirSync(work)
    const options = ["--variant=minbase", `--include=${PACKAGES[release].join(",")}`, `--keyring=${KEYRING}`]
    // In a mount namespace of its own: it mounts /proc in there.
    const make = ["unshare", "--mount", ...MAKERS[release], ...options, release, tree, systemMirror()]
    await must(make, { timeoutMs: 900_000 })
    for (const folder of ["var/cache/apt/archives", "var/lib/apt/lists"]) {
      rmSync(join(tree, folder), { recursive: true, force: true })
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
