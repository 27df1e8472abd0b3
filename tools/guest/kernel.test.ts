import { expect, test } from "vitest"
import { moduleDependencies } from "./kernel.ts"

test("what a module depends on", () => {
  const module = (text: string): Buffer => Buffer.from(`\x7fELF…\0license=GPL\0${text}\0name=x\0`, "latin1")
  expect(moduleDependencies(module("depends=net_failover,failover"))).toEqual(["net_failover", "failover"])
  expect(moduleDependencies(module("depends="))).toEqual([])
  expect(moduleDependencies(module("retpoline=Y"))).toEqual([])
})
