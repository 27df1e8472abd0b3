/** DNS over a stream, more or less: messages with their lengths, some of which are neither. */
import type { Random } from "../random.ts"

const NAMES: readonly string[] = ["www.example.org", "a.b.example.org", "example.com", "x", ""]

function name(r: Random): number[] {
  if (r.chance(0.5)) return [0xc0, r.pick([12, 12, 12, 0, 13, 40, 255])]
  const labels = r.pick(NAMES).split(".").filter(Boolean)
  return [...labels.flatMap((label) => [label.length, ...Buffer.from(label)]), 0]
}

function record(r: Random): number[] {
  const type = r.pick([1, 1, 28, 5, 16, 65])
  const data = type === 5 ? name(r) : [...r.bytes(r.chance(0.9) ? (type === 28 ? 16 : 4) : r.below(40))]
  if (type === 1 && r.chance(0.5)) data[0] = r.pick([10, 127, 198])
  return [...name(r), 0, type, 0, 1, ...r.bytes(4), 0, data.length, ...data]
}

/** At least one byte. @param isResolver whether most of it are answers */
export function dnsStream(r: Random, isResolver: boolean): Uint8Array {
  const all: number[] = []
  for (let left = r.between(1, 4); left > 0; left--) {
    const isAnswer = r.chance(isResolver ? 0.9 : 0.1)
    const count = isAnswer ? r.below(8) : 0
    const flags = r.chance(0.9) ? (isAnswer ? 0x81 : 0x01) : r.below(256)
    const records = Array.from({ length: count }, () => record(r)).flat()
    const head = [r.below(256), r.below(256), flags, 0, 0, r.chance(0.95) ? 1 : r.below(3), 0, count, 0, 0, 0, 0]
    const question = r.chance(0.5) ? [3, 0x77, 0x77, 0x77, 0] : name(r)
    const message = [...head, ...question, 0, r.pick([1, 28]), 0, 1, ...records]
    if (r.chance(0.1)) message.push(...r.bytes(r.length(20_000)))
    if (r.chance(0.2)) message[r.below(message.length)] = r.below(256)
    if (r.chance(0.1)) message.length = r.below(message.length)
    const length = r.chance(0.97) ? message.length : r.below(65_536)
    all.push(length >> 8, length & 255, ...message)
  }
  return Uint8Array.from(all)
}
