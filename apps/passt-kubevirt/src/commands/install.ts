import { Journal, explain, planned } from "../changes.ts"
import type { Change } from "../changes.ts"
import {
  bindingOf,
  findKubeVirt,
  isForeignBinding,
  judgeKubeVirt,
  judgeMultus,
  judgePluginProtocol,
  judgePodSecurity,
  missingPermissions,
  ownedBindings,
  placementOf,
  usersOf,
} from "../cluster/facts.ts"
import { at, called, listAt, numberAt, textAt } from "../cluster/objects.ts"
import type { Manifest } from "../cluster/objects.ts"
import { rolloutOf, until } from "../cluster/rollout.ts"
import { canonical, diff } from "../diff.ts"
import { EXIT, Failure } from "../failure.ts"
import type { Exit } from "../failure.ts"
import { bindingEntry, objects, registration } from "../manifests/objects.ts"
import type { Settings } from "../manifests/settings.ts"
import type { Context } from "./context.ts"
import { made } from "./uninstall.ts"
import { removeFromNodes, waitForNodes } from "./nodes.ts"

/** Undoing does not wait for nodes longer than this. */
const UNDO_WAIT_MS = 60_000

export async function install(context: Context): Promise<Exit> {
  const { api, options, print, tell } = context
  const version = await api.version()
  const kubevirt = await findKubeVirt(api, options.namespace)
  const namespace = kubevirt.metadata.namespace!
  tell(
    `Kubernetes ${version}, KubeVirt ${textAt(kubevirt, "status", "observedKubeVirtVersion") ?? "of unknown version"} in ${namespace}`,
  )
  await demandFitness(context, kubevirt, namespace)
  const settings = settingsFor(context, kubevirt, namespace)
  await demandBinding(context, kubevirt, settings)
  const ours = registration(settings, { name: kubevirt.metadata.name, namespace })
  await demandMergeableSupport(context, kubevirt, ours)

  // Every change is tried before any is made: conflicts and refusals of admission come out now.
  const changes: Change[] = []
  for (const object of objects(settings)) changes.push(await planned(api, object, options.force))
  const names = new Set(changes.map(({ object }) => called(object)))
  const obsolete = (await made(api, namespace)).ours.filter((object) => !names.has(called(object)))
  const register = await planned(api, ours, options.force)
  demandOwnEntry(register, settings)
  const all = [...changes, register]
  for (const { verb, object, before, after } of all) {
    print(`${verb.padEnd(6)} ${called(object)}`)
    if (options.dryRun && verb !== "keep") for (const line of diff(before, after)) print(`  ${line}`)
  }
  for (const object of obsolete) print(`delete ${called(object)}`)
  if (options.dryRun) return EXIT.good

  const journal = new Journal(api, options.force)
  try {
    for (const change of changes) if (change.verb !== "keep") await journal.make(change)
    await nodesReady(context, changes.find(({ object }) => object.kind === "DaemonSet")!.object)
    if (register.verb !== "keep") await kubevirtTakes(context, await journal.make(register))
    // What an earlier install with other options has made, once nothing asks for it any more.
    for (const object of obsolete) await journal.remove(object)
  } catch (error) {
    throw await undone(context, journal, error)
  }
  print(
    journal.isEmpty
      ? "nothing to do: all is as asked for"
      : `done: virtual machines have it by binding: {name: ${settings.binding}}`,
  )
  return EXIT.good
}

const PLUGIN_KINDS = ["Plugin", "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"] as const

/** What makes installing pointless. */
async function demandFitness({ api, options }: Context, kubevirt: Manifest, namespace: string): Promise<void> {
  const missing = await missingPermissions(api, namespace, [
    ...(options.openshift ? ["RoleBinding" as const] : []),
    ...(options.protocol === "plugin" ? PLUGIN_KINDS : []),
  ])
  if (missing.length > 0) throw new Failure(`this user may not: ${missing.join(", ")}`, EXIT.access)
  const findings = [...judgeKubeVirt(kubevirt), await judgeMultus(api), await judgePodSecurity(api, namespace)]
  if (options.protocol === "plugin") findings.push(await judgePluginProtocol(api, kubevirt))
  const bad = findings.find((finding) => finding?.level === "error")
  if (bad !== undefined) throw new Failure(`${bad.message}; ${bad.remedy}`, EXIT.unfit)
}

function settingsFor({ options }: Context, kubevirt: Manifest, namespace: string): Settings {
  const { binding, image, cniImage, cniDir, pingGroup, openshift, pullSecrets, migration, protocol } = options
  return {
    namespace,
    binding,
    image: image!,
    cniImage: cniImage ?? image!,
    cniDir,
    pingGroup,
    openshift,
    pullSecrets,
    placement: placementOf(kubevirt),
    migration,
    protocol,
    ...(options.computeMemory === undefined ? {} : { computeMemory: options.computeMemory }),
    ...(options.sidecarMemory === undefined ? {} : { sidecarMemory: options.sidecarMemory }),
    ...(options.sidecarCpu === undefined ? {} : { sidecarCpu: options.sidecarCpu }),
  }
}

/** A binding that somebody else has registered is theirs, and one of ours that is in use keeps its name. */
async function demandBinding({ api, options }: Context, kubevirt: Manifest, { binding }: Settings): Promise<void> {
  if (isForeignBinding(kubevirt, binding) && !options.force) {
    const what = `${called(kubevirt)} has a binding ${binding} that was not registered by this command`
    throw new Failure(`${what}; --binding NAME registers ours beside it, --force takes it over`, EXIT.conflict)
  }
  const others = ownedBindings(kubevirt).filter((name) => name !== binding)
  const users = others.length === 0 ? [] : await usersOf(api, others)
  if (users.length > 0 && !options.force) {
    const { kind, namespace, name } = users[0]!
    const what = `the binding is called ${others.join(", ")} now, and ${users.length} machines use it (${kind} ${namespace}/${name})`
    throw new Failure(`${what}; --force renames it all the same`, EXIT.inUse)
  }
}

/** What is left in a binding's entry from before would make something of it that nobody has asked for. */
function demandOwnEntry({ after }: Change, settings: Settings): void {
  const wanted = Object.keys(bindingEntry(settings))
  const entry = (bindingOf(after, settings.binding) ?? {}) as object
  const foreign = Object.keys(entry).filter((name) => !wanted.includes(name))
  if (foreign.length === 0) return
  const path = `.spec.configuration.network.binding.${settings.binding}`
  throw new Failure(
    `${called(after)} has ${foreign.join(", ")} in ${path}, set by somebody else: remove it first`,
    EXIT.conflict,
  )
}

/**
 * Sidecars' resources are a list. Where the API server knows keys of its items ours is added; else it would replace what is there. That is
 * the kind's definition to say, and the server's to follow (1.20 does not where a definition has quantities): it is asked.
 */
async function demandMergeableSupport({ api }: Context, kubevirt: Manifest, ours: Manifest): Promise<void> {
  const others = (object: Manifest): readonly unknown[] =>
    listAt(object, "spec", "configuration", "supportContainerResources").filter(
      (item) => textAt(item, "type") !== "sidecar",
    )
  if (listAt(ours, "spec", "configuration", "supportContainerResources").length === 0) return
  if (others(kubevirt).length === 0) return
  const { after } = await planned(api, ours, true)
  if (canonical(others(kubevirt)) === canonical(others(after))) return
  const message = `${called(kubevirt)} has other supportContainerResources, which this cluster does not let be merged`
  throw new Failure(
    `${message}: leave out --sidecar-memory and --sidecar-cpu, and add them there by hand`,
    EXIT.conflict,
  )
}

async function nodesReady({ api, options, tell, pollMs, signal }: Context, daemonSet: Manifest): Promise<void> {
  const waiting = { timeoutMs: options.timeoutMs, pollMs, ...(signal === undefined ? {} : { signal }) }
  const { done, wanted, ready, why } = await waitForNodes(api, daemonSet, waiting, tell)
  if (!done) {
    const seconds = options.timeoutMs / 1000
    throw new Failure(
      `the CNI plugin is on ${ready} of ${wanted} nodes after ${seconds} s${why === "" ? "" : `: ${why}`}`,
      EXIT.bad,
    )
  }
  if (wanted === 0) tell("warning: no node takes the DaemonSet; virtual machines will find no CNI plugin")
}

/** virt-operator looks at the new configuration; a bad one would show here. */
async function kubevirtTakes({ api, options, tell, pollMs, signal }: Context, applied: Manifest): Promise<void> {
  const { namespace, name } = applied.metadata
  tell("KubeVirt: waiting until it has taken the registration")
  const taken = await until(
    async () => {
      const now = await api.get("KubeVirt", namespace, name)
      const observed = at(now, "status", "observedGeneration")
      const seen = typeof observed !== "number" || observed >= numberAt(applied, "metadata", "generation")
      return seen && textAt(now, "status", "phase") === "Deployed" ? true : undefined
    },
    { timeoutMs: options.timeoutMs, pollMs, ...(signal === undefined ? {} : { signal }) },
  )
  if (taken === undefined)
    throw new Failure(`KubeVirt has not taken the registration within ${options.timeoutMs / 1000} s`, EXIT.bad)
}

async function undone({ api, tell, pollMs }: Context, journal: Journal, error: unknown): Promise<Failure> {
  const given = error instanceof Error && error.name === "AbortError"
  const failure = given ? new Failure("interrupted", EXIT.bad) : explain(error, "install failed")
  if (journal.isEmpty) return failure
  tell(`failed: ${failure.message}`)
  const left = await journal.undo(
    async (object) => {
      if (object.kind !== "DaemonSet") return
      const now = await api.get("DaemonSet", object.metadata.namespace, object.metadata.name)
      // Where nothing has ever run there is nothing to take away.
      if (now === undefined || rolloutOf(now).ready === 0) return
      const why = await removeFromNodes(api, now, { timeoutMs: UNDO_WAIT_MS, pollMs }, tell)
      if (why !== "") tell(`warning: ${why}`)
    },
    tell,
    { timeoutMs: UNDO_WAIT_MS, pollMs },
  )
  if (left.length === 0) return new Failure(`${failure.message}; everything is as before`, failure.exit)
  return new Failure(`${failure.message}; and this could not be undone: ${left.join("; ")}`, EXIT.left)
}
