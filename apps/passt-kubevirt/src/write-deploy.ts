/** Writes Kustomize's and Helm's files: `node src/write-deploy.ts FOLDER`. Whatever else was in the folder is gone. */
import { mkdirSync, rmSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { VERSION } from "@passt/program/version"
import { deployFiles } from "./manifests/files.ts"

export function writeDeploy(folder: string): void {
  rmSync(folder, { recursive: true, force: true })
  for (const [path, text] of deployFiles(VERSION)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true })
    writeFileSync(join(folder, path), text)
  }
}

const [folder] = process.argv.slice(2)
if (import.meta.main && folder !== undefined) writeDeploy(folder)
