import fc from "fast-check"
import { describe, expect, test } from "vitest"

import { FLOW_SHIFT, TIMER_SLOT } from "./table.ts"
import { TIMER_DELAY_MAX, TimerWheel } from "./timers.ts"
import { WorkQueue } from "./work.ts"

function make(now: number, flows = 64): TimerWheel {
  const words = new Int32Array(flows << FLOW_SHIFT)
  for (let flow = 0; flow < flows; flow++) words[(flow << FLOW_SHIFT) + TIMER_SLOT] = -1
  return new TimerWheel(words, now)
}
function due(wheel: TimerWheel, now: number): number[] {
  const flows: number[] = []
  for (let flow = wheel.expire(now); flow >= 0; flow = wheel.expire(now)) flows.push(flow)
  return flows
}

describe("the timer wheel", () => {
  test("fires at the deadline, not before", () => {
    for (const delay of [1, 63, 64, 65, 4095, 4096, 4097, 262_143, 262_144, 1_000_000]) {
      for (const start of [0, 1, 63, 64, 12_345, 0x7fffffff, -1]) {
        const wheel = make(start)
        wheel.arm(3, (start + delay) | 0)
        expect(due(wheel, (start + delay - 1) | 0)).toEqual([])
        expect(due(wheel, (start + delay) | 0)).toEqual([3])
        expect(wheel.armed).toBe(0)
      }
    }
  })

  test("a deadline in the past is due at the next tick", () => {
    const wheel = make(1000)
    wheel.arm(1, 10)
    wheel.arm(2, 1000)
    expect(due(wheel, 1000)).toEqual([])
    expect(due(wheel, 1001).sort()).toEqual([1, 2])
  })

  test("arming again moves, disarming removes, armAtLatest never postpones", () => {
    const wheel = make(0)
    wheel.arm(1, 100)
    wheel.arm(1, 200)
    wheel.arm(2, 100)
    wheel.disarm(2)
    wheel.disarm(2)
    wheel.arm(3, 100)
    wheel.armAtLatest(3, 150)
    wheel.arm(4, 150)
    wheel.armAtLatest(4, 100)
    wheel.armAtLatest(5, 100)
    expect(wheel.armed).toBe(4)
    expect(due(wheel, 100).sort()).toEqual([3, 4, 5])
    expect(due(wheel, 199)).toEqual([])
    expect(due(wheel, 200)).toEqual([1])
  })

  test("timers armed while others fire are not lost and don't fire at once for ever", () => {
    const wheel = make(0)
    wheel.arm(1, 10)
    expect(wheel.expire(20)).toBe(1)
    wheel.arm(1, 5)
    wheel.arm(2, 15)
    // The wheel stands at 10: what is overdue comes with its next ticks.
    expect([wheel.expire(20), wheel.expire(20), wheel.expire(20)]).toEqual([1, 2, -1])
  })

  test("more than the longest delay is waited for too", () => {
    const wheel = make(0)
    const delay = TIMER_DELAY_MAX + 100_000
    wheel.arm(1, delay)
    expect(due(wheel, delay - 1)).toEqual([])
    expect(due(wheel, delay)).toEqual([1])
  })

  test("the delay never oversleeps, and is exact within 64 ticks", () => {
    const wheel = make(0)
    expect(wheel.delay(0)).toBe(-1)
    wheel.arm(1, 50)
    expect(wheel.delay(0)).toBe(50)
    expect(wheel.delay(60)).toBe(0)
    wheel.arm(2, 63)
    wheel.disarm(1)
    expect(wheel.delay(10)).toBe(53)
  })

  test("a wait of half a minute takes a few wake-ups, not hundreds", () => {
    for (const start of [0, 77, 0x7fffffff - 5000]) {
      const wheel = make(start)
      wheel.arm(1, (start + 30_000) | 0)
      let now = start
      let wakes = 0
      while (due(wheel, now).length === 0) {
        now = (now + wheel.delay(now)) | 0
        wakes++
      }
      expect((now - start) | 0).toBe(30_000)
      expect(wakes).toBeLessThan(6)
    }
  })

  test("does what a sorted list would, under any sequence of calls", () => {
    const delay = fc.oneof(fc.integer({ min: -5, max: 70 }), fc.nat(5000), fc.nat(400_000))
    const command = fc.record({ what: fc.nat(3), flow: fc.nat(15), delay })
    fc.assert(
      fc.property(
        fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
        fc.array(command, { maxLength: 80 }),
        (start, commands) => {
          const wheel = make(start)
          const model = new Map<number, number>()
          let now = start
          for (const c of commands) {
            if (c.what === 0) {
              const deadline = (now + c.delay) | 0
              wheel.arm(c.flow, deadline)
              // What is due already comes with the next tick.
              model.set(c.flow, c.delay < 1 ? (now + 1) | 0 : deadline)
            } else if (c.what === 1) {
              wheel.disarm(c.flow)
              model.delete(c.flow)
            } else {
              // Sleep as the engine would, at most until something is due.
              const limit = c.what === 2 ? wheel.delay(now) : Math.max(0, c.delay)
              if (limit < 0) continue
              if (c.what === 2) for (const d of model.values()) expect((d - now) | 0).toBeGreaterThanOrEqual(limit)
              now = (now + limit) | 0
              const want = [...model].filter(([, d]) => ((now - d) | 0) >= 0).map(([flow]) => flow)
              expect(due(wheel, now).sort()).toEqual(want.sort())
              for (const flow of want) model.delete(flow)
            }
            expect(wheel.armed).toBe(model.size)
          }
        },
      ),
      { numRuns: 300 },
    )
  })
})

describe("the work queue", () => {
  test("does what a list without repetitions would", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -1, max: 7 }), { maxLength: 60 }), (commands) => {
        const words = new Int32Array(8 << FLOW_SHIFT).fill(-1)
        const queue = new WorkQueue(words)
        const model: number[] = []
        for (const flow of commands) {
          if (flow < 0) expect(queue.take()).toBe(model.shift() ?? -1)
          else {
            queue.add(flow)
            if (!model.includes(flow)) model.push(flow)
          }
          expect(queue.count).toBe(model.length)
        }
      }),
    )
  })
})
