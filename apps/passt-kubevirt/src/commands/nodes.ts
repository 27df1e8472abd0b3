/** Waiting for the plugin to be on the nodes, and taking it away from there. */
import type { Api } from "../cluster/api.ts"
import { FIELD_MANAGER } from "../cluster/api.ts"
import { at, called, listAt, ownedPart, textAt } from "../cluster/objects.ts"
import type { Manifest } from "../cluster/objects.ts"
import { inOneLine, podsOf, rolloutOf, troubleOf, until } from "../cluster/rollout.ts"
import type { Waiting } from "../cluster/rollout.ts"

export interface NodesResult {
  readonly done: boolean
  readonly wanted: number
  readonly ready: number
  /** What holds it up. */
  readonly why: string
}

/**
 * @param hopeless nodes that nobody waits for
 * @returns how far it has come when it was done, or the time over
 */
export async function waitForNodes(
  api: Api,
  daemonSet: Manifest,
  waiting: Waiting,
  tell: (line: string) => void,
  hopeless: ReadonlySet<string | undefined> = new Set(),
): Promise<NodesResult> {
  const { namespace, name } = daemonSet.metadata
  let told = ""
  let last: NodesResult = { done: false, wanted: 0, ready: 0, why: "" }
  await until(async () => {
    const now = await api.get("DaemonSet", namespace, name)
    if (now === undefined) return true
    const { done, wanted, ready, seen } = rolloutOf(now)
    const waitedFor = done ? [] : (await podsOf(api, now)).map(troubleOf).filter((trouble) => trouble !== undefined)
    const why = inOneLine(waitedFor)
    last = { done, wanted, ready, why }
    const count = seen ? `${ready} of ${wanted} ready` : "waiting for the DaemonSet's controller"
    const line = `nodes: ${count}${why === "" ? "" : `; ${why}`}`
    if (line !== told) tell(line)
    told = line
    const rest = wanted - ready
    const given = seen && rest > 0 && waitedFor.length === rest && waitedFor.every(({ node }) => hopeless.has(node))
    return done || given ? true : undefined
  }, waiting)
  return last
}

/** The same DaemonSet, doing the opposite. */
function removing(daemonSet: Manifest): Manifest | undefined {
  const owned = ownedPart(daemonSet, FIELD_MANAGER)
  const container = listAt(owned, "spec", "template", "spec", "containers")[0]
  const target = listAt(container, "args")[1]
  const command = listAt(container, "command")
  if (typeof target !== "string" || command.length === 0) return undefined
  const changed = {
    ...(container as object),
    args: ["--remove", target],
    readinessProbe: {
      ...(at(container, "readinessProbe") as object | undefined),
      exec: { command: [...command, "--is-removed", target] },
    },
  }
  const spec = owned["spec"] as { template: { spec: object } }
  const template = { ...spec.template, spec: { ...spec.template.spec, containers: [changed] } }
  // All at once: nobody waits for this plugin any more.
  const updateStrategy = { type: "RollingUpdate", rollingUpdate: { maxUnavailable: "100%" } }
  return { ...owned, spec: { ...spec, template, updateStrategy } }
}

/**
 * Lets the DaemonSet's pods take the plugin away from their nodes. Nodes that were not ready before are not waited for.
 * @returns why it may still be on some of them, or an empty text
 */
export async function removeFromNodes(
  api: Api,
  daemonSet: Manifest,
  waiting: Waiting,
  tell: (line: string) => void,
): Promise<string> {
  const { namespace, name } = daemonSet.metadata
  const now = await api.get("DaemonSet", namespace, name)
  if (now === undefined) return ""
  const change = removing(now)
  if (change === undefined) return `${called(now)} is not as install makes it`
  const folder = textAt(listAt(now, "spec", "template", "spec", "volumes")[0], "hostPath", "path") ?? ""
  const ill = new Set((await podsOf(api, now)).map(troubleOf).map((trouble) => trouble?.node))
  const applied = await api.apply(change, { force: true })
  const { done, why, wanted, ready } = await waitForNodes(api, applied, waiting, tell, ill)
  if (done) return ""
  return `the plugin may still be in ${folder} of ${wanted - ready} of ${wanted} nodes${why === "" ? "" : `: ${why}`}`
}
