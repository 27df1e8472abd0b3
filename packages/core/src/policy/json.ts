/**
 * JSON (RFC 8259) with the line of every value, so that a mistake can be pointed at; a generator, so that a long text can be read between
 * turns of the loop. Stricter than it need be: an object has each field once.
 */
import { PolicyError } from "./error.ts"

export type JsonValue = JsonPlain | JsonList | JsonObject
export interface JsonPlain {
  readonly kind: "plain"
  readonly line: number
  readonly value: string | number | boolean | null
}
export interface JsonList {
  readonly kind: "list"
  readonly line: number
  readonly items: readonly JsonValue[]
}
export interface JsonObject {
  readonly kind: "object"
  readonly line: number
  readonly fields: ReadonlyMap<string, JsonValue>
}

const DEPTH_MAX = 16
/** Values that are read between two steps. */
const STEP = 200
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y
// Everything up to the next quote that is not escaped.
const STRING = /"(?:[^"\\\n]|\\.)*"/y
const SPACE = /[ \t\r\n]*/y

class Reader {
  at = 0
  line = 1
  #values = 0
  readonly #text: string

  constructor(text: string) {
    this.#text = text
  }

  fail(message: string): never {
    throw new PolicyError(this.line, "", message)
  }

  space(): void {
    SPACE.lastIndex = this.at
    const [blank] = SPACE.exec(this.#text)!
    for (let i = blank.indexOf("\n"); i >= 0; i = blank.indexOf("\n", i + 1)) this.line++
    this.at += blank.length
  }

  get next(): string {
    return this.#text[this.at] ?? ""
  }

  /** @returns whether it came next */
  take(character: string): boolean {
    this.space()
    if (this.next !== character) return false
    this.at++
    return true
  }

  expect(character: string, where: string): void {
    if (!this.take(character)) this.fail(`${this.#found()} where "${character}" should be, ${where}`)
  }

  #found(): string {
    return this.at >= this.#text.length ? "the text ends" : `there is ${JSON.stringify(this.next)}`
  }

  string(): string {
    STRING.lastIndex = this.at
    const found = STRING.exec(this.#text)
    if (found === null) this.fail("a string does not end on its line")
    this.at += found[0].length
    try {
      return JSON.parse(found[0]) as string
    } catch {
      return this.fail("a string has an escape or a character that JSON does not know")
    }
  }

  plain(): JsonPlain {
    const { line } = this
    if (this.next === '"') return { kind: "plain", line, value: this.string() }
    for (const [word, value] of WORDS) {
      if (!this.#text.startsWith(word, this.at)) continue
      this.at += word.length
      return { kind: "plain", line, value }
    }
    NUMBER.lastIndex = this.at
    const found = NUMBER.exec(this.#text)
    if (found === null) this.fail(`${this.#found()} where a value should be`)
    this.at += found[0].length
    return { kind: "plain", line, value: Number(found[0]) }
  }

  *value(depth: number): Generator<undefined, JsonValue, undefined> {
    if (depth > DEPTH_MAX) this.fail("it is nested too deeply")
    if (++this.#values % STEP === 0) yield
    this.space()
    const { line } = this
    if (this.take("{")) return { kind: "object", line, fields: yield* this.#fields(depth) }
    if (!this.take("[")) return this.plain()
    const items: JsonValue[] = []
    if (this.take("]")) return { kind: "list", line, items }
    do items.push(yield* this.value(depth + 1))
    while (this.take(","))
    this.expect("]", "or a comma and another item")
    return { kind: "list", line, items }
  }

  *#fields(depth: number): Generator<undefined, Map<string, JsonValue>, undefined> {
    const fields = new Map<string, JsonValue>()
    if (this.take("}")) return fields
    do {
      this.space()
      if (this.next !== '"') this.fail(`${this.#found()} where a field's name should be`)
      const name = this.string()
      if (fields.has(name)) this.fail(`the field ${JSON.stringify(name.slice(0, 64))} is there twice`)
      this.expect(":", `after ${JSON.stringify(name.slice(0, 64))}`)
      fields.set(name, yield* this.value(depth + 1))
    } while (this.take(","))
    this.expect("}", "or a comma and another field")
    return fields
  }
}

const WORDS: readonly (readonly [string, boolean | null])[] = [
  ["true", true],
  ["false", false],
  ["null", null],
]

/** @throws PolicyError */
export function* readJson(text: string): Generator<undefined, JsonValue, undefined> {
  const reader = new Reader(text)
  const value = yield* reader.value(0)
  reader.space()
  if (reader.next !== "") reader.fail("there is something behind the end")
  return value
}
