/**
 * DNS messages, as far as the policy reads them: the question, and which addresses an answer leads to.
 *
 * ```
 *   header (12): id │ flags │ counts of questions, answers, authorities, more   question: name, type, class
 *   answer: name, type, class, TTL, length, data                               a name: labels, or a pointer to an earlier one
 * ```
 * Everything here may be hostile: pointers only lead back, and their number is bounded; names that can't be written as text are none.
 *
 * Reads first: RFC 1035 section 4.1, RFC 2181 section 8 (TTL), RFC 6891 (what comes in the rest does not matter here).
 */
export const HEADER_LENGTH = 12
const FLAGS = 2
const COUNT_QUESTIONS = 4
const COUNT_ANSWERS = 6
const COUNT_AUTHORITIES = 8
const COUNT_MORE = 10
const FLAG_RESPONSE = 0x8000
const OPCODE_MASK = 0x7800
export const FLAG_TRUNCATED = 0x0200
const RCODE_MASK = 0x000f
export const RCODE_REFUSED = 5

export const TYPE_A = 1
const TYPE_CNAME = 5
export const TYPE_AAAA = 28
const CLASS_IN = 1
const CLASS_MASK = 0x7fff

const NAME_LENGTH_MAX = 253
const POINTERS_MAX = 32
/** Records of one answer that are looked at. */
const RECORDS_MAX = 128
/** Names on the way from the question to an address. */
const CHAIN_MAX = 16

export interface Question {
  /** Lower case, without a dot at the end; "." for the root. Empty: it can't be written as text. */
  readonly name: string
  readonly type: number
  /** Behind the question. */
  readonly end: number
}

export interface AddressRecord {
  /** Four or sixteen bytes at this offset. */
  readonly at: number
  readonly length: number
  /** Seconds, the least on the way to it. */
  readonly ttl: number
}

export interface Answer {
  readonly question: Question
  /** The question's name, and those that it is an alias of. */
  readonly names: readonly string[]
  readonly addresses: readonly AddressRecord[]
  /** There are more records than are looked at. */
  readonly isCut: boolean
}

/** Where a name ends, read by `readName`. */
let nameEnd = 0

/** @returns the name; empty for one that is no text; undefined for one that is malformed */
function readName(d: DataView, start: number, from: number, end: number): string | undefined {
  let at = from
  let text = ""
  let isText = true
  let jumped = false
  let least = from
  for (let pointers = 0; ;) {
    if (at >= end) return undefined
    const length = d.getUint8(at)
    if ((length & 0xc0) === 0xc0) {
      if (at + 2 > end || ++pointers > POINTERS_MAX) return undefined
      const target = start + (d.getUint16(at) & 0x3fff)
      if (!jumped) nameEnd = at + 2
      jumped = true
      // Only back, before everything that was read of this name: so it ends.
      if (target >= least) return undefined
      least = target
      at = target
      continue
    }
    if (length > 63) return undefined
    at++
    if (length === 0) {
      if (!jumped) nameEnd = at
      return isText ? (text === "" ? "." : text) : ""
    }
    if (at + length > end) return undefined
    if (text.length + length + 1 > NAME_LENGTH_MAX + 1) return undefined
    let label = ""
    for (let i = 0; i < length; i++) {
      let byte = d.getUint8(at + i)
      if (byte >= 0x41 && byte <= 0x5a) byte += 0x20
      // A dot within a label would pass for one between two.
      if (byte <= 0x20 || byte >= 0x7f || byte === 0x2e) isText = false
      label += String.fromCharCode(byte)
    }
    text = text === "" ? label : `${text}.${label}`
    at += length
  }
}

/** @param start,end of the message @returns undefined: not a message with one question */
function readQuestion(d: DataView, start: number, end: number): Question | undefined {
  if (end - start < HEADER_LENGTH || d.getUint16(start + COUNT_QUESTIONS) !== 1) return undefined
  const name = readName(d, start, start + HEADER_LENGTH, end)
  if (name === undefined || nameEnd + 4 > end) return undefined
  return { name, type: d.getUint16(nameEnd), end: nameEnd + 4 }
}

/** Reads a query. @returns undefined: it is none, or malformed */
export function readQuery(d: DataView, start: number, end: number): Question | undefined {
  if (end - start < HEADER_LENGTH) return undefined
  const flags = d.getUint16(start + FLAGS)
  if ((flags & (FLAG_RESPONSE | OPCODE_MASK)) !== 0) return undefined
  return readQuestion(d, start, end)
}

/** Reads an answer. What is malformed ends it; what came before counts. @returns undefined: it is none */
export function readAnswer(d: DataView, start: number, end: number): Answer | undefined {
  if (end - start < HEADER_LENGTH) return undefined
  const flags = d.getUint16(start + FLAGS)
  if ((flags & FLAG_RESPONSE) === 0 || (flags & OPCODE_MASK) !== 0) return undefined
  const question = readQuestion(d, start, end)
  if (question === undefined) return undefined
  const aliases: { owner: string; target: string; ttl: number }[] = []
  const found: { owner: string; record: AddressRecord }[] = []
  const all = d.getUint16(start + COUNT_ANSWERS)
  const count = Math.min(all, RECORDS_MAX)
  let at = question.end
  for (let i = 0; i < count; i++) {
    const owner = readName(d, start, at, end)
    if (owner === undefined || nameEnd + 10 > end) break
    const fixed = nameEnd
    const type = d.getUint16(fixed)
    const isInternet = (d.getUint16(fixed + 2) & CLASS_MASK) === CLASS_IN
    // RFC 2181 section 8: with the highest bit set it is none.
    const ttl = Math.max(0, d.getInt32(fixed + 4))
    const length = d.getUint16(fixed + 8)
    const data = fixed + 10
    if (data + length > end) break
    if (isInternet && ((type === TYPE_A && length === 4) || (type === TYPE_AAAA && length === 16))) {
      found.push({ owner, record: { at: data, length, ttl } })
    } else if (isInternet && type === TYPE_CNAME) {
      const target = readName(d, start, data, data + length)
      if (target !== undefined && target !== "") aliases.push({ owner, target, ttl })
    }
    at = data + length
  }
  return { question, ...follow(question.name, aliases, found), isCut: all > count }
}

/** Which of the addresses the question's name leads to. */
function follow(
  name: string,
  aliases: readonly { owner: string; target: string; ttl: number }[],
  found: readonly { owner: string; record: AddressRecord }[],
): { names: string[]; addresses: AddressRecord[] } {
  const names = [name]
  let ttl = Number.MAX_SAFE_INTEGER
  for (let i = 0; i < names.length && names.length < CHAIN_MAX; i++) {
    const alias = aliases.find(({ owner }) => owner === names[i])
    if (alias === undefined || names.includes(alias.target)) break
    names.push(alias.target)
    ttl = Math.min(ttl, alias.ttl)
  }
  const addresses = found
    .filter(({ owner }) => names.includes(owner))
    .map(({ record }) => ({ ...record, ttl: Math.min(record.ttl, ttl) }))
  return { names: names.filter((each) => each !== "" && each !== "."), addresses }
}

/** Makes a message, query or answer, an answer that refuses: only its question is left. @param end of the question
 * @returns its new length */
export function refuse(d: DataView, start: number, end: number): number {
  const flags = d.getUint16(start + FLAGS)
  d.setUint16(start + FLAGS, ((flags | FLAG_RESPONSE) & ~(RCODE_MASK | FLAG_TRUNCATED)) | RCODE_REFUSED)
  d.setUint16(start + COUNT_ANSWERS, 0)
  d.setUint16(start + COUNT_AUTHORITIES, 0)
  d.setUint16(start + COUNT_MORE, 0)
  return end - start
}
