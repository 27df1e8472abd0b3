/** Changes to a cluster: seen before they are made (by the API server's dry run), made one by one, and taken back. */
import { ApiError, FIELD_MANAGER, oneLine } from "./cluster/api.ts"
import type { Api } from "./cluster/api.ts"
import { called, ownedPart } from "./cluster/objects.ts"
import type { Manifest } from "./cluster/objects.ts"
import { until } from "./cluster/rollout.ts"
import type { Waiting } from "./cluster/rollout.ts"
import { isSame } from "./diff.ts"
import { EXIT, Failure } from "./failure.ts"
import { MANAGED_BY, NAME } from "./manifests/settings.ts"

export interface Change {
  readonly verb: "create" | "change" | "keep"
  /** What is applied. */
  readonly object: Manifest
  readonly before: Manifest | undefined
  /** What the API server says that it would be. */
  readonly after: Manifest
}

/** An API error as the user is to see it. */
export function explain(error: unknown, doing: string): Failure {
  if (error instanceof Failure) return error
  if (!(error instanceof ApiError)) return new Failure(`${doing}: ${oneLine(error)}`, EXIT.bad)
  if (error.conflicts.length > 0) {
    const owners = [...new Set(error.conflicts.map(({ manager }) => manager))].join(", ")
    const fields = error.conflicts.map(({ field }) => field).join(", ")
    return new Failure(`${doing}: ${owners} has set ${fields}; --force takes over`, EXIT.conflict)
  }
  if (error.message.includes("attempting to grant RBAC permissions not currently held")) {
    const why = "it lets others read what this user may not read, and who grants must have it (or the verb escalate)"
    return new Failure(`${doing}: ${why}: install as a cluster administrator`, EXIT.access)
  }
  const exit =
    error.status === 401 || error.status === 403 ? EXIT.access : error.status === 409 ? EXIT.conflict : EXIT.bad
  return new Failure(`${doing}: ${oneLine(error)}`, exit)
}

/** Asks the API server what applying an object would do. */
export async function planned(api: Api, object: Manifest, force: boolean): Promise<Change> {
  const { kind, metadata } = object
  try {
    const before = await api.get(kind, metadata.namespace, metadata.name)
    // Ours say so; the KubeVirt resource is not, and there is a part of it.
    if (before !== undefined && kind !== "KubeVirt" && before.metadata.labels?.[MANAGED_BY] !== NAME && !force) {
      const owner = before.metadata.labels?.[MANAGED_BY] ?? "somebody else"
      throw new Failure(`${called(object)} is there already, made by ${owner}; --force takes it over`, EXIT.conflict)
    }
    const after = await api.apply(object, { dryRun: true, force })
    const verb = before === undefined ? "create" : isSame(before, after) ? "keep" : "change"
    return { verb, object, before, after }
  } catch (error) {
    throw explain(error, `cannot apply ${called(object)}`)
  }
}

/** What has been done, so that it can be undone. */
export class Journal {
  private readonly done: { readonly before: Manifest | undefined; readonly applied: Manifest }[] = []
  private readonly api: Api
  private readonly force: boolean

  constructor(api: Api, force: boolean) {
    this.api = api
    this.force = force
  }

  async make(change: Change): Promise<Manifest> {
    try {
      const applied = await this.api.apply(change.object, { force: this.force })
      this.done.push({ before: change.before, applied })
      return applied
    } catch (error) {
      throw explain(error, `cannot ${change.verb} ${called(change.object)}`)
    }
  }

  async remove(object: Manifest): Promise<void> {
    try {
      await this.api.delete(object)
      this.done.push({ before: object, applied: object })
    } catch (error) {
      throw explain(error, `cannot delete ${called(object)}`)
    }
  }

  get isEmpty(): boolean {
    return this.done.length === 0
  }

  /** In reverse order. @returns what could not be undone, in words */
  async undo(
    removed: (object: Manifest) => Promise<void>,
    tell: (line: string) => void,
    waiting: Waiting,
  ): Promise<string[]> {
    const left: string[] = []
    // An API server that is away is often why something is undone at all.
    const again = async (step: () => Promise<unknown>): Promise<void> =>
      void (await until(async () => await step().then(() => true), waiting))
    for (const { before, applied } of this.done.toReversed()) {
      try {
        if (before === undefined) {
          await again(() => removed(applied))
          await again(() => this.api.delete(applied))
          tell(`undone: ${called(applied)} is removed`)
        } else {
          await again(() => this.api.apply(ownedPart(before, FIELD_MANAGER), { force: true }))
          tell(`undone: ${called(applied)} is as before`)
        }
      } catch (error) {
        left.push(`${called(applied)} (${oneLine(error)})`)
      }
    }
    return left
  }
}
