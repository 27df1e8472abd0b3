/**
 * DHCP options (RFC 2132 section 2): code, length of the data, data; pad and end have no length.
 */

export const PAD = 0
export const SUBNET_MASK = 1
export const ROUTER = 3
export const DNS = 6
export const HOSTNAME = 12
export const MTU = 26
export const LEASE_TIME = 51
export const MESSAGE_TYPE = 53
export const SERVER_ID = 54
/** The longest message that the client takes, with IP and UDP headers. */
export const MESSAGE_SIZE = 57
/** RFC 4039. */
export const RAPID_COMMIT = 80
/** RFC 4702. */
export const FQDN = 81
/** RFC 3397. */
export const SEARCH = 119
/** RFC 3442. */
export const CLASSLESS_ROUTE = 121
export const END = 255

/** Most data that one option can hold, bytes; more is split over several of one code (RFC 3396). */
export const DATA_MAX = 255

/** Whether each option in `at…end`, up to the end option if there is one, lies within. */
export function check(d: DataView, at: number, end: number): boolean {
  while (at < end) {
    const code = d.getUint8(at)
    if (code === END) return true
    if (code === PAD) {
      at++
      continue
    }
    if (end - at < 2) return false
    at += 2 + d.getUint8(at + 1)
  }
  return at === end
}

/** Finds the first option of a code among checked ones.
 * @returns the offset of its data (whose length is the byte before it), or -1 */
export function find(d: DataView, at: number, end: number, wanted: number): number {
  while (at < end) {
    const code = d.getUint8(at)
    if (code === END) return -1
    if (code === PAD) {
      at++
      continue
    }
    if (code === wanted) return at + 2
    at += 2 + d.getUint8(at + 1)
  }
  return -1
}

/** Length of the data at an offset that `find` returned. */
export function lengthAt(d: DataView, data: number): number {
  return d.getUint8(data - 1)
}

/** Writes options one after the other; what has no room is left out, so the least important ones come last. */
export class OptionWriter {
  #view: DataView = new DataView(new ArrayBuffer(0))
  #at = 0
  #limit = 0

  /** @param limit offset that the options, without the end option, must not pass; one more byte must have room */
  start(view: DataView, at: number, limit: number): void {
    this.#view = view
    this.#at = at
    this.#limit = limit
  }

  /** Data bytes that one more option could have, split over several of its code where they are more than DATA_MAX. */
  get room(): number {
    const left = this.#limit - this.#at
    const whole = Math.floor(left / (DATA_MAX + 2))
    return whole * DATA_MAX + Math.max(0, left - whole * (DATA_MAX + 2) - 2)
  }

  empty(code: number): void {
    this.#open(code, 0)
  }
  byte(code: number, value: number): void {
    const o = this.#open(code, 1)
    if (o >= 0) this.#view.setUint8(o, value)
  }
  short(code: number, value: number): void {
    const o = this.#open(code, 2)
    if (o >= 0) this.#view.setUint16(o, value)
  }
  word(code: number, value: number): void {
    const o = this.#open(code, 4)
    if (o >= 0) this.#view.setInt32(o, value)
  }
  words(code: number, values: Int32Array): void {
    const o = this.#open(code, values.length * 4)
    if (o < 0) return
    for (let i = 0; i < values.length; i++) this.#view.setInt32(o + 4 * i, values[i])
  }
  bytes(code: number, data: Uint8Array, length: number = data.length): void {
    if (length > this.room) return
    for (let from = 0; from === 0 || from < length; from += DATA_MAX) {
      const part = Math.min(length - from, DATA_MAX)
      const o = this.#open(code, part)
      for (let i = 0; i < part; i++) this.#view.setUint8(o + i, data[from + i])
    }
  }

  /** Writes the end option, and zeros up to `padTo`. @returns the offset after all. */
  finish(padTo: number): number {
    this.#view.setUint8(this.#at++, END)
    while (this.#at < padTo) this.#view.setUint8(this.#at++, PAD)
    return this.#at
  }

  #open(code: number, length: number): number {
    if (length > DATA_MAX || this.#at + 2 + length > this.#limit) return -1
    const data = this.#at + 2
    this.#view.setUint8(this.#at, code)
    this.#view.setUint8(this.#at + 1, length)
    this.#at = data + length
    return data
  }
}
