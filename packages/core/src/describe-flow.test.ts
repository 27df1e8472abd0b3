import { expect, test } from "vitest"
import { parse } from "./wire/address.ts"
import { describeFlow } from "./describe-flow.ts"
import { FAR, FLOW_SHIFT, FlowTable, GUEST, KIND_TCP, KIND_TCP_SPLICE, OUR, PEER, PORT } from "./flow/table.ts"

const table = new FlowTable(new Int32Array(2), 4)

function flow(kind: number, ends: Readonly<Record<number, readonly [string, number]>>): number {
  const number = table.allocate(kind)
  for (const [at, [address, port]] of Object.entries(ends)) {
    const to = (number << FLOW_SHIFT) + Number(at)
    table.words.set(parse(address)!, to)
    table.words[to + PORT] = port
  }
  return number
}

test("the guest's end, and the one that it talks to", () => {
  const peer = ["198.51.100.10", 7] as const
  const number = flow(KIND_TCP, { [GUEST]: ["192.0.2.2", 30_001], [FAR]: peer, [PEER]: peer })
  expect(describeFlow(table.words, number)).toBe("Flow 0 (TCP): guest 192.0.2.2:30001, 198.51.100.10:7")
})

test("what a translated end is for the host", () => {
  const ends = { [GUEST]: ["fd00::2", 1], [FAR]: ["fd00::1", 53], [PEER]: ["::1", 53] } as const
  const line = "Flow 1 (TCP): guest [fd00::2]:1, [fd00::1]:53 = [::1]:53 of the host"
  expect(describeFlow(table.words, flow(KIND_TCP, ends))).toBe(line)
})

test("a spliced flow has no guest", () => {
  const number = flow(KIND_TCP_SPLICE, { [PEER]: ["127.0.0.1", 40_000], [OUR]: ["127.0.0.1", 8080] })
  expect(describeFlow(table.words, number)).toBe("Flow 2 (TCP, spliced): 127.0.0.1:40000, 127.0.0.1:8080")
})
