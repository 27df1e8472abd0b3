import { bindingOf, findKubeVirt, ownedBindings, usersOf } from "../cluster/facts.ts"
import { listAt, numberAt, textAt } from "../cluster/objects.ts"
import { rolloutOf } from "../cluster/rollout.ts"
import { EXIT } from "../failure.ts"
import type { Exit } from "../failure.ts"
import type { Context } from "./context.ts"
import { made } from "./uninstall.ts"

export async function status({ api, options, print }: Context): Promise<Exit> {
  const kubevirt = await findKubeVirt(api, options.namespace)
  const namespace = kubevirt.metadata.namespace!
  const bindings = ownedBindings(kubevirt)
  const { ours, others } = await made(api, namespace)
  const daemonSet = ours.find(({ kind }) => kind === "DaemonSet")
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
  const network = ours.some(({ kind }) => kind === "NetworkAttachmentDefinition")
  report.ready = bindings.length > 0 && network && nodes?.done === true && report.kubevirt.phase === "Deployed"
  if (options.json) print(JSON.stringify(report, null, 2))
  else {
    print(`Kubernetes   ${report.kubernetes}`)
    print(
      `KubeVirt     ${report.kubevirt.version ?? "of unknown version"}, ${report.kubevirt.phase ?? "no phase"}, in ${namespace}`,
    )
    if (bindings.length === 0) print("binding      not registered")
    for (const { name, image } of report.bindings)
      print(`binding      ${name}, ${image ?? (plugins.includes(name) ? "as a plugin" : "no image")}`)
    print(`network      ${network ? `${namespace}/passt-kubevirt` : "missing"}`)
    if (report.plugin === null) print("CNI plugin   missing")
    else
      print(
        `CNI plugin   in ${report.plugin.directory}, on ${report.plugin.nodesReady} of ${report.plugin.nodes} nodes`,
      )
    print(
      `machines     ${users.filter(({ kind }) => kind === "VirtualMachine").length} defined, ${running.length} running`,
    )
    print(report.ready ? "ready" : "not ready: passt-kubevirt doctor tells why")
  }
  return report.ready ? EXIT.good : EXIT.bad
}
