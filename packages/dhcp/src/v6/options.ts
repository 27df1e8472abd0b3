/**
 * DHCPv6 options (RFC 8415 section 21): 2 bytes code, 2 bytes length of the data, data. Identity associations hold
 * options in turn.
 */

export const CLIENT_ID = 1
export const SERVER_ID = 2
/** Identity association for addresses: 4 bytes id, 4 bytes T1 (s), 4 bytes T2 (s), options. */
export const IA_NA = 3
/** Identity association for temporary addresses: 4 bytes id, options. */
export const IA_TA = 4
/** 16 bytes address, 4 bytes preferred lifetime (s), 4 bytes valid lifetime (s), options. */
export const IA_ADDRESS = 5
/** 2 bytes status, text. */
export const STATUS = 13
export const RAPID_COMMIT = 14
/** RFC 3646 section 3. */
export const DNS = 23
/** RFC 3646 section 4. */
export const SEARCH = 24
/** RFC 4704: 1 byte flags, name. */
export const FQDN = 39

export const HEADER_LENGTH = 4
/** Where the options of an identity association begin, from its data; also its least length. */
export const IA_NA_OPTIONS = 12
export const IA_TA_OPTIONS = 4
/** Least length of an address option's data. */
export const IA_ADDRESS_LENGTH = 24

export const STATUS_SUCCESS = 0
export const STATUS_NO_ADDRESSES = 2
export const STATUS_NO_BINDING = 3
export const STATUS_NOT_ON_LINK = 4

export function codeAt(d: DataView, at: number): number {
  return d.getUint16(at)
}
/** Length of the data of the option at `at`. */
export function lengthAt(d: DataView, at: number): number {
  return d.getUint16(at + 2)
}
/** Offset after the option at `at`. */
export function after(d: DataView, at: number): number {
  return at + HEADER_LENGTH + lengthAt(d, at)
}

/** Distance from the option's header to the options it holds, or 0 if it is no identity association for addresses. */
export function innerOptions(code: number): number {
  if (code === IA_NA) return HEADER_LENGTH + IA_NA_OPTIONS
  return code === IA_TA ? HEADER_LENGTH + IA_TA_OPTIONS : 0
}

/** Whether the options in `at…end` fill that range exactly, and so do those within identity associations. */
export function check(d: DataView, at: number, end: number): boolean {
  return walk(d, at, end, false)
}

function walk(d: DataView, start: number, end: number, isInner: boolean): boolean {
  let at = start
  while (at < end) {
    if (end - at < HEADER_LENGTH || after(d, at) > end) return false
    const code = codeAt(d, at)
    if (isInner) {
      if (code === IA_ADDRESS && lengthAt(d, at) < IA_ADDRESS_LENGTH) return false
    } else {
      const inner = innerOptions(code)
      if (inner > 0 && (at + inner > after(d, at) || !walk(d, at + inner, after(d, at), true))) return false
    }
    at = after(d, at)
  }
  return at === end
}

/** Finds the first option of a code among checked ones. @returns the offset of its header, or -1. */
export function find(d: DataView, at: number, end: number, code: number): number {
  for (; at < end; at = after(d, at)) if (codeAt(d, at) === code) return at
  return -1
}

/** Addresses that one answer tells to have ended. */
const REPLACED_MAX = 4

/** T1, and T2 in the usual proportion (RFC 8415 section 21.4). */
function writeTimes(d: DataView, o: number, renew: number): void {
  d.setInt32(o + 4, renew)
  d.setInt32(o + 8, renew < 0 ? -1 : Math.floor((renew * 8) / 5))
}

/** Writes options one after the other; what has no room is left out, so the least important ones come last. */
export class OptionWriter {
  #view: DataView = new DataView(new ArrayBuffer(0))
  #at = 0
  #limit = 0

  /** @param limit offset that the options must not pass */
  start(view: DataView, at: number, limit: number): void {
    this.#view = view
    this.#at = at
    this.#limit = limit
  }

  /** Offset after what was written. */
  get end(): number {
    return this.#at
  }
  /** Data bytes that one more option could have. */
  get room(): number {
    return Math.max(0, this.#limit - this.#at - HEADER_LENGTH)
  }

  empty(code: number): void {
    this.open(code, 0)
  }
  words(code: number, values: Int32Array): void {
    const o = this.open(code, values.length * 4)
    if (o < 0) return
    for (let i = 0; i < values.length; i++) this.#view.setInt32(o + 4 * i, values[i])
  }
  bytes(code: number, data: Uint8Array, length: number = data.length): void {
    const o = this.open(code, length)
    if (o < 0) return
    for (let i = 0; i < length; i++) this.#view.setUint8(o + i, data[i])
  }
  /** Copies an option of a message in the same memory, header included. */
  copy(at: number): void {
    const length = lengthAt(this.#view, at)
    const o = this.open(codeAt(this.#view, at), length)
    if (o < 0) return
    for (let i = 0; i < length; i++) this.#view.setUint8(o + i, this.#view.getUint8(at + HEADER_LENGTH + i))
  }
  status(status: number): void {
    const o = this.open(STATUS, 2)
    if (o >= 0) this.#view.setUint16(o, status)
  }
  /** An association with one address, valid without end. @param renew T1, seconds; -1: never */
  association(id: number, words: Int32Array, renew: number): void {
    const o = this.open(IA_NA, IA_NA_OPTIONS + HEADER_LENGTH + IA_ADDRESS_LENGTH)
    if (o < 0) return
    const d = this.#view
    d.setInt32(o, id)
    this.#writeAddress(o + IA_NA_OPTIONS, words, -1)
    writeTimes(d, o, renew)
  }
  /** As association; further addresses of the client's own association, in `at…end` of the same memory, which are not these, have
   * ended. At most REPLACED_MAX. */
  replacement(id: number, words: Int32Array, renew: number, at: number, end: number): void {
    const d = this.#view
    const ended: Int32Array[] = []
    for (let i = at; i < end && ended.length < REPLACED_MAX; i = after(d, i)) {
      if (codeAt(d, i) !== IA_ADDRESS) continue
      const old = Int32Array.from({ length: 4 }, (_, word) => d.getInt32(i + HEADER_LENGTH + 4 * word))
      if (old.some((word, index) => word !== words[index])) ended.push(old)
    }
    const each = HEADER_LENGTH + IA_ADDRESS_LENGTH
    const o = this.open(IA_NA, IA_NA_OPTIONS + each * (1 + ended.length))
    if (o < 0) return
    d.setInt32(o, id)
    writeTimes(d, o, renew)
    this.#writeAddress(o + IA_NA_OPTIONS, words, -1)
    ended.forEach((old, index) => this.#writeAddress(o + IA_NA_OPTIONS + each * (1 + index), old, 0))
  }
  /** @param lifetime of both kinds, seconds; -1: without end */
  #writeAddress(o: number, words: Int32Array, lifetime: number): void {
    const d = this.#view
    d.setUint16(o, IA_ADDRESS)
    d.setUint16(o + 2, IA_ADDRESS_LENGTH)
    for (let i = 0; i < 4; i++) d.setInt32(o + 4 + 4 * i, words[i])
    d.setInt32(o + 20, lifetime)
    d.setInt32(o + 24, lifetime)
  }
  /** An association, IA_NA or IA_TA, with nothing but a status. */
  refusal(code: number, id: number, status: number): void {
    const fixed = code === IA_NA ? IA_NA_OPTIONS : IA_TA_OPTIONS
    const o = this.open(code, fixed + HEADER_LENGTH + 2)
    if (o < 0) return
    const d = this.#view
    d.setInt32(o, id)
    for (let i = 4; i < fixed; i += 4) d.setInt32(o + i, 0)
    d.setUint16(o + fixed, STATUS)
    d.setUint16(o + fixed + 2, 2)
    d.setUint16(o + fixed + 4, status)
  }

  /** Starts an option. @returns the offset of its data, to be written by the caller, or -1 if it has no room. */
  open(code: number, length: number): number {
    if (this.#at + HEADER_LENGTH + length > this.#limit) return -1
    const data = this.#at + HEADER_LENGTH
    this.#view.setUint16(this.#at, code)
    this.#view.setUint16(this.#at + 2, length)
    this.#at = data + length
    return data
  }
}
