import { expect, test } from "vitest"
import { ownedPart } from "./cluster/objects.ts"
import type { Manifest } from "./cluster/objects.ts"
import { bytesOf } from "./commands/doctor.ts"
import { diff, isSame } from "./diff.ts"

const object = (spec: unknown, metadata: object = {}): Manifest => ({
  apiVersion: "v1",
  kind: "DaemonSet",
  metadata: { name: "x", ...metadata },
  spec,
})

test("shows what changes and a little around it", () => {
  const many = Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`f${String(i).padStart(2, "0")}`, i]))
  expect(diff(object(many), object({ ...many, f10: "new" }))).toEqual([
    "@@",
    "   f07: 7",
    "   f08: 8",
    "   f09: 9",
    "-  f10: 10",
    "+  f10: new",
    "   f11: 11",
    "   f12: 12",
    "   f13: 13",
    "@@",
  ])
  expect(diff(undefined, object({ a: 1 })).every((line) => line.startsWith("+"))).toBe(true)
  expect(diff(object({ a: 1 }), object({ a: 1 }))).toEqual(["@@"])
})

test("what the server keeps is no change", () => {
  expect(
    isSame(
      object({ a: 1, b: 2 }, { resourceVersion: "1" }),
      object({ b: 2, a: 1 }, { resourceVersion: "2", generation: 4 }),
    ),
  ).toBe(true)
  expect(isSame(object({ a: 1 }), object({ a: 2 }))).toBe(false)
})

test("what a field manager owns, by FieldsV1 with keys, values and atoms", () => {
  const fieldsV1 = {
    "f:metadata": { "f:labels": { "f:a/b": {} } },
    "f:spec": {
      "f:containers": {
        'k:{"name":"c"}': { ".": {}, "f:name": {}, "f:env": { 'k:{"name":"E"}': { ".": {}, "f:value": {} } } },
      },
      "f:ports": { 'k:{"port":1,"protocol":"TCP"}': { ".": {} } },
      "f:finalizers": { 'v:"x"': {} },
      "f:args": {},
      "f:empty": {},
    },
  }
  const spec = {
    containers: [
      { name: "b", image: "other" },
      {
        name: "c",
        image: "other",
        env: [
          { name: "D", value: "0" },
          { name: "E", value: "1" },
        ],
      },
    ],
    ports: [{ port: 1, protocol: "TCP", name: "http" }],
    finalizers: ["x", "y"],
    args: [1, 2],
    empty: {},
    others: 1,
  }
  const managedFields = [
    { manager: "me", operation: "Apply", fieldsV1 },
    { manager: "me", operation: "Update", fieldsV1: { "f:spec": { "f:others": {} } } },
  ]
  expect(ownedPart(object(spec, { labels: { "a/b": "1", c: "2" }, managedFields }), "me")).toEqual({
    apiVersion: "v1",
    kind: "DaemonSet",
    metadata: { name: "x", labels: { "a/b": "1" } },
    spec: {
      containers: [{ name: "c", env: [{ name: "E", value: "1" }] }],
      ports: [{ port: 1, protocol: "TCP" }],
      finalizers: ["x"],
      args: [1, 2],
      empty: {},
    },
  })
  expect(ownedPart(object(spec), "me")).toEqual({ apiVersion: "v1", kind: "DaemonSet", metadata: { name: "x" } })
})

test("quantities", () => {
  expect(["64M", "128Mi", "1Gi", "1000", "2k", "x", undefined].map(bytesOf)).toEqual([
    64e6,
    2 ** 27,
    2 ** 30,
    1000,
    2000,
    undefined,
    undefined,
  ])
})
