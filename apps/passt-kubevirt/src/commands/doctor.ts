/** What is wrong, and how to mend it: every check is made, whatever the others have found. */
import type { Api } from "../cluster/api.ts"
import { ApiError, oneLine } from "../cluster/api.ts"
import {
  bindingOf,
  error,
  findKubeVirt,
  good,
  isForeignBinding,
  judgeKubeVirt,
  judgeMultus,
  judgePodSecurity,
  missingPermissions,
  registeredBindings,
  setterOf,
  usersOf,
  warning,
} from "../cluster/facts.ts"
import type { Finding, User } from "../cluster/facts.ts"
import { at, listAt, textAt } from "../cluster/objects.ts"
import type { Manifest } from "../cluster/objects.ts"
import { podsOf, rolloutOf, troubleOf } from "../cluster/rollout.ts"
import type { Trouble } from "../cluster/rollout.ts"
import { EXIT, Failure } from "../failure.ts"
import type { Exit } from "../failure.ts"
import { NAME, PLUGIN_FILE } from "../manifests/settings.ts"
import type { Context } from "./context.ts"

/** Less than this does not carry the sidecar with an engine in it. */
const SIDECAR_BYTES = 128 * 2 ** 20

/** What KubeVirt gives sidecars of machines with dedicated processors, unless it is told otherwise. */
const SIDECAR_DEFAULT = "64M"

export async function doctor({ api, options, print }: Context): Promise<Exit> {
  const findings: Finding[] = [good("API server", `${api.server} answers: Kubernetes ${await api.version()}`)]
  const kubevirt = await look(findings, "KubeVirt", () => findKubeVirt(api, options.namespace))
  findings.push(...(await attempt("Multus", async () => [await judgeMultus(api)])))
  if (kubevirt !== undefined) {
    const namespace = kubevirt.metadata.namespace!
    findings.push(...judgeKubeVirt(kubevirt), ...judgeSidecars(kubevirt))
    findings.push(...(await attempt("permissions", () => judgePermissions(api, namespace))))
    findings.push(
      ...(await attempt("pod security", async () =>
        [await judgePodSecurity(api, namespace)].filter((one) => one !== undefined),
      )),
    )
    findings.push(...(await attempt("registration", () => judgeRegistration(api, kubevirt, options.binding))))
    findings.push(...(await attempt("network", () => judgeNetwork(api, namespace))))
    findings.push(...(await attempt("CNI plugin", () => judgePlugin(api, namespace))))
    const names = registeredBindings(kubevirt)
    if (names.length > 0) findings.push(...(await attempt("machines", () => judgeMachines(api, names))))
  }
  const bad = findings.filter(({ level }) => level === "error").length
  const doubtful = findings.filter(({ level }) => level === "warning").length
  if (options.json) print(JSON.stringify({ healthy: bad === 0, errors: bad, warnings: doubtful, findings }, null, 2))
  else {
    for (const { level, topic, message, remedy } of findings) {
      print(`${{ good: "ok     ", warning: "warning", error: "ERROR  " }[level]} ${topic}: ${message}`)
      if (remedy !== undefined) print(`          mend: ${remedy}`)
    }
    const warnings = `${doubtful} ${doubtful === 1 ? "warning" : "warnings"}`
    if (bad > 0) print(`${bad} ${bad === 1 ? "error" : "errors"}, ${warnings}`)
    else if (findings.some(({ message }) => message.startsWith(UNSEEN)))
      print(`nothing wrong in what this user may look at, but for ${warnings}`)
    else print(`all is well${doubtful === 0 ? "" : `, but for ${warnings}`}`)
  }
  return bad === 0 ? EXIT.good : EXIT.bad
}

const UNSEEN = "could not be looked at"

/** A check that could not be made is a finding too. */
async function attempt(topic: string, check: () => Promise<Finding[]>): Promise<Finding[]> {
  try {
    return await check()
  } catch (problem) {
    if (problem instanceof ApiError && problem.status === 403) {
      const remedy = `bind this user to the ClusterRole ${NAME}-viewer`
      return [warning(topic, `${UNSEEN}: ${oneLine(problem)}`, remedy)]
    }
    throw problem
  }
}

async function look<T>(findings: Finding[], topic: string, read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read()
  } catch (problem) {
    if (!(problem instanceof Failure) || problem.exit !== EXIT.unfit) throw problem
    findings.push(error(topic, problem.message, "install KubeVirt first"))
    return undefined
  }
}

async function judgePermissions(api: Api, namespace: string): Promise<Finding[]> {
  const missing = await missingPermissions(api, namespace, [])
  if (missing.length === 0) return [good("permissions", "this user may install and uninstall")]
  return [
    warning(
      "permissions",
      `this user may not ${missing.join(", ")}`,
      "install and uninstall as a cluster administrator",
    ),
  ]
}

/** Bytes of a Kubernetes quantity, or undefined. */
export function bytesOf(quantity: unknown): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(k|M|G|T|Ki|Mi|Gi|Ti)?$/.exec(String(quantity ?? ""))
  if (match === null) return undefined
  const unit = match[2] ?? ""
  const power = ["", "k", "M", "G", "T"].indexOf(unit.charAt(0).replace("K", "k"))
  return Number(match[1]) * (unit.endsWith("i") ? 1024 : 1000) ** power
}

/** Guaranteed machines' sidecars get what is configured, or very little. With plugins it is the policy that says. */
function judgeSidecars(kubevirt: Manifest): Finding[] {
  const names = registeredBindings(kubevirt)
  if (names.length > 0 && names.every((name) => textAt(bindingOf(kubevirt, name), "sidecarImage") === undefined))
    return []
  const resources = listAt(kubevirt, "spec", "configuration", "supportContainerResources")
  const sidecar = resources.find((item) => textAt(item, "type") === "sidecar")
  const limit = at(sidecar, "resources", "limits", "memory")
  const bytes = bytesOf(limit)
  const remedy = "passt-kubevirt install --sidecar-memory 512Mi --sidecar-cpu 500m …"
  if (bytes !== undefined && bytes < SIDECAR_BYTES) {
    return [
      error(
        "sidecar memory",
        `sidecars of machines get ${String(limit)}, too little for an engine in them (128Mi)`,
        remedy,
      ),
    ]
  }
  if (bytes !== undefined) return [good("sidecar memory", `sidecars of machines get ${String(limit)}`)]
  const message = `sidecars of machines with dedicated processors get ${SIDECAR_DEFAULT}, too little for an engine in them (128Mi)`
  return [warning("sidecar memory", message, remedy)]
}

async function judgeRegistration(api: Api, kubevirt: Manifest, binding: string): Promise<Finding[]> {
  const plugins = ((await api.list("Plugin")) ?? []).map(({ metadata }) => metadata.name)
  const names = registeredBindings(kubevirt)
  const remedy = "passt-kubevirt install --image IMAGE"
  if (names.length === 0) {
    if (isForeignBinding(kubevirt, binding)) {
      const message = `the binding ${binding} in the KubeVirt resource was not registered by this command`
      return [error("registration", message, `${remedy} --binding NAME, or --force to take it over`)]
    }
    return [error("registration", "no binding of ours is in the KubeVirt resource", remedy)]
  }
  return names.map((name) => {
    const entry = bindingOf(kubevirt, name)
    const image = textAt(entry, "sidecarImage")
    const network = textAt(entry, "networkAttachmentDefinition")
    if (image === undefined && !plugins.includes(name))
      return error("registration", `the binding ${name} has no sidecarImage`, remedy)
    const expected = `${kubevirt.metadata.namespace}/${NAME}`
    if (network !== expected)
      return error("registration", `the binding ${name} names the network ${network}, not ${expected}`, remedy)
    const setter = setterOf(kubevirt, name, image === undefined ? "networkAttachmentDefinition" : "sidecarImage")
    if (isForeignBinding(kubevirt, name))
      return good(
        "registration",
        `the binding ${name} runs ${image ?? "as a plugin"}, as ${setter ?? "somebody"} has registered it`,
      )
    if (image !== undefined && setter !== undefined) {
      const message = `the binding ${name} runs ${image}, which ${setter} has set since it was registered`
      return warning("registration", message, `${remedy} --force, if that was not meant to be`)
    }
    return good("registration", `the binding ${name} runs ${image ?? "as a plugin"}`)
  })
}

async function judgeNetwork(api: Api, namespace: string): Promise<Finding[]> {
  const remedy = "passt-kubevirt install --image IMAGE"
  const object = await api.get("NetworkAttachmentDefinition", namespace, NAME)
  if (object === undefined) {
    return [
      error(
        "network",
        `there is no NetworkAttachmentDefinition ${namespace}/${NAME}: pods of machines cannot start`,
        remedy,
      ),
    ]
  }
  let config: unknown
  try {
    config = JSON.parse(textAt(object, "spec", "config") ?? "")
  } catch {
    return [
      error("network", `the configuration in NetworkAttachmentDefinition ${namespace}/${NAME} is not JSON`, remedy),
    ]
  }
  const types = [config, ...listAt(config, "plugins")].map((one) => textAt(one, "type"))
  if (!types.includes(PLUGIN_FILE)) {
    return [error("network", `NetworkAttachmentDefinition ${namespace}/${NAME} does not call ${PLUGIN_FILE}`, remedy)]
  }
  return [good("network", `NetworkAttachmentDefinition ${namespace}/${NAME} calls ${PLUGIN_FILE}`)]
}

/** What to do about a pod of the DaemonSet, by what it says. */
function remedyFor({ reason, message, node }: Trouble, image: string, folder: string): string {
  if (/ImagePull|ErrImage|InvalidImageName|ImageInspect/.test(reason)) {
    return `see that node ${node} can pull ${image}: its name, the registry, --pull-secret`
  }
  if (/in the way/.test(message))
    return `another program's ${PLUGIN_FILE} is in ${folder} of node ${node}: move it away`
  if (/hostPath type check failed|No such file/.test(message)) {
    return `node ${node} has no ${folder}: install with the right --preset or --cni-dir`
  }
  if (/Permission denied|Read-only/.test(message)) {
    return `${folder} of node ${node} cannot be written: install with the right --preset or --cni-dir`
  }
  if (/Unschedulable/.test(reason)) return "see the node's resources and taints"
  return `kubectl describe pod -l app.kubernetes.io/name=${NAME},app.kubernetes.io/component=cni --all-namespaces`
}

async function judgePlugin(api: Api, namespace: string): Promise<Finding[]> {
  const object = await api.get("DaemonSet", namespace, NAME)
  if (object === undefined) {
    const message = `there is no DaemonSet ${namespace}/${NAME}: nothing brings the CNI plugin to the nodes`
    return [error("CNI plugin", message, "passt-kubevirt install --image IMAGE")]
  }
  const { done, wanted, ready, seen } = rolloutOf(object)
  const folder = textAt(listAt(object, "spec", "template", "spec", "volumes")[0], "hostPath", "path") ?? ""
  const image = textAt(listAt(object, "spec", "template", "spec", "containers")[0], "image") ?? ""
  const findings: Finding[] = []
  const pods = await podsOf(api, object)
  for (const pod of pods) {
    const trouble = troubleOf(pod)
    if (trouble === undefined) continue
    // What keeps a container from being made is in events alone.
    const event = await lastEvent(
      api,
      namespace,
      pod.metadata.name,
      /FailedMount|FailedCreatePodSandBox|FailedScheduling/,
    )
    const full = event === undefined ? trouble : { ...trouble, message: event }
    const text = full.message === "" ? full.reason : `${full.reason} (${full.message})`
    findings.push(
      error("CNI plugin", `the DaemonSet is not ready on node ${full.node}: ${text}`, remedyFor(full, image, folder)),
    )
  }
  if (!done && findings.length === 0) {
    const refused = await lastEvent(api, namespace, NAME, /FailedCreate/)
    const why = refused === undefined ? "" : `: ${refused}`
    const remedy = /PodSecurity/.test(refused ?? "")
      ? `kubectl label namespace ${namespace} --overwrite pod-security.kubernetes.io/enforce=privileged`
      : `kubectl describe daemonset -n ${namespace} ${NAME}`
    const state = seen ? `is ready on ${ready} of ${wanted} nodes` : "has not been seen by its controller yet"
    findings.push(error("CNI plugin", `the DaemonSet ${state}${why}`, remedy))
  }
  if (findings.length === 0) findings.push(good("CNI plugin", `in ${folder} of ${wanted} nodes`))
  const bare = await nodesWithout(api, pods)
  if (bare.length > 0) {
    const message = `virtual machines can run on ${bare.join(", ")}, which the DaemonSet does not go to`
    findings.push(
      warning("CNI plugin", message, "set spec.workloads.nodePlacement of the KubeVirt resource and install again"),
    )
  }
  return findings
}

/** Nodes on which KubeVirt starts machines and where no pod of the DaemonSet is. */
async function nodesWithout(api: Api, pods: readonly Manifest[]): Promise<string[]> {
  const nodes = (await api.list("Node", undefined, "kubevirt.io/schedulable=true")) ?? []
  const served = new Set(pods.map((pod) => textAt(pod, "spec", "nodeName")))
  return nodes.map(({ metadata }) => metadata.name).filter((name) => !served.has(name))
}

async function lastEvent(api: Api, namespace: string, name: string, reasons: RegExp): Promise<string | undefined> {
  const events = (await api.list("Event", namespace)) ?? []
  return events
    .filter((event) => textAt(event, "involvedObject", "name") === name && reasons.test(textAt(event, "reason") ?? ""))
    .toSorted((a, b) => ((textAt(a, "lastTimestamp") ?? "") < (textAt(b, "lastTimestamp") ?? "") ? -1 : 1))
    .map((event) => oneLine(textAt(event, "message") ?? ""))
    .at(-1)
}

async function judgeMachines(api: Api, bindings: readonly string[]): Promise<Finding[]> {
  const instances = (await usersOf(api, bindings)).filter(({ kind }) => kind === "VirtualMachineInstance")
  const findings = (await Promise.all(instances.map((user) => judgeMachine(api, user)))).flat()
  if (findings.length === 0)
    return [good("machines", `${instances.length} use the binding, nothing is known to be wrong with them`)]
  return findings
}

async function judgeMachine(api: Api, { namespace, name, object }: User): Promise<Finding[]> {
  const findings: Finding[] = []
  const pods = (await api.list("Pod", namespace, `kubevirt.io=virt-launcher,vm.kubevirt.io/name=${name}`)) ?? []
  for (const pod of pods) {
    for (const container of listAt(pod, "status", "containerStatuses")) {
      if (!(textAt(container, "name") ?? "").startsWith("hook-sidecar-")) continue
      const waiting = textAt(container, "state", "waiting", "reason") ?? ""
      const image = textAt(container, "image") ?? "the image"
      if (/ImagePull|ErrImage|InvalidImageName/.test(waiting)) {
        const remedy = "the machine's namespace has to be able to pull it: its name, the registry, imagePullSecrets"
        findings.push(
          error(
            "machines",
            `${namespace}/${name}: the sidecar's image cannot be pulled: ${image} (${waiting})`,
            remedy,
          ),
        )
      }
      const ends = [at(container, "lastState", "terminated"), at(container, "state", "terminated")]
      if (ends.some((end) => textAt(end, "reason") === "OOMKilled")) {
        const remedy = "passt-kubevirt install --sidecar-memory 512Mi …"
        findings.push(error("machines", `${namespace}/${name}: the sidecar has run out of memory`, remedy))
      }
    }
    const event = await lastEvent(api, namespace, pod.metadata.name, /FailedCreatePodSandBox/)
    if (event !== undefined && textAt(pod, "status", "phase") === "Pending")
      findings.push(judgeSandbox(namespace, name, event))
  }
  const synchronized = listAt(object, "status", "conditions").find((one) => textAt(one, "type") === "Synchronized")
  if (findings.length === 0 && textAt(synchronized, "status") === "False") {
    const message = textAt(synchronized, "message") ?? textAt(synchronized, "reason") ?? "not synchronized"
    findings.push(
      error(
        "machines",
        `${namespace}/${name}: ${oneLine(message)}`,
        `kubectl logs -n ${namespace} -l vm.kubevirt.io/name=${name} --all-containers`,
      ),
    )
  }
  return findings
}

/** What the container runtime says when a CNI plugin fails or is not there. */
function judgeSandbox(namespace: string, name: string, event: string): Finding {
  const topic = "machines"
  if (event.includes(`failed to find plugin "${PLUGIN_FILE}"`)) {
    const remedy = "install with the --preset or --cni-dir of this distribution"
    return error(
      topic,
      `${namespace}/${name}: the container runtime does not look for plugins where ours is: ${event}`,
      remedy,
    )
  }
  if (event.includes("ip_unprivileged_port_start") || event.includes("ping_group_range")) {
    const remedy =
      "the node has to let the CNI plugin write the pod's net.ipv4 sysctls: see its kernel (4.11 or newer) and security modules"
    return error(topic, `${namespace}/${name}: ${event}`, remedy)
  }
  return error(topic, `${namespace}/${name}: ${event}`, "see the container runtime's log on the node")
}
