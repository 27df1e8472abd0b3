// A namespace that pasta does not set up: its own clients ask, by DHCP, DHCPv6 and router solicitations.
import { chmodSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest"
import { HOST, RESOLVER, ROUTER, SEARCH_DOMAIN } from "../tools/world/addresses.ts"
import { scratchDirectory } from "../tools/world/enter.ts"
import { until } from "../tools/world/process.ts"
import { missing, skipNote } from "./lib/needs.ts"
import type { NeedName } from "./lib/needs.ts"
import { createPastaStage } from "./lib/pasta.ts"
import type { PastaStage } from "./lib/pasta.ts"

const lacks = (...names: NeedName[]): boolean => missing(["tun", ...names]).length > 0

describe.skipIf(lacks())(`configuration clients behind pasta${skipNote("tun")}`, () => {
  let stage: PastaStage
  let folder: string
  let script: string
  beforeAll(async () => {
    stage = await createPastaStage(["--dhcp-dns", "--dhcp-search", "--mtu", "9000"])
    folder = mkdtempSync(join(scratchDirectory(), "clients-"))
    // What a client calls with its lease: here it writes down its environment.
    script = join(folder, "script")
    writeFileSync(script, `#!/bin/sh\nenv >> "${folder}/seen"\nexit 0\n`)
    chmodSync(script, 0o755)
  })
  beforeEach(async () => {
    writeFileSync(join(folder, "seen"), "")
    await stage.guest.must(["ip", "link", "set", "eth0", "down"])
    await stage.guest.must(["ip", "address", "flush", "dev", "eth0"])
    await stage.guest.must(["ip", "link", "set", "eth0", "up"])
  })
  afterAll(() => stage?.close())

  const seen = (): string => readFileSync(join(folder, "seen"), "utf8")
  const addresses = (scope: string): Promise<string> =>
    stage.guest.must(["ip", "-6", "address", "show", "dev", "eth0", "scope", scope])

  test("the kernel: SLAAC", async () => {
    await until("a global address", 15_000, async () => {
      const shown = await addresses("global")
      return /inet6 2001:db8:1:\S*\/64 /.test(shown) && !shown.includes("tentative")
    })
    expect(await stage.guest.must(["ip", "-6", "route", "show", "default"])).toContain("via fe80:")
  })

  test.skipIf(lacks("udhcpc"))(`udhcpc${skipNote("udhcpc")}`, async () => {
    const options = ["mtu", "search"].flatMap((name) => ["-O", name])
    const client = ["udhcpc", "-i", "eth0", "-s", script, "-n", "-q", "-f", "-t", "5", "-T", "1", ...options]
    await stage.guest.must(client)
    expect(seen()).toContain(`ip=${HOST.ipv4}\n`)
    expect(seen()).toContain(`router=${ROUTER.ipv4}\n`)
    expect(seen()).toContain(`dns=${RESOLVER.ipv4}\n`)
    expect(seen()).toContain(`search=${SEARCH_DOMAIN}\n`)
    expect(seen()).toContain("mtu=9000\n")
  })

  describe.skipIf(lacks("dhclient"))(`dhclient${skipNote("dhclient")}`, () => {
    async function dhclient(family: "-4" | "-6"): Promise<void> {
      const state = join(folder, `dhclient${family}`)
      const client = ["dhclient", family, "-1", "-v", "-sf", script, "-lf", `${state}.leases`, "-pf", `${state}.pid`]
      await stage.guest.must([...client, "eth0"], { timeoutMs: 30_000 })
      await stage.guest.run(["sh", "-c", `kill "$(cat ${state}.pid)"`])
    }
    test("DHCPv4", async () => {
      await dhclient("-4")
      expect(seen()).toContain(`new_ip_address=${HOST.ipv4}\n`)
      expect(seen()).toContain(`new_routers=${ROUTER.ipv4}\n`)
      expect(seen()).toContain(`new_domain_name_servers=${RESOLVER.ipv4}\n`)
    })
    test("DHCPv6", async () => {
      await until("a link-local address", 10_000, async () => {
        const shown = await addresses("link")
        return shown.includes("fe80") && !shown.includes("tentative")
      })
      await dhclient("-6")
      expect(seen()).toContain(`new_ip6_address=${HOST.ipv6}\n`)
      expect(seen()).toContain(`new_dhcp6_name_servers=${RESOLVER.ipv6}\n`)
    })
  })
})
