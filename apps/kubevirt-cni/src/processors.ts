import { join } from "node:path"

export interface Processor {
  /** As images are labelled. */
  readonly oci: "amd64" | "arm64"
  /** As Node.js calls it. */
  readonly node: NodeJS.Architecture
  /** As compilers are called. */
  readonly gnu: string
}

export const PROCESSORS: readonly Processor[] = [
  { oci: "amd64", node: "x64", gnu: "x86_64" },
  { oci: "arm64", node: "arm64", gnu: "aarch64" },
]

/** Where builds are. */
export const BUILD: string = join(import.meta.dirname, "../build")

/** The executable's name: as it is built, as it is installed on nodes, and as network configurations call it. */
export const PLUGIN = "passt-kubevirt-cni"

/** The executable for a processor. It may not have been built: see build.ts. */
export function pluginPath(processor: Processor["oci"]): string {
  return join(BUILD, processor, PLUGIN)
}
