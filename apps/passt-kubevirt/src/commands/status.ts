import { bindingOf, findKubeVirt, isForeignBinding, registeredBindings, setterOf, usersOf } from "../cluster/facts.ts"
import { listAt, numberAt, textAt } from "../cluster/objects.ts"
import type { Manifest } from "../cluster/objects.ts"
import { rolloutOf } from "../cluster/rollout.ts"
import { EXIT } from "../failure.ts"
import type { Exit } from "../failure.ts"
import { MANAGED_BY } from "../manifests/settings.ts"
import type { Context } from "./context.ts"
import { made as madeObjects } from "./uninstall.ts"

export async function status({ api, options, print }: Context): Promise<Exit> {
  const kubevirt = await findKubeVirt(api, options.namespace)
  const namespace = kubevirt.metadata.namespace!
  const bindings = registeredBindings(kubevirt)
  const { ours, others } = await madeObjects(api, namespace)
  // It runs whoever has made it; whose it is is said.
  const made = (kind: string): Manifest | undefined => [...ours, ...others].find((object) => object.kind === kind)
  const daemonSet = made("DaemonSet")
  const nodes = daemonSet === undefined ? undefined : rolloutOf(daemonSet)
  const users = bindings.length === 0 ? [] : await usersOf(api, bindings)
  const running = users.filter(
    ({ kind, object }) => kind === "VirtualMachineInstance" && textAt(object, "status", "phase") === "Running",
  )
  const pod = listAt(daemonSet, "spec", "template", "spec", "volumes")[0]
  const report = {
    kubernetes: await api.version(),
    kubevirt: {
      namespace,
      name: kubevirt.metadata.name,
      version: textAt(kubevirt, "status", "observedKubeVirtVersion") ?? null,
      phase: textAt(kubevirt, "status", "phase") ?? null,
      generation: numberAt(kubevirt, "metadata", "generation"),
    },
    bindings: bindings.map((name) => ({
      name,
      image: textAt(bindingOf(kubevirt, name), "sidecarImage") ?? null,
      network: textAt(bindingOf(kubevirt, name), "networkAttachmentDefinition") ?? null,
    })),
    objects: ours.map(({ kind, metadata }) => `${kind}/${metadata.name}`),
    othersObjects: others.map(({ kind, metadata }) => `${kind}/${metadata.name}`),
    plugin:
      nodes === undefined
        ? null
        : {
            directory: textAt(pod, "hostPath", "path") ?? null,
            nodes: nodes.wanted,
            nodesReady: nodes.ready,
            done: nodes.done,
          },
    machines: { using: users.map(({ kind, namespace, name }) => ({ kind, namespace, name })), running: running.length },
    ready: false,
  }
  const plugins = ours.filter(({ kind }) => kind === "Plugin").map(({ metadata }) => metadata.name)
  const network = made("NetworkAttachmentDefinition")
  const by = (object: Manifest | undefined): string =>
    object === undefined || ours.includes(object)
      ? ""
      : `, made by ${object.metadata.labels?.[MANAGED_BY] ?? "somebody else"}`
  report.ready =
    bindings.length > 0 && network !== undefined && nodes?.done === true && report.kubevirt.phase === "Deployed"
  if (options.json) print(JSON.stringify(report, null, 2))
  else {
    print(`Kubernetes   ${report.kubernetes}`)
    print(
      `KubeVirt     ${report.kubevirt.version ?? "of unknown version"}, ${report.kubevirt.phase ?? "no phase"}, in ${namespace}`,
    )
    if (bindings.length === 0) print("binding      not registered")
    for (const { name, image } of report.bindings) {
      const setter = isForeignBinding(kubevirt, name)
        ? `, registered by ${setterOf(kubevirt, name, "networkAttachmentDefinition") ?? "somebody else"}`
        : ""
      print(`binding      ${name}, ${image ?? (plugins.includes(name) ? "as a plugin" : "no image")}${setter}`)
    }
    print(`network      ${network === undefined ? "missing" : `${namespace}/${network.metadata.name}${by(network)}`}`)
    if (report.plugin === null) print("CNI plugin   missing")
    else
      print(
        `CNI plugin   in ${report.plugin.directory}, on ${report.plugin.nodesReady} of ${report.plugin.nodes} nodes${by(daemonSet)}`,
      )
    print(
      `machines     ${users.filter(({ kind }) => kind === "VirtualMachine").length} defined, ${running.length} running`,
    )
    print(report.ready ? "ready" : "not ready: passt-kubevirt doctor tells why")
  }
  return report.ready ? EXIT.good : EXIT.bad
}
