// What the demo shows, each as a check that throws when it does not work and otherwise says what was seen.
import { HOST, PAGE, PORT, RESOLVER, ROUTER, SERVER } from "../world/addresses.ts"
import { ask } from "../world/ask.ts"
import type { Namespace } from "../world/namespace.ts"
import type { Guest } from "../guest/qemu.ts"
import type { Report } from "./report.ts"

/** Ports of the host that passt forwards, and where to. */
export const FORWARD = { tcpHost: 8080, tcpGuest: 80, udpHost: 5000, udpGuest: 7 } as const

const GREETING = "Hello from inside the guest."

function expect(holds: boolean, otherwise: string): void {
  if (!holds) throw new Error(otherwise)
}

/** What udhcpc wrote down: lines of a word and its value. */
function parseLease(text: string): Map<string, string> {
  const pairs = text.split("\n").map((line): [string, string] => {
    const at = line.indexOf(" ")
    return at < 0 ? [line, ""] : [line.slice(0, at), line.slice(at + 1).trim()]
  })
  return new Map(pairs)
}

/** The value of a line "name : value" of rdisc6. */
function advertised(text: string, name: string): string {
  const line = text.split("\n").find((candidate) => candidate.trim().startsWith(name))
  return line?.slice(line.indexOf(":") + 1).trim() ?? ""
}

export async function showConfiguration(report: Report, guest: Guest): Promise<void> {
  const read = async (command: string): Promise<string> => (await guest.run(command)).stdout
  const lease = parseLease(await read("cat /run/net/lease"))
  const advertisement = await read("cat /run/net/ra")
  const addresses = await read("ip -6 addr show dev eth0 scope global")
  const routes4 = await read("ip route show default")
  const routes6 = await read("ip -6 route show default")
  const resolvers = await read("grep nameserver /etc/resolv.conf | cut -d ' ' -f 2")

  report.heading("What the guest got")
  await report.check("IPv4 lease by DHCP", async () => {
    const address = lease.get("address")
    expect(address === `${HOST.ipv4}/${HOST.prefix4}`, `expected the host's address, got ${address ?? "no lease"}`)
    return `${address} from ${lease.get("server")}`
  })
  await report.check("IPv4 default route", async () => {
    const gateway = /via (\S+)/.exec(routes4)?.[1]
    expect(gateway === ROUTER.ipv4, `expected ${ROUTER.ipv4}, got ${gateway ?? "none"}`)
    return `via ${gateway}`
  })
  await report.check("IPv6 prefix by router advertisement", async () => {
    const prefix = advertised(advertisement, "Prefix ")
    expect(prefix.startsWith("2001:db8:1::/64"), `expected 2001:db8:1::/64, got ${prefix || "no advertisement"}`)
    const address = /inet6 (2001:db8:1:\S+)/.exec(addresses)?.[1]
    expect(address !== undefined, "the kernel made no address from it")
    return `${prefix}, address ${address}`
  })
  await report.check("IPv6 default route", async () => {
    const gateway = /via (fe80:\S+)/.exec(routes6)?.[1]
    expect(gateway !== undefined, "none")
    return `via ${gateway}`
  })
  await report.check("resolvers, both families", async () => {
    const servers = resolvers.split("\n").filter((server) => server !== "")
    expect(servers.includes(RESOLVER.ipv4), `${RESOLVER.ipv4} is missing: ${servers.join(", ")}`)
    expect(servers.includes(RESOLVER.ipv6), `${RESOLVER.ipv6} is missing: ${servers.join(", ")}`)
    return servers.join(", ")
  })
  report.fact(
    "MTU",
    `${lease.get("mtu") || "not announced"} by DHCP, ${advertised(advertisement, "MTU ") || "none"} by RA`,
  )
  report.fact("search domain", lease.get("search") ?? "")
}

export async function showOutbound(report: Report, guest: Guest): Promise<void> {
  report.heading("From the guest to the world")
  for (const [family, flag, address] of [
    ["IPv4", "-4", SERVER.ipv4],
    ["IPv6", "-6", SERVER.ipv6],
  ] as const) {
    await report.check(`ping ${family}`, async () => {
      const { stdout } = await guest.run(`ping ${flag} -c 3 -i 0.2 -W 2 ${address}`)
      const average = /= [\d.]+\/([\d.]+)\//.exec(stdout)?.[1]
      expect(/\b3 packets received/.test(stdout), "an answer is missing")
      return `${address}, 3 of 3 answers, ${average} ms on average`
    })
  }
  for (const [family, url] of [
    ["IPv4", `http://${SERVER.ipv4}/`],
    ["IPv6", `http://[${SERVER.ipv6}]/`],
  ] as const) {
    await report.check(`web page over ${family}`, async () => {
      const page = await guest.must(`wget -q -O - '${url}'`)
      expect(page === PAGE, `another page than expected: ${page}`)
      return `${url}: "${page.trim()}"`
    })
  }
  await report.check("name looked up", async () => {
    const answer = await guest.must(`nslookup -type=a ${SERVER.name} && nslookup -type=aaaa ${SERVER.name}`)
    expect(answer.includes(SERVER.ipv4), "no IPv4 address")
    expect(answer.includes(SERVER.ipv6), "no IPv6 address")
    return `${SERVER.name} is ${SERVER.ipv4} and ${SERVER.ipv6}`
  })
  await report.check("web page by name", async () => {
    const page = await guest.must("wget -q -O - http://www/")
    expect(page === PAGE, `another page than expected: ${page}`)
    return "http://www/, completed by the search domain"
  })
  for (const [family, address] of [
    ["IPv4", `UDP4:${SERVER.ipv4}:${PORT.echo}`],
    ["IPv6", `UDP6:[${SERVER.ipv6}]:${PORT.echo}`],
  ] as const) {
    await report.check(`UDP echo over ${family}`, async () => {
      const { stdout } = await guest.run(`echo datagram | socat -t 2 - ${address}`)
      expect(stdout === "datagram\n", "no answer")
      return "a datagram there and back"
    })
  }
}

export async function showInbound(report: Report, guest: Guest, world: Namespace): Promise<void> {
  report.heading("From the world into the guest")
  await guest.must(`mkdir -p /www && echo '${GREETING}' > /www/index.html && httpd -p ${FORWARD.tcpGuest} -h /www`)
  // One server for both families; answers leave from the address that was asked.
  await guest.must(`(socat UDP6-RECVFROM:${FORWARD.udpGuest},ipv6only=0,fork EXEC:cat > /dev/null 2>&1 &)`)
  for (const [family, url] of [
    ["IPv4", `http://${HOST.ipv4}:${FORWARD.tcpHost}/`],
    ["IPv6", `http://[${HOST.ipv6}]:${FORWARD.tcpHost}/`],
  ] as const) {
    await report.check(`forwarded TCP port over ${family}`, async () => {
      const result = await ask(world, "http", url)
      expect(result.text?.trim() === GREETING, result.error ?? `another page than expected: ${result.text}`)
      return `${url} is the guest's port ${FORWARD.tcpGuest}: "${GREETING}"`
    })
  }
  for (const [family, address] of [
    ["IPv4", HOST.ipv4],
    ["IPv6", HOST.ipv6],
  ] as const) {
    await report.check(`forwarded UDP port over ${family}`, async () => {
      const result = await ask(world, "udp", address, FORWARD.udpHost, "anyone there?", 3000)
      expect(result.text === "anyone there?", result.error ?? "no answer")
      return `port ${FORWARD.udpHost} is the guest's port ${FORWARD.udpGuest}: echoed`
    })
  }
}

export async function showThroughput(report: Report, guest: Guest, seconds: number): Promise<void> {
  report.heading(`Throughput (${guest.accel === "tcg" ? "an emulated CPU is the limit here" : "TCP, one stream"})`)
  for (const [family, address] of [
    ["IPv4", SERVER.ipv4],
    ["IPv6", SERVER.ipv6],
  ] as const) {
    for (const [direction, flag] of [
      ["guest to world", ""],
      ["world to guest", "--reverse"],
    ] as const) {
      await report.check(`${direction}, ${family}`, async () => {
        const command = `iperf3 --client ${address} --time ${seconds} ${flag} --json`
        const text = await guest.must(command, (seconds + 20) * 1000)
        const { end } = JSON.parse(text) as { end: { sum_received: { bits_per_second: number; bytes: number } } }
        const { bits_per_second: rate, bytes } = end.sum_received
        expect(rate > 1e6, `only ${Math.round(rate)} bit/s`)
        return `${(rate / 1e6).toFixed(0)} Mbit/s (${(bytes / 2 ** 20).toFixed(0)} MiB)`
      })
    }
  }
}
