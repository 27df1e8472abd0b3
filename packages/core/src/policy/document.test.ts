import fc from "fast-check"
import { describe, expect, test } from "vitest"

import { words } from "../sim/config.ts"
import { compilePolicy, parsePolicy, writeRule } from "./document.ts"
import { PolicyError } from "./error.ts"
import { readJson } from "./json.ts"

function problem(text: string): string {
  try {
    parsePolicy(text)
  } catch (error) {
    if (error instanceof PolicyError) return error.message
    throw error
  }
  return ""
}

const rule = (fields: string): string => `{\n  "rules": [\n    { "action": "allow", ${fields} }\n  ]\n}`

test("a policy with all there is", () => {
  const text = `{
    "default": "drop",
    "existing-flows": "end",
    "dns": { "names": "only-allowed", "private-answers": "refuse" },
    "rules": [
      { "action": "allow", "name": ["*.Example.org", "example.org."], "protocol": "tcp", "port": 443, "label": "web" },
      { "action": "refuse", "refuse-with": "prohibited", "remote": ["10.0.0.0/8", "2001:db8::/32", "192.0.2.1", "::1"] },
      { "action": "redirect", "port": ["25", "587-588"], "to": "[2001:db8::25]:2525" },
      { "action": "allow", "direction": "in", "protocol": ["tcp", "udp"], "limit": { "rate": "1.5M", "burst": 100000 } },
      { "action": "drop", "remote": "multicast" }
    ]
  }`
  expect(parsePolicy(text)).toEqual({
    default: "drop",
    existingFlows: "end",
    dns: { onlyAllowedNames: true, refusePrivateAnswers: true },
    rules: [
      {
        action: "allow",
        direction: "out",
        names: ["*.example.org", "example.org"],
        protocols: ["tcp"],
        ports: [{ first: 443, last: 443 }],
        label: "web",
      },
      {
        action: "refuse",
        refuseWith: "prohibited",
        remotes: [
          { address: words("10.0.0.0"), bits: 104 },
          { address: words("2001:db8::"), bits: 32 },
          { address: words("192.0.2.1"), bits: 128 },
          { address: words("::1"), bits: 128 },
        ],
      },
      {
        action: "redirect",
        direction: "out",
        ports: [
          { first: 25, last: 25 },
          { first: 587, last: 588 },
        ],
        redirect: { address: words("2001:db8::25"), port: 2525 },
      },
      {
        action: "allow",
        direction: "in",
        protocols: ["tcp", "udp"],
        limit: { bytesPerSecond: 1_500_000, burstBytes: 100_000 },
      },
      {
        action: "drop",
        remotes: [
          { address: words("224.0.0.0"), bits: 100 },
          { address: words("255.255.255.255"), bits: 128 },
          { address: words("ff00::"), bits: 8 },
        ],
      },
    ],
  })
})

test("an empty one refuses everything", () => {
  expect(parsePolicy("{}")).toEqual({ rules: [], default: "refuse", existingFlows: "keep" })
})

describe("mistakes are told with their line and field", () => {
  test.each([
    ["", "line 1: the text ends where a value should be"],
    ["[]", "line 1: must be an object"],
    ['{\n"default":\n"perhaps"}', 'line 3: default: "perhaps" is none of allow, refuse, drop'],
    ['{"default": "ask"}', 'line 1: default: "ask" is none of allow, refuse, drop'],
    ['{"rules": [{}]}', "line 1: rules[0].action: is missing"],
    ['{"rules": {}}', "line 1: rules: must be a list"],
    ['{"rulez": []}', "line 1: rulez: is unknown; known are default, existing-flows, dns, rules"],
    ['{\n"default": "drop",\n"default": "allow"}', 'line 3: the field "default" is there twice'],
    ['{"rules": []', 'line 1: the text ends where "}" should be, or a comma and another field'],
    ['{"rules": []}\n}', "line 2: there is something behind the end"],
    ['{"rules": [,]}', 'line 1: there is "," where a value should be'],
    ['{"default": "dr\nop"}', "line 1: a string does not end on its line"],
    ['{"default": "\\x"}', "line 1: a string has an escape or a character that JSON does not know"],
    [`${"[".repeat(100)}`, "line 1: it is nested too deeply"],
    [rule('"port": 0'), 'line 3: rules[0].port: 0 is neither a port, 1 to 65535, nor a range as "8000-8999"'],
    [
      rule('"port": ["80", "9-8"]'),
      'line 3: rules[0].port[1]: "9-8" is neither a port, 1 to 65535, nor a range as "8000-8999"',
    ],
    [rule('"port": []'), "line 3: rules[0].port: an empty list would match nothing: leave it out, or the rule"],
    [rule('"port": 80, "protocol": "icmp"'), "line 3: rules[0].port: ICMP has no ports"],
    [rule('"remote": "10.0.0.1/8"'), /rules\[0\]\.remote: "10\.0\.0\.1\/8" has bits beyond its length of 8/],
    [rule('"remote": "10.0.0.0/33"'), 'line 3: rules[0].remote: "10.0.0.0/33": the length is 0 to 32'],
    [rule('"remote": "home"'), /"home" is no address, no network as .*loopback/],
    [rule('"remote": "::1", "name": "a"'), "line 3: rules[0].remote: goes not together with a name: make two rules"],
    [rule('"name": "a", "direction": "in"'), "line 3: rules[0].direction: names are of what the guest looks for"],
    [rule('"name": "*a.org"'), /rules\[0\]\.name: "\*a\.org" is no name/],
    [rule('"name": "müller.de"'), /is no name/],
    [rule('"to": "1.2.3.4"'), 'line 3: rules[0].to: belongs to rules with the action "redirect"'],
    ['{"rules":[{"action":"redirect"}]}', "line 1: rules[0].to: is missing"],
    ['{"rules":[{"action":"redirect","to":"224.0.0.1:1"}]}', /is no target/],
    ['{"rules":[{"action":"redirect","to":"1.2.3.4:0"}]}', /is no target/],
    ['{"rules":[{"action":"redirect","to":""}]}', /is no target/],
    ['{"rules":[{"action":"redirect","to":"unix:/run/x"}]}', /is no target/],
    [rule('"refuse-with": "reset"'), 'line 3: rules[0].refuse-with: belongs to rules with the action "refuse"'],
    [rule('"limit": 10'), /is no number of bytes from 1000/],
    [rule('"limit": {"burst": 5000}'), "line 3: rules[0].limit.rate: is missing"],
    [rule(`"label": "${"x".repeat(65)}"`), "line 3: rules[0].label: is longer than 64 characters"],
  ])("%j", (text, expected) => {
    if (typeof expected === "string") expect(problem(text)).toBe(expected)
    else expect(problem(text)).toMatch(expected)
  })
})

test("rules are written as they are read", () => {
  const rules = [
    { action: "allow", direction: "in", protocol: ["tcp", "udp"], remote: ["10.0.0.0/8", "::1"], port: [80, "90-99"] },
    {
      action: "redirect",
      direction: "out",
      name: "*.example.org",
      to: "[2001:db8::1]:80",
      limit: { rate: 5000, burst: 9000 },
    },
    { action: "refuse", "refuse-with": "reset", remote: "2001:db8::/32", label: "x" },
    { action: "redirect", direction: "out", to: ":99", limit: 7000 },
  ]
  expect(parsePolicy(JSON.stringify({ rules })).rules.map(writeRule)).toEqual(rules)
})

test("targets", () => {
  const to = (text: string): unknown =>
    parsePolicy(`{"rules":[{"action":"redirect","to":"${text}"}]}`).rules[0]!.redirect
  expect(to(":80")).toEqual({ address: null, port: 80 })
  expect(to("192.0.2.1")).toEqual({ address: words("192.0.2.1"), port: 0 })
  expect(to("192.0.2.1:80")).toEqual({ address: words("192.0.2.1"), port: 80 })
  expect(to("2001:db8::1")).toEqual({ address: words("2001:db8::1"), port: 0 })
  expect(to("[2001:db8::1]")).toEqual({ address: words("2001:db8::1"), port: 0 })
})

test("JSON is read as JSON.parse reads it, with the lines that things are on", () => {
  const plain = (value: ReturnType<typeof readAll>): unknown => {
    if (value.kind === "plain") return value.value
    if (value.kind === "list") return value.items.map(plain)
    return Object.fromEntries([...value.fields].map(([name, field]) => [name, plain(field)]))
  }
  const readAll = (text: string) => {
    const steps = readJson(text)
    for (;;) {
      const { done, value } = steps.next()
      if (done) return value
    }
  }
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 5 }), fc.constantFrom(0, 2), (value, indent) => {
      const text = JSON.stringify(value, undefined, indent)
      const again = readAll(text)
      expect(JSON.stringify(plain(again))).toBe(JSON.stringify(JSON.parse(text)))
    }),
  )
})

test("a long one is read and compiled in small steps", () => {
  const rules = Array.from({ length: 5000 }, (_, i) => ({
    action: "allow",
    remote: `10.${i >> 8}.${i & 255}.0/24`,
    port: [80, 443],
  }))
  const steps = compilePolicy(JSON.stringify({ rules }))
  let count = 0
  let compiled
  do {
    compiled = steps.next()
    count++
  } while (!compiled.done)
  expect(count).toBeGreaterThan(200)
  expect(compiled.value.matcher.match(0, 0, words("10.0.7.9"), 0, 443)).toBe(7)
})
