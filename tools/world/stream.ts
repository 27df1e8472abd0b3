// A deterministic stream of bytes that does not compress, from a seed: both ends can make it, neither needs to keep it.
import { createCipheriv, createHash } from "node:crypto"
import type { Cipheriv } from "node:crypto"

const CHUNK_BYTES = 65_536
const ZEROS: Buffer = Buffer.alloc(CHUNK_BYTES)

function keystream(seed: number): Cipheriv {
  const key = createHash("sha256").update(`stream ${seed}`).digest()
  return createCipheriv("aes-256-ctr", key, Buffer.alloc(16))
}

/** The first `count` bytes of the stream of `seed`, in chunks. */
export function* streamChunks(count: number, seed: number): Generator<Buffer> {
  const cipher = keystream(seed)
  for (let left = count; left > 0; left -= CHUNK_BYTES) {
    yield cipher.update(left >= CHUNK_BYTES ? ZEROS : ZEROS.subarray(0, left))
  }
}

/** SHA-256 of the first `count` bytes of the stream of `seed`, in hex. */
export function streamDigest(count: number, seed: number): string {
  const hash = createHash("sha256")
  for (const chunk of streamChunks(count, seed)) hash.update(chunk)
  return hash.digest("hex")
}
