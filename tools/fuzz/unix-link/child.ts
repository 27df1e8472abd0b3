/**
 * Bytes on a real socket into the native link, in a process that may die of it: `child.ts SEED CASES`. Ends with 0 when all
 * went as the model says.
 */
import {
  FRAME_LENGTH_MAX,
  FRAME_MAX,
  FRAME_NEEDS_CHECKSUM,
  FRAME_SEGMENT_TCP4,
  FRAME_SEGMENT_TCP6,
  RX_FRAME_MAX,
  TX_AREA,
} from "../../../packages/core/src/index.ts"
import { type Client, framed, pattern, unframed } from "../../../packages/transport-unix/src/test-support/client.ts"
import { queue, type Setting, setting } from "../../../packages/transport-unix/src/test-support/setting.ts"
import { Random } from "../random.ts"
import { Failure, hex } from "../target.ts"

const ECONNRESET = 104
const EPROTO = 71
/** Bytes of the send area that receiving must leave alone. */
const CANARY = Buffer.alloc(4096, 0xc5)

/** What a stream means: complete frames, and how it goes on. */
function model(stream: Buffer): { frames: Buffer[]; broken: boolean } {
  const frames: Buffer[] = []
  let at = 0
  while (at + 4 <= stream.length) {
    const length = stream.readUInt32BE(at)
    if (length < 14 || length > FRAME_LENGTH_MAX) return { frames, broken: true }
    if (at + 4 + length > stream.length) break
    frames.push(stream.subarray(at + 4, at + 4 + length))
    at += 4 + length
  }
  return { frames, broken: false }
}

function streamOf(r: Random): Buffer {
  const parts: Uint8Array[] = []
  for (let i = r.below(r.pick([2, 6, 300])); i > 0; i--) {
    const length = r.chance(0.9)
      ? r.between(14, 90)
      : r.pick([14, 15, 1514, 9014, FRAME_LENGTH_MAX - 1, FRAME_LENGTH_MAX])
    parts.push(framed(pattern(length, i)))
  }
  if (r.chance(0.4)) {
    const length = Buffer.alloc(4)
    length.writeUInt32BE(
      r.pick([0, 1, 13, 65_536, 65_550, 1 << 24, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, r.word() >>> 0]),
    )
    parts.push(length, r.bytes(r.below(200)))
  }
  if (r.chance(0.1)) parts.unshift(r.bytes(r.below(40)))
  const whole = Buffer.concat(parts)
  return r.chance(0.4) ? whole.subarray(0, r.below(whole.length + 1)) : whole
}

/** Frames that the link hands over now, and the result that ended it. */
function receive(s: Setting): { frames: Buffer[]; result: number } {
  const frames: Buffer[] = []
  for (;;) {
    const rows = s.link.receive()
    if (rows <= 0) return { frames, result: rows }
    if (rows > RX_FRAME_MAX) throw new Failure(`${rows} rows`)
    for (let row = 0; row < rows; row++) {
      const at = s.frames.offset[row]!
      const end = at + s.frames.length[row]!
      if (at < 0 || end > TX_AREA || s.frames.window[row] !== s.frames.length[row])
        throw new Failure(`row at ${at}…${end}`)
      frames.push(Buffer.from(s.frames.arena.subarray(at, end)))
    }
  }
}

function equal(got: readonly Buffer[], want: readonly Buffer[], what: string): void {
  if (got.length !== want.length) throw new Failure(`${what}: ${got.length} frames instead of ${want.length}`)
  got.forEach((frame, i) => {
    if (!frame.equals(want[i]!)) throw new Failure(`${what}: frame ${i} is ${hex(frame).slice(0, 200)}`)
  })
}

function connect(s: Setting): Client {
  const client = s.connect()
  s.link.handleEvent(0, 1)
  if (!s.link.connected) throw new Failure("a client was not taken")
  return client
}

/** One client that says a stream in pieces, which the link takes up after each. */
function say(s: Setting, stream: Buffer, cuts: readonly number[]): void {
  const client = connect(s)
  const got: Buffer[] = []
  const want = model(stream)
  const told = s.told.length
  let broken = false
  let at = 0
  for (const cut of [...cuts, stream.length]) {
    const piece = stream.subarray(at, cut)
    for (let from = 0; from < piece.length && !broken;) {
      from += client.write(piece.subarray(from))
      const { frames, result } = receive(s)
      got.push(...frames)
      if (result < 0 && result !== -EPROTO) throw new Failure(`result ${result}`)
      broken = result < 0
    }
    at = cut
    if (broken) break
    equal(got, model(stream.subarray(0, at)).frames, `after ${at} bytes of ${hex(stream).slice(0, 2000)}`)
  }
  equal(got, want.frames, hex(stream).slice(0, 2000))
  if (broken !== want.broken)
    throw new Failure(`broken: ${broken} instead of ${want.broken}: ${hex(stream).slice(0, 2000)}`)
  client.close()
  if (!broken) {
    const { frames, result } = receive(s)
    if (frames.length > 0 || result !== -ECONNRESET) throw new Failure(`at the end: ${frames.length} frames, ${result}`)
  }
  if (s.link.connected) throw new Failure("a client that is gone is still there")
  const last = s.told.slice(told).at(-1)
  if (last !== `disconnected ${broken ? EPROTO : ECONNRESET}`) throw new Failure(`told: ${last}`)
  if (!CANARY.equals(s.frames.arena.subarray(TX_AREA, TX_AREA + CANARY.length))) {
    throw new Failure("receiving wrote to the send area")
  }
}

function everySplit(r: Random, s: Setting): void {
  const stream = streamOf(r).subarray(0, 120)
  for (let cut = 0; cut <= stream.length; cut++) say(s, stream, [cut])
}

function someSplits(r: Random, s: Setting): void {
  const stream = streamOf(r)
  const cuts = Array.from({ length: r.below(12) }, () => r.below(stream.length + 1))
  say(
    s,
    stream,
    cuts.toSorted((a, b) => a - b),
  )
}

/** Rows to a client that reads when it likes, with columns that may contradict each other: framing must survive. */
function columns(r: Random, s: Setting): void {
  const client = connect(s)
  const got: Buffer[] = []
  for (let turn = r.between(1, 6); turn > 0; turn--) {
    for (let i = r.between(1, 40); i > 0; i--) {
      const length = r.chance(0.9) ? r.between(14, 200) : r.between(200, FRAME_LENGTH_MAX)
      const row = s.link.reserve(length)
      if (row < 0) break
      s.frames.arena.set(pattern(length, i), s.frames.offset[row]!)
      s.frames.length[row] = length
      if (r.chance(0.5)) {
        s.frames.flags[row] = r.pick([FRAME_NEEDS_CHECKSUM, FRAME_SEGMENT_TCP4, FRAME_SEGMENT_TCP6])
        s.frames.checksumStart[row] = r.pick([34, 54, 14, r.below(100)])
        s.frames.checksumOffset[row] = r.pick([6, 16, 2, r.below(100)])
        s.frames.segmentSize[row] = r.pick([1460, 536, 48, r.between(1, 3000)])
        s.frames.arena[s.frames.offset[row]! + 14] = r.pick([0x45, 0x60, 0x4f, r.below(256)])
      }
      s.link.commit(row)
      if (r.chance(0.2)) {
        const all = s.frames.columns.length / FRAME_MAX
        s.frames.columns[r.below(all) * FRAME_MAX + row] = r.pick([
          0,
          -1,
          1,
          0x7fff_ffff,
          -0x8000_0000,
          r.word(),
          r.below(70_000),
        ])
      }
    }
    s.link.flush()
    if (r.chance(0.7)) got.push(client.read(r.pick([1, 100, 100_000, 64 << 20])))
    if (r.chance(0.1)) receive(s)
  }
  for (let i = 0; i < 1000 && s.link.flush() > 0; i++) got.push(client.read())
  got.push(client.read())
  for (const frame of unframed(Buffer.concat(got))) {
    if (frame.length < 60 || frame.length > FRAME_LENGTH_MAX) throw new Failure(`a frame of ${frame.length} bytes`)
  }
  client.close()
  receive(s)
  s.frames.arena.set(CANARY, TX_AREA)
}

/** Clients that come, go and are turned away, with frames for them on the way. */
function comings(r: Random, s: Setting): void {
  const clients = [connect(s)]
  for (let i = r.between(1, 10); i > 0; i--) {
    switch (r.below(5)) {
      case 0:
        clients.push(s.connect())
        break
      case 1:
        r.pick(clients).close()
        break
      case 2:
        queue(s, pattern(r.between(14, 3000)))
        s.link.flush()
        break
      case 3:
        if (r.chance(0.3)) s.link.disconnect()
        break
      default:
        try {
          r.pick(clients).write(streamOf(r).subarray(0, 100))
        } catch {
          // That one is gone.
        }
    }
    if (r.chance(0.7)) s.link.handleEvent(0, 1)
    receive(s)
  }
  for (const client of clients) client.close()
  s.link.disconnect()
  for (let i = 0; i < clients.length; i++) {
    s.link.handleEvent(0, 1)
    receive(s)
  }
  if (s.link.connected) s.link.disconnect()
  s.frames.arena.set(CANARY, TX_AREA)
}

const [seed = 1, cases = 1] = process.argv.slice(2).map(Number)
const s = setting()
let failed = false
for (let i = 0; i < cases && !failed; i++) {
  const r = new Random(seed + i)
  const what = r.pick([everySplit, someSplits, someSplits, columns, comings])
  s.frames.arena.set(CANARY, TX_AREA)
  try {
    what(r, s)
  } catch (error) {
    console.error(`case ${seed + i}, ${what.name}: ${(error as Error).stack}`)
    failed = true
  }
  s.clients.splice(0)
}
s.end()
// Node's own sockets of the clients may linger.
process.exit(failed ? 1 : 0)
