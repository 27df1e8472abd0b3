/**
 * HalfSipHash-1-3 (Aumasson, Bernstein: SipHash, "a fast short-input PRF"; the 32-bit variant) over eleven words: what
 * Linux uses for hash tables whose keys an attacker chooses. 32-bit words and no multiplication suit JavaScript's integers.
 */
function rotate(x: number, bits: number): number {
  return (x << bits) | (x >>> (32 - bits))
}

/** @param key eleven words; k0, k1 the secret. @returns a signed 32-bit hash */
export function hash11(key: Int32Array, k0: number, k1: number): number {
  let v0 = k0
  let v1 = k1
  let v2 = 0x6c796765 ^ k0
  let v3 = 0x74656462 ^ k1
  for (let i = 0; i < 15; i++) {
    // Eleven words, then the length (44 bytes) in the top byte, then three rounds of finalisation.
    const m = i < 11 ? key[i]! : i === 11 ? 44 << 24 : 0
    if (i === 12) v2 ^= 0xff
    v3 ^= m
    v0 = (v0 + v1) | 0
    v1 = rotate(v1, 5) ^ v0
    v0 = rotate(v0, 16)
    v2 = (v2 + v3) | 0
    v3 = rotate(v3, 8) ^ v2
    v0 = (v0 + v3) | 0
    v3 = rotate(v3, 7) ^ v0
    v2 = (v2 + v1) | 0
    v1 = rotate(v1, 13) ^ v2
    v2 = rotate(v2, 16)
    v0 ^= m
  }
  return v1 ^ v3
}
