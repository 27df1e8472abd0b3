import { expect, test } from "vitest"
import { Chores } from "./chores.ts"

const chore = (dueAt: number, ran: number[], isDue = true) => ({
  isDue,
  dueAt,
  run: (now: number) => void ran.push(now),
})

test("waits for the first chore that is due, across the clock's wrap", () => {
  const chores = new Chores()
  const ran: number[] = []
  expect(chores.wait(5)).toBe(-1)
  chores.add(chore(100, ran, false))
  expect(chores.wait(5)).toBe(-1)
  chores.add(chore(-0x8000_0000 + 10, ran))
  chores.add(chore(0x7fff_ffff, ran))
  expect(chores.wait(0x7fff_fff0)).toBe(15)
  chores.run(0x7fff_fff0)
  expect(ran).toEqual([])
  chores.run(0x7fff_ffff)
  expect(ran).toHaveLength(1)
  expect(chores.wait(-0x8000_0000 + 50)).toBe(0)
})
