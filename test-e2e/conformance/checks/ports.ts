// Section 1.12: port forwarding, every form.
import { deepEqual, equal, match, ok } from "node:assert/strict"
import { HOST, ROUTER } from "../../../tools/world/addresses.ts"
import type { Area, Check } from "../check.ts"
import type { Stage } from "../stage.ts"

/** What passt listens on in the host's namespace, as "ADDRESS:PORT", sorted. */
async function listening(t: Stage, protocol: "tcp" | "udp" = "tcp"): Promise<string[]> {
  const text = await t.host.must(["ss", "-Hnl", `--${protocol}`])
  return text
    .split("\n")
    .filter((line) => line.trim() !== "")
    .map((line) => line.trim().split(/\s+/)[3]!)
    .toSorted()
}

/** The ports among them. */
async function ports(t: Stage, protocol: "tcp" | "udp" = "tcp"): Promise<number[]> {
  const all = (await listening(t, protocol)).map((address) => Number(address.split(":").at(-1)))
  return [...new Set(all)].toSorted((one, other) => one - other)
}

/** A check of which ports are open with a specification. */
const opens = (id: string, title: string, spec: string, wanted: readonly number[]): Check => ({
  id: `1.12.${id}`,
  title: `\`${spec}\`: ${title}`,
  async run(t) {
    await t.alone()
    await t.guest(["-t", spec, "-u", spec])
    deepEqual([await ports(t), await ports(t, "udp")], [wanted, wanted])
  },
})

/** Where in the guest connections to these ports of the host arrive. */
async function arrives(
  t: Stage,
  spec: string,
  pairs: readonly (readonly [number, number])[],
  to: string = HOST.ipv4,
): Promise<void> {
  const guest = await t.guest(["-u", spec])
  const end = await t.worldPeer.bind(to.includes(":") ? ROUTER.ipv6 : ROUTER.ipv4)
  for (const [port, target] of pairs) {
    await end.send(to, port, `to ${port}`)
    equal((await guest.receiveUdp(target)).udp!.payload.toString(), `to ${port}`)
  }
}

const REFUSED: readonly (readonly [string, readonly string[]])[] = [
  ["numbers that are no port", ["65536", "-1", "ssh", "22.5", "+22", "1000000000000"]],
  ["lists and ranges that are not well-formed", ["", "22,", ",22", "22,,23", "80-22", "22-", "22:", "22:23:24"]],
  ["ranges of different lengths", ["2200-2280:3200-3281", "2200-2280:32"]],
  ["port 0", ["0", "0-5", "2200:0"]],
  ["addresses that are none", ["300.0.0.1/2200", "127.0.0.1/", "[127.0.0.1]/2200", "nohost/2200"]],
  ["interface names that are none", ["%/2200", "%averyveryverylongname/2200"]],
  ["all with more, none with more", ["all,22", "none,22"]],
]

export const forwarding: Area = {
  title: "Port forwarding",
  checks: [
    opens("one", "one port", "20020", [20_020]),
    opens("list", "several ports", "20020,20025", [20_020, 20_025]),
    opens("range", "a range", "20020-20023", [20_020, 20_021, 20_022, 20_023]),
    opens(
      "range-list",
      "several ranges, ports between them",
      "20020-20021,20025,20030-20031",
      [20_020, 20_021, 20_025, 20_030, 20_031],
    ),
    opens("exclusion", "a range but for some ports", "20020-20026,~20022-20024", [20_020, 20_021, 20_025, 20_026]),
    opens("none", "no port", "none", []),
    {
      id: "1.12.mapping",
      title: "`20020:30020`: another port in the guest",
      run: (t) => arrives(t, "20020:30020", [[20_020, 30_020]]),
    },
    {
      id: "1.12.range-mapping",
      title: "`20020-20022:30020-30022`: other ports in the guest, each its own",
      run: (t) =>
        arrives(t, "20020-20022:30020-30022", [
          [20_020, 30_020],
          [20_022, 30_022],
          [20_021, 30_021],
        ]),
    },
    {
      id: "1.12.mapping-exclusion",
      title: "`20020-20024:30020-30024,~20022`: mapping goes on behind what is left out",
      reference: "differs",
      because: "the version of 2023 refuses it",
      run: (t) =>
        arrives(t, "20020-20024:30020-30024,~20022", [
          [20_021, 30_021],
          [20_023, 30_023],
        ]),
    },
    {
      id: "1.12.ipv6",
      title: "a port is open in both families",
      run: (t) => arrives(t, "20020", [[20_020, 20_020]], HOST.ipv6),
    },
    {
      id: "1.12.address",
      title: "`192.0.2.2/20020`: only at that address",
      async run(t) {
        await t.alone()
        await t.guest(["-t", "192.0.2.2/20020", "-u", "192.0.2.2/20020"])
        deepEqual([await listening(t), await listening(t, "udp")], [["192.0.2.2:20020"], ["192.0.2.2:20020"]])
      },
    },
    {
      id: "1.12.address-ipv6",
      title: "`2001:db8:1::2/20020` and `[2001:db8:1::2]/20020`: only at that address",
      reference: "differs",
      because: "the form in brackets came in 2025",
      async run(t) {
        await t.guest(["-t", "2001:db8:1::2/20020", "-t", "[2001:db8:1::2]/20021"])
        deepEqual(await listening(t), ["[2001:db8:1::2]:20020", "[2001:db8:1::2]:20021"])
      },
    },
    {
      id: "1.12.loopback",
      title: "`127.0.0.1/20020`: only from the host itself",
      async run(t) {
        await t.guest(["-t", "127.0.0.1/20020"])
        equal(await t.worldPeer.connectError(HOST.ipv4, 20_020), "ECONNREFUSED")
        equal(await t.hostPeer.connectError("127.0.0.1", 20_020), undefined)
      },
    },
    {
      id: "1.12.interface",
      title: "`%eth0/20020`: only from that interface",
      reference: "differs",
      because: "the version of 2023 needs an address before it",
      async run(t) {
        await t.guest(["-t", "%eth0/20020"])
        equal(await t.worldPeer.connectError(HOST.ipv4, 20_020), undefined)
        equal(await t.hostPeer.connectError("127.0.0.1", 20_020), "ECONNREFUSED")
      },
    },
    {
      id: "1.12.address-interface",
      title: "`192.0.2.2%eth0/20020`: address and interface",
      async run(t) {
        await t.guest(["-t", "192.0.2.2%eth0/20020"])
        deepEqual(await listening(t), ["192.0.2.2%eth0:20020"])
      },
    },
    {
      id: "1.12.any-address",
      title: "`*/20020` and `/20020`: any address, as without one",
      reference: "differs",
      because: "the star came in 2026",
      async run(t) {
        await t.guest(["-t", "*/20020", "-t", "/20021"])
        equal(await t.worldPeer.connectError(HOST.ipv4, 20_020), undefined)
        equal(await t.worldPeer.connectError(HOST.ipv6, 20_021), undefined)
      },
    },
    {
      id: "1.12.target",
      title: "`0.0.0.0/20020:10.0.0.5/30020`: another address and port in the guest's network",
      reference: "differs",
      because: "targets with an address came in 2026",
      async run(t) {
        const guest = await t.guest(["-u", "0.0.0.0/20020:10.0.0.5/30020,20021:10.0.0.5"])
        const end = await t.worldPeer.bind(ROUTER.ipv4)
        for (const [port, target] of [
          [20_020, 30_020],
          [20_021, 20_021],
        ] as const) {
          await end.send(HOST.ipv4, port, "hello")
          equal((await guest.receiveUdp(target)).ip!.destination, "10.0.0.5")
        }
      },
    },
    {
      id: "1.12.target-refused",
      title: "targets with an address need one to listen on, of the same family, and no multicast",
      reference: "differs",
      because: "targets with an address came in 2026",
      run: (t) =>
        t.refused(["20020:10.0.0.5", "::1/20020:10.0.0.5", "0.0.0.0/20020:224.0.0.1"].map((spec) => ["-t", spec])),
    },
    {
      id: "1.12.repeated",
      title: "the option may be repeated, and TCP and UDP may have the same ports",
      async run(t) {
        await t.alone()
        await t.guest(["-t", "20020", "-t", "20022", "-u", "20020"])
        deepEqual([await ports(t), await ports(t, "udp")], [[20_020, 20_022], [20_020]])
      },
    },
    {
      id: "1.12.all",
      title: "`all`: every port outside the ephemeral range, as far as it is free",
      async run(t) {
        const write = (name: string, value: string): Promise<string> =>
          t.host.must(["sh", "-c", `cat /proc/sys/net/ipv4/${name}; echo ${value} > /proc/sys/net/ipv4/${name}`])
        const [range, first] = [
          await write("ip_local_port_range", "1100 65535"),
          await write("ip_unprivileged_port_start", "0"),
        ]
        t.defer(() => write("ip_unprivileged_port_start", first.trim()))
        t.defer(() => write("ip_local_port_range", range.trim()))
        await t.hostPeer.listen("0.0.0.0", 500)
        await t.guest(["-t", "all"])
        const open = await ports(t)
        deepEqual([open[0], open.at(-1), open.length], [1, 1099, 1099])
      },
    },
    {
      id: "1.12.only-exclusions",
      title: "`~1050-1098`: all but these",
      async run(t) {
        const write = (name: string, value: string): Promise<string> =>
          t.host.must(["sh", "-c", `cat /proc/sys/net/ipv4/${name}; echo ${value} > /proc/sys/net/ipv4/${name}`])
        const [range, first] = [
          await write("ip_local_port_range", "1100 65535"),
          await write("ip_unprivileged_port_start", "1000"),
        ]
        t.defer(() => write("ip_unprivileged_port_start", first.trim()))
        t.defer(() => write("ip_local_port_range", range.trim()))
        await t.guest(["-t", "~1050-1098"])
        const open = await ports(t)
        deepEqual(
          [open[0], open.includes(1049), open.includes(1050), open.includes(1098), open.at(-1)],
          [1000, true, false, false, 1099],
        )
      },
    },
    {
      id: "1.12.auto-refused",
      title: "`auto` is for pasta only",
      run: (t) => t.refused([["-t", "auto"]], /'auto' port forwarding is only allowed for pasta/),
    },
    {
      id: "1.12.none-conflict",
      title: "`none` after ports is refused",
      run: (t) => t.refused([["-t", "20020", "-t", "none"]], /-t none conflicts with previous options|[Pp]ort/),
    },
    {
      id: "1.12.conflict",
      title: "the same port twice is refused",
      reference: "differs",
      because: "older versions let the last rule win",
      run: (t) => t.refused([["-t", "20020", "-t", "20015-20025"]]),
    },
    {
      id: "1.12.interfaces-differ",
      title: "the same port on different interfaces is no conflict",
      reference: "differs",
      because: "the reference doesn't look at interfaces",
      async run(t) {
        await t.guest(["-t", "%eth0/20020:30020", "-t", "%lo/20020:30021"])
        equal((await listening(t)).length, 2)
      },
    },
    ...REFUSED.map(([title, specs], index): Check => ({
      id: `1.12.refused-${index + 1}`,
      title: `refused: ${title}`,
      reference: "differs",
      because: "the reference accepts some of these",
      run: (t) => t.refused(specs.map((spec) => ["-t", spec])),
    })),
    {
      id: "1.12.invalid-message",
      title: "the message for what is no port specification quotes it",
      run: (t) => t.refused([["-t", "20020-"]], /Invalid port specifier '?:? ?'?20020-/),
    },
    {
      id: "1.12.port-in-use",
      title: "a port that another program listens on is refused, naming it",
      reference: "differs",
      because: "older versions start without the port",
      async run(t) {
        await t.hostPeer.listen("0.0.0.0", 20_020)
        await t.refused([["-t", "20020"]], /20020/)
      },
    },
    {
      id: "1.12.privileged",
      title: "a port that the user may not open is refused",
      run: (t) => t.refused([["-t", "22"]]),
    },
    {
      id: "1.12.disabled",
      title: "ports of a protocol that is switched off are refused",
      reference: "differs",
      because: "older versions pass over them in silence",
      run: (t) =>
        t.refused([
          ["--no-tcp", "-t", "20020"],
          ["--no-udp", "-u", "20020"],
        ]),
    },
    {
      id: "1.12.summary",
      title: "the summary shows the rules",
      reference: "differs",
      because: "older versions show them in another form",
      async run(t) {
        const { stdout, stderr } = await t.run(["-s", t.path("socket"), "-t", "20020:30020", "-u", "127.0.0.1/20021"])
        match(stdout + stderr, /TCP \[\*\]:20020 {2}=> {2}30020/)
        match(stdout + stderr, /UDP \[127\.0\.0\.1\]:20021 {2}=> {2}20021/)
      },
    },
    {
      id: "1.12.established",
      title: "many connections to one port keep apart",
      async run(t) {
        const guest = await t.guest(["-t", "20020"])
        const pairs = []
        for (let index = 0; index < 5; index++) {
          const accepting = guest.acceptTcp(20_020)
          pairs.push({ client: await t.worldPeer.connect(HOST.ipv4, 20_020), connection: await accepting })
        }
        for (const [index, { client, connection }] of pairs.entries()) {
          await client.write(`number ${index}`)
          equal((await connection.read(8)).toString(), `number ${index}`)
        }
        ok(new Set(pairs.map(({ connection }) => connection.remotePort)).size === 5)
      },
    },
  ],
}
