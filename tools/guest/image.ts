// The guest's initramfs: busybox, iperf3, socat, rdisc6 and ethtool with their libraries, the modules, and the scripts in rootfs/.
import { createHash } from "node:crypto"
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs"
import { basename, join } from "node:path"
import { must } from "../world/process.ts"
import { cpioArchive } from "./cpio.ts"
import type { CpioEntry } from "./cpio.ts"
import { guestKernel } from "./kernel.ts"
import type { KernelFlavour } from "./kernel.ts"
import { CACHE, unpackedPackages } from "./packages.ts"

export interface GuestImage {
  readonly kernel: string
  readonly kernelVersion: string
  readonly initramfs: string
}

/** With the libraries that only these programs need; everything else they link to is on every Debian system. */
const PACKAGES = ["busybox-static", "iperf3", "libiperf0", "libsctp1", "ndisc6", "socat", "libwrap0", "libreadline8"]

const CARD_PACKAGES = ["ethtool", "libmnl0"]

/** Programs that are not in busybox, by their place in the unpacked packages. */
const PROGRAMS = ["usr/bin/iperf3", "usr/bin/rdisc6", "bin/rdisc6", "usr/bin/socat", "sbin/ethtool", "usr/sbin/ethtool"]

const LOADER = "/opt/lib/ld-linux-x86-64.so.2"

const ROOTFS: string = join(import.meta.dirname, "rootfs")

/** The shared libraries of a program, and the loader, as paths on this machine. */
async function libraries(program: string, searchPath: string): Promise<string[]> {
  const env = { ...process.env, LD_LIBRARY_PATH: searchPath }
  const listed = await must(["ldd", program], { env })
  return [...listed.matchAll(/(\/\S+) \(0x/g)].map((match) => match[1] ?? "").filter((path) => path !== "")
}

async function userland(): Promise<CpioEntry[]> {
  const tree = await unpackedPackages("userland", PACKAGES)
  const entries: CpioEntry[] = []
  const busybox = [join(tree, "bin/busybox"), join(tree, "usr/bin/busybox")].find((path) => existsSync(path))
  if (busybox === undefined) throw new Error(`no busybox in ${tree}: delete that directory and try again`)
  entries.push({ kind: "file", path: "bin/busybox", content: readFileSync(busybox), executable: true })
  for (const applet of (await must([busybox, "--list"])).split("\n")) {
    if (applet === "" || applet === "busybox") continue
    entries.push({ kind: "link", path: `bin/${applet}`, target: "busybox" })
  }
  const trees = [tree, await unpackedPackages("card", CARD_PACKAGES)]
  const folders = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"]
  const searchPath = trees.flatMap((one) => folders.map((folder) => join(one, folder))).join(":")
  const placed = new Set<string>()
  for (const path of trees.flatMap((one) => PROGRAMS.map((program) => join(one, program)))) {
    if (!existsSync(path) || placed.has(basename(path))) continue
    placed.add(basename(path))
    const name = basename(path)
    entries.push({ kind: "file", path: `opt/bin/${name}`, content: readFileSync(path), executable: true })
    // The libraries are kept out of /lib: a static busybox whose libc finds another one there crashes in getaddrinfo.
    const wrapper = `#!/bin/sh\nexec ${LOADER} --library-path /opt/lib /opt/bin/${name} "$@"\n`
    entries.push({ kind: "file", path: `bin/${name}`, content: Buffer.from(wrapper), executable: true })
    for (const library of await libraries(path, searchPath)) {
      const place = `opt/lib/${basename(library)}`
      if (placed.has(place)) continue
      placed.add(place)
      entries.push({ kind: "file", path: place, content: readFileSync(library), executable: true })
    }
  }
  return entries
}

function script(name: string, path: string): CpioEntry {
  return { kind: "file", path, content: readFileSync(join(ROOTFS, name)), executable: true }
}

/** Build the image, or find it in the cache. */
export async function guestImage(flavour: KernelFlavour = "cloud"): Promise<GuestImage> {
  if (process.arch !== "x64") throw new Error(`the test guest is x86-64; this machine is ${process.arch}`)
  const kernel = await guestKernel(flavour)
  const text = (content: string): Buffer => Buffer.from(content)
  const order = kernel.modules.map((module) => `${module.name}.ko\n`).join("")
  const archive = cpioArchive([
    ...["proc", "sys", "dev", "run", "tmp", "root", "var"].map((path) => ({ kind: "directory", path }) as const),
    // The kernel opens /dev/console before anything is mounted.
    { kind: "character", path: "dev/console", major: 5, minor: 1 },
    { kind: "link", path: "sbin", target: "bin" },
    script("init", "init"),
    script("agent", "etc/agent"),
    script("network", "etc/network"),
    script("udhcpc", "etc/udhcpc"),
    {
      kind: "file",
      path: "etc/passwd",
      content: text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"),
    },
    { kind: "file", path: "etc/group", content: text("root:x:0:\n") },
    { kind: "file", path: "etc/hosts", content: text("127.0.0.1 localhost\n::1 localhost\n") },
    { kind: "file", path: "etc/profile", content: text("export PS1='guest# ' HOME=/root\ncd\n") },
    { kind: "file", path: "lib/modules/order", content: text(order) },
    ...kernel.modules.map(
      (module) => ({ kind: "file", path: `lib/modules/${module.name}.ko`, content: module.content }) as const,
    ),
    ...(await userland()),
  ])
  // Not compressed: an emulated CPU unpacks slower than QEMU copies.
  const digest = createHash("sha256").update(archive).digest("hex").slice(0, 12)
  const initramfs = join(CACHE, `initramfs-${flavour}-${digest}.cpio`)
  if (!existsSync(initramfs)) {
    mkdirSync(CACHE, { recursive: true })
    writeFileSync(`${initramfs}.${process.pid}`, archive)
    renameSync(`${initramfs}.${process.pid}`, initramfs)
  }
  return { kernel: kernel.image, kernelVersion: kernel.version, initramfs }
}

if (import.meta.main) {
  const image = await guestImage(process.argv[2] === "generic" ? "generic" : "cloud")
  process.stdout.write(`kernel    ${image.kernel}\ninitramfs ${image.initramfs}\n`)
}
