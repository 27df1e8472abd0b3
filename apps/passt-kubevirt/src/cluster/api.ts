/**
 * The API server, as far as this command needs it. Objects are JSON as they come: models of a client library would drop the fields
 * of versions that they do not know.
 */
import { HttpMethod, KubeConfig, RequestContext, createConfiguration } from "@kubernetes/client-node"
import { EXIT, Failure } from "../failure.ts"
import { KINDS, groupOf, pathOf, rootOf } from "./kinds.ts"
import type { Kind } from "./kinds.ts"
import { listAt, textAt } from "./objects.ts"
import type { Manifest } from "./objects.ts"

/** Who we are in `metadata.managedFields`. */
export const FIELD_MANAGER = "passt-kubevirt"

const REQUEST_TIMEOUT_MS = 30_000

/** Objects per answer of a list. */
const PAGE_LIMIT = 500

/** What the API server said no with (a Status object). */
export class ApiError extends Error {
  readonly status: number
  /** A word such as NotFound, Forbidden, Conflict. */
  readonly reason: string
  /** Of a conflict: which field manager has set which field. */
  readonly conflicts: readonly { readonly manager: string; readonly field: string }[]

  constructor(status: number, body: unknown) {
    super(textAt(body, "message") ?? `HTTP status ${status}`)
    this.name = "ApiError"
    this.status = status
    this.reason = textAt(body, "reason") ?? ""
    const causes = (body as { details?: { causes?: unknown[] } } | undefined)?.details?.causes
    this.conflicts = (Array.isArray(causes) ? causes : [])
      .filter((cause) => textAt(cause, "reason") === "FieldManagerConflict")
      .map((cause) => ({
        manager: /"([^"]*)"/.exec(textAt(cause, "message") ?? "")?.[1] ?? "another",
        field: textAt(cause, "field") ?? "",
      }))
  }
}

/** The API server does not answer. */
class Unreachable extends Failure {}

/** Whether it may go well in a moment: a control plane that is restarted, or has too much to do. */
export function isTransient(error: unknown): boolean {
  return error instanceof Unreachable || (error instanceof ApiError && [429, 502, 503, 504].includes(error.status))
}

export interface ApplyOptions {
  readonly dryRun?: boolean
  /** Takes fields over from other field managers. */
  readonly force?: boolean
}

export interface Api {
  /** The API server's address, for messages. */
  readonly server: string
  /** @returns the server's version, such as "v1.34.1" */
  version(): Promise<string>
  /** Whether there is such a kind. Everybody whom the API server knows may ask. */
  has(kind: Kind): Promise<boolean>
  /** @returns the object, or undefined if there is none, or not even such a kind */
  get(kind: Kind, namespace: string | undefined, name: string): Promise<Manifest | undefined>
  /** @returns all objects, of all namespaces if none is given; undefined if there is no such kind */
  list(kind: Kind, namespace?: string, labelSelector?: string): Promise<readonly Manifest[] | undefined>
  /** Server-side apply. @returns the object as it is then, or would be */
  apply(object: Manifest, options?: ApplyOptions): Promise<Manifest>
  /** Deletes this very object, and not one of the same name that somebody made since. @returns whether it was there */
  delete(object: Manifest, options?: { readonly dryRun?: boolean }): Promise<boolean>
  /** Whether this user may (SelfSubjectAccessReview). */
  can(verb: string, kind: Kind, namespace?: string): Promise<boolean>
}

export interface Connection {
  readonly kubeconfig?: string | undefined
  readonly context?: string | undefined
}

/** Reads the configuration as kubectl does: --kubeconfig, KUBECONFIG, ~/.kube/config, or a pod's service account. */
export function connect({ kubeconfig, context }: Connection): Api {
  const config = new KubeConfig()
  try {
    if (kubeconfig === undefined) config.loadFromDefault()
    else config.loadFromFile(kubeconfig)
  } catch (error) {
    throw new Failure(`cannot read the kubeconfig: ${oneLine(error)}`, EXIT.usage)
  }
  if (context !== undefined) {
    if (config.getContextObject(context) === null) {
      const names = config.getContexts().map(({ name }) => name)
      throw new Failure(`the kubeconfig has no context ${context}; it has ${names.join(", ") || "none"}`, EXIT.usage)
    }
    config.setCurrentContext(context)
  }
  const server = config.getCurrentCluster()?.server
  if (server === undefined) {
    throw new Failure("no cluster is configured: see --kubeconfig and --context", EXIT.usage)
  }
  return new HttpApi(config, server.replace(/\/$/, ""))
}

class HttpApi implements Api {
  readonly server: string
  private readonly config: KubeConfig
  private readonly http = createConfiguration().httpApi

  constructor(config: KubeConfig, server: string) {
    this.config = config
    this.server = server
  }

  async version(): Promise<string> {
    return textAt(await this.request(HttpMethod.GET, "/version"), "gitVersion") ?? "unknown"
  }

  async has(kind: Kind): Promise<boolean> {
    const { plural } = KINDS[kind]
    try {
      const found = await this.request(HttpMethod.GET, rootOf(kind))
      return listAt(found, "resources").some((resource) => textAt(resource, "name") === plural)
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return false
      throw error
    }
  }

  async get(kind: Kind, namespace: string | undefined, name: string): Promise<Manifest | undefined> {
    const found = await this.orUndefined(kind, this.request(HttpMethod.GET, pathOf(kind, namespace, name)))
    return found as Manifest | undefined
  }

  async list(kind: Kind, namespace?: string, labelSelector?: string): Promise<readonly Manifest[] | undefined> {
    const items: Manifest[] = []
    for (let more: string | undefined = ""; more !== undefined;) {
      const query: Record<string, string> = { limit: String(PAGE_LIMIT) }
      if (labelSelector !== undefined) query["labelSelector"] = labelSelector
      if (more !== "") query["continue"] = more
      const page = (await this.orUndefined(kind, this.request(HttpMethod.GET, pathOf(kind, namespace), query))) as
        | { items?: Manifest[] }
        | undefined
      if (page === undefined) return undefined
      // Items of a list come without their kind.
      for (const item of page.items ?? []) items.push({ ...item, apiVersion: KINDS[kind].apiVersion, kind })
      more = textAt(page, "metadata", "continue") || undefined
    }
    return items
  }

  async apply(object: Manifest, { dryRun = false, force = false }: ApplyOptions = {}): Promise<Manifest> {
    const { name, namespace } = object.metadata
    const query: Record<string, string> = {
      fieldManager: FIELD_MANAGER,
      force: String(force),
      fieldValidation: "Strict",
    }
    if (dryRun) query["dryRun"] = "All"
    const applied = await this.request(HttpMethod.PATCH, pathOf(object.kind, namespace, name), query, object)
    return applied as Manifest
  }

  async delete(object: Manifest, { dryRun = false }: { readonly dryRun?: boolean } = {}): Promise<boolean> {
    const { name, namespace, uid } = object.metadata
    const options = {
      kind: "DeleteOptions",
      apiVersion: "v1",
      propagationPolicy: "Background",
      preconditions: { uid },
      // Here and not in the query, which the API server does not look at when there is a body.
      ...(dryRun ? { dryRun: ["All"] } : {}),
    }
    const path = pathOf(object.kind, namespace, name)
    const gone = await this.orUndefined(object.kind, this.request(HttpMethod.DELETE, path, {}, options))
    return gone !== undefined
  }

  async can(verb: string, kind: Kind, namespace?: string): Promise<boolean> {
    const resourceAttributes = { verb, group: groupOf(kind), resource: KINDS[kind].plural, namespace }
    const review = {
      apiVersion: "authorization.k8s.io/v1",
      kind: "SelfSubjectAccessReview",
      spec: { resourceAttributes },
    }
    const path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    const answer = await this.request(HttpMethod.POST, path, {}, review)
    return (answer as { status?: { allowed?: boolean } }).status?.allowed === true
  }

  private async orUndefined(kind: Kind, request: Promise<unknown>): Promise<unknown> {
    try {
      return await request
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
      if (error.status === 404) return undefined
      // Whether a user may is asked before there is such a kind at all.
      if (error.status === 403 && !(await this.has(kind))) return undefined
      throw error
    }
  }

  private async request(
    method: HttpMethod,
    path: string,
    query: Record<string, string> = {},
    body?: unknown,
  ): Promise<unknown> {
    const context = new RequestContext(this.server + path, method)
    for (const [name, value] of Object.entries(query)) context.setQueryParam(name, value)
    context.setHeaderParam("Accept", "application/json")
    context.setHeaderParam("User-Agent", FIELD_MANAGER)
    if (body !== undefined) {
      // JSON is YAML; the server takes apply by this type alone.
      const type = method === HttpMethod.PATCH ? "application/apply-patch+yaml" : "application/json"
      context.setHeaderParam("Content-Type", type)
      context.setBody(JSON.stringify(body))
    }
    context.setSignal(AbortSignal.timeout(REQUEST_TIMEOUT_MS))
    let status: number
    let text: string
    try {
      await this.config.applySecurityAuthentication(context)
      const response = await this.http.send(context).toPromise()
      status = response.httpStatusCode
      text = await response.body.text()
    } catch (error) {
      throw new Unreachable(`the API server at ${this.server} cannot be reached: ${rootCause(error)}`, EXIT.access)
    }
    let answer: unknown
    try {
      answer = JSON.parse(text)
    } catch {
      answer = { message: oneLine(text).slice(0, 200) }
    }
    if (status >= 200 && status < 300) return answer
    throw new ApiError(status, answer)
  }
}

function rootCause(error: unknown): string {
  let here = error
  while (here instanceof Error && here.cause instanceof Error) here = here.cause
  if (here instanceof AggregateError && here.errors.length > 0) here = here.errors[0]
  if (here instanceof Error && here.name === "TimeoutError") return `no answer within ${REQUEST_TIMEOUT_MS / 1000} s`
  return oneLine(here)
}

export function oneLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).replace(/\s+/g, " ").trim()
}
