/** The kinds of objects that are read and written, and where the API server has them. */
export const KINDS = {
  ClusterRole: { apiVersion: "rbac.authorization.k8s.io/v1", plural: "clusterroles", namespaced: false },
  CustomResourceDefinition: {
    apiVersion: "apiextensions.k8s.io/v1",
    plural: "customresourcedefinitions",
    namespaced: false,
  },
  DaemonSet: { apiVersion: "apps/v1", plural: "daemonsets", namespaced: true },
  Event: { apiVersion: "v1", plural: "events", namespaced: true },
  KubeVirt: { apiVersion: "kubevirt.io/v1", plural: "kubevirts", namespaced: true },
  MutatingAdmissionPolicy: {
    apiVersion: "admissionregistration.k8s.io/v1",
    plural: "mutatingadmissionpolicies",
    namespaced: false,
  },
  MutatingAdmissionPolicyBinding: {
    apiVersion: "admissionregistration.k8s.io/v1",
    plural: "mutatingadmissionpolicybindings",
    namespaced: false,
  },
  Namespace: { apiVersion: "v1", plural: "namespaces", namespaced: false },
  NetworkAttachmentDefinition: {
    apiVersion: "k8s.cni.cncf.io/v1",
    plural: "network-attachment-definitions",
    namespaced: true,
  },
  Node: { apiVersion: "v1", plural: "nodes", namespaced: false },
  Plugin: { apiVersion: "plugin.kubevirt.io/v1alpha1", plural: "plugins", namespaced: false },
  Pod: { apiVersion: "v1", plural: "pods", namespaced: true },
  RoleBinding: { apiVersion: "rbac.authorization.k8s.io/v1", plural: "rolebindings", namespaced: true },
  ServiceAccount: { apiVersion: "v1", plural: "serviceaccounts", namespaced: true },
  VirtualMachine: { apiVersion: "kubevirt.io/v1", plural: "virtualmachines", namespaced: true },
  VirtualMachineInstance: { apiVersion: "kubevirt.io/v1", plural: "virtualmachineinstances", namespaced: true },
} as const

export type Kind = keyof typeof KINDS

export function groupOf(kind: Kind): string {
  const [group, version] = KINDS[kind].apiVersion.split("/")
  return version === undefined ? "" : group!
}

/** The path of a kind's group and version: what is there says what kinds there are. */
export function rootOf(kind: Kind): string {
  const { apiVersion } = KINDS[kind]
  return apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`
}

/** The path of a kind's collection, or of one object in it. */
export function pathOf(kind: Kind, namespace?: string, name?: string): string {
  const { plural, namespaced } = KINDS[kind]
  const within = namespaced && namespace !== undefined ? `/namespaces/${encodeURIComponent(namespace)}` : ""
  return `${rootOf(kind)}${within}/${plural}${name === undefined ? "" : `/${encodeURIComponent(name)}`}`
}
