/**
 * Makes the image, from what `npm run build` has made:
 *
 *   node apps/kubevirt-binding/image/main.ts [--rootfs] [amd64] [arm64]
 *
 *   dist/image/rootfs-amd64/    the root file system; `buildah bud -f Containerfile` copies it, or any tool that makes images of folders
 *   dist/image/oci/             the whole as an OCI layout, for `skopeo copy oci:dist/image/oci:VERSION docker://…`; not with --rootfs
 *
 * Without a processor's name: this machine's. arm64 on amd64 takes the package g++-aarch64-linux-gnu.
 */
import { join } from "node:path"
import { VERSION } from "../../../packages/program/src/version.ts"
import { writeLayout } from "./oci.ts"
import { makeRootfs, PLATFORMS, ROOT } from "./rootfs.ts"

const words = process.argv.slice(2)
const rootfsOnly = words.includes("--rootfs")
const wanted = words.filter((word) => word !== "--rootfs")
const unknown = wanted.find((word) => !PLATFORMS.some(({ oci }) => oci === word))
if (unknown !== undefined) {
  process.stderr.write(`usage: main.ts [--rootfs] [${PLATFORMS.map(({ oci }) => oci).join("] [")}]\n`)
  process.exit(2)
}
const image = join(ROOT, "dist/image")
const platforms = PLATFORMS.filter(({ oci, node }) =>
  wanted.length === 0 ? node === process.arch : wanted.includes(oci),
)
const parts = []
for (const platform of platforms) {
  const rootfs = await makeRootfs(platform, join(image, `rootfs-${platform.oci}`), VERSION)
  console.log(`${rootfs} is made`)
  parts.push({ processor: platform.oci, rootfs })
}
if (!rootfsOnly) console.log(`${join(image, "oci")}:${VERSION} is ${writeLayout(join(image, "oci"), VERSION, parts)}`)
