/**
 * Makes `dist/`, the tree that is installed: needs nothing outside itself, and can be copied anywhere.
 *
 *   dist/bin/passt                 the launcher
 *   dist/bin/pasta                 a copy of it: it goes by its name
 *   dist/lib/passt/passt.js        the programs, one script each
 *   dist/lib/passt/pasta.js
 *   dist/lib/passt/passt.mjs       what runs them (tools/bundle/loader.mjs)
 *   dist/lib/passt/pasta.mjs
 *   dist/lib/passt/passt.cache     what V8 has made of them, for the next one to begin with (tools/bundle/rehearse.ts)
 *   dist/lib/passt/pasta.cache
 *   dist/bin/passtctl              a script that runs dist/lib/passt/passtctl.mjs
 *   dist/lib/passt/kubevirt-binding.mjs   the sidecar of virtual machines in KubeVirt
 *   dist/bin/passt-kubevirt        the same for passt-kubevirt.mjs, whose libraries' licences are beside it
 *   dist/lib/passt/passt.node      the addon
 *   dist/lib/passt/cni/            the CNI plugin for nodes of a cluster, by processor
 *   dist/lib/passt/node            the runtime, with its licence beside it
 *   dist/share/man/man1/passt.1    the manual pages
 *   dist/share/man/man1/pasta.1
 *   dist/share/man/man1/passtctl.1
 *   dist/share/passt/systemd/      unit files to begin with
 *   dist/share/passt/grafana/      a dashboard for the metrics
 *   dist/share/kubevirt/           files for Kustomize and Helm
 *   dist/share/apparmor.d/         profiles for AppArmor, and abstractions for others' profiles
 *   dist/share/selinux/            the source of a policy module for SELinux
 *   dist/share/bash-completion/completions/, zsh/site-functions/, fish/vendor_completions.d/
 *
 * Run after the packages are built: `node tools/bundle.ts`.
 */
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { rolldown } from "rolldown"
import { VERSION } from "../packages/program/src/version.ts"
import { COMPLETION_PATHS, SHELLS, writeCompletions } from "../packages/cli/src/completions.ts"
import { PLUGIN, PROCESSORS, pluginPath } from "../apps/kubevirt-cni/src/processors.ts"
import { rehearse } from "./bundle/rehearse.ts"
import { writeDeploy } from "../apps/passt-kubevirt/src/write-deploy.ts"
import { manualPage } from "../packages/cli/src/man.ts"
import { bundleSidecar } from "../apps/kubevirt-binding/image/bundle.ts"

const PROGRAMS = ["passt", "pasta"] as const
const root = dirname(dirname(fileURLToPath(import.meta.url)))
const lib = join(root, "dist/lib/passt")
const bin = join(root, "dist/bin")
const man = join(root, "dist/share/man/man1")

/** Commands that need no launcher. */
const SCRIPTS = ["passtctl", "passt-kubevirt"] as const

/** The tree may be anywhere, and the command be a link to it. */
const script = (program: string): string => `#!/bin/sh
lib=$(dirname "$(readlink -f "$0")")/../lib/passt
exec "$lib/node" "$lib/${program}.mjs" "$@"
`

/** The licences of the packages that a bundle's modules come from. */
function licences(modules: readonly string[]): string {
  const folders = modules.flatMap((path) => /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0] ?? [])
  const parts = [...new Set(folders)].toSorted().map((folder) => {
    const { name, version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"))
    const file = readdirSync(folder).find((entry) => /^licen[cs]e(\.(md|txt))?$/i.test(entry))
    const text = file === undefined ? "" : readFileSync(join(folder, file), "utf8").trim()
    return `${name} ${version} (${license})\n\n${text}`
  })
  return `${parts.join(`\n\n${"-".repeat(80)}\n\n`)}\n`
}

/** Copies by way of a new file, so that a running program keeps the old one. */
function place(from: string, to: string, mode: number): void {
  const fresh = `${to}.new`
  copyFileSync(from, fresh)
  chmodSync(fresh, mode)
  renameSync(fresh, to)
}

for (const folder of [lib, bin, man]) mkdirSync(folder, { recursive: true })

/** @param format of one file: a function's body, or a module @returns its text */
async function bundle(program: string, format: "cjs" | "esm"): Promise<string> {
  const build = await rolldown({
    input: join(root, `apps/${program}/src/main.ts`),
    platform: "node",
    // Workspace packages are TypeScript and go into the bundle; only Node's own modules stay outside.
    external: /^node:/,
  })
  // Names stay, for messages and for who reads them.
  const minify = format === "cjs" ? { compress: true, mangle: false, codegen: true } : false
  const { output } = await build.generate({ format, sourcemap: false, minify })
  const foreign = output.flatMap((chunk) => (chunk.type === "chunk" ? chunk.moduleIds : []))
  const notices = licences(foreign.filter((path) => path.includes("/node_modules/")))
  if (notices.trim() !== "") writeFileSync(join(lib, `LICENSES.${program}`), notices)
  await build.close()
  if (output.length > 1) throw new Error(`${program}: more than one file`)
  return output[0].code
}

/** One byte a character, in memory as well. Only strings have others: there are no comments left. */
const ascii = (text: string): string =>
  text.replace(/[^\0-\x7f]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)

for (const program of PROGRAMS) {
  const code = ascii(await bundle(program, "cjs"))
  writeFileSync(join(lib, `${program}.js`), `(function (require, __dirname) {${code}\n})\n`)
  copyFileSync(join(root, "tools/bundle/loader.mjs"), join(lib, `${program}.mjs`))
}
for (const program of SCRIPTS) writeFileSync(join(lib, `${program}.mjs`), await bundle(program, "esm"))
await bundleSidecar(join(lib, "kubevirt-binding.mjs"))

place(join(root, "native/build/Release/passt.node"), join(lib, "passt.node"), 0o755)
const launcher = ["native/build/launcher/passt", "native/build/Release/passt"]
  .map((path) => join(root, path))
  .find((path) => existsSync(path) && statSync(path).isFile())
if (launcher === undefined) throw new Error("the launcher is not built: run the build of @passt/native first")
// Two copies rather than a link: security policies attach to either path.
for (const program of PROGRAMS) place(launcher, join(bin, program), 0o755)

for (const { oci } of PROCESSORS) {
  const folder = join(lib, "cni", oci)
  rmSync(folder, { recursive: true, force: true })
  // Where the other processor's compiler is missing there is one.
  if (!existsSync(pluginPath(oci))) continue
  mkdirSync(folder, { recursive: true })
  place(pluginPath(oci), join(folder, PLUGIN), 0o755)
}

for (const program of SCRIPTS) {
  const path = join(bin, program)
  writeFileSync(`${path}.new`, script(program))
  chmodSync(`${path}.new`, 0o755)
  renameSync(`${path}.new`, path)
}
writeDeploy(join(root, "dist/share/kubevirt"))

// The same as a package for npm, which brings its libraries along and needs nothing but Node.js.
const npm = join(root, "apps/passt-kubevirt/dist/npm")
writeDeploy(join(npm, "kubevirt"))
const command = readFileSync(join(lib, "passt-kubevirt.mjs"), "utf8")
writeFileSync(join(npm, "passt-kubevirt.mjs"), `#!/usr/bin/env node\n${command}`, { mode: 0o755 })
copyFileSync(join(lib, "LICENSES.passt-kubevirt"), join(npm, "LICENSES"))

// The runtime that runs this script is the one that the workspace pins.
const node = realpathSync(process.execPath)
const installed = join(lib, "node")
if (!existsSync(installed) || statSync(installed).size !== statSync(node).size) place(node, installed, 0o755)
for (const licence of [join(dirname(node), "../LICENSE"), join(dirname(node), "LICENSE")]) {
  if (existsSync(licence)) copyFileSync(licence, join(lib, "LICENSE.node"))
}

for (const program of PROGRAMS) await rehearse(program, lib)

const epoch = process.env["SOURCE_DATE_EPOCH"]
const day = epoch === undefined ? new Date() : new Date(Number(epoch) * 1000)
for (const program of PROGRAMS) writeFileSync(join(man, `${program}.1`), manualPage(VERSION, day, program))
const units = join(root, "apps/passt/systemd")
const installedUnits = join(root, "dist/share/passt/systemd")
mkdirSync(installedUnits, { recursive: true })
for (const unit of readdirSync(units)) copyFileSync(join(units, unit), join(installedUnits, unit))
writeCompletions(join(root, "dist/share"))
for (const [from, to] of [
  ["apparmor", "apparmor.d"],
  ["selinux", "selinux"],
] as const) {
  cpSync(join(root, "tools/profiles", from), join(root, "dist/share", to), { recursive: true })
}

// passtctl has no option table; its pages are written by hand.
const grafana = join(root, "dist/share/passt/grafana")
mkdirSync(grafana, { recursive: true })
copyFileSync(join(root, "packages/control/share/grafana-dashboard.json"), join(grafana, "passt.json"))
const texts = join(root, "apps/passtctl/share")
const share = join(root, "dist/share")
const date = day.toLocaleDateString("en-US", { year: "numeric", month: "long", day: "numeric", timeZone: "UTC" })
const page = readFileSync(join(texts, "passtctl.1"), "utf8").replace("$DATE$", date).replace("$VERSION$", VERSION)
writeFileSync(join(man, "passtctl.1"), page)
for (const shell of SHELLS) {
  copyFileSync(join(texts, `passtctl.${shell}`), join(share, COMPLETION_PATHS[shell]("passtctl")))
}
