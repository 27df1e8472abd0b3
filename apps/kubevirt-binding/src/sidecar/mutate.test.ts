import { describe, expect, test } from "vitest"
import { childrenNamed, type Element, parseDocument } from "./domain/document.ts"
import { mutate } from "./mutate.ts"
import { context, DOMAINS, type InterfaceWish, machineJson, type MachineWish } from "./test-support/machines.ts"

const LIBVIRT = { PASST_ENGINE: "libvirt" }
const ISTIO = { annotations: { "sidecar.istio.io/inject": "true" } }
const E = [15_000, 15_001, 15_004, 15_006, 15_008, 15_009, 15_020, 15_021, 15_053, 15_090]
const WITHOUT_E = "~15000-15001,~15004,~15006,~15008-15009,~15020-15021,~15053,~15090"

/** The `<interface>` of an alias in a domain, as its text. */
function interfaceOf(domain: string, name = "default"): string {
  const found = interfaceElement(domain, name)
  return domain.slice(found.start, found.end)
}

function interfaceElement(domain: string, name = "default"): Element {
  const devices = childrenNamed(parseDocument(domain), "devices")[0]!
  const [found, ...others] = childrenNamed(devices, "interface").filter((each) =>
    childrenNamed(each, "alias").some((alias) => alias.attributes.get("name") === `ua-${name}`),
  )
  expect(others).toEqual([])
  return found!
}

function one(wish: InterfaceWish, more: MachineWish = {}, variables: NodeJS.ProcessEnv = {}): string {
  const json = machineJson({ interfaces: [wish], ...more })
  return interfaceOf(mutate(json, DOMAINS["v1.1"], context(variables)).domain)
}

function options(machine: MachineWish, variables: NodeJS.ProcessEnv = {}): string[] {
  const { engines } = mutate(machineJson(machine), DOMAINS["v1.1"], context(variables))
  return engines.map((engine) => engine.options.join(" "))
}

describe("the interface, with the engine in the sidecar", () => {
  test("a plain one", () => {
    expect(one({})).toBe(
      "<interface type='vhostuser'><alias name='ua-default'/>" +
        "<source type='unix' path='/var/run/kubevirt-hooks/hook-sidecar-0/engine/default.sock' mode='client'>" +
        "<reconnect enabled='yes' timeout='1'/></source><model type='virtio-non-transitional'/></interface>",
    )
  })

  test.each<readonly [string, InterfaceWish, MachineWish, string]>([
    ["MAC address", { macAddress: "02:02:02:02:02:02" }, {}, "<mac address='02:02:02:02:02:02'/>"],
    ["MAC address with dashes", { macAddress: "02-0A-02-02-02-02" }, {}, "<mac address='02:0a:02:02:02:02'/>"],
    [
      "PCI address",
      { pciAddress: "0000:01:1f.7" },
      {},
      "<address type='pci' domain='0x0000' bus='0x01' slot='0x1f' function='0x7'/>",
    ],
    ["ACPI index", { acpiIndex: 101 }, {}, "<acpi index='101'/>"],
    ["boot order", { bootOrder: 2 }, {}, "<boot order='2'/>"],
    ["link that is down", { state: "down" }, {}, "<link state='down'/>"],
    ["MTU", {}, { annotations: { "binding.passt/mtu": "1400" } }, "<mtu size='1400'/>"],
    ["transitional", {}, { devices: { useVirtioTransitional: true } }, "<model type='virtio-transitional'/>"],
    ["model by name", { model: "virtio" }, {}, "<model type='virtio-non-transitional'/>"],
    ["of a mainframe", {}, { spec: { architecture: "s390x" } }, "<model type='virtio'/>"],
  ])("%s", (_, wish, more, expected) => {
    if ("spec" in more) {
      const json = JSON.parse(machineJson({ interfaces: [wish] }))
      Object.assign(json.spec, more.spec)
      expect(interfaceOf(mutate(JSON.stringify(json), DOMAINS["v1.1"], context()).domain)).toContain(expected)
    } else expect(one(wish, more)).toContain(expected)
  })

  test.each<readonly [string, InterfaceWish, MachineWish, string]>([
    ["none listed", {}, {}, "--tcp-ports all --udp-ports all"],
    ["none listed, Istio", {}, ISTIO, `--tcp-ports ${WITHOUT_E} --udp-ports ~15053`],
    ["TCP", { ports: [{ port: 80 }, { port: 443, protocol: "TCP" }] }, {}, "--tcp-ports 80,443 --udp-ports none"],
    ["UDP", { ports: [{ port: 53, protocol: "UDP" }] }, {}, "--tcp-ports none --udp-ports 53"],
    ["both", { ports: [{ port: 80 }, { port: 53, protocol: "udp" }] }, {}, "--tcp-ports 80 --udp-ports 53"],
    ["TCP, Istio", { ports: [{ port: 80 }] }, ISTIO, "--tcp-ports 80 --udp-ports none"],
    ["UDP, Istio", { ports: [{ port: 53, protocol: "UDP" }] }, ISTIO, "--tcp-ports none --udp-ports 53"],
    ["Istio's own, listed", { ports: [{ port: 15_008 }] }, ISTIO, "--tcp-ports none --udp-ports none"],
    ["twice the same", { ports: [{ port: 80 }, { port: 80, name: "b" }] }, {}, "--tcp-ports 80 --udp-ports none"],
    ["ranges", { portRanges: [{ start: 8000, end: 8010 }] }, {}, "--tcp-ports 8000-8010 --udp-ports none"],
    [
      "a range over Istio's",
      { portRanges: [{ start: 14_999, end: 15_005, protocol: "TCP" }] },
      ISTIO,
      "--tcp-ports 14999,15002-15003,15005 --udp-ports none",
    ],
    ["another protocol", { ports: [{ port: 9, protocol: "SCTP" }] }, {}, "--tcp-ports none --udp-ports none"],
    [
      "Linkerd, and what the owner keeps",
      {},
      { annotations: { "linkerd.io/inject": "enabled", "binding.passt/exclude-ports": "udp:9,tcp:9" } },
      "--tcp-ports ~9,~4140,~4143,~4190-4191 --udp-ports ~9",
    ],
    [
      "our own metrics",
      {},
      { annotations: { "binding.passt/metrics-port": "9410" } },
      "--tcp-ports ~9410 --udp-ports all",
    ],
  ])("ports: %s", (_, wish, more, expected) => {
    expect(options({ interfaces: [wish], ...more })).toEqual([`--interface eth0 ${expected} --hostname vm-1`])
  })

  test("the cluster's configuration", () => {
    const [words] = options({}, { PASST_EXCLUDE_PORTS: "4143,udp:5000-5010" })
    expect(words).toContain("--tcp-ports ~4143 --udp-ports ~4143,~5000-5010")
  })

  test("the guest's names, and the MTU", () => {
    const spec = { ...JSON.parse(machineJson()).spec, hostname: "web", subdomain: "apps" }
    const words = options({ spec, annotations: { "binding.passt/mtu": "9000" } })
    expect(words[0]).toMatch(/ --mtu 9000 --hostname web --fqdn web\.apps\.tenant\.svc\.cluster\.local$/)
  })

  test("several interfaces: ports belong to devices, and only a further network is bound to its device", () => {
    const machine: MachineWish = {
      interfaces: [{}, { name: "lab", ports: [{ port: 22 }] }],
      networks: [
        { name: "default", pod: {} },
        { name: "lab", multus: { networkName: "lab" } },
      ],
      statuses: [
        { name: "default", podInterfaceName: "eth0" },
        { name: "lab", podInterfaceName: "pod16477688c0e" },
      ],
    }
    expect(options(machine)).toEqual([
      "--interface eth0 --tcp-ports %eth0/all --tcp-ports %lo/all --udp-ports %eth0/all --udp-ports %lo/all --hostname vm-1",
      "--interface pod16477688c0e --outbound-if4 pod16477688c0e --outbound-if6 pod16477688c0e" +
        " --tcp-ports %pod16477688c0e/22 --udp-ports none --hostname vm-1",
    ])
    const { domain } = mutate(machineJson(machine), DOMAINS["v1.1"], context())
    expect(interfaceOf(domain)).toContain("engine/default.sock'")
    expect(interfaceOf(domain, "lab")).toContain("engine/lab.sock'")
  })

  test("a network that Multus has put in the pod's place", () => {
    const networks = [{ name: "default", multus: { networkName: "udn", default: true } }]
    const statuses = [{ name: "default", podInterfaceName: "ovn-udn1" }]
    expect(options({ networks, statuses })).toEqual([
      "--interface ovn-udn1 --tcp-ports all --udp-ports all --hostname vm-1",
    ])
  })

  test("a name that is too long for a socket's path is made shorter, and stays unique", () => {
    const names = ["a", "b"].map((last) => `${"x".repeat(62)}${last}`)
    const machine = {
      interfaces: names.map((name) => ({ name })),
      networks: [
        { name: names[0], pod: {} },
        { name: names[1], multus: { networkName: "y" } },
      ],
      statuses: names.map((name, i) => ({ name, podInterfaceName: `eth${i}` })),
    }
    const { engines, domain } = mutate(machineJson(machine), DOMAINS["v1.1"], context())
    const paths = [...domain.matchAll(/path='([^']+)'/g)].map((match) => match[1]!)
    expect(new Set(paths).size).toBe(2)
    for (const path of [...paths, ...engines.map(({ control }) => control)]) expect(path.length).toBeLessThan(108)
  })
})

describe("the interface, with the engine of libvirt: KubeVirt's own table", () => {
  const range = (port: number): string => `<range start='${port}'/>`
  const excluded = E.map((port) => `<range start='${port}' exclude='yes'/>`).join("")
  const forward = (proto: string, inner: string): string =>
    inner === "" ? `<portForward proto='${proto}'/>` : `<portForward proto='${proto}'>${inner}</portForward>`
  const ports = (...list: (readonly [number, string])[]) => ({
    ports: list.map(([port, protocol]) => ({ port, protocol })),
  })

  test.each<readonly [string, InterfaceWish, MachineWish, string]>([
    ["none", {}, {}, forward("tcp", "") + forward("udp", "")],
    // There KubeVirt's binding forgets UDP.
    ["none, Istio", {}, ISTIO, forward("tcp", excluded) + forward("udp", "<range start='15053' exclude='yes'/>")],
    ["TCP", ports([80, "TCP"], [22, ""]), {}, forward("tcp", range(80) + range(22))],
    ["UDP", ports([53, "UDP"]), {}, forward("udp", range(53))],
    ["both", ports([80, "TCP"], [53, "UDP"]), {}, forward("tcp", range(80)) + forward("udp", range(53))],
    ["TCP, Istio", ports([80, "TCP"]), ISTIO, forward("tcp", excluded + range(80))],
    ["UDP, Istio", ports([53, "UDP"]), ISTIO, forward("tcp", excluded) + forward("udp", range(53))],
    ["Istio's own", ports([15_008, "TCP"]), ISTIO, ""],
  ])("%s", (_, wish, more, expected) => {
    expect(one(wish, more, LIBVIRT)).toBe(
      "<interface type='vhostuser'><alias name='ua-default'/><source dev='eth0'/>" +
        "<model type='virtio-non-transitional'/><backend type='passt' logFile='/var/run/kubevirt/passt.log'/>" +
        `${expected}</interface>`,
    )
  })

  test("needs no engine; the machine's annotation goes before the cluster's setting", () => {
    const json = machineJson({ annotations: { "binding.passt/engine": "libvirt" } })
    const { engines, domain } = mutate(json, DOMAINS["v1.1"], context())
    expect(engines).toEqual([])
    expect(interfaceOf(domain)).toContain("<backend type='passt'")
    const back = machineJson({ annotations: { "binding.passt/engine": "sidecar" } })
    expect(mutate(back, DOMAINS["v1.1"], context(LIBVIRT)).engines).toHaveLength(1)
  })

  test("other models stay, for libvirt to judge", () => {
    expect(one({ model: "e1000" }, {}, LIBVIRT)).toContain("<model type='e1000'/>")
  })
})

describe("memory", () => {
  const withBacking = (backing: string): string => DOMAINS["v1.1"].replace("<features>", `${backing}<features>`)
  const backingOf = (domain: string): string => {
    const found = childrenNamed(parseDocument(domain), "memoryBacking")
    expect(found).toHaveLength(1)
    return domain.slice(found[0]!.start, found[0]!.end)
  }

  test.each([
    ["none", "", "<source type='memfd'/><access mode='shared'/>"],
    ["empty", "<memoryBacking/>", "<source type='memfd'/><access mode='shared'/>"],
    ["empty, with an end tag", "<memoryBacking></memoryBacking>", "<source type='memfd'/><access mode='shared'/>"],
    [
      "shared already",
      "<memoryBacking><access mode='shared'/></memoryBacking>",
      "<access mode='shared'/><source type='memfd'/>",
    ],
    [
      "shared file",
      "<memoryBacking><source type='file'/><access mode='shared'/></memoryBacking>",
      "<source type='file'/><access mode='shared'/>",
    ],
    ["huge pages", "<memoryBacking><hugepages/></memoryBacking>", "<hugepages/><access mode='shared'/>"],
    ["locked", "<memoryBacking><locked/></memoryBacking>", "<locked/><source type='memfd'/><access mode='shared'/>"],
  ])("%s", (_, backing, expected) => {
    const { domain } = mutate(machineJson(), withBacking(backing), context())
    expect(backingOf(domain)).toBe(`<memoryBacking>${expected}</memoryBacking>`)
  })

  test.each([
    ["<memoryBacking><access mode='private'/></memoryBacking>", 'access mode "private"'],
    ["<memoryBacking><source type='anonymous'/></memoryBacking>", 'source "anonymous"'],
    ["<memoryBacking/><memoryBacking/>", "more than one <memoryBacking>"],
    ["<cpu><numa><cell id='0' memAccess='private'/></numa></cpu>", "NUMA cell"],
  ])("%s is refused", (backing, message) => {
    expect(() => mutate(machineJson(), withBacking(backing), context())).toThrow(message)
  })
})

describe("what is not understood is refused, in a sentence", () => {
  const sentence = /^[^\n]{10,300}[^\n.]$/
  const own = (wish: InterfaceWish): MachineWish => ({ interfaces: [wish] })

  test.each<readonly [string, MachineWish, string]>([
    ["no interface with the binding", { interfaces: [{ binding: { name: "slirp" } }] }, "no interface found"],
    ["no network of that name", { networks: [{ name: "other", pod: {} }] }, "there is no network of this name"],
    ["a network of another kind", { networks: [{ name: "default" }] }, "neither the pod's nor one of Multus"],
    ["no status", { statuses: [] }, "primary network interface status was not found"],
    ["no device", { statuses: [{ name: "default" }] }, "pod network interface name was not found"],
    ["a device's name that is none", { statuses: [{ name: "default", podInterfaceName: "a b" }] }, '"a b"'],
    ["a PCI address that is none", own({ pciAddress: "0000:80:11" }), '"0000:80:11" is not a PCI address'],
    ["a MAC address that is none", own({ macAddress: "02:02" }), '"02:02" is not a MAC address'],
    ["a port out of range", own({ ports: [{ port: 65_536 }] }), "ports[0].port is not an integer from 1 to 65535"],
    ["a port without number", own({ ports: [{}] }), "ports[0].port is not an integer"],
    ["a range that ends before it begins", own({ portRanges: [{ start: 9, end: 8 }] }), "portRanges[0].end"],
    ["ports that are no list", own({ ports: {} as never }), "ports is not a list"],
    ["an ACPI index that is none", own({ acpiIndex: -1 }), "acpiIndex is not an integer"],
    ["a model that is not virtio", own({ model: "e1000e" }), "its model is e1000e, and this binding has only virtio"],
    ["a name that is none", own({ name: "a'b" }), "is not a name"],
    [
      "an annotation of ours that is not known",
      { annotations: { "binding.passt/egnine": "x" } },
      "egnine is not known",
    ],
    ["a mode that is not known", { annotations: { "binding.passt/engine": "x" } }, 'neither "sidecar" nor "libvirt"'],
    ["an MTU that is none", { annotations: { "binding.passt/mtu": "64" } }, '"64" is not a number from 1280'],
    ["twice the pod's network", { interfaces: [{}, {}] }, "two interfaces of the name default"],
  ])("%s", (_, machine, message) => {
    let said = ""
    try {
      mutate(machineJson(machine), DOMAINS["v1.1"], context())
    } catch (error) {
      said = (error as Error).message
    }
    expect(said).toContain(message)
    expect(said).toMatch(sentence)
  })

  test.each([
    ["", "the domain is"],
    ["<domain>", "not well-formed"],
    ["<domain><devices></domain>", "not well-formed"],
    ["<domain/>", "no <devices>"],
    ["<network><devices/></network>", "not a libvirt <domain>"],
    ["<domain xmlns='urn:x'><devices/></domain>", "not a libvirt <domain>"],
    ["<domain><devices/><devices/></domain>", "more than one <devices>"],
    ["<?xml version='1.0' encoding='latin1'?><domain><devices/></domain>", "instead of UTF-8"],
    ["<!DOCTYPE domain [<!ENTITY x 'y'>]><domain><devices/></domain>", "document type"],
    [`<domain>${"<a>".repeat(200)}`, "nested too deeply"],
    [
      "<domain><devices><interface><alias name='ua-default'/></interface><interface><alias name='ua-default'/></interface></devices></domain>",
      "two interfaces with the alias ua-default",
    ],
  ])("domain %s", (domain, message) => {
    expect(() => mutate(machineJson(), domain, context())).toThrow(message)
  })

  test("a boot order beside a machine that boots by kinds of devices", () => {
    const domain = "<domain><os><boot dev='hd'/></os><devices/></domain>"
    expect(() => mutate(machineJson(own({ bootOrder: 1 })), domain, context())).toThrow("boots by kinds of devices")
  })

  test.each(["", "null", "[]", "7", '{"spec":[]}', '{"spec":{"domain":{"devices":{"interfaces":7}}}}'])(
    "machine %s",
    (json) => {
      expect(() => mutate(json, DOMAINS["v1.1"], context())).toThrow(/.+/)
    },
  )
})

test("a plugin's hook leaves machines without our binding alone", () => {
  const json = machineJson({ interfaces: [{ binding: { name: "other" } }] })
  const { domain, engines } = mutate(json, DOMAINS["v1.1"], context({}, false))
  expect([domain, engines]).toEqual([DOMAINS["v1.1"], []])
})

test("what is being unplugged gets no device, and what it does not get is told", () => {
  const machine = mutate(
    machineJson({
      interfaces: [
        { dhcpOptions: { tftpServerName: "x" }, ports: [{ port: 1, protocol: "SCTP" }] },
        { name: "old", state: "absent" },
      ],
      devices: { networkInterfaceMultiqueue: true },
    }),
    DOMAINS["v1.1"],
    context(),
  ).machine
  expect(machine.interfaces.map(({ name }) => name)).toEqual(["default"])
  expect(machine.warnings).toHaveLength(3)
})
