/**
 * Frames into the engine. A case is a configuration and some dozens of turns; the frames of a turn follow from a seed and
 * from what the engine has sent so far. Everything is done twice, in worlds with different poison: if the engine reads
 * what it should not, the two don't agree.
 */
import { Random } from "../random.ts"
import { describe, Failure, hex, minimise, type Target } from "../target.ts"
import { Packets } from "./packets.ts"
import { type Step, World } from "./world.ts"
import type { Emitted } from "./well-formed.ts"

const STEPS_MAX = 60
const FRAMES_MAX = 24
/** Bytes of one batch: with room for poison between the frames. */
const BATCH_BYTES_MAX = 400_000
const POISON = [0x00, 0xff] as const
const TRIES_MAX = 400

function stepOf(r: Random, packets: Packets): Step {
  const frames: Uint8Array[] = packets.answers()
  const count = r.chance(0.1) ? 0 : r.between(1, FRAMES_MAX)
  let bytes = 0
  while (frames.length < count && bytes < BATCH_BYTES_MAX) {
    const frame = packets.frame()
    frames.push(frame.length > 65_535 ? frame.slice(0, 65_535) : frame)
    bytes += frame.length
  }
  return {
    seed: r.word(),
    advanceMs: r.pick([0, 0, 1, 2, 20, 300, 1000, 1100, 5000, 40_000]),
    link: r.chance(0.9) ? "up" : r.pick(["stalled", "stalled", "gone"]),
    frames,
  }
}

function differs(a: readonly Emitted[], b: readonly Emitted[]): string | undefined {
  if (a.length !== b.length) return `${a.length} frames and ${b.length}`
  for (let i = 0; i < a.length; i++) {
    const one = a[i]!
    const other = b[i]!
    if (Buffer.compare(one.frame, other.frame) !== 0 || one.segmentSize !== other.segmentSize) {
      return `frame ${i}:\n  ${hex(one.frame.subarray(0, 200))}\n  ${hex(other.frame.subarray(0, 200))}`
    }
  }
  return undefined
}

/** Runs steps in both worlds. @throws what they throw, or Failure when they differ */
function replay(seed: number, steps: readonly Step[]): void {
  const [one, other] = POISON.map((poison) => new World(seed, poison)) as [World, World]
  for (const step of steps) {
    const difference = differs(one.step(step), other.step(step))
    if (difference !== undefined) throw new Failure(`bytes outside of a frame have an effect: ${difference}`)
    if (one.state !== other.state) {
      throw new Failure(`bytes outside of a frame have an effect:\n  ${one.state}\n  ${other.state}`)
    }
  }
  one.close()
  other.close()
}

function attempt(seed: number, steps: readonly Step[]): string | undefined {
  try {
    replay(seed, steps)
    return undefined
  } catch (error) {
    return describe(error)
  }
}

/** Text of a failure without numbers: the same fault in a smaller case. */
function kindOf(text: string): string {
  return text
    .split(/[:(\n]/, 2)
    .join(" ")
    .replaceAll(/[0-9a-f]+/g, "#")
}

function report(seed: number, steps: readonly Step[], first: string): Failure {
  const kind = kindOf(first)
  const fails = (part: readonly Step[]): boolean => {
    const text = attempt(seed, part)
    return text !== undefined && kindOf(text) === kind
  }
  let few = minimise(steps, fails, TRIES_MAX)
  for (let i = 0; i < few.length; i++) {
    const withFrames = (frames: readonly Uint8Array[]): Step[] =>
      few.map((step, k) => (k === i ? { ...step, frames } : step))
    const frames = minimise(few[i]!.frames, (part) => fails(withFrames(part)), TRIES_MAX)
    few = withFrames(frames)
  }
  const lines = few.map((step, i) => {
    const frames = step.frames.map((frame) => `\n    ${hex(frame)}`).join("")
    return `  step ${i}: seed ${step.seed}, ${step.advanceMs} ms, link ${step.link}${frames}`
  })
  return new Failure(`${attempt(seed, few) ?? first}\n${lines.join("\n")}`)
}

export const engineTarget: Target = {
  name: "engine",
  run(seed) {
    const r = new Random(seed)
    const packets = new Packets(r)
    const steps: Step[] = []
    try {
      const world = new World(seed, POISON[0])
      for (let left = r.between(1, STEPS_MAX); left > 0; left--) {
        const step = stepOf(r, packets)
        steps.push(step)
        for (const { frame } of world.step(step)) packets.learn(frame)
      }
      replay(seed, steps)
    } catch (error) {
      throw report(seed, steps, describe(error))
    }
  },
}
