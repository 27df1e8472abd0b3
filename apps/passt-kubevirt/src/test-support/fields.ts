/** Server-side apply, as the fake API server does it: who owns which leaves, and what becomes of an object. */

export type Tree = Record<string, unknown>

/** Lists whose items have keys, by the name of the field. All others are replaced whole. */
const KEYS: Readonly<Record<string, string>> = {
  containers: "name",
  env: "name",
  imagePullSecrets: "name",
  supportContainerResources: "type",
  volumeMounts: "mountPath",
  volumes: "name",
}

/** Of these, those that are replaced whole all the same: what a kind's definition does not say, or the server does not make of it. */
export const UNKEYED: Set<string> = new Set()

/** Maps that are replaced whole. */
const ATOMIC: ReadonlySet<string> = new Set(["affinity", "matchLabels", "nodeSelector", "roleRef"])

/** What nobody owns. */
const UNOWNED: ReadonlySet<string> = new Set([
  "f:apiVersion",
  "f:kind",
  "f:status",
  ...["name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"].map(
    (name) => `f:metadata/f:${name}`,
  ),
])

/** Paths are joined by "/", which no field here has in it, but annotations and labels, whose "/" is written "~". */
const step = (name: string): string => `f:${name.replaceAll("/", "~")}`

/** The leaves of an object: path and value. */
export function leaves(value: unknown, path = "", field = ""): Map<string, unknown> {
  const found = new Map<string, unknown>()
  if (UNOWNED.has(path)) return found
  const add = (more: Map<string, unknown>): void => more.forEach((leaf, at) => found.set(at, leaf))
  const under = (name: string): string => (path === "" ? name : `${path}/${name}`)
  const key = UNKEYED.has(field) ? undefined : KEYS[field]
  if (Array.isArray(value) && key !== undefined) {
    for (const item of value as Tree[])
      add(leaves(item, under(`k:${JSON.stringify({ [key]: item[key] }).replaceAll("/", "~")}`)))
  } else if (
    typeof value === "object" &&
    value !== null &&
    !Array.isArray(value) &&
    !ATOMIC.has(field) &&
    Object.keys(value).length > 0
  ) {
    for (const [name, inner] of Object.entries(value))
      if (inner !== undefined) add(leaves(inner, under(step(name)), name))
  } else found.set(path, value)
  return found
}

export function toFieldsV1(paths: Iterable<string>): Tree {
  const root: Tree = {}
  for (const path of paths) {
    let here = root
    for (const part of path.split("/")) here = (here[part.replaceAll("~", "/")] ??= {}) as Tree
  }
  return root
}

export function fromFieldsV1(fields: Tree, path = ""): string[] {
  const names = Object.keys(fields)
  if (names.length === 0) return path === "" ? [] : [path]
  return names.flatMap((name) => {
    const part = name.replaceAll("/", "~")
    return fromFieldsV1(fields[name] as Tree, path === "" ? part : `${path}/${part}`)
  })
}

/** Puts a value at a path, making what is on the way. */
export function put(object: Tree, path: string, value: unknown): void {
  const parts = path.split("/").map((part) => part.replaceAll("~", "/"))
  let here: unknown = object
  parts.forEach((part, i) => {
    const last = i === parts.length - 1
    if (part.startsWith("k:")) {
      const keys = JSON.parse(part.slice(2)) as Tree
      const list = here as Tree[]
      let item = list.find((one) => Object.entries(keys).every(([name, wanted]) => one[name] === wanted))
      if (item === undefined) list.push((item = { ...keys }))
      here = item
      return
    }
    const name = part.slice(2)
    const map = here as Tree
    if (last) map[name] = structuredClone(value)
    else here = map[name] ??= parts[i + 1]!.startsWith("k:") ? [] : {}
  })
}

/** Takes away what is at a path, and what is empty then. */
export function take(object: Tree, path: string): void {
  const parts = path.split("/").map((part) => part.replaceAll("~", "/"))
  const trail: { container: unknown; part: string; inner: unknown }[] = []
  let here: unknown = object
  for (const part of parts) {
    const inner = child(here, part)
    if (inner === undefined) return
    trail.push({ container: here, part, inner })
    here = inner
  }
  for (const { container, part, inner } of trail.toReversed()) {
    if (part.startsWith("k:")) {
      const list = container as unknown[]
      const item = inner as Tree
      const keys = JSON.parse(part.slice(2)) as Tree
      if (Object.keys(item).some((name) => !(name in keys))) return
      list.splice(list.indexOf(item), 1)
      if (list.length > 0) return
    } else {
      delete (container as Tree)[part.slice(2)]
      if (Object.keys(container as Tree).length > 0) return
    }
  }
}

function child(container: unknown, part: string): unknown {
  if (typeof container !== "object" || container === null) return undefined
  if (!part.startsWith("k:")) return (container as Tree)[part.slice(2)]
  const keys = Object.entries(JSON.parse(part.slice(2)) as Tree)
  return (container as Tree[]).find?.((one) => keys.every(([name, wanted]) => one[name] === wanted))
}

/** ".spec.template…": how a conflict names a field. */
export function dotted(path: string): string {
  return path
    .split("/")
    .map((part) => (part.startsWith("k:") ? `[${part.slice(2)}]` : `.${part.slice(2)}`))
    .join("")
}
