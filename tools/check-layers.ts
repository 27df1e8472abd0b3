/**
 * The layer rules, as a test over the source text: arrows point one way, and core touches nothing of Node's.
 * Prints each line that breaks a rule; exit 1 if there is one.
 */
import { globSync, readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const root = dirname(dirname(fileURLToPath(import.meta.url)))

/** What each room may import besides itself. */
const MAY: Record<string, { node: boolean; from: readonly string[] }> = {
  "packages/core": { node: false, from: [] },
  "packages/dhcp": { node: false, from: ["@passt/core", "@passt/core/wire"] },
  "packages/ndp": { node: false, from: ["@passt/core", "@passt/core/wire"] },
  "packages/transport-unix": { node: true, from: ["@passt/core", "@passt/native"] },
  "packages/transport-tap": { node: true, from: ["@passt/core", "@passt/native"] },
  "packages/transport-vhost": { node: true, from: ["@passt/core", "@passt/native"] },
  "packages/host": { node: true, from: ["@passt/core", "@passt/core/wire", "@passt/native"] },
  "packages/cli": { node: true, from: ["@passt/core", "@passt/core/wire"] },
  "packages/control": { node: true, from: ["@passt/cli", "@passt/core", "@passt/core/wire", "@passt/native"] },
  native: { node: true, from: ["@passt/core"] },
  "packages/program": {
    node: true,
    from: ["@passt/cli", "@passt/control", "@passt/core", "@passt/dhcp", "@passt/host", "@passt/native", "@passt/ndp"],
  },
  "apps/kubevirt-binding": { node: true, from: ["@grpc/grpc-js", "@passt/program/version", "saxes"] },
  "packages/engine": {
    node: true,
    from: [
      "@passt/cli",
      "@passt/control",
      "@passt/core",
      "@passt/core/wire",
      "@passt/host",
      "@passt/native",
      "@passt/program",
      "@passt/transport-tap",
      "@passt/transport-unix",
      "@passt/transport-vhost",
    ],
  },
  "apps/passt": {
    node: true,
    from: [
      "@passt/cli",
      "@passt/core",
      "@passt/host",
      "@passt/native",
      "@passt/program",
      "@passt/transport-unix",
      "@passt/transport-vhost",
    ],
  },
  "apps/passtctl": { node: true, from: ["@passt/control", "@passt/core", "@passt/native", "@passt/program/version"] },
  "apps/kubevirt-cni": { node: true, from: [] },
  "apps/passt-kubevirt": { node: true, from: ["@kubernetes/client-node", "@passt/program/version", "js-yaml"] },
  "apps/pasta": {
    node: true,
    from: ["@passt/cli", "@passt/core", "@passt/host", "@passt/native", "@passt/program", "@passt/transport-tap"],
  },
}

let broken = 0
for (const [room, rule] of Object.entries(MAY)) {
  for (const file of globSync(`${room}/src/**/*.ts`, { cwd: root })) {
    // Tests may use test tools and Node; what they test may not.
    if (file.endsWith(".test.ts") || file.includes("/test-support/")) continue
    const lines = readFileSync(join(root, file), "utf8").split("\n")
    lines.forEach((line, i) => {
      const name = /(?:from|import)\s*\(?"([^"]+)"/.exec(line)?.[1]
      if (name === undefined || name.startsWith(".")) return
      const allowed = name.startsWith("node:") ? rule.node : rule.from.includes(name)
      if (allowed) return
      console.log(`${file}:${i + 1}: ${room} must not import ${name}`)
      broken++
    })
  }
}
if (broken > 0) process.exitCode = 1
else console.log("layers: arrows point one way")
