/**
 * The kinds of KubeVirt and Multus for an API server that has nothing but its own: cut down to what this command reads and writes, after
 * the published ones.
 */
type Body = Record<string, unknown>

const anything: Body = { type: "object", "x-kubernetes-preserve-unknown-fields": true }

function definition(
  group: string,
  kind: string,
  plural: string,
  spec: Body,
  { scope, version }: { readonly scope: string; readonly version: string } = { scope: "Namespaced", version: "v1" },
): Body {
  return {
    metadata: {
      name: `${plural}.${group}`,
      // Groups below k8s.io ask for a word of their owners.
      ...(group.endsWith(".k8s.io") ? { annotations: { "api-approved.kubernetes.io": "unapproved, for tests" } } : {}),
    },
    spec: {
      group,
      scope,
      names: { kind, plural, singular: kind.toLowerCase(), listKind: `${kind}List` },
      versions: [
        {
          name: version,
          served: true,
          storage: true,
          subresources: { status: {} },
          schema: { openAPIV3Schema: { type: "object", properties: { spec, status: anything } } },
        },
      ],
    },
  }
}

const quantities: Body = {
  type: "object",
  additionalProperties: { anyOf: [{ type: "integer" }, { type: "string" }], "x-kubernetes-int-or-string": true },
}
const resources: Body = { type: "object", properties: { limits: quantities, requests: quantities } }

const binding: Body = {
  type: "object",
  properties: {
    sidecarImage: { type: "string" },
    networkAttachmentDefinition: { type: "string" },
    domainAttachmentType: { type: "string" },
    downwardAPI: { type: "string" },
    migration: { type: "object", properties: { method: { type: "string" } } },
    computeResourceOverhead: resources,
  },
}

const kubevirt: Body = {
  type: "object",
  properties: {
    workloads: anything,
    // Without x-kubernetes-preserve-unknown-fields, as the published one: lists below would not be merged by their keys.
    configuration: {
      type: "object",
      properties: {
        imagePullPolicy: { type: "string" },
        developerConfiguration: {
          type: "object",
          properties: { featureGates: { type: "array", items: { type: "string" } } },
        },
        network: {
          type: "object",
          properties: {
            defaultNetworkInterface: { type: "string" },
            permitSlirpInterface: { type: "boolean" },
            binding: { type: "object", additionalProperties: binding },
          },
        },
        supportContainerResources: {
          type: "array",
          "x-kubernetes-list-type": "map",
          "x-kubernetes-list-map-keys": ["type"],
          items: {
            type: "object",
            required: ["type", "resources"],
            properties: { type: { type: "string" }, resources },
          },
        },
      },
    },
  },
}

export const DEFINITIONS: readonly Body[] = [
  definition("kubevirt.io", "KubeVirt", "kubevirts", kubevirt),
  definition("kubevirt.io", "VirtualMachine", "virtualmachines", anything),
  definition("kubevirt.io", "VirtualMachineInstance", "virtualmachineinstances", anything),
  definition("k8s.cni.cncf.io", "NetworkAttachmentDefinition", "network-attachment-definitions", {
    type: "object",
    properties: { config: { type: "string" } },
  }),
  definition("plugin.kubevirt.io", "Plugin", "plugins", anything, { scope: "Cluster", version: "v1alpha1" }),
]
