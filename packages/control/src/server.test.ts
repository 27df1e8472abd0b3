import { describe, expect, test } from "vitest"

import { PATIENCE_MS, type Task } from "./client.ts"
import { REQUEST_BYTES_MAX, RequestError } from "./protocol.ts"
import { CLIENTS_MAX } from "./server.ts"
import { Wire } from "./test-support/wire.ts"

/** "echo" answers at once, "many" with 10,000 lines, "wait" when told so, "take" takes a descriptor. */
function newWire(): { wire: Wire; taken: number[]; release: () => void } {
  const taken: number[] = []
  let released = false
  const background = { isBusy: false, step: () => {} }
  const wire = new Wire((call, fields, descriptor): Task => {
    let n = 0
    switch (call) {
      case "echo":
        return {
          step(out) {
            out.line({ fields, done: true })
            return "done"
          },
        }
      case "many":
        return {
          step(out) {
            for (let i = 0; i < 40; i++) out.line({ n: n++, text: "x".repeat(100) })
            if (n < 10_000) return "more"
            out.line({ count: n, done: true })
            return "done"
          },
        }
      case "wait":
        return {
          step(out) {
            if (!released) return "wait"
            out.line({ done: true })
            return "done"
          },
        }
      case "take":
        taken.push(descriptor())
        return { step: () => "done" }
      default:
        throw new RequestError("unknown-call", "no such call")
    }
  }, background)
  return {
    wire,
    taken,
    release: () => {
      released = true
      background.isBusy = true
      wire.run(1)
      background.isBusy = false
      wire.run()
    },
  }
}

const error = (code: string) => ({ error: { code } })

describe("requests", () => {
  test("are answered in their order, with their ids, however they are cut up", () => {
    const { wire } = newWire()
    const fd = wire.connect()
    wire.write(fd, '{"call":"echo","id":1,"a":"b"}\n{"call":"echo","id":"two"}\n\n{"call":"echo"}\n')
    expect(wire.lines(fd)).toEqual([
      { id: 1, fields: { a: "b" }, done: true },
      { id: "two", fields: {}, done: true },
      { fields: {}, done: true },
    ])
    for (const byte of Buffer.from('{"call":"echo","id":3,"é":"☃"}\n')) wire.write(fd, Buffer.of(byte))
    expect(wire.lines(fd)).toEqual([{ id: 3, fields: { é: "☃" }, done: true }])
  })

  test.each([
    ["", "bad-request"],
    ["{", "bad-request"],
    ["[]", "bad-request"],
    ["null", "bad-request"],
    ["7", "bad-request"],
    ['"flows"', "bad-request"],
    ["{}", "bad-request"],
    ['{"call":7}', "bad-request"],
    ['{"call":"echo","id":{}}', "bad-request"],
    ['{"call":"echo","id":[1]}', "bad-request"],
    [`{"call":"echo","id":"${"i".repeat(65)}"}`, "bad-request"],
    ['{"call":"echo","id":1e999}', "bad-request"],
    ['{"call":"echo","v":2}', "unsupported-version"],
    ['{"call":"echo","v":"1"}', "unsupported-version"],
    ['{"call":"__proto__"}', "unknown-call"],
    ["\0\0\0", "bad-request"],
    [`${"[".repeat(8000)}`, "bad-request"],
  ])("%j is refused, and the conversation goes on", (line, code) => {
    const { wire } = newWire()
    const fd = wire.connect()
    wire.write(fd, `${line === "" ? "nothing" : line}\n`)
    expect(wire.lines(fd)).toMatchObject([error(code)])
    wire.write(fd, '{"call":"echo","v":1}\n')
    expect(wire.lines(fd)).toEqual([{ fields: {}, done: true }])
  })

  test("random bytes never end anything but their own conversation", () => {
    const { wire } = newWire()
    const good = wire.connect()
    let seed = 7
    for (let round = 0; round < 50; round++) {
      const fd = wire.connect()
      const bytes = Buffer.alloc(700)
      for (let i = 0; i < bytes.length; i++) {
        seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0
        bytes[i] = seed >>> 24
      }
      wire.write(fd, bytes)
      wire.end(fd)
      expect(wire.isClosed(fd)).toBe(true)
      for (const line of wire.lines(fd)) expect(line).toMatchObject(error("bad-request"))
    }
    wire.write(good, '{"call":"echo"}\n')
    expect(wire.lines(good)).toHaveLength(1)
  })

  test("a line that is too long ends the conversation with an error", () => {
    const { wire } = newWire()
    const fd = wire.connect()
    wire.write(fd, "x".repeat(REQUEST_BYTES_MAX - 1))
    expect(wire.isClosed(fd)).toBe(false)
    wire.write(fd, "xx")
    expect(wire.lines(fd)).toMatchObject([error("bad-request")])
    expect(wire.isClosed(fd)).toBe(true)
  })

  test("the longest line is taken", () => {
    const { wire } = newWire()
    const fd = wire.connect()
    const head = '{"call":"echo"'
    wire.write(fd, `${head}${" ".repeat(REQUEST_BYTES_MAX - head.length - 2)}}\n`)
    expect(wire.lines(fd)).toEqual([{ fields: {}, done: true }])
  })

  test("half a request is waited for, but not for ever", () => {
    const { wire } = newWire()
    const fd = wire.connect()
    wire.write(fd, '{"call":')
    wire.pass(PATIENCE_MS - 1)
    expect(wire.isClosed(fd)).toBe(false)
    // One byte more does not buy more time.
    wire.write(fd, '"')
    wire.pass(1)
    expect(wire.lines(fd)).toMatchObject([error("timeout")])
    expect(wire.isClosed(fd)).toBe(true)
    expect(wire.server.isDue).toBe(false)
  })

  test("a silent client may stay", () => {
    const { wire } = newWire()
    const fd = wire.connect()
    wire.write(fd, '{"call":"echo"}\n')
    wire.pass(100 * PATIENCE_MS)
    expect(wire.isClosed(fd)).toBe(false)
    expect(wire.server.isDue).toBe(false)
  })

  test("one that has said its last still gets its answer", () => {
    const { wire } = newWire()
    const fd = wire.connect()
    wire.write(fd, '{"call":"many"}\n')
    wire.end(fd)
    expect(wire.lines(fd)).toHaveLength(10_001)
    expect(wire.isClosed(fd)).toBe(true)
  })
})

describe("clients that don't read", () => {
  test("hold up their own answer, in bounded memory, and are closed in the end", () => {
    const { wire } = newWire()
    const slow = wire.connect()
    const other = wire.connect()
    wire.allow(slow, 0)
    wire.write(slow, '{"call":"many"}\n'.repeat(50))
    expect(wire.server.isDue && wire.server.dueAt === wire.now).toBe(false)
    wire.write(other, '{"call":"echo"}\n')
    expect(wire.lines(other)).toHaveLength(1)
    wire.allow(slow, 100_000)
    expect(wire.output(slow)).toHaveLength(100_000)
    wire.pass(PATIENCE_MS)
    expect(wire.isClosed(slow)).toBe(true)
    wire.write(other, '{"call":"echo"}\n')
    expect(wire.lines(other)).toHaveLength(1)
  })

  test("whatever is taken at a time, all lines arrive whole and in order", () => {
    const { wire } = newWire()
    const fd = wire.connect()
    wire.allow(fd, 0)
    wire.write(fd, '{"call":"many","id":1}\n')
    for (let i = 0; i < 2000; i++) wire.allow(fd, 1 + ((i * 7919) % 5000))
    const lines = wire.lines(fd)
    expect(lines).toHaveLength(10_001)
    expect(lines.slice(0, -1).every(({ n }, i) => n === i)).toBe(true)
  })

  test("an answer is made in steps, with other clients in turn", () => {
    const { wire } = newWire()
    const [a, b] = [wire.connect(), wire.connect()]
    wire.allow(a, 0)
    wire.write(a, '{"call":"many"}\n')
    wire.allow(a, 1 << 30)
    const before = wire.output(a).length
    expect(before).toBeGreaterThan(0)
    wire.write(b, '{"call":"echo"}\n')
    expect(wire.lines(b)).toHaveLength(1)
  })
})

describe("many clients", () => {
  test("no more than there are places: others are told so", () => {
    const { wire } = newWire()
    const all = Array.from({ length: CLIENTS_MAX }, () => wire.connect())
    const late = wire.connect()
    expect(wire.lines(late)).toMatchObject([error("busy")])
    expect(wire.isClosed(late)).toBe(true)
    wire.end(all[3]!)
    const next = wire.connect()
    wire.write(next, '{"call":"echo"}\n')
    expect(wire.lines(next)).toHaveLength(1)
  })

  test("who waits for something is woken when it goes on, and costs nothing until then", () => {
    const { wire, release } = newWire()
    const fd = wire.connect()
    wire.write(fd, '{"call":"wait","id":9}\n')
    expect(wire.server.isDue).toBe(false)
    wire.pass(100_000)
    expect(wire.isClosed(fd)).toBe(false)
    release()
    expect(wire.lines(fd)).toEqual([{ id: 9, done: true }])
  })
})

describe("descriptors that come along", () => {
  test("go to the call that asks for them, once", () => {
    const { wire, taken } = newWire()
    const fd = wire.connect()
    wire.write(fd, '{"call":"take"}\n', 77)
    wire.write(fd, '{"call":"take"}\n')
    expect(taken).toEqual([77, -1])
    expect(wire.closed).not.toContain(77)
  })

  test("are closed when nobody does: with other calls, wrong ones, too many, and the client", () => {
    const { wire } = newWire()
    const fd = wire.connect()
    wire.write(fd, '{"call":"echo"}\n', 70)
    wire.write(fd, "nonsense\n", 71)
    wire.write(fd, '{"ca', 72)
    wire.write(fd, "ll", 73)
    expect(wire.closed).toEqual([70, 71, 72])
    wire.end(fd)
    expect(wire.closed).toEqual(expect.arrayContaining([70, 71, 72, 73, fd]))
  })
})
