/** What is in the image, as an SPDX 2.3 document. */
import { createHash } from "node:crypto"

export interface Part {
  readonly name: string
  readonly version: string
  /** An SPDX expression. */
  readonly license: string
  readonly kind: "own" | "node" | "npm" | "debian"
  /** Of a Debian package: what it was built from. */
  readonly source?: string
}

function purl({ kind, name, version, source }: Part, processor: string): string {
  const escaped = encodeURIComponent(version)
  if (kind === "npm") return `pkg:npm/${name.replace("@", "%40")}@${escaped}`
  if (kind === "debian") return `pkg:deb/debian/${name}@${escaped}?arch=${processor}&upstream=${source ?? name}`
  return `pkg:generic/${name}@${escaped}`
}

/** @param processor as images are labelled @returns JSON; the same parts give the same text */
export function sbom(parts: readonly Part[], processor: string, version: string): string {
  const epoch = Number(process.env["SOURCE_DATE_EPOCH"] ?? 0) * 1000
  const id = (part: Part): string => `SPDXRef-${part.kind}-${part.name.replaceAll(/[^A-Za-z0-9.-]/g, "-")}`
  const packages = parts.map((part) => ({
    name: part.name,
    SPDXID: id(part),
    versionInfo: part.version,
    downloadLocation: "NOASSERTION",
    filesAnalyzed: false,
    licenseConcluded: "NOASSERTION",
    licenseDeclared: part.kind === "debian" ? "NOASSERTION" : part.license,
    copyrightText: "NOASSERTION",
    externalRefs: [
      { referenceCategory: "PACKAGE-MANAGER", referenceType: "purl", referenceLocator: purl(part, processor) },
    ],
  }))
  const hash = createHash("sha256")
    .update(JSON.stringify([packages, processor]))
    .digest("hex")
    .slice(0, 32)
  const document = {
    spdxVersion: "SPDX-2.3",
    dataLicense: "CC0-1.0",
    SPDXID: "SPDXRef-DOCUMENT",
    name: `passt-binding-${version}-${processor}`,
    documentNamespace: `https://spdx.org/spdxdocs/passt-binding-${version}-${processor}-${hash}`,
    creationInfo: {
      created: new Date(epoch).toISOString().replace(/\.\d+Z$/, "Z"),
      creators: ["Tool: passt-binding-image"],
    },
    packages,
    relationships: parts.map((part) => ({
      spdxElementId: "SPDXRef-DOCUMENT",
      relationshipType: "DESCRIBES",
      relatedSpdxElement: id(part),
    })),
  }
  return `${JSON.stringify(document, null, 2)}\n`
}
