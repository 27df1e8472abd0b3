import fc from "fast-check"
import { beforeEach, describe, expect, test } from "vitest"

import { GuestState } from "../guest.ts"
import { format, isLoopback, isMapped, isUnspecified, parse, setMapped } from "../wire/address.ts"
import { emptyTranslation, type TranslationConfig, Translator } from "./translate.ts"
import { words } from "../test-support/bytes.ts"

let guest: GuestState
beforeEach(() => {
  guest = new GuestState()
  guest.address4.set(words("192.0.2.15"))
  guest.gateway4.set(words("192.0.2.1"))
  guest.address6.set(words("2001:db8::15"))
  guest.ourLinkLocal6.set(words("fe80::1"))
})

function translator(config: { [K in keyof TranslationConfig]?: string }): Translator {
  const full = emptyTranslation()
  for (const [name, text] of Object.entries(config)) full[name as keyof TranslationConfig].set(words(text))
  return new Translator(full, guest)
}
function outbound(t: Translator, address: string, port = 1000, tcpOrUdp = true): string {
  const to = new Int32Array(6)
  t.outbound(Int32Array.of(1, ...words(address)), 1, port, tcpOrUdp, to, 2)
  return format(to, 2)
}
function inbound(t: Translator, address: string): string {
  const to = new Int32Array(6)
  return t.inbound(Int32Array.of(1, ...words(address)), 1, to, 2) ? format(to, 2) : "refused"
}
function target(t: Translator, source: string): string {
  const to = new Int32Array(4)
  return t.guestAddress(words(source), 0, to, 0) ? format(to) : "unknown"
}

describe("from the guest", () => {
  test("nothing is translated unless asked for", () => {
    const t = translator({})
    for (const a of ["198.51.100.7", "192.0.2.1", "192.0.2.15", "2001:db8:1::1", "fe80::1", "ff02::fb"]) {
      expect(outbound(t, a)).toBe(a)
      expect(outbound(t, a, 53)).toBe(a)
    }
  })

  test("DNS: two ports, TCP and UDP only, and to whatever family the resolver has", () => {
    const t = translator({
      dnsForward4: "192.0.2.53",
      dnsHost4: "127.0.0.53",
      dnsForward6: "2001:db8::53",
      dnsHost6: "198.51.100.53",
    })
    expect(outbound(t, "192.0.2.53", 53)).toBe("127.0.0.53")
    expect(outbound(t, "192.0.2.53", 853)).toBe("127.0.0.53")
    expect(outbound(t, "192.0.2.53", 54)).toBe("192.0.2.53")
    expect(outbound(t, "192.0.2.53", 53, false)).toBe("192.0.2.53")
    expect(outbound(t, "192.0.2.54", 53)).toBe("192.0.2.54")
    expect(outbound(t, "2001:db8::53", 53)).toBe("198.51.100.53")
  })

  test("without a resolver the DNS rule does nothing", () => {
    expect(outbound(translator({ dnsForward4: "192.0.2.53" }), "192.0.2.53", 53)).toBe("192.0.2.53")
  })

  test("the host's loopback and the guest's own address on the host have stand-ins", () => {
    const t = translator({
      mapHostLoopback4: "192.0.2.1",
      mapHostLoopback6: "fe80::1",
      mapGuestAddress4: "192.0.2.99",
      mapGuestAddress6: "2001:db8::99",
    })
    expect(outbound(t, "192.0.2.1")).toBe("127.0.0.1")
    expect(outbound(t, "fe80::1")).toBe("::1")
    expect(outbound(t, "192.0.2.99")).toBe("192.0.2.15")
    expect(outbound(t, "2001:db8::99")).toBe("2001:db8::15")
  })

  test("the first rule wins", () => {
    const t = translator({
      dnsForward4: "192.0.2.1",
      dnsHost4: "198.51.100.53",
      mapHostLoopback4: "192.0.2.1",
      mapGuestAddress4: "192.0.2.1",
    })
    expect(outbound(t, "192.0.2.1", 53)).toBe("198.51.100.53")
    expect(outbound(t, "192.0.2.1", 80)).toBe("127.0.0.1")
  })

  test("an address that is not assigned yet never becomes 0.0.0.0 or ::, which are the host's loopback", () => {
    guest.address4.fill(0)
    guest.address6.fill(0)
    const t = translator({ mapGuestAddress4: "192.0.2.99", mapGuestAddress6: "2001:db8::99" })
    expect(outbound(t, "192.0.2.99")).toBe("192.0.2.99")
    expect(outbound(t, "2001:db8::99")).toBe("2001:db8::99")
    setMapped(guest.address4, 0, 0)
    expect(outbound(t, "192.0.2.99")).toBe("192.0.2.99")
  })
})

describe("to the guest", () => {
  test("what the guest can answer stays", () => {
    const t = translator({})
    for (const a of ["198.51.100.7", "2001:db8:1::1", "fe80::9", "192.0.2.1"]) expect(inbound(t, a)).toBe(a)
  })

  test("what it can't comes from our address", () => {
    guest.seen4.set(words("192.0.2.16"))
    guest.seen6.set(words("2001:db8::16"))
    const t = translator({})
    for (const a of ["127.0.0.1", "127.9.9.9", "0.0.0.0", "192.0.2.15", "192.0.2.16"])
      expect([a, inbound(t, a)]).toEqual([a, "192.0.2.1"])
    for (const a of ["::1", "::", "2001:db8::15", "2001:db8::16"]) expect([a, inbound(t, a)]).toEqual([a, "fe80::1"])
  })

  test("that is the IPv6 gateway that was given, if the guest has an address of its scope", () => {
    const t = translator({})
    guest.ourAddress6.set(words("2001:db8::1"))
    expect(inbound(t, "::1")).toBe("2001:db8::1")
    expect(inbound(t, "2001:db8::15")).toBe("2001:db8::1")
    guest.address6.fill(0)
    expect(inbound(t, "::1")).toBe("fe80::1")
    guest.seen6.set(words("2001:db8::16"))
    expect(inbound(t, "::1")).toBe("2001:db8::1")
    guest.ourAddress6.set(words("fe80::99"))
    expect(inbound(t, "::1")).toBe("fe80::1")
  })

  test("without an address of our own the flow is refused", () => {
    guest.gateway4.fill(0)
    guest.ourLinkLocal6.fill(0)
    const t = translator({})
    expect(inbound(t, "127.0.0.1")).toBe("refused")
    expect(inbound(t, "::1")).toBe("refused")
    expect(inbound(t, "198.51.100.7")).toBe("198.51.100.7")
  })

  test("stand-ins: only for exactly 127.0.0.1 and ::1, and for the assigned address", () => {
    const t = translator({
      mapHostLoopback4: "192.0.2.98",
      mapHostLoopback6: "2001:db8::98",
      mapGuestAddress4: "192.0.2.99",
      mapGuestAddress6: "2001:db8::99",
    })
    expect(inbound(t, "127.0.0.1")).toBe("192.0.2.98")
    expect(inbound(t, "127.0.0.2")).toBe("192.0.2.1")
    expect(inbound(t, "::1")).toBe("2001:db8::98")
    expect(inbound(t, "192.0.2.15")).toBe("192.0.2.99")
    expect(inbound(t, "2001:db8::15")).toBe("2001:db8::99")
  })

  test("never shows the guest a loopback or unspecified source, and keeps the family", () => {
    const address = fc.oneof(
      fc.constantFrom("127.0.0.1", "127.1.2.3", "0.0.0.0", "::", "::1", "192.0.2.15", "2001:db8::15"),
      fc.ipV4(),
      fc.ipV6().filter((a) => parse(a) !== undefined),
    )
    fc.assert(
      fc.property(address, (text) => {
        const from = words(text)
        const to = new Int32Array(4)
        const t = translator({})
        expect(t.inbound(from, 0, to, 0)).toBe(true)
        expect(isLoopback(to, 0) || isUnspecified(to, 0)).toBe(false)
        expect(isMapped(to, 0)).toBe(isMapped(from, 0))
      }),
    )
  })
})

describe("the guest's address", () => {
  test("is what was seen, else what was assigned, of the source's family and scope", () => {
    const t = translator({})
    expect(target(t, "198.51.100.7")).toBe("192.0.2.15")
    expect(target(t, "2001:db8:1::1")).toBe("2001:db8::15")
    expect(target(t, "fe80::9")).toBe("unknown")
    guest.seen4.set(words("192.0.2.77"))
    guest.seen6.set(words("2001:db8::77"))
    guest.seenLinkLocal6.set(words("fe80::77"))
    expect(target(t, "198.51.100.7")).toBe("192.0.2.77")
    expect(target(t, "2001:db8:1::1")).toBe("2001:db8::77")
    expect(target(t, "fe80::9")).toBe("fe80::77")
    // IPv4's link-local addresses have no scope of their own here.
    expect(target(t, "169.254.1.1")).toBe("192.0.2.77")
    guest.seen4.fill(0)
    guest.address4.fill(0)
    expect(target(t, "198.51.100.7")).toBe("unknown")
  })
})
