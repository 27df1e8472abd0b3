/**
 * The packages as they are published: dist/packages/*.tgz, by `npm pack` from a folder that has what a package is to have and nothing
 * else: compiled modules with types and sources, README, licence, a package.json whose versions and exports are real.
 *
 *   node tools/packages/pack.ts [FOLDER]
 */
import { execFileSync } from "node:child_process"
import { cpSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { prebuild } from "./prebuild.ts"

const ROOT = join(import.meta.dirname, "../..")
/** What the packages need of Node: Symbol.asyncDispose, array copies, Node-API 9. */
const ENGINES = { node: ">=20.11" }

interface Manifest {
  readonly name: string
  readonly version: string
  readonly private?: boolean
  readonly exports: Readonly<Record<string, unknown>>
  readonly files: readonly string[]
  readonly publishConfig?: { readonly exports: Readonly<Record<string, { readonly types: string }>> }
  readonly dependencies?: Readonly<Record<string, string>>
  readonly [field: string]: unknown
}

/** A package of the workspace that is published. */
export interface Published {
  readonly name: string
  readonly folder: string
  readonly manifest: Manifest
}

/** In the order in which they depend on each other. */
export function publishedPackages(): Published[] {
  const all = globSync(["packages/*/package.json", "native/package.json"], { cwd: ROOT })
    .map((file) => {
      const manifest = JSON.parse(readFileSync(join(ROOT, file), "utf8")) as Manifest
      return { name: manifest.name, folder: join(ROOT, file, ".."), manifest }
    })
    .filter(({ manifest }) => manifest.private !== true)
  const sorted: Published[] = []
  const visit = (one: Published): void => {
    if (sorted.includes(one)) return
    for (const name of Object.keys(one.manifest.dependencies ?? {})) {
      const other = all.find((candidate) => candidate.name === name)
      if (other) visit(other)
    }
    sorted.push(one)
  }
  for (const one of all.toSorted((a, b) => a.name.localeCompare(b.name))) visit(one)
  return sorted
}

/** package.json as it is published. @param versions of all packages */
function publishedManifest({ manifest }: Published, versions: ReadonlyMap<string, string>): object {
  const {
    devDependencies: _dev,
    scripts: _scripts,
    publishConfig,
    binary: _binary,
    exports: _exports,
    ...kept
  } = manifest
  const entries = Object.entries(manifest.dependencies ?? {}).map(([name, range]) => {
    return [name, range.startsWith("workspace:") ? versions.get(name)! : range]
  })
  const { files: _files, dependencies: _dependencies, ...rest } = kept
  return {
    ...rest,
    sideEffects: false,
    engines: ENGINES,
    os: ["linux"],
    main: "./dist/index.js",
    types: publishConfig!.exports["."]!.types,
    exports: { ...publishConfig!.exports, "./package.json": "./package.json" },
    files: manifest.files,
    ...(entries.length === 0 ? {} : { dependencies: Object.fromEntries(entries) as unknown }),
  }
}

function isPublished(path: string): boolean {
  return !/\.test\.|\/test-support(\/|$)|\/sim(\/|$)|\.tsbuildinfo$|\.stamp$|\.prop\./.test(path)
}

/** Packs all. @param out gets the files @returns them, by name of the package */
export function packAll(out: string): Map<string, string> {
  const packages = publishedPackages()
  const versions = new Map(packages.map(({ name, manifest }) => [name, manifest.version]))
  const stage = join(out, "stage")
  rmSync(out, { recursive: true, force: true })
  const made = new Map<string, string>()
  for (const one of packages) {
    const folder = join(stage, one.name.replace("/", "-"))
    mkdirSync(folder, { recursive: true })
    for (const part of one.manifest.files) {
      cpSync(join(one.folder, part), join(folder, part), { recursive: true, filter: isPublished })
    }
    cpSync(join(ROOT, "LICENSE"), join(folder, "LICENSE"))
    writeFileSync(join(folder, "package.json"), `${JSON.stringify(publishedManifest(one, versions), null, 2)}\n`)
    const packed = execFileSync("npm", ["pack", "--silent", "--pack-destination", out], {
      cwd: folder,
      encoding: "utf8",
    })
    made.set(one.name, join(out, packed.trim()))
  }
  rmSync(stage, { recursive: true })
  return made
}

if (import.meta.main) {
  const { missing } = await prebuild()
  for (const reason of missing) console.log(`without a prebuilt addon, ${reason}`)
  for (const [name, file] of packAll(process.argv[2] ?? join(ROOT, "dist/packages"))) console.log(`${name}: ${file}`)
}
