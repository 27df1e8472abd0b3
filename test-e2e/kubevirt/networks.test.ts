// A machine on two networks: the pod's, and one of Multus. Each interface has an engine of its own, and the same port.
import { afterAll, beforeAll, expect, test } from "vitest"
import type { MachineWish } from "../../apps/kubevirt-binding/src/sidecar/test-support/machines.ts"
import { HOST, PAGE, PORT, SERVER } from "../../tools/world/addresses.ts"
import { ask } from "../../tools/world/ask.ts"
import type { Namespace } from "../../tools/world/namespace.ts"
import { createWorld, ip, startServers } from "../../tools/world/world.ts"
import type { World } from "../../tools/world/world.ts"
import { makeHookDirectory, ownedByQemu, plugGuest, preparePod, startSidecar } from "./pod.ts"
import type { Sidecar } from "./pod.ts"

/** The further network (RFC 2544's prefix): the pod's address there, and the world's. */
const LAB = { pod: "198.18.0.2", world: "198.18.0.1", device: "net1" }
const PORTS = { ports: [{ port: PORT.whoami }, { port: PORT.echo, protocol: "UDP" }] }
const MACHINE: MachineWish = {
  interfaces: [PORTS, { name: "lab", ...PORTS }],
  networks: [
    { name: "default", pod: {} },
    { name: "lab", multus: { networkName: "lab" } },
  ],
  statuses: [
    { name: "default", podInterfaceName: "eth0" },
    { name: "lab", podInterfaceName: LAB.device },
  ],
}

let world: World
let sidecar: Sidecar
let onPod: Namespace
let onLab: Namespace

beforeAll(async () => {
  world = await createWorld()
  const pod = world.host
  await preparePod(pod)
  await pod.must(["ip", "link", "add", LAB.device, "type", "veth", "peer", "name", "lab"])
  await pod.must(["ip", "link", "set", "lab", "netns", String(world.world.pid)])
  await ip(pod, [`address add ${LAB.pod}/24 dev ${LAB.device}`, `link set ${LAB.device} up`])
  await ip(world.world, [`address add ${LAB.world}/24 dev lab`, "link set lab up"])
  await startServers(world.world, [LAB.world])
  const hooks = makeHookDirectory()
  await ownedByQemu(hooks)
  sidecar = await startSidecar(pod, {}, hooks)
  const domain = await sidecar.define(MACHINE)
  expect(domain.match(/<interface /g)).toHaveLength(2)
  onPod = await plugGuest(sidecar.engineSocket)
  await startServers(onPod, [HOST.ipv4, HOST.ipv6])
  onLab = await plugGuest(sidecar.engineSocket.replace("default", "lab"))
  await ip(onLab, [
    "address flush dev eth0",
    `address add ${LAB.pod}/24 dev eth0`,
    `route add default via ${LAB.world} dev eth0`,
  ])
  await startServers(onLab, [LAB.pod])
})
afterAll(async () => {
  await sidecar?.stop()
  await onPod?.close()
  await onLab?.close()
  await world?.close()
})

test("one port leads to each interface by its own network, over TCP and UDP", async () => {
  for (const address of [HOST.ipv4, LAB.pod]) {
    expect(await ask(world.world, "tcp", address, PORT.whoami, "")).toMatchObject({
      text: expect.stringMatching(/ \d+\n$/),
    })
    expect(await ask(world.world, "udp", address, PORT.echo, "knock", 3000)).toMatchObject({ text: "knock" })
  }
  // Which guest it was: one of them goes.
  await onLab.must(["ip", "link", "set", "eth0", "down"])
  expect(await ask(world.world, "udp", HOST.ipv4, PORT.echo, "knock", 3000)).toMatchObject({ text: "knock" })
  expect(await ask(world.world, "udp", LAB.pod, PORT.echo, "knock", 1000)).not.toMatchObject({ text: "knock" })
  await ip(onLab, ["link set eth0 up", `route add default via ${LAB.world} dev eth0`])
})

test("the pod's own processes, as a mesh's proxy, reach the guest on the pod's network", async () => {
  for (const address of ["127.0.0.1", HOST.ipv4]) {
    expect(await ask(world.host, "tcp", address, PORT.whoami, "")).toMatchObject({
      text: expect.stringMatching(/ \d+\n$/),
    })
  }
})

test("what the guest sends leaves by the interface's network alone", async () => {
  expect(await ask(onPod, "http", `http://${SERVER.ipv4}/`)).toMatchObject({ text: PAGE })
  // The pod's default route is on its other network; what the interface sends there does not follow it.
  for (const address of [LAB.world, SERVER.ipv4]) {
    const { text } = await ask(onLab, "tcp", address, PORT.whoami, "")
    expect(text).toMatch(new RegExp(`^${LAB.pod.replaceAll(".", "\\.")} `))
  }
})
