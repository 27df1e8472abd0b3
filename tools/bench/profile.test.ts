import { expect, test } from "vitest"

import { shareOut } from "./profile.ts"

const SCRIPT = `
   99.999000000:      55d0c0de JS:*turn /dist/lib/passt/passt.mjs:10:3 (/tmp/perf-7.map)
  100.000100000:      55d0c0de JS:*turn /dist/lib/passt/passt.mjs:10:3 (/tmp/perf-7.map)
  100.000200000:       1b7b08a v8impl::FunctionCallbackWrapper::Invoke(v8::FunctionCallbackInfo<v8::Value> const&) (/dist/lib/passt/node)
  100.000300000:       1b7b08a v8::internal::Scavenger::Process() (/dist/lib/passt/node)
  100.000400000:  7f77df1c1f38 sendmsg (/usr/lib/x86_64-linux-gnu/libc.so.6)
  100.000500000:  ffffffff821f5127 tcp_sendmsg ([kernel.kallsyms])
  100.000600000:  7f77df1c1f38 passt::sendFrames(int) (/dist/lib/passt/passt.node)
  100.000700000:  7f77df1c1f38 [unknown] ([unknown])
  100.002000000:  ffffffff821f5127 tcp_sendmsg ([kernel.kallsyms])
not a sample
`

test("samples of the interval are JavaScript's, the collector's or native, by where they fell", () => {
  const shares = shareOut(SCRIPT, 100_000, 100_001)
  expect(shares.samples).toBe(7)
  expect(shares.javascript).toBeCloseTo(2 / 7)
  expect(shares.collector).toBeCloseTo(1 / 7)
  expect(shares.native).toBeCloseTo(4 / 7)
  expect(shares.top.map(({ name }) => name)).toContain("turn passt.mjs:10:3 [javascript]")
  expect(shares.top.map(({ name }) => name)).toContain("passt::sendFrames(int) [passt.node]")
})

test("nothing measured has no shares", () => {
  expect(shareOut("", 0, 1)).toEqual({ javascript: 0, native: 0, collector: 0, samples: 0, top: [] })
})
