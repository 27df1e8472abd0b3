// Address configuration by the clients that distributions use: udhcpc, dhclient, dhcpcd and the kernel itself.
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest"
import { HOST, RESOLVER, ROUTER, SEARCH_DOMAIN } from "../tools/world/addresses.ts"
import { scratchDirectory } from "../tools/world/enter.ts"
import { stop, until } from "../tools/world/process.ts"
import { missing, skipNote } from "./lib/needs.ts"
import type { NeedName } from "./lib/needs.ts"
import { createStage } from "./lib/stage.ts"
import type { Stage } from "./lib/stage.ts"

const HOSTNAME = "named-by-dhcp"

function lacks(...names: NeedName[]): boolean {
  return missing(["tun", ...names]).length > 0
}

describe.skipIf(lacks())(`configuration clients${skipNote("tun")}`, () => {
  let stage: Stage
  let folder: string
  let script: string
  beforeAll(async () => {
    stage = await createStage(["--hostname", HOSTNAME, "--mtu", "9000"], { configure: "none" })
    folder = mkdtempSync(join(scratchDirectory(), "clients-"))
    // What a client calls with its lease: here it writes down its environment.
    script = join(folder, "script")
    writeFileSync(
      script,
      `#!/bin/sh\nenv >> "${folder}/seen"\n[ "$1" = leasefail ] || echo "event=$1" >> "${folder}/seen"\nexit 0\n`,
    )
    chmodSync(script, 0o755)
    mkdirSync(join(folder, "state"))
  })
  beforeEach(async () => {
    writeFileSync(join(folder, "seen"), "")
    await stage.guest.must(["ip", "address", "flush", "dev", "eth0"])
    await stage.guest.must(["ip", "link", "set", "eth0", "down"])
    await stage.guest.must(["ip", "link", "set", "eth0", "up"])
  })
  afterAll(() => stage?.close())

  const seen = (): string => readFileSync(join(folder, "seen"), "utf8")

  /** The link-local address has to be there before DHCPv6 can be spoken. */
  async function linkLocal(): Promise<void> {
    await until("a link-local address", 10_000, async () => {
      const shown = await stage.guest.must(["ip", "-6", "address", "show", "dev", "eth0", "scope", "link"])
      return shown.includes("fe80") && !shown.includes("tentative")
    })
  }

  test("the kernel: SLAAC", async () => {
    await until("a global address", 15_000, async () => {
      const shown = await stage.guest.must(["ip", "-6", "address", "show", "dev", "eth0", "scope", "global"])
      return /inet6 2001:db8:1:\S*\/64 /.test(shown) && !shown.includes("tentative")
    })
    const routes = await stage.guest.must(["ip", "-6", "route", "show", "default"])
    expect(routes).toContain("via fe80:")
    // The interface itself has 1500: a larger advertised MTU is not taken.
    expect(await stage.guest.must(["ip", "-6", "route", "show", "dev", "eth0"])).toContain("2001:db8:1::/64")
  })

  test.skipIf(lacks("udhcpc"))(`udhcpc${skipNote("udhcpc")}`, async () => {
    const options = ["mtu", "search", "hostname"].flatMap((name) => ["-O", name])
    const client = ["udhcpc", "-i", "eth0", "-s", script, "-n", "-q", "-f", "-t", "5", "-T", "1", ...options]
    await stage.guest.must(client)
    expect(seen()).toContain(`ip=${HOST.ipv4}\n`)
    expect(seen()).toContain("subnet=255.255.255.0\n")
    expect(seen()).toContain(`router=${ROUTER.ipv4}\n`)
    expect(seen()).toContain(`dns=${RESOLVER.ipv4}\n`)
    expect(seen()).toContain(`search=${SEARCH_DOMAIN}\n`)
    expect(seen()).toContain(`hostname=${HOSTNAME}\n`)
    expect(seen()).toContain("mtu=9000\n")
    expect(seen()).toContain("lease=3600\n")
  })

  describe.skipIf(lacks("dhclient"))(`dhclient${skipNote("dhclient")}`, () => {
    async function dhclient(family: "-4" | "-6", ...more: string[]): Promise<void> {
      const configuration = join(folder, "dhclient.conf")
      const wanted =
        family === "-4"
          ? "subnet-mask, routers, domain-name-servers, domain-search, interface-mtu, host-name"
          : "dhcp6.name-servers, dhcp6.domain-search"
      writeFileSync(configuration, `timeout 20;\nrequest ${wanted};\n`)
      const state = join(folder, "state", `dhclient${family}`)
      const client = ["dhclient", family, "-1", "-v", "-cf", configuration, "-sf", script, "-lf", `${state}.leases`]
      await stage.guest.must([...client, "-pf", `${state}.pid`, ...more, "eth0"], { timeoutMs: 30_000 })
      await stage.guest.run(["sh", "-c", `kill "$(cat ${state}.pid)"`])
    }
    test("DHCPv4", async () => {
      await dhclient("-4")
      expect(seen()).toContain(`new_ip_address=${HOST.ipv4}\n`)
      expect(seen()).toContain("new_subnet_mask=255.255.255.0\n")
      expect(seen()).toContain(`new_routers=${ROUTER.ipv4}\n`)
      expect(seen()).toContain(`new_domain_name_servers=${RESOLVER.ipv4}\n`)
      expect(seen()).toMatch(new RegExp(`new_domain_search=.*${SEARCH_DOMAIN}`))
      expect(seen()).toContain(`new_host_name=${HOSTNAME}\n`)
      expect(seen()).toContain("new_interface_mtu=9000\n")
    })
    test("DHCPv6, with an address", async () => {
      await linkLocal()
      await dhclient("-6")
      expect(seen()).toContain(`new_ip6_address=${HOST.ipv6}\n`)
      expect(seen()).toContain(`new_dhcp6_name_servers=${RESOLVER.ipv6}\n`)
      expect(seen()).toMatch(new RegExp(`new_dhcp6_domain_search=.*${SEARCH_DOMAIN}`))
    })
    test("DHCPv6, information only", async () => {
      await linkLocal()
      await dhclient("-6", "-S")
      expect(seen()).toContain(`new_dhcp6_name_servers=${RESOLVER.ipv6}\n`)
      expect(seen()).not.toContain("new_ip6_address")
    })
  })

  test.skipIf(lacks("dhcpcd"))(`dhcpcd, both families${skipNote("dhcpcd")}`, async () => {
    await linkLocal()
    const configuration = join(folder, "dhcpcd.conf")
    const lines = [
      "ipv6rs",
      "ia_na",
      "option domain_name_servers, domain_search, interface_mtu, host_name",
      "timeout 20",
    ]
    writeFileSync(configuration, `${lines.join("\n")}\nscript ${script}\n`)
    // Its folders belong to the system, and its separate unprivileged user does not exist in this user namespace: with
    // a passwd file that does not name it, it runs as one process.
    const passwd = join(folder, "passwd")
    writeFileSync(passwd, "root:x:0:0:root:/root:/bin/sh\n")
    const mounts = `mount -t tmpfs tmpfs /var/lib/dhcpcd; mount -t tmpfs tmpfs /run; mount --bind ${passwd} /etc/passwd`
    const client = `exec dhcpcd --config ${configuration} --nobackground --debug eth0`
    const dhcpcd = stage.guest.start(["sh", "-c", `${mounts}; ${client}`])
    let said = ""
    const keep = (chunk: Buffer): void => void (said += chunk.toString())
    dhcpcd.stdout?.on("data", keep)
    dhcpcd.stderr?.on("data", keep)
    try {
      // It probes for other owners of the address for about five seconds (RFC 5227): nobody may answer.
      await until("both leases", 25_000, () => /leased \S+ for 3600 seconds/.test(said) && seen().includes("event="))
      await until("the lease's hook", 5000, () => seen().includes(`new_ip_address=${HOST.ipv4}\n`))
    } catch (error) {
      throw new Error(`${(error as Error).message}\n${said}`)
    } finally {
      await stop(dhcpcd)
    }
    expect(said).toContain(`leased ${HOST.ipv4} for 3600 seconds`)
    expect(seen()).toContain(`new_routers=${ROUTER.ipv4}\n`)
    expect(seen()).toContain("new_interface_mtu=9000\n")
    // From the router advertisement and from DHCPv6.
    expect(seen()).toContain(RESOLVER.ipv6)
    expect(seen()).toMatch(new RegExp(`new_dhcp6_ia_na1_ia_addr1=${HOST.ipv6}\n`))
  })
})
