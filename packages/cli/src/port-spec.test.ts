import { describe, expect, it } from "vitest"
import { ConfigError } from "./config-error.ts"
import { formatRule } from "./forward-rule.ts"
import { parsePortOptions, type PortContext, type PortOption } from "./port-spec.ts"

const BOTH: PortContext = {
  ipv4: true,
  ipv6: true,
  tcp: true,
  udp: true,
  auto: false,
  ephemeralFirst: 32768,
  ephemeralLast: 60999,
}
const tcp = (spec: string): PortOption => ({ protocol: "tcp", place: 0, spec, written: "-t" })
const udp = (spec: string): PortOption => ({ protocol: "udp", place: 0, spec, written: "-u" })
const rules = (specs: (string | PortOption)[], context: PortContext = BOTH): string[] =>
  parsePortOptions(
    specs.map((spec) => (typeof spec === "string" ? tcp(spec) : spec)),
    context,
  ).map(formatRule)

describe("parsePortOptions", () => {
  it.each<[string, string[]]>([
    ["none", []],
    ["22", ["TCP [*]:22  =>  22 "]],
    ["22:23", ["TCP [*]:22  =>  23 "]],
    ["22,25-27", ["TCP [*]:22  =>  22 ", "TCP [*]:25-27  =>  25-27 "]],
    ["22-80:32-90", ["TCP [*]:22-80  =>  32-90 "]],
    ["/22", ["TCP [*]:22  =>  22 "]],
    ["*/22", ["TCP [*]:22  =>  22 "]],
    ["%eth0/22", ["TCP [*]%eth0:22  =>  22 "]],
    ["*%eth0/22", ["TCP [*]%eth0:22  =>  22 "]],
    ["127.0.0.1/22", ["TCP [127.0.0.1]:22  =>  22 "]],
    ["0.0.0.0/22", ["TCP [0.0.0.0]:22  =>  22 "]],
    ["::/22", ["TCP [::]:22  =>  22 "]],
    ["[2001:db8::1]%eth0/22:23", ["TCP [2001:db8::1]%eth0:22  =>  23 "]],
    ["2001:db8::1%eth0/3000:3001", ["TCP [2001:db8::1]%eth0:3000  =>  3001 "]],
    ["0.0.0.0/22:10.0.0.5/23", ["TCP [0.0.0.0]:22  =>  10.0.0.5:23 "]],
    ["0.0.0.0/22:10.0.0.5", ["TCP [0.0.0.0]:22  =>  10.0.0.5:22 "]],
    ["::/22-23:[fd00::5]/32-33", ["TCP [::]:22-23  =>  [fd00::5]:32-33 "]],
    ["::/22:fd00::5", ["TCP [::]:22  =>  [fd00::5]:22 "]],
    ["1000-1010,~1003-1005", ["TCP [*]:1000-1002  =>  1000-1002 ", "TCP [*]:1006-1010  =>  1006-1010 "]],
    ["~1003-1005,1000-1010:2000-2010", ["TCP [*]:1000-1002  =>  2000-2002 ", "TCP [*]:1006-1010  =>  2006-2010 "]],
    ["22,~22", []],
    ["all", ["TCP [*]:1-32767  =>  1-32767  (best effort)", "TCP [*]:61000-65535  =>  61000-65535  (best effort)"]],
    [
      "~22,~80-81",
      [
        "TCP [*]:1-21  =>  1-21  (best effort)",
        "TCP [*]:23-79  =>  23-79  (best effort)",
        "TCP [*]:82-32767  =>  82-32767  (best effort)",
        "TCP [*]:61000-65535  =>  61000-65535  (best effort)",
      ],
    ],
    ["0.0.0.0/all:10.0.0.5,~61000-65535", ["TCP [0.0.0.0]:1-32767  =>  10.0.0.5:1-32767  (best effort)"]],
  ])("reads %s", (spec, expected) => {
    expect(rules([spec])).toEqual(expected)
  })

  it("narrows the wildcard to the one family in use", () => {
    expect(rules(["22"], { ...BOTH, ipv6: false })).toEqual(["TCP [0.0.0.0]:22  =>  22 "])
    expect(rules(["*/22"], { ...BOTH, ipv4: false })).toEqual(["TCP [::]:22  =>  22 "])
    expect(rules(["22:10.0.0.5"], { ...BOTH, ipv6: false })).toEqual(["TCP [0.0.0.0]:22  =>  10.0.0.5:22 "])
  })

  it("reports a dual-stack wildcard as no address", () => {
    const [rule] = parsePortOptions([tcp("22")], BOTH)
    expect(rule).toMatchObject({ address: null, dualStack: true, device: "", weak: false, auto: false })
    expect(parsePortOptions([tcp("::/22")], BOTH)[0]).toMatchObject({ dualStack: false })
  })

  it("marks all rules of an automatic specification, where that is possible", () => {
    expect(rules(["auto,22"], { ...BOTH, auto: true })).toEqual(["TCP [*]:22  =>  22  (auto-scan)"])
    expect(rules(["auto"], { ...BOTH, auto: true })[0]).toBe("TCP [*]:1-32767  =>  1-32767  (best effort) (auto-scan)")
  })

  it.each([
    [["auto"], "'auto' port forwarding is only allowed for pasta"],
    [["22", "none"], "-t none conflicts with previous options"],
    [[""], "Invalid port specifier ''"],
    [["22,"], "Invalid port specifier '22,'"],
    [["22,,23"], "Invalid port specifier '22,,23'"],
    [["80-22"], "Invalid port specifier '80-22'"],
    [["65536"], "Invalid port specifier '65536'"],
    [["22-80:32-91"], "Invalid port specifier '22-80:32-91'"],
    [["22-80:32"], "Invalid port specifier '22-80:32'"],
    [["22:"], "Invalid port specifier '22:'"],
    [["~22:23"], "Invalid port specifier '~22:23'"],
    [["300.0.0.1/22"], "Invalid port specifier '300.0.0.1/22'"],
    [["[10.0.0.1]/22"], "Invalid port specifier '[10.0.0.1]/22'"],
    [["::ffff:10.0.0.1/22"], "Invalid port specifier '::ffff:10.0.0.1/22'"],
    [["%/22"], "Invalid port specifier '%/22'"],
    [["%averyveryverylongname/22"], "Invalid port specifier '%averyveryverylongname/22'"],
    [["127.0.0.1/"], "Invalid port specifier '127.0.0.1/'"],
    [["all,22"], "Invalid port specifier 'all,22'"],
    [["none,22"], "Invalid port specifier 'none,22'"],
    [["+22"], "Invalid port specifier '+22'"],
    [["0"], "Forwarding rule attempts to map from port 0"],
    [["0-5"], "Forwarding rule attempts to map from port 0"],
    [["22:0"], "Forwarding rule attempts to map to port 0"],
    [
      ["22:10.0.0.5"],
      "Target address 10.0.0.5 in '22:10.0.0.5' needs a listening address. Did you mean 0.0.0.0/22:10.0.0.5 instead?",
    ],
    [
      ["*%eth0/22:fd00::5"],
      "Target address fd00::5 in '*%eth0/22:fd00::5' needs a listening address. Did you mean ::%eth0/22:fd00::5 instead?",
    ],
    [["::1/22:10.0.0.5"], "Target address 10.0.0.5 in '::1/22:10.0.0.5' is not of the family of ::1"],
    [
      ["0.0.0.0/22:224.0.0.1"],
      "Invalid target address 224.0.0.1 in '0.0.0.0/22:224.0.0.1': it must be a unicast address",
    ],
  ])("refuses %j", (specs, message) => {
    expect(() => rules(specs)).toThrow(new ConfigError(message))
  })

  it("keeps rules of the namespace's loopback apart", () => {
    const context = { ...BOTH, auto: true }
    const inside = (spec: string): PortOption => ({ protocol: "tcp", place: 1, spec, written: "-T" })
    expect(rules([inside("auto")], context)[0]).toBe("TCP [*]%lo:1-32767  =>  1-32767  (best effort) (auto-scan)")
    // Nor do they conflict with the host's, and "none" is each table's own.
    expect(rules(["22", inside("22:23")], context)).toEqual(["TCP [*]:22  =>  22 ", "TCP [*]%lo:22  =>  23 "])
    expect(rules(["22", inside("none")], context)).toEqual(["TCP [*]:22  =>  22 "])
    expect(parsePortOptions([inside("22")], context)[0]).toMatchObject({ place: 1, device: "lo", dualStack: true })
    expect(() => rules([inside("22"), inside("none")], context)).toThrow("-T none conflicts with previous options")
    expect(() => rules([inside("22"), inside("20-30")], context)).toThrow(/conflict: TCP \[\*\]%lo:20-30/)
    for (const spec of ["127.0.0.1/22", "%lo/22", "/22"]) {
      expect(() => rules([inside(spec)], context)).toThrow(`Listening address not allowed for -T ${spec}`)
    }
    expect(() => rules([inside("22:10.0.0.5/23")], context)).toThrow("Target address not allowed for -T 22:10.0.0.5/23")
  })

  it("counts no sockets for ports that open by themselves", () => {
    const context = { ...BOTH, auto: true }
    const hosts = Array.from({ length: 20 }, (_, i) => `127.0.0.${i + 1}/auto`)
    expect(rules(hosts, context)).toHaveLength(40)
    expect(() =>
      rules(
        hosts.map((spec) => spec.replace("auto", "all")),
        context,
      ),
    ).toThrow("Too many listening sockets")
  })

  it("refuses rules of what is switched off", () => {
    expect(() => rules(["22"], { ...BOTH, tcp: false })).toThrow("-t 22: TCP is disabled by --no-tcp")
    expect(rules(["none"], { ...BOTH, tcp: false })).toEqual([])
    expect(() => rules(["::1/22"], { ...BOTH, ipv6: false })).toThrow("-t ::1/22: IPv6 is disabled")
  })

  it.each([
    [["22", "22"]],
    [["20-30", "25"]],
    [["22", "127.0.0.1/22"]],
    [["0.0.0.0/22", "127.0.0.1/22"]],
    [["::/22", "[::1]/22"]],
    [["22,20-23"]],
    [["22", "%eth0/22"]],
    [["%eth0/22", "%eth0/22"]],
    [["all", "22"]],
  ])("finds the conflict in %j", (specs) => {
    expect(() => rules(specs)).toThrow(/^Forwarding configuration conflict: TCP \[.*\d versus TCP \[.*$/)
  })

  it.each([
    [["22", "23"]],
    [["127.0.0.1/22", "127.0.0.2/22"]],
    [["0.0.0.0/22", "::/22"]],
    [["%eth0/22", "%eth1/22"]],
    [["127.0.0.1%eth0/22", "127.0.0.1%eth1/22"]],
    [["22", udp("22")]],
  ])("finds no conflict in %j", (specs) => {
    expect(rules(specs).length).toBe(2)
  })

  it("names both rules of a conflict", () => {
    expect(() => rules(["22-80", "127.0.0.1/22:23"])).toThrow(
      "Forwarding configuration conflict: TCP [127.0.0.1]:22  =>  23 versus TCP [*]:22-80  =>  22-80",
    )
  })

  it("keeps to the limits", () => {
    const odd = Array.from({ length: 256 }, (_, i) => String(2 * i + 1))
    expect(rules([odd.slice(0, 255).join(",")]).length).toBe(255)
    expect(() => rules([odd.join(",")])).toThrow("Too many forwarding rules (maximum 255)")
    const whole = [1, 2, 3, 4, 5].map((n) => `127.0.0.${n}/1-65535`)
    expect(rules(whole).length).toBe(5)
    expect(() => rules([...whole, "127.0.0.6/1-6"])).toThrow("Too many listening sockets (maximum 327680)")
  })
})
