// What needs no root: the layout's digests and the Containerfile, which repeats what the layout says.
import { createHash } from "node:crypto"
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { gunzipSync } from "node:zlib"
import { afterAll, beforeAll, expect, test } from "vitest"
import { ENTRYPOINT, USER, writeLayout } from "./oci.ts"
import { sbom } from "./sbom.ts"

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "image-"))
  mkdirSync(join(folder, "rootfs/etc"), { recursive: true })
  writeFileSync(join(folder, "rootfs/etc/passwd"), "qemu:x:107:107::/:/nologin\n")
})
afterAll(() => rmSync(folder, { recursive: true }))

interface Descriptor {
  readonly digest: string
  readonly size: number
}

test("an OCI layout: every blob is what its digest says, and the same files make the same image", () => {
  const layout = join(folder, "oci")
  const parts = [{ processor: "amd64", rootfs: join(folder, "rootfs") }]
  const digest = writeLayout(layout, "1.2.3", parts)
  const blob = ({ digest: name, size }: Descriptor): Buffer => {
    const bytes = readFileSync(join(layout, "blobs", name.replace(":", "/")))
    expect([bytes.length, `sha256:${createHash("sha256").update(bytes).digest("hex")}`]).toEqual([size, name])
    return bytes
  }
  const top = JSON.parse(readFileSync(join(layout, "index.json"), "utf8"))
  expect(top.manifests[0]).toMatchObject({ digest, annotations: { "org.opencontainers.image.ref.name": "1.2.3" } })
  const index = JSON.parse(blob(top.manifests[0]).toString())
  expect(index.manifests[0].platform).toEqual({ architecture: "amd64", os: "linux" })
  const manifest = JSON.parse(blob(index.manifests[0]).toString())
  const config = JSON.parse(blob(manifest.config).toString())
  expect(config.config).toMatchObject({ User: "107:107", Entrypoint: ENTRYPOINT })
  const tar = gunzipSync(blob(manifest.layers[0]))
  expect(config.rootfs.diff_ids).toEqual([`sha256:${createHash("sha256").update(tar).digest("hex")}`])
  expect(tar.includes("qemu:x:107:107")).toBe(true)
  expect(writeLayout(join(folder, "again"), "1.2.3", parts)).toBe(digest)
})

test("the Containerfile says the same as the layout", () => {
  const text = readFileSync(join(import.meta.dirname, "Containerfile"), "utf8")
  expect(JSON.parse(/^ENTRYPOINT (.*)$/m.exec(text)![1]!)).toEqual(ENTRYPOINT)
  expect(/^USER (.*)$/m.exec(text)![1]).toBe(USER)
})

test("the bill of materials has an id for each part, and no other", () => {
  const parts = [
    { name: "@grpc/grpc-js", version: "1.0.0", license: "Apache-2.0", kind: "npm" },
    { name: "libc6", version: "2.36-9", license: "LGPL-2.1-or-later", kind: "debian", source: "glibc" },
  ] as const
  const document = JSON.parse(sbom(parts, "arm64", "1.2.3"))
  const ids = document.packages.map((each: { SPDXID: string }) => each.SPDXID)
  expect(ids).toEqual(["SPDXRef-npm--grpc-grpc-js", "SPDXRef-debian-libc6"])
  for (const id of ids) expect(id).toMatch(/^SPDXRef-[A-Za-z0-9.-]+$/)
  const locators = document.packages.map((each: any) => each.externalRefs[0].referenceLocator)
  expect(locators).toEqual(["pkg:npm/%40grpc/grpc-js@1.0.0", "pkg:deb/debian/libc6@2.36-9?arch=arm64&upstream=glibc"])
})
