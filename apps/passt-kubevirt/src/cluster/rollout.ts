/** How far a DaemonSet is, and what holds it up, node by node. */
import { setTimeout as sleep } from "node:timers/promises"
import { isTransient } from "./api.ts"
import type { Api } from "./api.ts"
import { listAt, numberAt, textAt } from "./objects.ts"
import type { Manifest } from "./objects.ts"

export interface Rollout {
  readonly done: boolean
  readonly wanted: number
  readonly ready: number
  /** Whether the controller has seen this generation. */
  readonly seen: boolean
}

/** Done means: the controller has seen this generation, and every node that is to have a pod has one of it, ready. */
export function rolloutOf(daemonSet: Manifest): Rollout {
  const wanted = numberAt(daemonSet, "status", "desiredNumberScheduled")
  const updated = numberAt(daemonSet, "status", "updatedNumberScheduled")
  const ready = Math.min(updated, numberAt(daemonSet, "status", "numberReady"))
  const seen = numberAt(daemonSet, "status", "observedGeneration") >= (daemonSet.metadata.generation ?? 0)
  return { done: seen && updated >= wanted && ready >= wanted, wanted, ready: seen ? ready : 0, seen }
}

export interface Trouble {
  readonly node: string
  readonly reason: string
  readonly message: string
}

/** What a pod that is not ready says about it. */
export function troubleOf(pod: Manifest): Trouble | undefined {
  const node = textAt(pod, "spec", "nodeName") ?? "(no node)"
  const ready = listAt(pod, "status", "conditions").find((one) => textAt(one, "type") === "Ready")
  if (textAt(ready, "status") === "True") return undefined
  for (const container of listAt(pod, "status", "containerStatuses")) {
    const waiting = textAt(container, "state", "waiting", "reason")
    const last =
      textAt(container, "lastState", "terminated", "message") ?? textAt(container, "state", "terminated", "message")
    const lastReason = textAt(container, "lastState", "terminated", "reason")
    if (waiting !== undefined && waiting !== "ContainerCreating" && waiting !== "PodInitializing") {
      const message = last ?? textAt(container, "state", "waiting", "message") ?? ""
      return { node, reason: lastReason === "OOMKilled" ? lastReason : waiting, message: message.trim() }
    }
  }
  const scheduled = listAt(pod, "status", "conditions").find((one) => textAt(one, "type") === "PodScheduled")
  if (textAt(scheduled, "status") === "False") {
    return { node, reason: textAt(scheduled, "reason") ?? "Unschedulable", message: textAt(scheduled, "message") ?? "" }
  }
  return {
    node,
    reason: textAt(pod, "status", "phase") ?? "Pending",
    message: textAt(ready, "message") ?? "not ready yet",
  }
}

export async function podsOf(api: Api, daemonSet: Manifest): Promise<readonly Manifest[]> {
  const labels = (daemonSet as { spec?: { selector?: { matchLabels?: Record<string, string> } } }).spec?.selector
    ?.matchLabels
  const selector = Object.entries(labels ?? {}).map(([name, value]) => `${name}=${value}`)
  return (await api.list("Pod", daemonSet.metadata.namespace, selector.join(","))) ?? []
}

/** Empty if there is no trouble. */
export function inOneLine(found: readonly Trouble[]): string {
  const shown = found
    .slice(0, 3)
    .map(({ node, reason, message }) => `${node}: ${reason}${message === "" ? "" : ` (${message})`}`)
  if (found.length > shown.length) shown.push(`and ${found.length - shown.length} more`)
  return shown.join("; ")
}

export interface Waiting {
  readonly timeoutMs: number
  /** Milliseconds between two looks. */
  readonly pollMs: number
  /** Ends it early. */
  readonly signal?: AbortSignal
}

/**
 * Looks again and again, also after an API server that was away for a moment.
 * @returns what `look` has found, or undefined when the time is over
 */
export async function until<T>(
  look: () => Promise<T | undefined>,
  { timeoutMs, pollMs, signal }: Waiting,
): Promise<T | undefined> {
  const end = performance.now() + timeoutMs
  for (;;) {
    signal?.throwIfAborted()
    const isOver = performance.now() >= end
    try {
      const found = await look()
      if (found !== undefined || isOver) return found
    } catch (error) {
      if (isOver || !isTransient(error)) throw error
    }
    await sleep(pollMs, undefined, signal === undefined ? {} : { signal })
  }
}
