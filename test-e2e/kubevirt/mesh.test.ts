// A guest in a service mesh: behind our engine its traffic is that of a process in the pod, so the mesh's proxy sees it;
// behind a bridge, the control experiment, the proxy does not.
import { existsSync } from "node:fs"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { HOST, PAGE, PORT, RESOLVER, ROUTER, SERVER } from "../../tools/world/addresses.ts"
import { ask } from "../../tools/world/ask.ts"
import { createNamespace } from "../../tools/world/namespace.ts"
import type { Namespace } from "../../tools/world/namespace.ts"
import { until } from "../../tools/world/process.ts"
import { createWorld, ip, startServers } from "../../tools/world/world.ts"
import type { World } from "../../tools/world/world.ts"
import { skipNote } from "../lib/needs.ts"
import { HEALTH, INBOUND, interceptTraffic, OUTBOUND, startProxy } from "./mesh.ts"
import type { Proxy } from "./mesh.ts"
import { makeHookDirectory, ownedByQemu, plugGuest, preparePod, QEMU_ID, startSidecar } from "./pod.ts"
import type { Sidecar } from "./pod.ts"

/** All ports but some, so that they are fewer than the files that a test machine lets a program open. */
const ISTIO = {
  annotations: { "sidecar.istio.io/inject": "true", "binding.passt/exclude-ports": "100-8900,9100-14900" },
}

const NOTE = skipNote("haproxy", "iptables", "socat")

describe.skipIf(NOTE !== "").each([
  ["the proxy starts after the engine", false],
  ["the proxy starts before the engine", true],
])("%s", (_, isFirst) => {
  let world: World
  let pod: Namespace
  let guest: Namespace
  let sidecar: Sidecar
  let proxy: Proxy

  beforeAll(async () => {
    world = await createWorld()
    pod = world.host
    await preparePod(pod)
    await interceptTraffic(pod)
    if (isFirst) proxy = await startProxy(pod)
    const hooks = makeHookDirectory()
    await ownedByQemu(hooks)
    sidecar = await startSidecar(pod, {}, hooks)
    await sidecar.define(ISTIO)
    guest = await plugGuest(sidecar.engineSocket)
    await startServers(guest, [HOST.ipv4, HOST.ipv6])
    if (!isFirst) proxy = await startProxy(pod)
  })
  afterAll(async () => {
    await sidecar?.stop()
    await guest?.close()
    await world?.close()
  })

  test("the guest's connections land in the proxy, with their original destination", async () => {
    const answer = await ask(guest, "http", `http://${SERVER.ipv4}/`)
    expect(answer).toMatchObject({ text: PAGE })
    await until("the proxy's note", 2000, () => proxy.log().includes(`outbound ${HOST.ipv4} to ${SERVER.ipv4}:80\n`))
  })

  test("connections to the guest pass through the proxy, which comes from 127.0.0.6", async () => {
    const answer = await ask(world.world, "tcp", HOST.ipv4, PORT.whoami, "")
    // To the guest a loopback address is its gateway's.
    expect(answer.text).toMatch(new RegExp(`^${ROUTER.ipv4.replaceAll(".", "\\.")} \\d+`))
    await until("the proxy's note", 2000, () =>
      proxy.log().includes(`inbound ${ROUTER.ipv4} to ${HOST.ipv4}:${PORT.whoami}\n`),
    )
    const page = await ask(world.world, "http", `http://${HOST.ipv4}/`)
    expect(page).toMatchObject({ text: PAGE })
  })

  test("probes and the proxy's other ports are its own, even if the guest listens there", async () => {
    guest.start(["socat", `TCP4-LISTEN:${HEALTH},fork,reuseaddr`, "SYSTEM:echo the guest"])
    for (const port of [HEALTH, 15_020, 15_090, 15_008]) {
      expect(await ask(world.world, "http", `http://${HOST.ipv4}:${port}/`)).toMatchObject({ text: "the proxy" })
    }
    const { stdout } = await pod.run(["ss", "-Htlnp", `sport >= :${OUTBOUND - 1} and sport <= :15090`])
    for (const port of [15_000, 15_001, 15_004, 15_006, 15_008, 15_009, 15_020, 15_021, 15_053, 15_090]) {
      const owners = stdout.split("\n").filter((line) => line.includes(`:${port} `))
      expect(owners, String(port)).toHaveLength(1)
      expect(owners[0]).toContain("haproxy")
    }
    expect(stdout).toContain(":15002 ")
  })

  test("UDP is the guest's, both ways", async () => {
    expect(await ask(world.world, "udp", HOST.ipv4, PORT.echo, "knock", 3000)).toMatchObject({ text: "knock" })
    expect(await ask(guest, "udp", SERVER.ipv4, PORT.echo, "knock", 3000)).toMatchObject({ text: "knock" })
    const { stdout } = await guest.run(["busybox", "nslookup", "-type=a", SERVER.name, RESOLVER.ipv4])
    expect(stdout).toContain(SERVER.ipv4)
  })

  test("without the proxy there is no way around it", async () => {
    await proxy.stop()
    expect(await ask(guest, "http", `http://${SERVER.ipv4}/`)).toMatchObject({ error: "ECONNREFUSED" })
    expect(await ask(world.world, "http", `http://${HOST.ipv4}/`)).toMatchObject({ error: "ECONNREFUSED" })
    proxy = await startProxy(pod)
    expect(await ask(guest, "http", `http://${SERVER.ipv4}/`)).toMatchObject({ text: PAGE })
  })

  test("the engine is the user's that the pod's machine is, and the pod's ports are TCP sockets of its", async () => {
    const { stdout } = await pod.run(["sh", "-c", `ss -Htlnpe "sport = :${PORT.whoami}"`])
    expect(stdout).toContain(`uid:${QEMU_ID}`)
    expect(stdout).not.toContain(`:${INBOUND} `)
  })
})

describe.skipIf(NOTE !== "")(`the control experiment: a bridge${NOTE}`, () => {
  let world: World
  let pod: Namespace
  let guest: Namespace
  let proxy: Proxy
  /** Whether rules for IP hold for what crosses a bridge: on nodes it depends on a kernel module. */
  const filterBridges = (value: 0 | 1): Promise<string> =>
    pod.must(["sh", "-c", `cd /proc/sys/net/bridge 2>/dev/null && echo ${value} >bridge-nf-call-iptables || true`])

  beforeAll(async () => {
    world = await createWorld()
    pod = world.host
    await preparePod(pod)
    await interceptTraffic(pod)
    proxy = await startProxy(pod)
    // KubeVirt's bridge binding: the addresses of the pod's interface, that of its link too, become the guest's.
    guest = await createNamespace("guest")
    await pod.must(["ip", "link", "add", "tap0", "type", "veth", "peer", "name", "to-pod"])
    await pod.must(["ip", "link", "set", "to-pod", "netns", String(guest.pid)])
    const mac = (await pod.must(["cat", "/sys/class/net/eth0/address"])).trim()
    await ip(pod, [
      "link add k6t-eth0 type bridge",
      "link set eth0 address 02:00:00:00:00:99",
      "address flush dev eth0",
      "link set eth0 master k6t-eth0",
      "link set tap0 master k6t-eth0 up",
      "link set k6t-eth0 up",
    ])
    await ip(guest, [
      `link set to-pod name eth0 address ${mac}`,
      "link set eth0 up",
      `address add ${HOST.ipv4}/${HOST.prefix4} dev eth0`,
      `route add default via ${ROUTER.ipv4} dev eth0`,
    ])
    await startServers(guest, [HOST.ipv4])
  })
  afterAll(async () => {
    await proxy?.stop()
    await guest?.close()
    await world?.close()
  })

  test("traffic passes, and the proxy sees none of it", async () => {
    await filterBridges(0)
    expect(await ask(guest, "http", `http://${SERVER.ipv4}/`)).toMatchObject({ text: PAGE })
    const answer = await ask(world.world, "tcp", HOST.ipv4, PORT.whoami, "")
    expect(answer.text).toMatch(new RegExp(`^${ROUTER.ipv4.replaceAll(".", "\\.")} \\d+`))
    expect(proxy.log()).not.toMatch(/^(inbound|outbound)/m)
  })

  test.skipIf(!existsSync("/proc/sys/net/bridge"))("where rules hold for bridges, the guest is cut off", async () => {
    await filterBridges(1)
    const attempt = ["socat", "-T", "2", "-", `TCP4:${SERVER.ipv4}:80,connect-timeout=2`]
    expect((await guest.run(attempt, { input: "" })).status).not.toBe(0)
    // What is redirected seeks the proxy at an address that the pod does not have any more.
    expect(proxy.log()).not.toMatch(/^(inbound|outbound)/m)
    await filterBridges(0)
  })

  test("the proxy's probes are not reached: the pod's address is the guest's", async () => {
    expect(await ask(world.world, "http", `http://${HOST.ipv4}:${HEALTH}/`)).toMatchObject({ error: "ECONNREFUSED" })
  })
})
