import type { Kind } from "./kinds.ts"

export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json | undefined }
export type JsonObject = { readonly [name: string]: Json | undefined }

/** The fields that somebody has set; the field manager's own description of what it owns. */
export interface ManagedFields {
  readonly manager?: string
  readonly operation?: string
  readonly subresource?: string
  readonly fieldsV1?: JsonObject
}

export interface Metadata {
  readonly name: string
  readonly namespace?: string
  readonly uid?: string
  readonly resourceVersion?: string
  readonly generation?: number
  readonly deletionTimestamp?: string
  readonly labels?: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
  readonly managedFields?: readonly ManagedFields[]
}

/** An object of the cluster as the API server has it: nothing is dropped, whatever version it is of. */
export interface Manifest {
  readonly apiVersion: string
  readonly kind: Kind
  readonly metadata: Metadata
  readonly [field: string]: unknown
}

/** What is at a path within something that may have any shape. */
export function at(value: unknown, ...path: readonly (string | number)[]): unknown {
  let here = value
  for (const step of path) {
    if (typeof here !== "object" || here === null) return undefined
    here = (here as Record<string | number, unknown>)[step]
  }
  return here
}

export function textAt(value: unknown, ...path: readonly (string | number)[]): string | undefined {
  const found = at(value, ...path)
  return typeof found === "string" ? found : undefined
}

export function numberAt(value: unknown, ...path: readonly (string | number)[]): number {
  const found = at(value, ...path)
  return typeof found === "number" ? found : 0
}

/** A list, or an empty one where there is something else. */
export function listAt(value: unknown, ...path: readonly (string | number)[]): readonly unknown[] {
  const found = at(value, ...path)
  return Array.isArray(found) ? found : []
}

/** "DaemonSet kubevirt/passt-kubevirt": how an object is called in messages. */
export function called({ kind, metadata }: { readonly kind: string; readonly metadata: Metadata }): string {
  return `${kind} ${metadata.namespace === undefined ? "" : `${metadata.namespace}/`}${metadata.name}`
}

/** What the object would be if a field manager had set nothing but what it now owns: what it has to apply to have this back. */
export function ownedPart(object: Manifest, manager: string): Manifest {
  const { apiVersion, kind } = object
  const { name, namespace } = object.metadata
  const entry = object.metadata.managedFields?.find(
    (fields) => fields.manager === manager && fields.operation === "Apply" && fields.subresource === undefined,
  )
  const part = entry?.fieldsV1 === undefined ? {} : (pick(object, entry.fieldsV1) as Record<string, unknown>)
  const metadata = {
    ...(part["metadata"] as object | undefined),
    name,
    ...(namespace === undefined ? {} : { namespace }),
  }
  return { ...part, apiVersion, kind, metadata }
}

/** Whether a field manager owns anything of an object. */
export function isOwned(object: Manifest, manager: string): boolean {
  return (object.metadata.managedFields ?? []).some(
    (fields) => fields.manager === manager && fields.operation === "Apply",
  )
}

/** The part of a value that a FieldsV1 names: "f:" a field, "k:" an item by its keys, "v:" an item by its value, "." itself. */
function pick(value: unknown, fields: JsonObject): unknown {
  const names = Object.keys(fields).filter((name) => name !== ".")
  // Nothing below: all of it; "." alone is the field without what is in it.
  if (names.length === 0) return "." in fields ? {} : value
  if (Array.isArray(value)) {
    return names.flatMap((name): unknown[] => {
      if (name.startsWith("v:")) return value.filter((item) => JSON.stringify(item) === name.slice(2))
      const keys = Object.entries(JSON.parse(name.slice(2)) as JsonObject)
      const item = value.find((one) => keys.every(([key, wanted]) => at(one, key) === wanted))
      if (item === undefined) return []
      const part = pick(item, fields[name] as JsonObject)
      return [{ ...Object.fromEntries(keys), ...(part as object) }]
    })
  }
  if (typeof value !== "object" || value === null) return value
  const picked: Record<string, unknown> = {}
  for (const name of names) {
    const field = name.slice(2)
    const inner = (value as Record<string, unknown>)[field]
    if (inner !== undefined) picked[field] = pick(inner, fields[name] as JsonObject)
  }
  return picked
}
