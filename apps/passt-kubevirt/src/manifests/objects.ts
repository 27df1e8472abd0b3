/**
 * The one source of what is in a cluster: `install` applies these objects, and Kustomize's and Helm's files are written from them.
 */
import { KINDS } from "../cluster/kinds.ts"
import type { Manifest } from "../cluster/objects.ts"
import { LABELS, MANAGED_BY, NAME, PLUGIN_FILE, PLUGIN_IN_IMAGE } from "./settings.ts"
import type { Settings } from "./settings.ts"

/** The folder of CNI plugins within the container. */
const TARGET = "/host/cni-bin"

type Meta = { readonly name: string; readonly namespace?: string; readonly labels: Record<string, string> }

function metadata(settings: Settings, manager: string, namespaced = true): Meta {
  const labels = { ...LABELS, [MANAGED_BY]: manager }
  return { name: NAME, ...(namespaced ? { namespace: settings.namespace } : {}), labels }
}

/** The network configuration that Multus hands to the plugin. */
export function networkConfiguration({ pingGroup }: Pick<Settings, "pingGroup">): string {
  return JSON.stringify({ cniVersion: "1.0.0", name: NAME, plugins: [{ type: PLUGIN_FILE, pingGroup }] })
}

/** The pods that bring the plugin to the nodes have no business with the API server. */
function serviceAccount(settings: Settings, manager: string): Manifest {
  return {
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: metadata(settings, manager),
    automountServiceAccountToken: false,
  }
}

/** Lets somebody who is not an administrator run `status` and `doctor`, once bound to them. */
function viewerRole(settings: Settings, manager: string): Manifest {
  const read = ["get", "list"]
  return {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "ClusterRole",
    metadata: { ...metadata(settings, manager, false), name: `${NAME}-viewer` },
    rules: [
      { apiGroups: [""], resources: ["events", "namespaces", "nodes", "pods", "serviceaccounts"], verbs: read },
      {
        apiGroups: ["admissionregistration.k8s.io"],
        resources: ["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"],
        verbs: read,
      },
      { apiGroups: ["apps"], resources: ["daemonsets"], verbs: read },
      { apiGroups: ["k8s.cni.cncf.io"], resources: ["network-attachment-definitions"], verbs: read },
      {
        apiGroups: ["kubevirt.io"],
        resources: ["kubevirts", "virtualmachineinstances", "virtualmachines"],
        verbs: read,
      },
      { apiGroups: ["plugin.kubevirt.io"], resources: ["plugins"], verbs: read },
      { apiGroups: ["rbac.authorization.k8s.io"], resources: ["clusterroles", "rolebindings"], verbs: read },
    ],
  }
}

/** OpenShift asks by which rule a pod may write to the host. */
function securityContextBinding(settings: Settings, manager: string): Manifest {
  return {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "RoleBinding",
    metadata: metadata(settings, manager),
    roleRef: {
      apiGroup: "rbac.authorization.k8s.io",
      kind: "ClusterRole",
      name: "system:openshift:scc:privileged",
    },
    subjects: [{ kind: "ServiceAccount", name: NAME, namespace: settings.namespace }],
  }
}

function networkAttachment(settings: Settings, manager: string): Manifest {
  return {
    apiVersion: "k8s.cni.cncf.io/v1",
    kind: "NetworkAttachmentDefinition",
    metadata: metadata(settings, manager),
    spec: { config: networkConfiguration(settings) },
  }
}

/** How the DaemonSet's pods are told from others. */
export const POD_LABELS: Readonly<Record<string, string>> = { ...LABELS, "app.kubernetes.io/component": "cni" }

/** Copies the plugin to the nodes, or (for `uninstall`) takes it away again. */
export function daemonSet(settings: Settings, manager: string, action: "install" | "remove" = "install"): Manifest {
  const { nodeSelector, tolerations, affinity } = settings.placement
  return {
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: metadata(settings, manager),
    spec: {
      selector: { matchLabels: POD_LABELS },
      updateStrategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: "10%" } },
      template: {
        metadata: { labels: POD_LABELS },
        spec: {
          serviceAccountName: NAME,
          automountServiceAccountToken: false,
          priorityClassName: "system-node-critical",
          nodeSelector: { "kubernetes.io/os": "linux", ...nodeSelector },
          ...(tolerations === undefined || tolerations.length === 0 ? {} : { tolerations }),
          ...(affinity === undefined ? {} : { affinity }),
          ...(settings.pullSecrets.length === 0
            ? {}
            : { imagePullSecrets: settings.pullSecrets.map((name) => ({ name })) }),
          terminationGracePeriodSeconds: 5,
          containers: [
            {
              name: "cni",
              image: settings.cniImage,
              command: [PLUGIN_IN_IMAGE],
              args: [`--${action}`, TARGET],
              readinessProbe: {
                exec: { command: [PLUGIN_IN_IMAGE, action === "install" ? "--is-installed" : "--is-removed", TARGET] },
                initialDelaySeconds: 1,
                periodSeconds: 10,
              },
              resources: { requests: { cpu: "5m", memory: "8Mi" }, limits: { memory: "32Mi" } },
              // Root without any capability: the folder is root's. The type lets it write there where SELinux is enforced.
              securityContext: {
                runAsUser: 0,
                runAsGroup: 0,
                allowPrivilegeEscalation: false,
                readOnlyRootFilesystem: true,
                capabilities: { drop: ["ALL"] },
                seccompProfile: { type: "RuntimeDefault" },
                seLinuxOptions: { type: "spc_t" },
              },
              terminationMessagePolicy: "FallbackToLogsOnError",
              volumeMounts: [{ name: "cni-bin", mountPath: TARGET }],
            },
          ],
          // It has to be there: where it is not, the runtime looks elsewhere.
          volumes: [{ name: "cni-bin", hostPath: { path: settings.cniDir, type: "Directory" } }],
        },
      },
    },
  }
}

/** Where virt-launcher looks for domain plugins: a directory for each, shared with the machine's container. */
const PLUGIN_DIRECTORY = "/var/run/kubevirt-plugin"
const SIDECAR = "passt-plugin"

/** Machines with the binding are asked about at our socket, and do not start without an answer. */
function domainPlugin(settings: Settings, manager: string): Manifest {
  const { binding } = settings
  return {
    apiVersion: "plugin.kubevirt.io/v1alpha1",
    kind: "Plugin",
    // Sockets are in directories named after plugins.
    metadata: { ...metadata(settings, manager, false), name: binding },
    spec: {
      condition: `vmi.spec.domain.devices.interfaces.exists(i, has(i.binding) && i.binding.name == "${binding}")`,
      failureStrategy: "Fail",
      domainHooks: [{ sidecar: { socketPath: `${PLUGIN_DIRECTORY}/${binding}/passt.sock` } }],
      mutatingAdmissionPolicies: [{ name: NAME }],
    },
  }
}

/** Lets the API server put the sidecar into pods of machines that have our network. */
function injection(settings: Settings, manager: string): Manifest[] {
  const { apiVersion } = KINDS.MutatingAdmissionPolicy
  const networks = "k8s.v1.cni.cncf.io/networks"
  const text = (value: string): string => JSON.stringify(value)
  const quantities = `{"cpu": ${text(settings.sidecarCpu ?? "500m")}, "memory": ${text(settings.sidecarMemory ?? "512Mi")}}`
  const mount = (path: string, more: string): string =>
    `Object.spec.containers.volumeMounts{name: ${text(SIDECAR)}, mountPath: ${text(path)}${more}}`
  const container = `Object.spec.containers{
    name: ${text(SIDECAR)},
    image: ${text(settings.image)},
    env: [Object.spec.containers.env{name: "NETWORK_BINDING_PLUGIN_NAME", value: ${text(settings.binding)}}],
    resources: Object.spec.containers.resources{requests: ${quantities}, limits: ${quantities}},
    securityContext: Object.spec.containers.securityContext{
      runAsUser: 107, runAsGroup: 107, runAsNonRoot: true, allowPrivilegeEscalation: false, readOnlyRootFilesystem: true,
      capabilities: Object.spec.containers.securityContext.capabilities{drop: ["ALL"]}
    },
    terminationMessagePolicy: "FallbackToLogsOnError",
    volumeMounts: [${mount(`${PLUGIN_DIRECTORY}/${settings.binding}`, `, subPath: ${text(settings.binding)}`)}]
  }`
  const machine = `object.spec.containers.map(c, c.name).indexOf("compute")`
  return [
    {
      apiVersion,
      kind: "MutatingAdmissionPolicy",
      metadata: metadata(settings, manager, false),
      spec: {
        failurePolicy: "Fail",
        reinvocationPolicy: "IfNeeded",
        matchConstraints: {
          objectSelector: { matchLabels: { "kubevirt.io": "virt-launcher" } },
          resourceRules: [{ apiGroups: [""], apiVersions: ["v1"], operations: ["CREATE"], resources: ["pods"] }],
        },
        matchConditions: [
          {
            name: "has-the-network",
            expression: `has(object.metadata.annotations) && ${text(networks)} in object.metadata.annotations && object.metadata.annotations[${text(networks)}].contains(${text(`"${NAME}"`)})`,
          },
          { name: "not-yet", expression: `!object.spec.containers.exists(c, c.name == ${text(SIDECAR)})` },
        ],
        mutations: [
          {
            patchType: "JSONPatch",
            jsonPatch: {
              expression: `[
  JSONPatch{op: "add", path: "/spec/volumes/-", value: Object.spec.volumes{name: ${text(SIDECAR)}, emptyDir: Object.spec.volumes.emptyDir{}}},
  JSONPatch{op: "add", path: "/spec/containers/" + string(${machine}) + "/volumeMounts/-", value: ${mount(PLUGIN_DIRECTORY, "")}},
  JSONPatch{op: "add", path: "/spec/containers/-", value: ${container}}
]`,
            },
          },
        ],
      },
    },
    {
      apiVersion,
      kind: "MutatingAdmissionPolicyBinding",
      metadata: metadata(settings, manager, false),
      spec: { policyName: NAME },
    },
  ]
}

/** Everything that is made, in the order in which it is; the registration comes after it. */
export function objects(settings: Settings, manager: string = NAME): Manifest[] {
  return [
    serviceAccount(settings, manager),
    viewerRole(settings, manager),
    ...(settings.openshift ? [securityContextBinding(settings, manager)] : []),
    networkAttachment(settings, manager),
    daemonSet(settings, manager),
    ...(settings.protocol === "plugin" ? [...injection(settings, manager), domainPlugin(settings, manager)] : []),
  ]
}

/** What the binding is in the KubeVirt resource. */
export function bindingEntry(settings: Settings): Record<string, unknown> {
  const { computeMemory } = settings
  return {
    // With a plugin the sidecar comes by the policy.
    ...(settings.protocol === "hooks" ? { sidecarImage: settings.image } : {}),
    networkAttachmentDefinition: `${settings.namespace}/${NAME}`,
    ...(settings.migration ? { migration: {} } : {}),
    ...(computeMemory === undefined ? {} : { computeResourceOverhead: { requests: { memory: computeMemory } } }),
  }
}

/** The part of the KubeVirt resource that is ours; the resource itself is somebody else's. */
export function registration(
  settings: Settings,
  kubevirt: { readonly name: string; readonly namespace: string },
): Manifest {
  const { sidecarMemory: memory, sidecarCpu: cpu } = settings
  const amounts = { ...(cpu === undefined ? {} : { cpu }), ...(memory === undefined ? {} : { memory }) }
  const support =
    Object.keys(amounts).length === 0
      ? {}
      : { supportContainerResources: [{ type: "sidecar", resources: { requests: amounts, limits: amounts } }] }
  return {
    apiVersion: "kubevirt.io/v1",
    kind: "KubeVirt",
    metadata: { name: kubevirt.name, namespace: kubevirt.namespace },
    spec: { configuration: { network: { binding: { [settings.binding]: bindingEntry(settings) } }, ...support } },
  }
}
