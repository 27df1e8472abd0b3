import { expect, test } from "vitest"

import { ageText, bytesText, endText, flowTable, forwardTable } from "./text.ts"

test("ends, with brackets around IPv6", () => {
  expect(endText({ address: "192.0.2.1", port: 80 })).toBe("192.0.2.1:80")
  expect(endText({ address: "2001:db8::1", port: 80 })).toBe("[2001:db8::1]:80")
  expect(endText(null)).toBe("-")
})

test.each([
  [0, "0 B"],
  [999, "999 B"],
  [1000, "1.00 kB"],
  [999_499, "999 kB"],
  [999_600, "1.00 MB"],
  [88_120_334, "88.1 MB"],
  [5e15, "5000 TB"],
])("%d bytes as %s", (bytes, text) => {
  expect(bytesText(bytes)).toBe(text)
})

test.each([
  [0, "0.0s"],
  [59_900, "59.9s"],
  [61_000, "1m01s"],
  [3_600_000, "1h00m"],
  [90_000_000, "1d1h"],
])("%d ms as %s", (ms, text) => {
  expect(ageText(ms)).toBe(text)
})

test("tables", () => {
  const flow = {
    row: 1,
    protocol: "tcp",
    kind: "link",
    direction: "out",
    state: "established",
    guest: { address: "192.0.2.15", port: 40_000 },
    far: { address: "198.51.100.7", port: 443 },
    our: null,
    peer: { address: "198.51.100.7", port: 443 },
    ageMs: 1000,
    idleMs: null,
    packetsFromGuest: 1,
    packetsToGuest: 1,
    bytesFromGuest: 12,
    bytesToGuest: 5000,
    rttMicros: null,
  } as const
  expect(flowTable([flow])).toBe(
    `PROTO  WAY   STATE        GUEST                 PEER               AGE  IDLE  FROM GUEST  TO GUEST
tcp    link  established  192.0.2.15:40000  ->  198.51.100.7:443  1.0s     -        12 B   5.00 kB
`,
  )
  const forward = {
    number: 12,
    protocol: "tcp",
    place: "host",
    rule: "TCP [*]:80  =>  80",
    first: 80,
    last: 80,
    open: 1,
  } as const
  expect(forwardTable([forward])).toBe(`NUMBER  PLACE  OPEN  RULE\n12      host   1     TCP [*]:80  =>  80\n`)
})
