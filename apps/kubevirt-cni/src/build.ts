/**
 * Builds the plugin for this machine's processor, and for the other one if its compiler is there:
 * build/amd64/passt-kubevirt-cni and build/arm64/passt-kubevirt-cni.
 */
import { execFileSync, spawnSync } from "node:child_process"
import { rmSync } from "node:fs"
import { join } from "node:path"
import { BUILD, PROCESSORS } from "./processors.ts"

const here = PROCESSORS.find(({ node }) => node === process.arch)

for (const processor of PROCESSORS) {
  const compiler = processor === here ? (process.env["CXX"] ?? "g++") : `${processor.gnu}-linux-gnu-g++`
  const folder = join(BUILD, processor.oci)
  if (processor !== here && spawnSync(compiler, ["--version"]).error) {
    // Nothing from an earlier build may pass for one of this source.
    rmSync(folder, { recursive: true, force: true })
    console.log(`${processor.oci} is left out: there is no ${compiler}`)
    continue
  }
  const options = [`-DCMAKE_CXX_COMPILER=${compiler}`, "-DCMAKE_BUILD_TYPE=Release"]
  if (processor !== here) options.push("-DCMAKE_SYSTEM_NAME=Linux", `-DCMAKE_SYSTEM_PROCESSOR=${processor.gnu}`)
  const quiet = { stdio: ["ignore", "ignore", "inherit"] as const, cwd: join(BUILD, "..") }
  execFileSync("cmake", ["-S", ".", "-B", folder, ...options], { ...quiet, stdio: [...quiet.stdio] })
  execFileSync("cmake", ["--build", folder], { ...quiet, stdio: [...quiet.stdio] })
}
