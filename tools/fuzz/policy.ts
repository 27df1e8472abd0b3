/**
 * Policies as text, and DNS messages: sound ones, cut up and put together anew. A policy is refused in the words of PolicyError, with a line
 * that the text has, or what was accepted is compiled and means the same when it is written and read again. A message is read without a
 * look beyond its end, and one that is made a refusal is one.
 */
import { address } from "../../packages/core/src/wire/index.ts"
import { parsePolicy, writeRule } from "../../packages/core/src/policy/document.ts"
import { readAnswer, readQuery, refuse } from "../../packages/core/src/policy/dns/message.ts"
import { PolicyError } from "../../packages/core/src/policy/error.ts"
import { Matcher, NO_RULE } from "../../packages/core/src/policy/matcher.ts"
import { dnsAnswer, dnsQuery } from "../../packages/core/src/sim/dns.ts"
import { Random } from "./random.ts"
import { Failure, hex, type Target } from "./target.ts"

const ROUNDS = 40
const POLICIES: readonly string[] = [
  '{"default":"refuse","rules":[{"action":"allow","name":["*.example.org","example.org"],"port":443}]}',
  '{"default":"drop","existing-flows":"end","dns":{"names":"only-allowed","private-answers":"refuse"}}',
  '{\n"rules":[\n{"action":"redirect","protocol":["tcp","udp"],"to":"[2001:db8::1]:80","limit":"1.5M","label":"x"}]}',
  '{"rules":[{"action":"refuse","remote":["10.0.0.0/8","private","::/0"],"refuse-with":"prohibited"}]}',
  '{"rules":[{"action":"allow","direction":"in","port":["80","8000-8999",1],"limit":{"rate":5000,"burst":"70k"}}]}',
]
const ADDRESSES = ["10.1.2.3", "192.0.2.1", "2001:db8::1", "::1", "0.0.0.0"].map((text) => address.parse(text)!)
const MESSAGES: readonly Uint8Array[] = [
  dnsQuery("www.example.org"),
  dnsAnswer("www.example.org", [
    { name: "www.example.org", data: "cdn.example.net" },
    { name: "cdn.example.net", data: "192.0.2.1" },
    { name: "cdn.example.net", data: "2001:db8::1" },
  ]),
  dnsAnswer("a", [{ name: "a", data: "10.0.0.1" }]),
]

function mutate(random: Random, sound: Uint8Array, other: Uint8Array): Buffer {
  let bytes = Buffer.from(sound)
  for (let edits = random.below(5); edits > 0; edits--) {
    const at = random.below(bytes.length + 1)
    switch (random.below(4)) {
      case 0:
        bytes = bytes.subarray(0, at)
        break
      case 1:
        bytes = Buffer.concat([bytes.subarray(0, at), Buffer.from(other).subarray(random.below(other.length))])
        break
      case 2:
        if (at < bytes.length) bytes[at] = random.below(256)
        break
      default:
        bytes = Buffer.concat([
          bytes.subarray(0, at),
          Buffer.from(random.pick(["[", '"', "{", "9", "\n", "\\u0000", "é"])),
          bytes.subarray(at),
        ])
    }
  }
  return bytes
}

function checkPolicy(text: string): void {
  let policy
  try {
    policy = parsePolicy(text)
  } catch (error) {
    if (!(error instanceof PolicyError)) throw new Failure(`${(error as Error).stack}\nfor ${JSON.stringify(text)}`)
    const lines = text.split("\n").length
    if (error.line < 1 || error.line > lines)
      throw new Failure(`line ${error.line} of ${lines}: ${JSON.stringify(text)}`)
    if (error.message.includes("\n")) throw new Failure(`a refusal of several lines: ${error.message}`)
    return
  }
  const again = parsePolicy(JSON.stringify({ rules: policy.rules.map(writeRule) }))
  const matchers = [Matcher.of(policy.rules), Matcher.of(again.rules)]
  for (const remote of ADDRESSES) {
    for (const port of [0, 80, 443, 8500]) {
      const [one, two] = matchers.map((matcher) => matcher.match(0, 0, remote, 0, port))
      if (one !== two) throw new Failure(`it does not mean the same when it is written: ${JSON.stringify(text)}`)
      if (one !== NO_RULE && policy.rules[one!] === undefined) throw new Failure(`rule ${one}: ${JSON.stringify(text)}`)
    }
  }
}

function checkMessage(bytes: Buffer): void {
  // At an offset, so that what is read before the start shows.
  const room = new Uint8Array(bytes.length + 7).fill(0x41)
  room.set(bytes, 7)
  const d = new DataView(room.buffer)
  const end = room.length
  const answer = readAnswer(d, 7, end)
  for (const { at, length } of answer?.addresses ?? []) {
    if (at < 7 || at + length > end) throw new Failure(`an address beyond the message: ${hex(bytes)}`)
  }
  const question = readQuery(d, 7, end) ?? answer?.question
  if (question === undefined) return
  if (question.end > end || question.name.length > 254)
    throw new Failure(`a question beyond the message: ${hex(bytes)}`)
  const length = refuse(d, 7, question.end)
  const refusal = readAnswer(d, 7, 7 + length)
  if (refusal === undefined || refusal.question.name !== question.name || refusal.addresses.length > 0) {
    throw new Failure(`what was made a refusal is none: ${hex(bytes)}`)
  }
}

export const policyTarget: Target = {
  name: "policy",
  run(seed) {
    const random = new Random(seed)
    for (let i = 0; i < ROUNDS; i++) {
      const text = (): Uint8Array => Buffer.from(random.pick(POLICIES))
      checkPolicy(mutate(random, text(), text()).toString("utf8"))
      checkMessage(mutate(random, random.pick(MESSAGES), random.pick(MESSAGES)))
    }
  },
}
