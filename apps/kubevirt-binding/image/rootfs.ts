/**
 * The image's root file system, put together from what the build has made and from the C and C++ libraries of the build's own Debian:
 *
 *   /usr/lib/passt/      node, the sidecar, the engine and its addon
 *   /usr/bin/passt       the engine's launcher
 *   /cni/passt-kubevirt-cni   the plugin for nodes, if it was built
 *   /lib…                the dynamic loader and five libraries
 *   /usr/share/doc/, /usr/share/sbom/   licences, and what is in the image (SPDX)
 *
 * No shell, no package manager, nothing that is writable or owned by the user that it runs as.
 */
import { execFileSync } from "node:child_process"
import {
  chmodSync,
  copyFileSync,
  existsSync,
  globSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs"
import { basename, dirname, join } from "node:path"
import { bundleSidecar } from "./bundle.ts"
import type { Part } from "./sbom.ts"
import { sbom } from "./sbom.ts"

export const ROOT: string = join(import.meta.dirname, "../../..")
const CACHE = join(ROOT, ".cache/kubevirt")

export interface Platform {
  readonly oci: "amd64" | "arm64"
  readonly node: NodeJS.Architecture
  readonly gnu: string
  /** The loader's path is part of the ABI. */
  readonly loader: string
}

export const PLATFORMS: readonly Platform[] = [
  { oci: "amd64", node: "x64", gnu: "x86_64-linux-gnu", loader: "/lib64/ld-linux-x86-64.so.2" },
  { oci: "arm64", node: "arm64", gnu: "aarch64-linux-gnu", loader: "/lib/ld-linux-aarch64.so.1" },
]

/** What node, the addon and the launcher are linked with (readelf -d). */
const LIBRARIES = ["libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "libstdc++.so.6", "libgcc_s.so.1"]

/** Node and kubelet's user for virtual machines. */
const PASSWD = "root:x:0:0:root:/:/nologin\nqemu:x:107:107:qemu:/:/nologin\n"
const GROUP = "root:x:0:\nqemu:x:107:\n"

/** @param version of the image @returns the folder */
export async function makeRootfs(platform: Platform, folder: string, version: string): Promise<string> {
  const isOwn = platform.node === process.arch
  rmSync(folder, { recursive: true, force: true })
  for (const each of ["usr/bin", "usr/lib/passt", "etc", "tmp", "var/run", "run", "proc", "sys", "dev"]) {
    mkdirSync(join(folder, each), { recursive: true })
  }
  const parts: Part[] = [{ name: "passt", version, license: "Apache-2.0", kind: "own" }]
  const lib = join(folder, "usr/lib/passt")

  const node = isOwn ? ownNode() : packedNode(platform)
  place(node.binary, join(lib, "node"))
  strip(platform, join(lib, "node"))
  parts.push({ name: "node", version: process.versions.node, license: "MIT", kind: "node" })
  documentNode(folder, node.license)

  const native = isOwn ? ownNative() : crossCompile(platform)
  place(native.addon, join(lib, "passt.node"))
  place(native.launcher, join(folder, "usr/bin/passt"))
  // The cache is what V8 has made of the program for one processor.
  for (const name of ["passt.mjs", "passt.js", ...(isOwn ? ["passt.cache"] : [])]) {
    copyFileSync(join(ROOT, "dist/lib/passt", name), join(lib, name))
  }
  await bundleSidecar(join(lib, "kubevirt-binding.mjs"))
  document(folder, "passt", join(ROOT, "LICENSE"))
  const plugin = join(ROOT, "apps/kubevirt-cni/build", platform.oci, "passt-kubevirt-cni")
  if (existsSync(plugin)) {
    mkdirSync(join(folder, "cni"))
    place(plugin, join(folder, "cni/passt-kubevirt-cni"))
  }

  const folders = isOwn ? [`/lib/${platform.gnu}`, `/usr/lib/${platform.gnu}`] : [`/usr/${platform.gnu}/lib`]
  const inImage = join(folder, "lib", platform.gnu)
  mkdirSync(inImage, { recursive: true })
  const packages = new Set<string>()
  for (const name of LIBRARIES) packages.add(placeLibrary(name, folders, join(inImage, name)))
  mkdirSync(dirname(join(folder, platform.loader)), { recursive: true })
  packages.add(placeLibrary(basename(platform.loader), folders, join(folder, platform.loader)))
  for (const name of packages) {
    const [version = "", source = name] = query(name, "${Version}\t${source:Package}").split("\t")
    parts.push({ name, version, license: "GPL-3.0-or-later WITH GCC-exception-3.1", kind: "debian", source })
    document(folder, name, `/usr/share/doc/${name}/copyright`)
  }
  for (const part of npmPackages()) {
    parts.push(part)
    document(folder, part.name.replace("/", "-").replace("@", ""), part.licenseFile)
  }

  writeFileSync(join(folder, "etc/passwd"), PASSWD)
  writeFileSync(join(folder, "etc/group"), GROUP)
  mkdirSync(join(folder, "usr/share/sbom"), { recursive: true })
  writeFileSync(join(folder, "usr/share/sbom/passt-binding.spdx.json"), sbom(parts, platform.oci, version))
  // Temporary files are nobody's business here; the directory is for a volume, if somebody wants one.
  chmodSync(join(folder, "tmp"), 0o1777)
  return folder
}

function place(from: string, to: string): void {
  copyFileSync(realpathSync(from), to)
  chmodSync(to, 0o755)
}

/** Symbols for debuggers are a fifth of node. */
function strip(platform: Platform, file: string): void {
  const command = platform.node === process.arch ? "strip" : `${platform.gnu}-strip`
  execFileSync(command, ["--strip-unneeded", file])
}

function ownNode(): { binary: string; license: string } {
  const binary = realpathSync(process.execPath)
  const candidates = [join(dirname(binary), "../LICENSE"), join(dirname(binary), "LICENSE")]
  return { binary, license: candidates.find((path) => existsSync(path)) ?? candidates[0]! }
}

/** Node for another processor, of the very version that runs this: a package of the registry that only carries the binary. */
function packedNode(platform: Platform): { binary: string; license: string } {
  const name = `node-linux-${platform.node}`
  const folder = join(CACHE, `${name}-${process.versions.node}`)
  if (!existsSync(join(folder, "bin/node"))) {
    mkdirSync(folder, { recursive: true })
    const [tarball = ""] = execFileSync("npm", ["pack", "--silent", `${name}@${process.versions.node}`], {
      cwd: CACHE,
      encoding: "utf8",
    }).split("\n")
    const wanted = ["package/bin/node", "package/LICENSE"]
    execFileSync("tar", ["-xzf", join(CACHE, tarball), "--strip-components=1", "-C", folder, ...wanted])
    rmSync(join(CACHE, tarball))
  }
  return { binary: join(folder, "bin/node"), license: join(folder, "LICENSE") }
}

function ownNative(): { addon: string; launcher: string } {
  return { addon: join(ROOT, "dist/lib/passt/passt.node"), launcher: join(ROOT, "dist/bin/passt") }
}

/** As native/CMakeLists.txt does it. */
function crossCompile(platform: Platform): { addon: string; launcher: string } {
  const native = join(ROOT, "native")
  const folder = join(CACHE, platform.oci)
  mkdirSync(folder, { recursive: true })
  const generated = `-I${join(native, "build/generated")}`
  const common = ["-std=c++20", "-fno-exceptions", "-fno-rtti", "-D_GNU_SOURCE", "-Wall", "-Wextra", generated]
  const sources = (each: string): string[] => globSync(join(native, each, "*.cc")).toSorted()
  const compiler = `${platform.gnu}-g++`
  const result = { addon: join(folder, "passt.node"), launcher: join(folder, "passt") }
  const newest = Math.max(...[...sources("cpp"), ...sources("launcher")].map((file) => lstatSync(file).mtimeMs))
  const isFresh = (file: string): boolean => existsSync(file) && lstatSync(file).mtimeMs > newest
  if (!isFresh(result.addon)) {
    const headers = join(native, "node_modules/node-api-headers/include")
    const flags = ["-O3", "-shared", "-fPIC", "-fvisibility=hidden", "-DNAPI_VERSION=9", `-I${headers}`]
    execFileSync(compiler, [...common, ...flags, ...sources("cpp"), "-o", result.addon], { stdio: "inherit" })
  }
  if (!isFresh(result.launcher)) {
    const flags = ["-O2", "-fstack-protector-strong", "-static-libstdc++", "-static-libgcc", "-Wl,-z,relro,-z,now"]
    execFileSync(compiler, [...common, ...flags, ...sources("launcher"), "-o", result.launcher], { stdio: "inherit" })
  }
  return result
}

/** @returns the Debian package that has it */
function placeLibrary(name: string, folders: readonly string[], to: string): string {
  const found = folders.map((folder) => join(folder, name)).find((path) => existsSync(path))
  if (found === undefined) throw new Error(`${name} is in none of ${folders.join(", ")}`)
  place(found, to)
  // Debian has merged /lib into /usr/lib, and dpkg may know a file by either path.
  const real = realpathSync(found)
  for (const path of new Set([found, real, real.replace(/^\/usr\/lib\//, "/lib/")])) {
    try {
      return execFileSync("dpkg-query", ["-S", path], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] })
        .split(": ")[0]!
        .split(":")[0]!
    } catch {
      continue
    }
  }
  throw new Error(`no Debian package has ${found}`)
}

function query(name: string, format: string): string {
  return execFileSync("dpkg-query", ["-W", "-f", `${format}\n`, name], { encoding: "utf8" }).split("\n")[0]!
}

function document(folder: string, name: string, file: string): void {
  const to = join(folder, "usr/share/doc", name)
  mkdirSync(to, { recursive: true })
  copyFileSync(realpathSync(file), join(to, "copyright"))
}

/** Packages that carry node alone may lack its licence, which is long: it names those of all that is in node. */
function documentNode(folder: string, file: string): void {
  if (existsSync(file)) {
    document(folder, "node", file)
    return
  }
  const to = join(folder, "usr/share/doc/node")
  mkdirSync(to, { recursive: true })
  const { node } = process.versions
  const text = `Node.js ${node} is licensed under the MIT License, its parts under their own:\n`
  writeFileSync(join(to, "copyright"), `${text}https://github.com/nodejs/node/blob/v${node}/LICENSE\n`)
}

/** Packages that are in the sidecar's bundle: its dependencies and theirs, without what the bundle leaves out. */
function npmPackages(): (Part & { readonly licenseFile: string })[] {
  const found = new Map<string, Part & { readonly licenseFile: string }>()
  const visit = (name: string, from: string): void => {
    if (found.has(name) || name.startsWith("@passt/") || name === "@grpc/proto-loader") return
    const candidates = [
      join(from, "node_modules", name),
      join(realpathSync(from), "../..", name),
      join(realpathSync(from), "..", name),
    ]
    const folder = realpathSync(candidates.find((path) => existsSync(join(path, "package.json"))) ?? candidates[0]!)
    const manifest = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as {
      version: string
      license: string
      dependencies?: Record<string, string>
    }
    const license = readdirSync(folder).find((file) => /^licen[cs]e/i.test(file))
    const licenseFile = license === undefined ? join(folder, "package.json") : join(folder, license)
    found.set(name, { name, version: manifest.version, license: manifest.license, kind: "npm", licenseFile })
    for (const dependency of Object.keys(manifest.dependencies ?? {})) visit(dependency, folder)
  }
  const own = join(import.meta.dirname, "..")
  const { dependencies } = JSON.parse(readFileSync(join(own, "package.json"), "utf8")) as {
    dependencies: Record<string, string>
  }
  for (const name of Object.keys(dependencies)) visit(name, own)
  return [...found.values()]
}
