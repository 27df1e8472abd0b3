/**
 * The files for Kustomize and Helm: what they come to is what `install` applies. With PASST_KUBE_TOOLS, a folder with `helm` and
 * `kubectl`, those render them; otherwise what is below does, which knows what our templates use and nothing else.
 */
import { execFileSync } from "node:child_process"
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, relative } from "node:path"
import { dump, load } from "js-yaml"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { VERSION } from "@passt/program/version"
import type { Manifest } from "../cluster/objects.ts"
import { writeDeploy } from "../write-deploy.ts"
import { deployFiles } from "./files.ts"
import { objects, registration } from "./objects.ts"
import { PRESETS } from "./settings.ts"
import type { Settings } from "./settings.ts"

const ROOT = join(import.meta.dirname, "../../../..")
const TOOLS = process.env["PASST_KUBE_TOOLS"]
const files = deployFiles(VERSION)
const image = `passt-kubevirt-binding:${VERSION}`
const settings: Settings = {
  namespace: "kubevirt",
  binding: "passt",
  image,
  cniImage: image,
  cniDir: "/opt/cni/bin",
  pingGroup: 107,
  openshift: false,
  pullSecrets: [],
  placement: {},
  migration: false,
  protocol: "hooks",
}

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "passt-deploy-"))
  writeDeploy(folder)
})
afterAll(() => rmSync(folder, { recursive: true }))

/** By kind, whatever their order and whoever manages them. */
function byKind(all: readonly unknown[]): Record<string, unknown> {
  const named = all.map((object) => {
    const { kind, metadata, ...rest } = structuredClone(object) as Manifest & {
      metadata: { labels: Record<string, string> }
    }
    delete metadata.labels["app.kubernetes.io/managed-by"]
    return [kind, { ...rest, metadata }] as const
  })
  return Object.fromEntries(named)
}

describe("Kustomize", () => {
  function kustomize(path: string): unknown[] {
    if (TOOLS !== undefined) {
      const text = execFileSync(join(TOOLS, "kubectl"), ["kustomize", join(folder, path)], { encoding: "utf8" })
      return text.split(/^---$/m).map((part) => load(part))
    }
    return own(path)
  }

  /** Resources, images and JSON patches of one operation. */
  function own(path: string): unknown[] {
    const { resources, images, patches, namespace, apiVersion, kind, ...unknown } = load(
      readFileSync(join(folder, path, "kustomization.yaml"), "utf8"),
    ) as Record<string, any>
    expect([apiVersion, kind, Object.keys(unknown)]).toEqual(["kustomize.config.k8s.io/v1beta1", "Kustomization", []])
    if (namespace !== undefined) expect(namespace).toBe("kubevirt")
    const all = (resources as string[]).flatMap((name) =>
      name.endsWith(".yaml") ? [load(readFileSync(join(folder, path, name), "utf8"))] : own(join(path, name)),
    )
    let text = JSON.stringify(all)
    for (const { name, newName, newTag } of images ?? [])
      text = text.replaceAll(`"image":"${name}"`, `"image":"${newName}:${newTag}"`)
    const result = JSON.parse(text) as any[]
    for (const { target, patch } of patches ?? []) {
      const [operation, ...more] = JSON.parse(patch as string)
      expect([operation.op, more]).toEqual(["replace", []])
      const steps = (operation.path as string).split("/").slice(1)
      let here = result.find((object) => object.kind === target.kind && object.metadata.name === target.name)
      for (const step of steps.slice(0, -1)) here = here[step]
      expect(here).toHaveProperty(steps.at(-1)!)
      here[steps.at(-1)!] = operation.value
    }
    return result
  }

  test("the base is what install applies", () => {
    expect(byKind(kustomize("kustomize/base"))).toEqual(byKind(objects(settings)))
  })

  test.each(Object.entries(PRESETS).filter(([, { cniDir }]) => cniDir !== "/opt/cni/bin"))(
    "%s",
    (name, { cniDir, openshift }) => {
      const expected = objects({ ...settings, cniDir, openshift: openshift === true })
      expect(byKind(kustomize(`kustomize/overlays/${name}`))).toEqual(byKind(expected))
    },
  )

  test("the registration is a patch of what install applies", () => {
    const patch = load(readFileSync(join(folder, "kustomize/registration-patch.yaml"), "utf8")) as object
    expect(patch).toEqual({ spec: registration(settings, { name: "k", namespace: "k" })["spec"] })
  })
})

describe("Helm", () => {
  /** None where there is nothing but comments. */
  const document = (text: string): unknown[] => (/^[^#\s]/m.test(text) ? [load(text)] : [])

  function helm(values: Record<string, unknown>): unknown[] {
    const chart = join(folder, "helm/passt-kubevirt")
    if (TOOLS !== undefined) {
      const file = join(folder, "values.json")
      writeFileSync(file, JSON.stringify(values))
      execFileSync(join(TOOLS, "helm"), ["lint", "--strict", chart, "-f", file], { stdio: "pipe" })
      const args = ["template", "release", chart, "--namespace", "kubevirt", "-f", file]
      const text = execFileSync(join(TOOLS, "helm"), args, { encoding: "utf8" })
      return text.split(/^---$/m).flatMap(document)
    }
    const all = { ...(load(readFileSync(join(chart, "values.yaml"), "utf8")) as object), ...values } as Record<
      string,
      unknown
    >
    const templates = [...files].filter(([path]) => /^helm\/.*\/templates\/.*\.yaml$/.test(path))
    return templates.flatMap(([, text]) => document(render(text, all)))
  }

  const isThere = (value: unknown): boolean =>
    typeof value === "object" && value !== null ? Object.keys(value).length > 0 : Boolean(value)

  /** with, if, toYaml, nindent, int, default. */
  function render(template: string, values: Record<string, unknown>): string {
    const blocks = template.replace(
      /\s*\{\{- (with|if) \.Values\.(\w+) \}\}([^]*?)\s*\{\{- end \}\}/g,
      (_, word: string, name: string, inner: string) => {
        if (!isThere(values[name])) return ""
        if (word === "if") return inner
        return inner.replace(/\s*\{\{- toYaml \. \| nindent (\d+) \}\}/, (__, indent: string) =>
          `\n${dump(values[name])}`.trimEnd().replaceAll("\n", `\n${" ".repeat(Number(indent))}`),
        )
      },
    )
    const text = blocks.replace(/\{\{ ([^}]*) \}\}/g, (_, expression: string) => {
      if (expression === ".Release.Namespace") return "kubevirt"
      if (expression === ".Release.Service") return "Helm"
      const match = /^\.Values\.(\w+)(?: \| (?:int|default \.Values\.(\w+)))?$/.exec(expression)
      expect([expression, match === null]).toEqual([expression, false])
      const [, name = "", other] = match!
      return String(isThere(values[name]) || other === undefined ? values[name] : values[other])
    })
    expect(text).not.toContain("{{")
    return text
  }

  test("with its own values it is what install applies", () => {
    expect(byKind(helm({}))).toEqual(byKind(objects(settings)))
  })

  test("values end where options of install do", () => {
    const nodeSelector = { role: "vm" }
    const tolerations = [{ key: "vm", operator: "Exists", effect: "NoSchedule" }]
    const affinity = {
      nodeAffinity: {
        requiredDuringSchedulingIgnoredDuringExecution: {
          nodeSelectorTerms: [{ matchExpressions: [{ key: "x", operator: "In", values: ["1"] }] }],
        },
      },
    }
    const values = {
      cniImage: "cni:2",
      cniDir: "/var/lib/cni/bin",
      pingGroup: 5000000,
      openshift: true,
      nodeSelector,
      tolerations,
      affinity,
      imagePullSecrets: [{ name: "s" }],
    }
    const placement = { nodeSelector, tolerations, affinity }
    const expected = {
      ...settings,
      cniImage: "cni:2",
      cniDir: "/var/lib/cni/bin",
      pingGroup: 5000000,
      openshift: true,
      pullSecrets: ["s"],
      placement,
    }
    expect(byKind(helm(values))).toEqual(byKind(objects(expected)))
  })

  test("nothing in the chart is KubeVirt's", () => {
    const kinds = helm({ openshift: true }).map((object) => (object as Manifest).kind)
    expect(kinds.toSorted()).toEqual([
      "ClusterRole",
      "DaemonSet",
      "NetworkAttachmentDefinition",
      "RoleBinding",
      "ServiceAccount",
    ])
  })
})

const installed = join(ROOT, "dist/share/kubevirt")
test.skipIf(!existsSync(installed))("what the build has installed is of this source", () => {
  const found = readdirSync(installed, { recursive: true, encoding: "utf8" })
    .map((path) => join(installed, path))
    .filter((path) => statSync(path).isFile())
  expect(Object.fromEntries(found.map((path) => [relative(installed, path), readFileSync(path, "utf8")]))).toEqual(
    Object.fromEntries(files),
  )
})
