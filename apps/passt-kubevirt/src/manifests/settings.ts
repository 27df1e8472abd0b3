import type { JsonObject } from "../cluster/objects.ts"

/** Where the container runtime looks for CNI plugins, by distribution. */
export const PRESETS: Readonly<Record<string, { readonly cniDir: string; readonly openshift?: boolean }>> = {
  kubernetes: { cniDir: "/opt/cni/bin" },
  // Releases since October 2024; before, the folder changed with every release: --cni-dir.
  k3s: { cniDir: "/var/lib/rancher/k3s/data/cni" },
  rke2: { cniDir: "/opt/cni/bin" },
  k0s: { cniDir: "/opt/cni/bin" },
  microk8s: { cniDir: "/var/snap/microk8s/current/opt/cni/bin" },
  // Multus of OpenShift looks there; the host's /opt and /usr are read-only.
  openshift: { cniDir: "/var/lib/cni/bin", openshift: true },
}

/** What the manifests are made from. */
export interface Settings {
  /** The namespace of everything but the registration; KubeVirt's own by default. */
  readonly namespace: string
  /** What virtual machines write into `interfaces[].binding.name`. */
  readonly binding: string
  /** The image of the sidecar. */
  readonly image: string
  /** The image with the CNI plugin. */
  readonly cniImage: string
  readonly cniDir: string
  /** The group that may send echo requests: that of virt-launcher. */
  readonly pingGroup: number
  readonly openshift: boolean
  /** Names of Secrets for pulling the CNI plugin's image. */
  readonly pullSecrets: readonly string[]
  /**
   * How machines get their sidecar: by KubeVirt, which runs it as a hook; or by a policy of the API server, and KubeVirt asks it as
   * a domain plugin (v1.9).
   */
  readonly protocol: Protocol
  /** Which nodes get the plugin. */
  readonly placement: Placement
  /** Whether KubeVirt may migrate machines with this binding. */
  readonly migration: boolean
  /** Memory (a Kubernetes quantity) that is added to the machine's own container. */
  readonly computeMemory?: string
  /** Memory and processor time of all sidecars of machines (Kubernetes quantities). */
  readonly sidecarMemory?: string
  readonly sidecarCpu?: string
}

export const PROTOCOLS = ["hooks", "plugin"] as const
export type Protocol = (typeof PROTOCOLS)[number]

export interface Placement {
  readonly nodeSelector?: Readonly<Record<string, string>>
  readonly tolerations?: readonly JsonObject[]
  readonly affinity?: JsonObject
}

/** Names that occur in several objects. */
export const NAME = "passt-kubevirt"
export const PLUGIN_FILE = "passt-kubevirt-cni"
export const MANAGED_BY = "app.kubernetes.io/managed-by"
/** Where images have the plugin. */
export const PLUGIN_IN_IMAGE: string = `/usr/bin/${PLUGIN_FILE}`
export const LABELS: Readonly<Record<string, string>> = {
  "app.kubernetes.io/name": NAME,
  "app.kubernetes.io/component": "network-binding",
  "app.kubernetes.io/part-of": "passt",
}
