// A real Linux in QEMU, with each network card: one guest for all checks of its kind, per family where that applies.
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { bootGuest } from "../tools/guest/qemu.ts"
import type { Guest } from "../tools/guest/qemu.ts"
import { HOST, PAGE, PORT, RESOLVER, ROUTER, SEARCH_DOMAIN, SERVER } from "../tools/world/addresses.ts"
import { ask } from "../tools/world/ask.ts"
import { startPasst } from "../tools/world/passt.ts"
import type { Passt } from "../tools/world/passt.ts"
import { streamDigest } from "../tools/world/stream.ts"
import { createWorld } from "../tools/world/world.ts"
import type { World } from "../tools/world/world.ts"
import { FAMILIES, inUrl } from "./lib/families.ts"
import { missing, skipNote } from "./lib/needs.ts"

const NICS = ["virtio-net", "e1000"] as const
const NEEDED = ["qemu", "iperf3"] as const

describe.skipIf(missing(NEEDED).length > 0).each(NICS)(`QEMU guest, %s${skipNote(...NEEDED)}`, (nic) => {
  let world: World
  let passt: Passt
  let guest: Guest
  beforeAll(async () => {
    world = await createWorld()
    passt = await startPasst(world.host, ["-t", "8080:80,2000-2001:9000-9001", "-u", "5000:7"])
    guest = await bootGuest({ socket: passt.socket, nic, start: world.host.startAsUser })
    await guest.online()
    await guest.must(`mkdir -p /www && echo "the guest's page" > /www/index.html && httpd -p 80 -h /www`)
    await guest.must("(socat UDP6-RECVFROM:7,ipv6only=0,fork PIPE > /dev/null 2>&1 &)")
    await guest.must("(socat TCP6-LISTEN:9000,ipv6only=0,fork,reuseaddr EXEC:sha256sum > /dev/null 2>&1 &)")
  })
  afterAll(async () => {
    await guest?.kill()
    await passt?.stop()
    await world?.close()
  })

  test("lease: the host's address, route, resolver, search domain and MTU", async () => {
    const lease = await guest.must("cat /run/net/lease")
    expect(lease).toContain(`address ${HOST.ipv4}/${HOST.prefix4}\n`)
    expect(lease).toContain(`router ${ROUTER.ipv4}\n`)
    expect(lease).toContain(`dns ${RESOLVER.ipv4}\n`)
    expect(lease).toContain(`search ${SEARCH_DOMAIN}\n`)
    expect(lease).toContain("mtu 65520\n")
    expect(await guest.must("ip route show default")).toContain(`via ${ROUTER.ipv4}`)
  })
  test("router advertisement: prefix, resolver, search domain and MTU; the kernel's address and route from it", async () => {
    const advertisement = await guest.must("cat /run/net/ra")
    expect(advertisement).toMatch(/Prefix +: 2001:db8:1::\/64/)
    expect(advertisement).toMatch(/MTU +: +65520 bytes/)
    expect(advertisement).toContain(RESOLVER.ipv6)
    expect(advertisement).toContain(SEARCH_DOMAIN)
    expect(await guest.must("ip -6 addr show dev eth0 scope global")).toMatch(/inet6 2001:db8:1:.*\/64 /)
    expect(await guest.must("ip -6 route show default")).toContain("via fe80:")
  })
  test("both resolvers answer, over UDP", async () => {
    for (const { resolver } of FAMILIES) {
      const answer = await guest.must(
        `nslookup -type=a ${SERVER.name} ${resolver}; nslookup -type=aaaa ${SERVER.name} ${resolver}`,
      )
      expect(answer).toContain(SERVER.ipv4)
      expect(answer).toContain(SERVER.ipv6)
    }
  })
  test("a name that does not exist does not exist in the guest either", async () => {
    const result = await guest.run(`nslookup -type=a nowhere.${SEARCH_DOMAIN} ${RESOLVER.ipv4}`)
    expect(result.stdout + result.stderr).toContain("NXDOMAIN")
  })
  test("a page by name, completed by the search domain", async () => {
    expect(await guest.must("wget -q -O - http://www/")).toBe(PAGE)
  })

  describe.each(FAMILIES)("$family", ({ family, server, host }) => {
    const flag = family === "IPv4" ? "-4" : "-6"
    const socatTcp = family === "IPv4" ? "TCP4" : "TCP6"

    test("ping", async () => {
      expect((await guest.run(`ping ${flag} -c 3 -i 0.2 -W 2 ${server}`)).stdout).toContain("3 packets received")
    })
    test("ping with a payload of 5000 bytes, if the card takes it in one frame", async () => {
      const mtu = Number(await guest.must("cat /sys/class/net/eth0/mtu"))
      // Fragments are not put together again; e1000 stays at 1500.
      const size = Math.min(5000, mtu - 100)
      expect((await guest.run(`ping ${flag} -c 1 -W 2 -s ${size} ${server}`)).stdout).toContain("1 packets received")
    })
    test("a page", async () => {
      expect(await guest.must(`wget -q -O - 'http://${inUrl(server)}/'`)).toBe(PAGE)
    })
    test("UDP there and back", async () => {
      const target = `${family === "IPv4" ? "UDP4" : "UDP6"}:${inUrl(server)}:${PORT.echo}`
      expect(await guest.must(`echo datagram | socat -t 2 - ${target}`)).toBe("datagram\n")
    })
    test.each([2048, 5 * 2 ** 20])("%i bytes from the world", async (count) => {
      const request = `echo ${count} 4 | socat -t 60 - ${socatTcp}:${inUrl(server)}:${PORT.stream} | sha256sum`
      expect(await guest.must(request, 60_000)).toContain(streamDigest(count, 4))
    })
    test.each([2048, 5 * 2 ** 20])("%i bytes to the world, our side closed before the answer", async (count) => {
      const source = `head -c ${count} /dev/zero | socat -t 60 - ${socatTcp}:${inUrl(server)}:${PORT.digest}`
      const digest = (await guest.must(`head -c ${count} /dev/zero | sha256sum`)).split(" ")[0]
      expect(await guest.must(source, 60_000)).toBe(`${count} ${digest}\n`)
    })
    test("a closed TCP port is refused", async () => {
      const result = await guest.run(`socat -u ${socatTcp}:${inUrl(server)}:${PORT.closed} -`)
      expect(result.stderr).toContain("Connection refused")
    })
    test("a page of the guest by a forwarded port", async () => {
      expect(await ask(world.world, "http", `http://${inUrl(host)}:8080/`)).toMatchObject({
        text: "the guest's page\n",
      })
    })
    test("a datagram to the guest and back by a forwarded port", async () => {
      expect(await ask(world.world, "udp", host, 5000, "knock", 3000)).toMatchObject({ text: "knock" })
    })
    test("a transfer into the guest by a forwarded range, the world's side closed before the answer", async () => {
      const count = 2 ** 20
      const result = await ask(world.world, "upload", host, 2000, count, 5)
      expect(result.text).toContain(streamDigest(count, 5))
    })
    test("iperf3, both directions", async () => {
      for (const direction of ["", "--reverse"]) {
        const text = await guest.must(`iperf3 --client ${server} --time 1 --json ${direction}`)
        const report = JSON.parse(text) as { end: { sum_received: { bits_per_second: number } } }
        expect(report.end.sum_received.bits_per_second).toBeGreaterThan(1e6)
      }
    })
  })

  test("killed in mid-transfer and booted again", async () => {
    const transfer = guest.run(`echo 2000000000 4 | socat - TCP4:${SERVER.ipv4}:${PORT.stream} > /dev/null`)
    transfer.catch(() => {})
    await new Promise((resolve) => setTimeout(resolve, 500))
    await guest.kill()
    await expect(transfer).rejects.toThrow("the guest is gone")
    expect(passt.process.exitCode).toBeNull()
    guest = await bootGuest({ socket: passt.socket, nic, start: world.host.startAsUser })
    await guest.online()
    expect(await guest.must("wget -q -O - http://www/")).toBe(PAGE)
  })
})
