/** What the cluster looks like: read once, and judged by install and doctor alike. */
import { EXIT, Failure } from "../failure.ts"
import { NAME } from "../manifests/settings.ts"
import type { Placement } from "../manifests/settings.ts"
import { FIELD_MANAGER } from "./api.ts"
import type { Api } from "./api.ts"
import type { Kind } from "./kinds.ts"
import { KINDS } from "./kinds.ts"
import { at, isOwned, listAt, ownedPart, textAt } from "./objects.ts"
import type { Manifest } from "./objects.ts"

/** The one KubeVirt of the cluster, or of the namespace that was named. */
export async function findKubeVirt(api: Api, namespace: string | undefined): Promise<Manifest> {
  const all = await api.list("KubeVirt", namespace)
  if (all === undefined)
    throw new Failure("KubeVirt is not installed: the cluster has no kubevirts.kubevirt.io", EXIT.unfit)
  const [first, second] = all
  if (first === undefined) {
    const where =
      namespace === undefined ? "no KubeVirt resource in the cluster" : `no KubeVirt resource in namespace ${namespace}`
    throw new Failure(`there is ${where}: KubeVirt's operator has nothing to install`, EXIT.unfit)
  }
  if (second !== undefined) {
    const names = all.map(({ metadata }) => metadata.namespace).join(", ")
    throw new Failure(`there are several KubeVirt resources (${names}): say which by --namespace`, EXIT.usage)
  }
  return first
}

/** [major, minor] of a version such as "v1.6.2", or undefined if it is not one: builds of developers have other names. */
export function versionOf(text: string | undefined): [number, number] | undefined {
  const match = /^v?(\d+)\.(\d+)/.exec(text ?? "")
  return match === null ? undefined : [Number(match[1]), Number(match[2])]
}

export function isBefore(version: [number, number] | undefined, major: number, minor: number): boolean {
  return version !== undefined && (version[0] < major || (version[0] === major && version[1] < minor))
}

export interface Finding {
  readonly level: "good" | "warning" | "error"
  /** What was looked at, in a word or two. */
  readonly topic: string
  readonly message: string
  /** What to do about it. */
  readonly remedy?: string
}

export const good = (topic: string, message: string): Finding => ({ level: "good", topic, message })
export const warning = (topic: string, message: string, remedy: string): Finding => ({
  level: "warning",
  topic,
  message,
  remedy,
})
export const error = (topic: string, message: string, remedy: string): Finding => ({
  level: "error",
  topic,
  message,
  remedy,
})

function patchCommand(kubevirt: Manifest, patch: unknown): string {
  const { name, namespace } = kubevirt.metadata
  return `kubectl patch kubevirt -n ${namespace} ${name} --type=merge -p '${JSON.stringify(patch)}'`
}

/** Version, phase and feature gates. */
export function judgeKubeVirt(kubevirt: Manifest): Finding[] {
  const findings: Finding[] = []
  const text = textAt(kubevirt, "status", "observedKubeVirtVersion")
  const version = versionOf(text)
  if (isBefore(version, 1, 1)) {
    findings.push(
      error("version", `KubeVirt ${text} knows no network binding plugins`, "upgrade KubeVirt to v1.1 or newer"),
    )
  } else {
    findings.push(good("version", `KubeVirt ${text ?? "of unknown version"}`))
  }
  const phase = textAt(kubevirt, "status", "phase") ?? "not known yet"
  if (phase === "Deployed") findings.push(good("phase", "KubeVirt is deployed"))
  else {
    const remedy =
      "wait until virt-operator is done; its log and the resource's status.conditions tell what holds it up"
    findings.push(error("phase", `KubeVirt's phase is ${phase} and not Deployed`, remedy))
  }
  const developer = at(kubevirt, "spec", "configuration", "developerConfiguration")
  const gates = listAt(developer, "featureGates")
  // Until v1.5 plugins were behind a gate; before v1.1 there was none.
  if (isBefore(version, 1, 5) && !isBefore(version, 1, 1)) {
    if (gates.includes("NetworkBindingPlugins")) findings.push(good("feature gate", "NetworkBindingPlugins is on"))
    else {
      const patch = {
        spec: { configuration: { developerConfiguration: { featureGates: [...gates, "NetworkBindingPlugins"] } } },
      }
      const message = `KubeVirt ${text} has network binding plugins behind the feature gate NetworkBindingPlugins, which is off`
      findings.push(error("feature gate", message, patchCommand(kubevirt, patch)))
    }
  }
  return findings
}

/** Names of bindings that we have registered. */
export function ownedBindings(kubevirt: Manifest): string[] {
  const part = ownedPart(kubevirt, FIELD_MANAGER)
  return Object.keys((at(part, "spec", "configuration", "network", "binding") as object | undefined) ?? {})
}

/** Names of bindings with our network, whoever has registered them: those who use Kustomize or Helm patch the resource themselves. */
export function registeredBindings(kubevirt: Manifest): string[] {
  const all = Object.entries((at(kubevirt, "spec", "configuration", "network", "binding") as object | undefined) ?? {})
  const network = `${kubevirt.metadata.namespace}/${NAME}`
  const named = all.filter(([, entry]) => textAt(entry, "networkAttachmentDefinition") === network)
  return [...new Set([...ownedBindings(kubevirt), ...named.map(([name]) => name)])]
}

/** Who has set a field of a binding's entry, if it is not us. */
export function setterOf(kubevirt: Manifest, binding: string, field: string): string | undefined {
  const path = ["spec", "configuration", "network", "binding", binding, field].map((name) => `f:${name}`)
  const owners = (kubevirt.metadata.managedFields ?? []).filter(({ fieldsV1 }) => at(fieldsV1, ...path) !== undefined)
  const names = owners.map(({ manager }) => manager ?? "somebody else")
  return names.includes(FIELD_MANAGER) ? undefined : names[0]
}

export function bindingOf(kubevirt: Manifest, name: string): unknown {
  return at(kubevirt, "spec", "configuration", "network", "binding", name)
}

/** Whether anybody but us owns a field below the binding's entry, or nobody does: then it was written before there were managers. */
export function isForeignBinding(kubevirt: Manifest, name: string): boolean {
  if (bindingOf(kubevirt, name) === undefined) return false
  return !isOwned(kubevirt, FIELD_MANAGER) || !ownedBindings(kubevirt).includes(name)
}

/** Where KubeVirt runs virtual machines is where the plugin has to be. */
export function placementOf(kubevirt: Manifest): Placement {
  const placement = at(kubevirt, "spec", "workloads", "nodePlacement")
  return typeof placement === "object" && placement !== null ? (placement as Placement) : {}
}

interface Right {
  readonly kind: Kind
  readonly verbs: readonly string[]
  /** In all namespaces, and not in KubeVirt's alone. */
  readonly everywhere?: boolean
}

/**
 * What installing and uninstalling take. Server-side apply is a patch, and a creation where there is nothing. What an install with
 * other options may have made is looked for, too.
 */
export const NEEDED: readonly Right[] = [
  { kind: "Namespace", verbs: ["get"] },
  { kind: "KubeVirt", verbs: ["get", "list", "patch"] },
  { kind: "ServiceAccount", verbs: ["get", "create", "patch", "delete"] },
  { kind: "ClusterRole", verbs: ["get", "create", "patch", "delete"] },
  { kind: "RoleBinding", verbs: ["get"] },
  { kind: "NetworkAttachmentDefinition", verbs: ["get", "create", "patch", "delete"] },
  { kind: "DaemonSet", verbs: ["get", "create", "patch", "delete"] },
  { kind: "Pod", verbs: ["list"] },
  { kind: "VirtualMachineInstance", verbs: ["list"], everywhere: true },
  { kind: "VirtualMachine", verbs: ["list"], everywhere: true },
]

/** Looked for where there are such kinds. */
export const NEEDED_IF_THERE: readonly Right[] = [
  { kind: "Plugin", verbs: ["list"] },
  { kind: "MutatingAdmissionPolicy", verbs: ["get"] },
  { kind: "MutatingAdmissionPolicyBinding", verbs: ["get"] },
]

/** @returns what this user may not, as "get/patch daemonsets.apps" */
export async function missingPermissions(api: Api, namespace: string, more: readonly Kind[]): Promise<string[]> {
  const there = await Promise.all(
    NEEDED_IF_THERE.filter(({ kind }) => !more.includes(kind)).map(async (one) =>
      (await api.has(one.kind)) ? [one] : [],
    ),
  )
  const needed: Right[] = [
    ...NEEDED.filter(({ kind }) => !more.includes(kind)),
    ...there.flat(),
    // Plugins have names that users choose.
    ...more.map((kind) => ({
      kind,
      verbs: ["get", ...(kind === "Plugin" ? ["list"] : []), "create", "patch", "delete"],
    })),
  ]
  const answers = await Promise.all(
    needed.map(async ({ kind, verbs, everywhere = false }) => {
      const { namespaced, plural, apiVersion } = KINDS[kind]
      // A namespace is looked for in itself: whoever may see it alone is let.
      const within = !everywhere && (namespaced || kind === "Namespace") ? namespace : undefined
      const may = await Promise.all(verbs.map(async (verb) => await api.can(verb, kind, within)))
      const missing = verbs.filter((_, i) => !may[i])
      const group = apiVersion.includes("/") ? `.${apiVersion.split("/")[0]}` : ""
      return missing.length === 0 ? [] : [`${missing.join("/")} ${plural}${group}`]
    }),
  )
  return answers.flat()
}

/** Whether what machines' sidecars come by with a plugin is there. */
export async function judgePluginProtocol(api: Api, kubevirt: Manifest): Promise<Finding> {
  const topic = "plugin"
  if (!(await api.has("Plugin"))) {
    return error(
      topic,
      "this KubeVirt has no plugins (plugin.kubevirt.io/v1alpha1)",
      "upgrade to v1.9, or install with --protocol hooks",
    )
  }
  const gates = listAt(kubevirt, "spec", "configuration", "developerConfiguration", "featureGates")
  if (!gates.includes("Plugins")) {
    const patch = { spec: { configuration: { developerConfiguration: { featureGates: [...gates, "Plugins"] } } } }
    return error(
      topic,
      "KubeVirt has plugins behind the feature gate Plugins, which is off",
      patchCommand(kubevirt, patch),
    )
  }
  if (!(await api.has("MutatingAdmissionPolicy"))) {
    const remedy = "upgrade Kubernetes to v1.36, or install with --protocol hooks"
    return error(
      topic,
      "the API server has no policies that put sidecars into pods (MutatingAdmissionPolicy v1)",
      remedy,
    )
  }
  return good(topic, "KubeVirt and the API server have what plugins take")
}

/** Whether Multus is there: without it nothing runs the CNI plugin. */
export async function judgeMultus(api: Api): Promise<Finding> {
  const remedy = "install Multus (k8snetworkplumbingwg/multus-cni) first"
  if (!(await api.has("NetworkAttachmentDefinition"))) {
    return error(
      "Multus",
      "Multus is not installed: the cluster has no network-attachment-definitions.k8s.cni.cncf.io",
      remedy,
    )
  }
  return good("Multus", "Multus' NetworkAttachmentDefinition is there")
}

/** Whether pods that write to the host are let in: the namespace may be held to a Pod Security Standard. */
export async function judgePodSecurity(api: Api, namespace: string): Promise<Finding | undefined> {
  const level = (await api.get("Namespace", undefined, namespace))?.metadata.labels?.[
    "pod-security.kubernetes.io/enforce"
  ]
  if (level === undefined || level === "privileged") return undefined
  const remedy = `kubectl label namespace ${namespace} --overwrite pod-security.kubernetes.io/enforce=privileged`
  return error(
    "pod security",
    `namespace ${namespace} enforces the level ${level}, which has no pods with a host path`,
    remedy,
  )
}

export interface User {
  readonly kind: "VirtualMachineInstance" | "VirtualMachine"
  readonly namespace: string
  readonly name: string
  readonly object: Manifest
}

/** Virtual machines that ask for a binding, running or not. */
export async function usersOf(api: Api, bindings: readonly string[]): Promise<User[]> {
  const uses = (spec: unknown): boolean =>
    listAt(spec, "domain", "devices", "interfaces").some((one) =>
      bindings.includes(textAt(one, "binding", "name") ?? ""),
    )
  const instances = (await api.list("VirtualMachineInstance")) ?? []
  const machines = (await api.list("VirtualMachine")) ?? []
  const users = [
    ...instances
      .filter((object) => uses(object["spec"]))
      .map((object) => ({ kind: "VirtualMachineInstance" as const, object })),
    ...machines
      .filter((object) => uses(at(object, "spec", "template", "spec")))
      .map((object) => ({ kind: "VirtualMachine" as const, object })),
  ]
  return users.map(({ kind, object }) => ({
    kind,
    namespace: object.metadata.namespace ?? "",
    name: object.metadata.name,
    object,
  }))
}
