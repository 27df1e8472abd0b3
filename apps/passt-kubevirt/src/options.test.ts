import { describe, expect, test } from "vitest"
import { run } from "./run.ts"
import { parseOptions } from "./options.ts"
import { USAGE } from "./usage.ts"

async function ran(...args: string[]): Promise<{ exit: number; out: string[]; err: string[] }> {
  const out: string[] = []
  const err: string[] = []
  const exit = await run(args, { print: (line) => out.push(line), tell: (line) => err.push(line) })
  return { exit, out, err }
}

describe("wrong arguments: one line, and status 2", () => {
  test.each([
    [[], "what is to be done? install, status, doctor, uninstall"],
    [["instal"], "there is no command instal"],
    [["status", "now"], "too many arguments: now"],
    [["status", "--force"], "status has no option --force"],
    [["install", "--json", "--image", "x"], "install has no option --json"],
    [["install"], "install needs --image"],
    [["install", "--image"], "--image"],
    [["install", "--image", "a b"], "is not a reference to an image"],
    [["install", "--image", "http://x/y"], "is not a reference to an image"],
    [["install", "--image", "x", "--binding", "A"], "--binding"],
    [["install", "--image", "x", "--preset", "toString"], "--preset: toString is not one of kubernetes, k3s"],
    [["install", "--image", "x", "--cni-dir", "opt"], "is not an absolute path"],
    [["install", "--image", "x", "--cni-dir", "/opt/../etc"], "without .."],
    [["install", "--image", "x", "--ping-group", "4294967295"], "--ping-group"],
    [["install", "--image", "x", "--timeout", "-1"], "--timeout"],
    [["install", "--image", "x", "--sidecar-memory", "lots"], "is not a quantity"],
    [["status", "--nonsense"], "--nonsense"],
    [["status", "--namespace", "../x"], "the name of a namespace"],
  ])("%j", async (args, message) => {
    const { exit, out, err } = await ran(...args)
    expect([exit, out, err.length]).toEqual([2, [], 1])
    expect(err[0]).toMatch(/^passt-kubevirt: /)
    expect(err[0]).toContain(message)
  })
})

test("help and version need no cluster", async () => {
  expect(await ran("install", "--help")).toEqual({ exit: 0, out: [USAGE.trimEnd()], err: [] })
  expect((await ran("--version")).out[0]).toMatch(/^passt-kubevirt \d/)
})

test("the help has every option", () => {
  const options = [
    "image",
    "cni-image",
    "binding",
    "preset",
    "cni-dir",
    "pull-secret",
    "ping-group",
    "compute-memory",
    "sidecar-memory",
  ]
  for (const option of [
    ...options,
    "sidecar-cpu",
    "migration",
    "force",
    "dry-run",
    "timeout",
    "json",
    "kubeconfig",
    "context",
    "namespace",
  ]) {
    expect(USAGE).toContain(`--${option}`)
  }
})

test("images as they are named", () => {
  for (const image of ["a", "a:1", "localhost:5000/a/b:v1.0", `r.example/x@sha256:${"0".repeat(64)}`]) {
    expect(parseOptions(["install", "--image", image])).toMatchObject({
      image,
      cniDir: "/opt/cni/bin",
      timeoutMs: 300_000,
    })
  }
})
