import { explain } from "../changes.ts"
import { findKubeVirt, ownedBindings, usersOf, bindingOf } from "../cluster/facts.ts"
import { KINDS } from "../cluster/kinds.ts"
import { called, isOwned } from "../cluster/objects.ts"
import type { Manifest } from "../cluster/objects.ts"
import { FIELD_MANAGER } from "../cluster/api.ts"
import type { Api } from "../cluster/api.ts"
import { diff } from "../diff.ts"
import { EXIT, Failure } from "../failure.ts"
import type { Exit } from "../failure.ts"
import { MANAGED_BY, NAME } from "../manifests/settings.ts"
import type { Context } from "./context.ts"
import { removeFromNodes } from "./nodes.ts"

/** What install makes, in the order in which it goes. */
const MADE = [
  { kind: "MutatingAdmissionPolicyBinding", name: NAME },
  { kind: "MutatingAdmissionPolicy", name: NAME },
  { kind: "DaemonSet", name: NAME },
  { kind: "NetworkAttachmentDefinition", name: NAME },
  { kind: "RoleBinding", name: NAME },
  { kind: "ClusterRole", name: `${NAME}-viewer` },
  { kind: "ServiceAccount", name: NAME },
] as const

/** KubeVirt may be gone already; what install has made in its namespace may not. */
async function kubeVirtIfThere(api: Api, namespace: string | undefined): Promise<Manifest | undefined> {
  try {
    return await findKubeVirt(api, namespace)
  } catch (error) {
    if (error instanceof Failure && error.exit === EXIT.unfit) return undefined
    throw error
  }
}

/** Objects that are there under our names: those that we have made, and those that somebody else has. */
export async function made(api: Api, namespace: string): Promise<{ ours: Manifest[]; others: Manifest[] }> {
  // Plugins are named after bindings.
  const found: Manifest[] = [...((await api.list("Plugin", undefined, `${MANAGED_BY}=${NAME}`)) ?? [])]
  for (const { kind, name } of MADE) {
    const object = await api.get(kind, KINDS[kind].namespaced ? namespace : undefined, name)
    if (object !== undefined) found.push(object)
  }
  const isOurs = ({ metadata }: Manifest): boolean => metadata.labels?.[MANAGED_BY] === NAME
  return { ours: found.filter(isOurs), others: found.filter((object) => !isOurs(object)) }
}

export async function uninstall(context: Context): Promise<Exit> {
  const { api, options, print, tell } = context
  let begun = false
  try {
    const kubevirt = await kubeVirtIfThere(api, options.namespace)
    const namespace = kubevirt?.metadata.namespace ?? options.namespace ?? "kubevirt"
    const bindings = kubevirt === undefined ? [] : ownedBindings(kubevirt)
    if (!options.force) await refuseIfUsed(api, bindings)
    const { ours, others } = await made(api, namespace)
    for (const object of others) {
      print(`keep   ${called(object)}: made by ${object.metadata.labels?.[MANAGED_BY] ?? "somebody else"}`)
    }
    const registered = kubevirt !== undefined && isOwned(kubevirt, FIELD_MANAGER)
    // Asked before anything is done: half of it is worse than nothing.
    for (const object of ours) await api.delete(object, { dryRun: true })
    if (registered) await unregister(context, kubevirt, bindings)
    for (const object of ours) print(`delete ${called(object)}`)
    if (options.dryRun) return EXIT.good
    begun = true
    let left = ""
    for (const object of ours) {
      if (object.kind === "DaemonSet") {
        const { pollMs, signal } = context
        const waiting = { timeoutMs: options.timeoutMs, pollMs, ...(signal === undefined ? {} : { signal }) }
        left = await removeFromNodes(api, object, waiting, tell)
      }
      await api.delete(object)
    }
    if (left !== "") throw new Failure(`everything else is removed, but ${left}`, EXIT.left)
    print(
      registered || ours.length > 0 ? "done: everything of ours is removed" : "nothing to do: nothing of ours is there",
    )
    return EXIT.good
  } catch (error) {
    throw explain(error, begun ? "uninstall failed; run it again to go on" : "failed")
  }
}

async function refuseIfUsed(api: Api, bindings: readonly string[]): Promise<void> {
  const users = bindings.length === 0 ? [] : await usersOf(api, bindings)
  if (users.length === 0) return
  const names = users.slice(0, 5).map(({ kind, namespace, name }) => `${kind} ${namespace}/${name}`)
  if (users.length > names.length) names.push(`${users.length - names.length} more`)
  throw new Failure(
    `the binding ${bindings.join(", ")} is in use: ${names.join(", ")}; --force removes it all the same`,
    EXIT.inUse,
  )
}

/** Applying nothing gives back what we own, and only that. */
async function unregister(
  { api, options, print, tell }: Context,
  kubevirt: Manifest,
  bindings: readonly string[],
): Promise<void> {
  const { name, namespace } = kubevirt.metadata
  const nothing: Manifest = {
    apiVersion: kubevirt.apiVersion,
    kind: "KubeVirt",
    metadata: { name, namespace: namespace! },
  }
  print(`change ${called(kubevirt)}`)
  const after = await api.apply(nothing, { dryRun: options.dryRun, force: true })
  if (options.dryRun) for (const line of diff(kubevirt, after)) print(`  ${line}`)
  for (const binding of bindings) {
    if (bindingOf(after, binding) !== undefined)
      tell(`the binding ${binding} stays registered: somebody else has set it too`)
  }
}
