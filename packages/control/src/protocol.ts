/**
 * What a request may look like. A line of JSON is at most REQUEST_BYTES_MAX long, so reading one takes a known time; what is in it
 * is checked here, field by field, and what nobody asked for is refused rather than passed over. docs/control.md is the reference.
 */

/** Changes when a client that was written for the last one would be misled; additions don't count. */
export const PROTOCOL_VERSION = 1

/** Longest line of a request, its end included. */
export const REQUEST_BYTES_MAX: number = 16 << 10

export type ErrorCode =
  /** The line is no request: not JSON, too long, fields that are missing, unknown or of the wrong type. */
  | "bad-request"
  /** `v` is a version that this program does not speak. */
  | "unsupported-version"
  /** There is no such call. */
  | "unknown-call"
  /** Too many clients. */
  | "busy"
  /** The request took too long to arrive, or its answer to be read. */
  | "timeout"
  /** The request is clear, but can't be done. */
  | "failed"

/** Refuses a request. */
export class RequestError extends Error {
  readonly code: ErrorCode
  constructor(code: ErrorCode, message: string) {
    super(message)
    this.code = code
  }
}

export type RequestId = string | number | null

export interface Request {
  readonly id: RequestId
  readonly call: string
  /** What is left of the line's object. */
  readonly fields: Readonly<Record<string, unknown>>
}

const ID_LENGTH_MAX = 64

/** @throws RequestError, with the id if there was one */
export function parseRequest(line: string): Request {
  let parsed: unknown
  try {
    parsed = JSON.parse(line)
  } catch {
    throw new RequestError("bad-request", "The line is not JSON")
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    throw new RequestError("bad-request", "A request is a JSON object")
  }
  const { id = null, v = PROTOCOL_VERSION, call, ...fields } = parsed as Record<string, unknown>
  if (!isId(id)) {
    throw new RequestError("bad-request", `"id" must be a number or a string of at most ${ID_LENGTH_MAX} characters`)
  }
  if (typeof call !== "string") throw new IdentifiedError(id, "bad-request", '"call" must be a string')
  if (v !== PROTOCOL_VERSION) {
    throw new IdentifiedError(id, "unsupported-version", `This program speaks version ${PROTOCOL_VERSION}`)
  }
  return { id, call, fields }
}

/** Refuses a request whose id could be read. */
export class IdentifiedError extends RequestError {
  readonly id: RequestId
  constructor(id: RequestId, code: ErrorCode, message: string) {
    super(code, message)
    this.id = id
  }
}

function isId(id: unknown): id is RequestId {
  return (
    id === null ||
    (typeof id === "number" && Number.isFinite(id)) ||
    (typeof id === "string" && id.length <= ID_LENGTH_MAX)
  )
}

/** What a field must be. */
export interface Field {
  readonly required?: boolean
  /** Words that it may be. */
  readonly words?: readonly string[]
  readonly type: "string" | "integer"
}

/** Checks the fields of a call. @throws RequestError */
export function checkFields(
  fields: Readonly<Record<string, unknown>>,
  known: Readonly<Record<string, Field>>,
): Readonly<Record<string, string | number | undefined>> {
  for (const name of Object.keys(fields)) {
    if (!Object.hasOwn(known, name))
      throw new RequestError("bad-request", `Unknown field ${JSON.stringify(name.slice(0, 64))}`)
  }
  for (const [name, { required, words, type }] of Object.entries(known)) {
    const value = fields[name]
    if (value === undefined) {
      if (required) throw new RequestError("bad-request", `"${name}" is missing`)
    } else if (type === "integer" ? !Number.isSafeInteger(value) : typeof value !== "string") {
      throw new RequestError("bad-request", `"${name}" must be ${type === "integer" ? "an integer" : "a string"}`)
    } else if (words && !words.includes(value as string)) {
      throw new RequestError("bad-request", `"${name}" must be one of ${words.join(", ")}`)
    }
  }
  return fields as Readonly<Record<string, string | number | undefined>>
}
