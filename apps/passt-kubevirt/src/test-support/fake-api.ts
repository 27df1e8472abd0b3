/**
 * An API server for tests: objects by path, resource versions, dry run, server-side apply with field managers and their conflicts,
 * users who may not do everything, and requests that are made to fail.
 */
import { randomUUID } from "node:crypto"
import { createServer } from "node:http"
import type { IncomingMessage, Server, ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { KINDS, rootOf } from "../cluster/kinds.ts"
import type { Kind } from "../cluster/kinds.ts"
import { dotted, fromFieldsV1, leaves, put, take, toFieldsV1 } from "./fields.ts"
import type { Tree } from "./fields.ts"

const KIND_NAMES = Object.keys(KINDS) as Kind[]

interface Managed {
  manager: string
  operation: string
  fieldsV1: Tree
}

interface Metadata {
  [name: string]: unknown
  name: string
  labels?: Record<string, string>
  uid?: string
  resourceVersion?: string
  generation?: number
  managedFields?: Managed[]
}

interface Stored {
  [field: string]: unknown
  metadata: Metadata
}

export interface Failing {
  readonly method: string
  readonly path: RegExp
  readonly status: number
  readonly message: string
  /** Whether requests that only ask fail too. */
  readonly dryRun?: boolean
  times: number
}

class Refusal extends Error {
  readonly body: object
  readonly status: number

  constructor(status: number, reason: string, message: string, details: object = {}) {
    super(message)
    this.status = status
    this.body = { kind: "Status", apiVersion: "v1", status: "Failure", message, reason, code: status, details }
  }
}

/** /api/v1 or /apis/GROUP/VERSION, then namespaces/NAMESPACE, the plural, the name and a subresource. */
const PATH =
  /^\/(?:api\/(v1)|apis\/([^/]+)\/([^/]+))(?:\/namespaces\/([^/]+)(?=\/))?\/([^/]+)(?:\/([^/]+))?(?:\/(status))?$/

export class FakeApi {
  /** Users by token, and what they may not, "patch daemonsets", or all that they may. */
  readonly users: Map<string, readonly string[] | { readonly only: readonly string[] }> = new Map([["admin", []]])
  /** Plurals that this server does not know. */
  readonly unknown: Set<string> = new Set()
  readonly failing: Failing[] = []
  /** All requests that would change something: "PATCH /apis/… dry". */
  readonly writes: string[] = []
  gitVersion = "v1.34.0-fake"
  private objects = new Map<string, Stored>()
  private version = 1
  private readonly server: Server

  private constructor(server: Server) {
    this.server = server
  }

  static async start(): Promise<FakeApi> {
    const server = createServer()
    const api = new FakeApi(server)
    server.on("request", (request, response) => void api.serve(request, response))
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    return api
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`
  }

  async close(): Promise<void> {
    this.server.closeAllConnections()
    await new Promise((resolve) => this.server.close(resolve))
  }

  reset(): void {
    this.objects = new Map()
    this.unknown.clear()
    this.failing.length = 0
    this.writes.length = 0
    this.users.clear()
    this.users.set("admin", [])
  }

  private async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    let status = 200
    let answer: unknown
    try {
      const text = Buffer.concat(chunks).toString()
      answer = this.answer(request, text === "" ? undefined : (JSON.parse(text) as Tree))
    } catch (error) {
      const refusal =
        error instanceof Refusal ? error : new Refusal(500, "InternalError", `the fake is broken: ${String(error)}`)
      status = refusal.status
      answer = refusal.body
    }
    const plain = typeof answer === "string"
    if (plain) status = 404
    response.writeHead(status, { "Content-Type": plain ? "text/plain" : "application/json" })
    response.end(plain ? answer : JSON.stringify(answer))
  }

  private answer(request: IncomingMessage, body: Tree | undefined): unknown {
    const method = request.method ?? ""
    const url = new URL(request.url ?? "", "http://x")
    const token = /^Bearer (.*)$/.exec(request.headers.authorization ?? "")?.[1] ?? ""
    const rights = this.users.get(token)
    const may = (right: string): boolean =>
      rights !== undefined && ("only" in rights ? rights.only.includes(right) : !rights.includes(right))
    if (rights === undefined) throw new Refusal(401, "Unauthorized", "Unauthorized")
    if (url.pathname === "/version") return { gitVersion: this.gitVersion }
    if (url.pathname.endsWith("/selfsubjectaccessreviews")) {
      const asked = (body as { spec: { resourceAttributes: { verb: string; resource: string } } }).spec
        .resourceAttributes
      return { status: { allowed: may(`${asked.verb} ${asked.resource}`) } }
    }
    const group = /^\/(?:api|apis\/[^/]+)\/v[^/]*$/.exec(url.pathname)?.[0]
    if (group !== undefined) return this.kindsOf(group)
    const match = PATH.exec(url.pathname)
    const plural = match?.[5] ?? ""
    if (match === null) return "404 page not found\n"
    const name = match[6] === undefined ? undefined : decodeURIComponent(match[6])
    const verb =
      { GET: name === undefined ? "list" : "get", PATCH: "patch", POST: "create", DELETE: "delete" }[method] ?? method
    if (!may(`${verb} ${plural}`)) {
      throw new Refusal(403, "Forbidden", `${plural} is forbidden: User "${token}" cannot ${verb} resource "${plural}"`)
    }
    // After it, as the real one.
    if (this.unknown.has(plural)) return "404 page not found\n"
    // As the real one: options of a deletion are in the body, or, if there is none, in the query.
    const asked = method === "DELETE" && body !== undefined ? body["dryRun"] : url.searchParams.getAll("dryRun")
    const dryRun = Array.isArray(asked) && asked.includes("All")
    if (method !== "GET") this.writes.push(`${method} ${url.pathname}${dryRun ? " dry" : ""}`)
    const failing = this.failing.find(
      (one) =>
        one.times > 0 && one.method === method && one.path.test(url.pathname) && (one.dryRun === true || !dryRun),
    )
    if (failing !== undefined) {
      failing.times--
      throw new Refusal(failing.status, "InternalError", failing.message)
    }
    const collection = url.pathname.replace(/\/status$/, "")
    if (method === "GET" && name === undefined) return this.list(match, url.searchParams)
    if (method === "POST")
      return this.create(`${url.pathname}/${(body as Stored).metadata.name}`, body as Stored, plural)
    const stored = this.objects.get(collection)
    if (method === "PATCH" && request.headers["content-type"] === "application/apply-patch+yaml") {
      return this.apply(collection, stored, body as Stored, url.searchParams, plural, dryRun)
    }
    if (stored === undefined) throw new Refusal(404, "NotFound", `${plural} "${name}" not found`)
    if (method === "GET") return stored
    if (method === "DELETE") return this.remove(collection, stored, body, dryRun)
    return this.merge(
      collection,
      stored,
      body as Tree,
      match[7] === "status",
      url.searchParams.get("fieldManager") ?? "kubectl-edit",
    )
  }

  /** What kinds a group and version has, for all users. */
  private kindsOf(root: string): unknown {
    const resources = KIND_NAMES.filter((kind) => rootOf(kind) === root && !this.unknown.has(KINDS[kind].plural)).map(
      (kind) => ({ name: KINDS[kind].plural, kind, namespaced: KINDS[kind].namespaced }),
    )
    if (resources.length === 0) return "404 page not found\n"
    return { kind: "APIResourceList", groupVersion: root.replace(/^\/apis?\//, ""), resources }
  }

  private list([, core, group, version, namespace, plural]: RegExpExecArray, query: URLSearchParams): unknown {
    const root = core === undefined ? `/apis/${group}/${version}` : `/api/${core}`
    const wanted = (query.get("labelSelector") ?? "").split(",").filter((one) => one !== "")
    const all = [...this.objects].filter(([path, object]) => {
      const where = PATH.exec(path)!
      const here =
        path.startsWith(`${root}/`) && where[5] === plural && (namespace === undefined || where[4] === namespace)
      return here && wanted.every((one) => object.metadata.labels?.[one.split("=")[0]!] === one.split("=")[1])
    })
    const limit = Number(query.get("limit") ?? "500")
    const from = Number(query.get("continue") ?? "0")
    const more = from + limit < all.length ? String(from + limit) : ""
    // As the real one: items without apiVersion and kind.
    const items = all.slice(from, from + limit).map(([, { apiVersion: _apiVersion, kind: _kind, ...rest }]) => rest)
    return { kind: "List", metadata: { continue: more }, items }
  }

  private store(path: string, object: Stored, before: Stored | undefined): Stored {
    const { metadata } = object
    metadata.uid = before?.metadata.uid ?? randomUUID()
    metadata["creationTimestamp"] = before?.metadata["creationTimestamp"] ?? "2026-01-01T00:00:00Z"
    const changed = JSON.stringify([before?.["spec"]]) !== JSON.stringify([object["spec"]])
    metadata.generation = (before?.metadata.generation ?? 0) + (changed ? 1 : 0)
    metadata.resourceVersion = String(++this.version)
    this.objects.set(path, object)
    return object
  }

  private create(path: string, body: Stored, plural: string): Stored {
    if (this.objects.has(path))
      throw new Refusal(409, "AlreadyExists", `${plural} "${body.metadata.name}" already exists`)
    const object = structuredClone(body)
    if (object.metadata.managedFields === undefined) {
      object.metadata.managedFields = [
        { manager: "kubectl-create", operation: "Update", fieldsV1: toFieldsV1(leaves(body).keys()) },
      ]
    }
    return this.store(path, object, undefined)
  }

  private remove(path: string, stored: Stored, body: Tree | undefined, dryRun: boolean): unknown {
    const uid = (body as { preconditions?: { uid?: string } } | undefined)?.preconditions?.uid
    if (uid !== undefined && uid !== stored.metadata.uid) {
      throw new Refusal(
        409,
        "Conflict",
        `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${stored.metadata.uid}`,
      )
    }
    if (!dryRun) this.objects.delete(path)
    return { kind: "Status", status: "Success" }
  }

  /** A merge patch (RFC 7396), by a manager who updates. */
  private merge(path: string, stored: Stored, patch: Tree, isStatus: boolean, manager: string): Stored {
    const merged = merge(stored, patch) as Stored
    if (isStatus) return this.store(path, { ...structuredClone(stored), status: merged["status"] }, stored)
    const before = leaves(stored)
    const changed = [...leaves(merged)].filter(
      ([at, value]) => JSON.stringify(before.get(at)) !== JSON.stringify(value),
    )
    const managed = (merged.metadata.managedFields ?? []).filter((one) => one.manager !== manager)
    const paths = changed.map(([at]) => at)
    // Who changes a field owns it, and nobody else.
    merged.metadata.managedFields = [
      ...managed.map((one) => ({
        ...one,
        fieldsV1: toFieldsV1(fromFieldsV1(one.fieldsV1).filter((at) => !paths.includes(at))),
      })),
      { manager, operation: "Update", fieldsV1: toFieldsV1(paths) },
    ]
    return this.store(path, merged, stored)
  }

  private apply(
    path: string,
    stored: Stored | undefined,
    body: Stored,
    query: URLSearchParams,
    plural: string,
    dryRun: boolean,
  ): Stored {
    const manager = query.get("fieldManager")
    if (manager === null) throw new Refusal(400, "BadRequest", "fieldManager is required for apply patch")
    if (body.metadata.managedFields !== undefined)
      throw new Refusal(400, "BadRequest", "metadata.managedFields must be nil")
    const wanted = body.metadata.resourceVersion
    if (wanted !== undefined && wanted !== stored?.metadata.resourceVersion) {
      throw new Refusal(
        409,
        "Conflict",
        `Operation cannot be fulfilled on ${plural} "${body.metadata.name}": the object has been modified`,
      )
    }
    const object: Stored = stored === undefined ? { metadata: { name: body.metadata.name } } : structuredClone(stored)
    const managed = object.metadata.managedFields ?? []
    const others = managed.filter((one) => one.manager !== manager)
    const now = leaves(object)
    const applied = leaves(body)
    const same = (at: string, value: unknown): boolean => JSON.stringify(now.get(at)) === JSON.stringify(value)
    const conflicts = others.flatMap((one) =>
      fromFieldsV1(one.fieldsV1)
        .filter((at) => applied.has(at) && !same(at, applied.get(at)))
        .map((at) => ({ manager: one.manager, at })),
    )
    if (conflicts.length > 0 && query.get("force") !== "true") {
      const causes = conflicts.map(({ manager: other, at }) => ({
        reason: "FieldManagerConflict",
        message: `conflict with "${other}"`,
        field: dotted(at),
      }))
      const message = `Apply failed with ${causes.length} conflict: ${causes[0]!.message}: ${causes[0]!.field}`
      throw new Refusal(409, "Conflict", message, { causes })
    }
    const taken = new Set(conflicts.map(({ at }) => at))
    const remaining = others.map((one) => ({
      ...one,
      fieldsV1: toFieldsV1(fromFieldsV1(one.fieldsV1).filter((at) => !taken.has(at))),
    }))
    const kept = new Set(remaining.flatMap((one) => fromFieldsV1(one.fieldsV1)))
    const mine = managed.find((one) => one.manager === manager && one.operation === "Apply")
    const given = (mine === undefined ? [] : fromFieldsV1(mine.fieldsV1)).filter(
      (at) => !applied.has(at) && !kept.has(at),
    )
    // The key of a list's item last: the others are found by it.
    const isKey = (at: string): boolean => /k:\{"(\w+)":[^/]*\/f:\1$/.test(at)
    for (const at of given.toSorted((a, b) => Number(isKey(a)) - Number(isKey(b)))) take(object, at)
    Object.assign(object, { apiVersion: body["apiVersion"], kind: body["kind"] })
    object.metadata ??= { name: body.metadata.name }
    Object.assign(object.metadata, {
      name: body.metadata.name,
      ...("namespace" in body.metadata ? { namespace: body.metadata["namespace"] } : {}),
    })
    for (const [at, value] of applied) put(object, at, value)
    object.metadata.managedFields = [
      ...remaining,
      ...(applied.size === 0 ? [] : [{ manager, operation: "Apply", fieldsV1: toFieldsV1(applied.keys()) }]),
    ]
    // A default, as the real one sets dozens.
    if (plural === "daemonsets") (object["spec"] as Tree)["revisionHistoryLimit"] ??= 10
    if (dryRun) return object
    return JSON.stringify(object) === JSON.stringify(stored) ? stored! : this.store(path, object, stored)
  }
}

function merge(value: unknown, patch: unknown): unknown {
  if (typeof patch !== "object" || patch === null || Array.isArray(patch)) return structuredClone(patch)
  const result: Tree =
    typeof value === "object" && value !== null && !Array.isArray(value) ? structuredClone(value as Tree) : {}
  for (const [name, inner] of Object.entries(patch as Tree)) {
    if (inner === null) delete result[name]
    else result[name] = merge(result[name], inner)
  }
  return result
}
