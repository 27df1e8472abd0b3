/**
 * The same objects as files: for Kustomize, and as a chart for Helm. The registration is in neither as an object: who deletes the
 * files' objects would delete the KubeVirt resource, and every virtual machine with it. It is a patch.
 */
import { dump } from "js-yaml"
import { NAME, PRESETS } from "./settings.ts"
import type { Settings } from "./settings.ts"
import { bindingEntry, objects } from "./objects.ts"
import type { Manifest } from "../cluster/objects.ts"

/** Where the image is, is for whoever deploys it to say. */
const IMAGE = "passt-kubevirt-binding"

const HEAD = "# Generated from apps/passt-kubevirt/src/manifests: do not edit.\n"

const SETTINGS: Settings = {
  namespace: "kubevirt",
  binding: "passt",
  image: IMAGE,
  cniImage: IMAGE,
  cniDir: PRESETS["kubernetes"]!.cniDir,
  pingGroup: 107,
  openshift: false,
  pullSecrets: [],
  placement: {},
  migration: false,
  protocol: "hooks",
}

function yaml(value: unknown): string {
  return dump(value, { lineWidth: -1, noRefs: true })
}

function fileName({ kind }: Manifest): string {
  return `${kind.toLowerCase()}.yaml`
}

/** @returns paths and texts */
export function deployFiles(version: string): Map<string, string> {
  const files = new Map([...kustomize(version), ...helm(version)])
  return new Map([...files].map(([path, text]) => [path, path.endsWith(".yaml") ? HEAD + text : text]))
}

function kustomize(version: string): [string, string][] {
  const base = objects(SETTINGS, "kustomize")
  const registration = {
    spec: {
      configuration: {
        network: { binding: { [SETTINGS.binding]: bindingEntry({ ...SETTINGS, image: `${IMAGE}:${version}` }) } },
      },
    },
  }
  const bindings = objects({ ...SETTINGS, openshift: true }, "kustomize").filter(({ kind }) => kind === "RoleBinding")
  const overlay = (preset: string, resources: readonly string[]): string =>
    yaml({
      apiVersion: "kustomize.config.k8s.io/v1beta1",
      kind: "Kustomization",
      namespace: SETTINGS.namespace,
      resources: ["../../base", ...resources],
      patches: [
        {
          target: { kind: "DaemonSet", name: NAME },
          patch: JSON.stringify([
            { op: "replace", path: "/spec/template/spec/volumes/0/hostPath/path", value: PRESETS[preset]!.cniDir },
          ]),
        },
      ],
    })
  const presets = Object.keys(PRESETS).filter((name) => PRESETS[name]!.cniDir !== SETTINGS.cniDir)
  return [
    [
      "kustomize/base/kustomization.yaml",
      yaml({
        apiVersion: "kustomize.config.k8s.io/v1beta1",
        kind: "Kustomization",
        resources: base.map(fileName),
        images: [{ name: IMAGE, newName: IMAGE, newTag: version }],
      }),
    ],
    ...base.map((object): [string, string] => [`kustomize/base/${fileName(object)}`, yaml(object)]),
    ...presets.flatMap((preset): [string, string][] => {
      const more = PRESETS[preset]!.openshift === true ? bindings : []
      return [
        [`kustomize/overlays/${preset}/kustomization.yaml`, overlay(preset, more.map(fileName))],
        ...more.map((object): [string, string] => [`kustomize/overlays/${preset}/${fileName(object)}`, yaml(object)]),
      ]
    }),
    ["kustomize/registration-patch.yaml", yaml(registration)],
  ]
}

/** Helm's expressions in place of values: made of the same objects, whose texts they are put into. */
const EXPRESSIONS: Readonly<Record<string, string>> = {
  namespace: "{{ .Release.Namespace }}",
  image: "{{ .Values.image }}",
  cniImage: "{{ .Values.cniImage | default .Values.image }}",
  cniDir: "{{ .Values.cniDir }}",
}

/** What is no text: a mark in the object, and the lines that come in its place, with the mark's indentation. */
const BLOCKS: readonly { readonly mark: RegExp; readonly lines: (indent: string) => string }[] = [
  {
    mark: /^( *)kubernetes\.io\/os: linux\n/m,
    lines: (indent) =>
      `${indent}kubernetes.io/os: linux\n${indent}{{- with .Values.nodeSelector }}\n${indent}{{- toYaml . | nindent ${indent.length} }}\n${indent}{{- end }}\n`,
  },
  ...["tolerations", "affinity", "imagePullSecrets"].map((field) => ({
    mark: new RegExp(`^( *)${field}:\\n(?:\\1[- ] .*\\n|\\1 .*\\n)+`, "m"),
    lines: (indent: string) =>
      `${indent}{{- with .Values.${field} }}\n${indent}${field}:\n${indent}  {{- toYaml . | nindent ${indent.length + 2} }}\n${indent}{{- end }}\n`,
  })),
]

function helm(version: string): [string, string][] {
  const settings: Settings = {
    ...SETTINGS,
    ...(EXPRESSIONS as Pick<Settings, "namespace" | "image" | "cniImage" | "cniDir">),
    openshift: true,
    pullSecrets: ["mark"],
    placement: { tolerations: [{ mark: "" }], affinity: { mark: "" } },
  }
  const templates = objects(settings, "{{ .Release.Service }}").map((object): [string, string] => {
    let text = yaml(object)
    for (const { mark, lines } of object.kind === "DaemonSet" ? BLOCKS : []) {
      if (!mark.test(text)) throw new Error(`${mark} is not in the DaemonSet:\n${text}`)
      text = text.replace(mark, (_, indent: string) => lines(indent))
    }
    if (object.kind === "NetworkAttachmentDefinition")
      text = text.replace('"pingGroup":107', '"pingGroup":{{ .Values.pingGroup | int }}')
    if (object.kind === "RoleBinding") text = `{{- if .Values.openshift }}\n${text}{{- end }}\n`
    return [`helm/${NAME}/templates/${fileName(object)}`, text]
  })
  const values = {
    image: `${IMAGE}:${version}`,
    cniImage: "",
    cniDir: SETTINGS.cniDir,
    pingGroup: SETTINGS.pingGroup,
    openshift: false,
    nodeSelector: {},
    tolerations: [],
    affinity: {},
    imagePullSecrets: [],
    binding: SETTINGS.binding,
    kubevirt: { name: "kubevirt", namespace: "kubevirt" },
  }
  return [
    [
      `helm/${NAME}/Chart.yaml`,
      yaml({
        apiVersion: "v2",
        name: NAME,
        description: "The passt network binding for KubeVirt: CNI plugin and network attachment",
        type: "application",
        version,
        appVersion: version,
      }),
    ],
    [`helm/${NAME}/values.yaml`, VALUES_COMMENT + yaml(values)],
    ...templates,
    [`helm/${NAME}/templates/NOTES.txt`, NOTES],
  ]
}

const VALUES_COMMENT = `# image: the image of the binding. cniImage: the one with the CNI plugin, if not the same. cniDir: where the nodes' runtime looks for
# CNI plugins: ${Object.entries(PRESETS)
  .map(([name, { cniDir }]) => `${name} ${cniDir}`)
  .join(", ")}.
# pingGroup: who may send echo requests in pods. nodeSelector, tolerations, affinity: as spec.workloads.nodePlacement of the KubeVirt
# resource. binding, kubevirt: for the command that is printed at the end.
`

/** The merge patch adds our entry and nothing else; there is nothing of KubeVirt in the chart that could be deleted with it. */
const NOTES = `The CNI plugin is on its way to the nodes. Register the binding with KubeVirt:

  kubectl patch kubevirt -n {{ .Values.kubevirt.namespace }} {{ .Values.kubevirt.name }} --type=merge -p '{"spec":{"configuration":{"network":{"binding":{"{{ .Values.binding }}":{"sidecarImage":"{{ .Values.image }}","networkAttachmentDefinition":"{{ .Release.Namespace }}/${NAME}"}}}}}}'

Before the chart is deleted, take the registration back, when no virtual machine uses it any more:

  kubectl patch kubevirt -n {{ .Values.kubevirt.namespace }} {{ .Values.kubevirt.name }} --type=merge -p '{"spec":{"configuration":{"network":{"binding":{"{{ .Values.binding }}":null}}}}}'
`
