/**
 * A policy that is loaded while the program runs: read, checked and compiled in small steps between turns, and in force only when all of that
 * has succeeded. The program can open no files by then: whoever asks passes a descriptor along, or the text.
 */
import { closeSync, readSync } from "node:fs"
import { type CompiledPolicy, compilePolicy, type Engine, POLICY_TEXT_MAX, PolicyError } from "@passt/core"

/** Bytes read per step. */
const READ_BYTES: number = 64 << 10
/** Yields of the compiler per step: each is some ten microseconds. */
const YIELDS_PER_STEP = 4
/** Flows that are judged by the new rules per step. */
const FLOWS_PER_STEP = 256

export class PolicyLoad {
  /** One line; empty: nothing is wrong. */
  error = ""
  isDone = false
  /** Rules that are in force, once it is done. */
  rules = 0
  readonly #engine: Engine
  #fd: number
  readonly #pieces: Buffer[] = []
  #bytes = 0
  #text: string | undefined
  #steps: Generator<undefined, CompiledPolicy, undefined> | undefined
  #judged = -1
  #end = false

  /** @param source text, or a descriptor of a file, which is closed @param engine with a policy, EngineConfig.policy */
  constructor(engine: Engine, source: string | number) {
    this.#engine = engine
    this.#fd = typeof source === "number" ? source : -1
    if (typeof source === "string") this.#text = source
  }

  /** Goes on by a little, until `isDone`. */
  step(): void {
    if (this.isDone) return
    try {
      if (this.#judged >= 0) this.#judge()
      else if (this.#text === undefined) this.#read()
      else this.#compile(this.#text)
    } catch (error) {
      if (!(error instanceof PolicyError)) throw error
      this.#finish(error.message)
    }
  }

  #read(): void {
    const piece = Buffer.allocUnsafeSlow(READ_BYTES)
    let got: number
    try {
      got = readSync(this.#fd, piece)
    } catch (error) {
      this.#finish(`The file can't be read: ${(error as Error).message}`)
      return
    }
    if (got > 0) {
      this.#pieces.push(piece.subarray(0, got))
      this.#bytes += got
      if (this.#bytes > POLICY_TEXT_MAX) this.#finish(`A policy is at most ${POLICY_TEXT_MAX} bytes long`)
      return
    }
    const bytes = Buffer.concat(this.#pieces)
    this.#pieces.length = 0
    this.cancel()
    this.#text = bytes.toString("utf8")
  }

  #compile(text: string): void {
    this.#steps ??= compilePolicy(text)
    for (let i = 0; i < YIELDS_PER_STEP; i++) {
      const { done, value } = this.#steps.next()
      if (!done) continue
      const { document, matcher } = value
      this.#engine.policy!.load(document, matcher)
      this.rules = document.rules.length
      this.#end = document.existingFlows === "end"
      this.#judged = 0
      return
    }
  }

  #judge(): void {
    this.#judged = this.#engine.judgeFlows(this.#judged, FLOWS_PER_STEP, this.#end)
    if (this.#judged < 0) this.#finish("")
  }

  #finish(error: string): void {
    this.error = error
    this.isDone = true
    this.cancel()
  }

  /** Gives up the file. */
  cancel(): void {
    if (this.#fd >= 0) closeSync(this.#fd)
    this.#fd = -1
  }
}
