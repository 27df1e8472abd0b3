import { closeSync, writeSync } from "node:fs"
import { afterEach, expect, it } from "vitest"
import { NativeKernel, socketPair } from "./index.ts"

const kernels: NativeKernel[] = []
afterEach(() => kernels.splice(0).forEach((kernel) => kernel.destroy()))

function joined(callback: () => void): NativeKernel {
  const kernel = new NativeKernel()
  kernels.push(kernel)
  expect(kernel.joinLoop(callback)).toBe(0)
  return kernel
}

const called = (): { readonly times: () => number; readonly call: () => void } => {
  let times = 0
  return { times: () => times, call: () => void times++ }
}

it("calls back when a descriptor is ready, as long as it is", async () => {
  const { times, call } = called()
  const kernel = joined(call)
  const [ours, theirs] = socketPair() as readonly [number, number]
  kernel.watchLevel(ours, 7)
  await new Promise((resolve) => setTimeout(resolve, 50))
  expect(times()).toBe(0)
  writeSync(theirs, "x")
  await expect.poll(times).toBeGreaterThan(2)
  expect(kernel.wait(0)).toBe(1)
  expect(kernel.events[0]).toBe(7)
  kernel.unwatch(ours)
  closeSync(ours)
  closeSync(theirs)
})

it("calls back when the time has come, once", async () => {
  const { times, call } = called()
  const kernel = joined(call)
  kernel.armLoop(10)
  await expect.poll(times).toBe(1)
  kernel.armLoop(0)
  await expect.poll(times).toBe(2)
  kernel.armLoop(5)
  kernel.armLoop(-1)
  await new Promise((resolve) => setTimeout(resolve, 50))
  expect(times()).toBe(2)
})

it("is joined once at a time, and can be left at any time, in its own callback too", async () => {
  const { times, call } = called()
  const kernel = joined(() => {
    call()
    kernel.leaveLoop()
    kernel.leaveLoop()
  })
  expect(kernel.joinLoop(() => {})).toBe(-114)
  kernel.armLoop(0)
  await expect.poll(times).toBe(1)
  expect(kernel.armLoop(0)).toBe(-9)
  expect(kernel.keepLoop(true)).toBe(-9)
  expect(kernel.joinLoop(call)).toBe(0)
  kernel.armLoop(0)
  await expect.poll(times).toBe(2)
  kernel.destroy()
  expect(kernel.joinLoop(call)).toBe(-9)
  expect(kernel.joinLoop(undefined as unknown as () => void)).toBe(-9)
})

it("is watched in many places at a time", async () => {
  const counts = Array.from({ length: 20 }, called)
  for (const { call } of counts) joined(call).armLoop(1)
  await expect.poll(() => counts.every(({ times }) => times() === 1)).toBe(true)
})
