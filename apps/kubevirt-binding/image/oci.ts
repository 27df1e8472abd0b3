/**
 * An OCI image layout (https://github.com/opencontainers/image-spec) from root file systems: one index, a manifest for each processor. The
 * same files make the same bytes, so the same digests.
 */
import { execFileSync } from "node:child_process"
import { createHash } from "node:crypto"
import { mkdirSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { gzipSync } from "node:zlib"

/** The command that the image runs: the sidecar takes no arguments, V8's are to keep it small. */
export const ENTRYPOINT: readonly string[] = [
  "/usr/lib/passt/node",
  "--disable-warning=ExperimentalWarning",
  "--max-old-space-size=24",
  "--max-semi-space-size=1",
  "--v8-pool-size=0",
  "/usr/lib/passt/kubevirt-binding.mjs",
]
export const USER = "107:107"

export interface ImagePart {
  readonly processor: string
  readonly rootfs: string
}

interface Descriptor {
  readonly mediaType: string
  readonly digest: string
  readonly size: number
}

/** @param folder of the layout @param reference its name, as "0.1.0" @returns the index's digest */
export function writeLayout(folder: string, reference: string, parts: readonly ImagePart[]): string {
  const epoch = Number(process.env["SOURCE_DATE_EPOCH"] ?? 0)
  const created = new Date(epoch * 1000).toISOString()
  rmSync(folder, { recursive: true, force: true })
  const blobs = join(folder, "blobs/sha256")
  mkdirSync(blobs, { recursive: true })
  const blob = (mediaType: string, bytes: Buffer): Descriptor => {
    const hex = createHash("sha256").update(bytes).digest("hex")
    writeFileSync(join(blobs, hex), bytes)
    return { mediaType, digest: `sha256:${hex}`, size: bytes.length }
  }
  const json = (mediaType: string, value: object): Descriptor => blob(mediaType, Buffer.from(JSON.stringify(value)))
  const labels = {
    "org.opencontainers.image.title": "passt-binding",
    "org.opencontainers.image.description": "KubeVirt network binding: virtual machines behind passt",
    "org.opencontainers.image.licenses": "Apache-2.0",
    "org.opencontainers.image.version": reference,
  }
  const manifests = parts.map(({ processor, rootfs }) => {
    const tar = layer(rootfs, epoch)
    const content = blob("application/vnd.oci.image.layer.v1.tar+gzip", gzipSync(tar, { level: 6 }))
    const config = json("application/vnd.oci.image.config.v1+json", {
      created,
      architecture: processor,
      os: "linux",
      config: { User: USER, Entrypoint: ENTRYPOINT, WorkingDir: "/", Env: ["PATH=/usr/bin"], Labels: labels },
      rootfs: { type: "layers", diff_ids: [`sha256:${createHash("sha256").update(tar).digest("hex")}`] },
      history: [{ created, created_by: "apps/kubevirt-binding/image", comment: "one layer" }],
    })
    const mediaType = "application/vnd.oci.image.manifest.v1+json"
    const manifest = json(mediaType, { schemaVersion: 2, mediaType, config, layers: [content], annotations: labels })
    return { ...manifest, platform: { architecture: processor, os: "linux" } }
  })
  const mediaType = "application/vnd.oci.image.index.v1+json"
  const index = json(mediaType, { schemaVersion: 2, mediaType, manifests })
  writeFileSync(join(folder, "oci-layout"), `{"imageLayoutVersion":"1.0.0"}`)
  const named = { ...index, annotations: { "org.opencontainers.image.ref.name": reference } }
  writeFileSync(join(folder, "index.json"), JSON.stringify({ schemaVersion: 2, mediaType, manifests: [named] }))
  return index.digest
}

function layer(rootfs: string, epoch: number): Buffer {
  const same = ["--sort=name", `--mtime=@${epoch}`, "--owner=0", "--group=0", "--numeric-owner", "--format=posix"]
  const times = "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"
  return execFileSync("tar", ["-C", rootfs, ...same, times, "-cf", "-", "."], { maxBuffer: 1 << 30 })
}
