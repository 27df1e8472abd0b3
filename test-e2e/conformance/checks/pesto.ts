// Section 1.13: the socket of --conf-path, and changes of forwarding rules.
import { deepEqual, equal, ok } from "node:assert/strict"
import { statSync } from "node:fs"
import { createServer } from "node:net"
import { HOST } from "../../../tools/world/addresses.ts"
import { until } from "../../../tools/world/process.ts"
import type { Area } from "../check.ts"
import { LOOPBACK4, PestoClient, rule, table, tablesOf, update } from "../pesto.ts"
import type { Stage } from "../stage.ts"

const HOST_TABLE = 1
const SPLICE_TABLE = 3
const FIRST = rule({ first: 20_020, to: 22 })

/** TCP ports that are listened on in the host's namespace, with their inodes: others when they were opened again. */
async function sockets(t: Stage): Promise<Map<number, string>> {
  const text = await t.host.must(["ss", "-Hnlte"])
  const lines = text.split("\n").filter((line) => line.trim() !== "")
  return new Map(
    lines.map((line) => [Number(line.trim().split(/\s+/)[3]!.split(":").at(-1)), /ino:(\d+)/.exec(line)?.[1] ?? ""]),
  )
}

async function ports(t: Stage): Promise<number[]> {
  return [...(await sockets(t)).keys()].toSorted((one, other) => one - other)
}

/** passt with one rule and the socket. @returns the socket's path */
async function served(t: Stage, args: readonly string[] = ["-t", "20020:22"]): Promise<string> {
  await t.guest(["-c", t.path("conf"), ...args])
  return t.path("conf")
}

/** Waits for ports to be open, and no others. */
function opens(t: Stage, wanted: readonly number[]): Promise<unknown> {
  return until(`ports ${wanted.join()}`, 5000, async () => (await ports(t)).join() === wanted.join())
}

export const pesto: Area = {
  title: "Changes while it runs",
  checks: [
    {
      id: "1.13.greeting",
      title: "`--conf-path`: who connects is told the rules, and what there could be",
      async run(t) {
        const path = await served(t)
        deepEqual(await tablesOf(path), [{ id: HOST_TABLE, name: "HOST", capabilities: 0x2f, rules: [FIRST] }])
      },
    },
    {
      id: "1.13.capabilities",
      title: "families and protocols that are off can't be asked for",
      async run(t) {
        const path = await served(t, ["-4", "--no-udp"])
        deepEqual(await tablesOf(path), [{ id: HOST_TABLE, name: "HOST", capabilities: 0x25, rules: [] }])
      },
    },
    {
      id: "1.13.mode",
      title: "whoever the umask leaves out may not connect",
      async run(t) {
        const path = await served(t)
        equal(statSync(path).mode & 0o777, 0o777 & ~process.umask())
      },
    },
    {
      id: "1.13.stale",
      title: "a socket that nobody listens on is replaced",
      async run(t) {
        // Node.js would remove it when it closes.
        const server = createServer().listen(t.path("conf"))
        await new Promise((resolve) => server.once("listening", resolve))
        await t.host.must(["mv", t.path("conf"), t.path("kept")])
        await new Promise((resolve) => server.close(resolve))
        await t.host.must(["mv", t.path("kept"), t.path("conf")])
        equal((await tablesOf(await served(t))).length, 1)
      },
    },
    {
      id: "1.13.add",
      title: "a rule is added, and the one that was there stays",
      async run(t) {
        const path = await served(t)
        const second = rule({ first: 20_030, last: 20_031, to: 80 })
        const [told] = await update(path, table(HOST_TABLE, [FIRST, second]))
        deepEqual(told!.rules, [FIRST, second])
        await opens(t, [20_020, 20_030, 20_031])
      },
    },
    {
      id: "1.13.delete",
      title: "a rule is deleted, and its port is closed",
      async run(t) {
        const path = await served(t, ["-t", "20020:22", "-t", "20030"])
        const [told] = await update(path, table(HOST_TABLE, [FIRST]))
        deepEqual(told!.rules, [FIRST])
        await opens(t, [20_020])
      },
    },
    {
      id: "1.13.clear",
      title: "tables that are not sent are empty",
      async run(t) {
        const path = await served(t)
        deepEqual((await update(path))[0]!.rules, [])
        await opens(t, [])
      },
    },
    {
      id: "1.13.order",
      title: "rules have the order in which they were sent",
      async run(t) {
        const path = await served(t)
        const wanted = [rule({ first: 20_030 }), FIRST, rule({ first: 20_010, address: LOOPBACK4 })]
        deepEqual((await update(path, table(HOST_TABLE, wanted)))[0]!.rules, wanted)
      },
    },
    {
      id: "1.13.arrives",
      title: "what comes to a port that was added arrives in the guest",
      async run(t) {
        const guest = await t.guest(["-c", t.path("conf")])
        await update(t.path("conf"), table(HOST_TABLE, [rule({ first: 20_020, to: 30_020, protocol: 17 })]))
        const end = await t.worldPeer.bind("192.0.2.1")
        await until("the port", 5000, async () => (await t.host.must(["ss", "-Hnlu"])).includes(":20020"))
        await end.send(HOST.ipv4, 20_020, "hello")
        equal((await guest.receiveUdp(30_020)).udp!.payload.toString(), "hello")
      },
    },
    {
      id: "1.13.broken-off",
      title: "an update that breaks off is none",
      async run(t) {
        const path = await served(t)
        const client = new PestoClient(path)
        await client.told()
        client.send(table(HOST_TABLE, []), "03")
        await client.end()
        deepEqual((await tablesOf(path))[0]!.rules, [FIRST])
      },
    },
    {
      id: "1.13.wrong",
      title: "one wrong rule, or one that conflicts, and nothing changes",
      async run(t) {
        const path = await served(t)
        const good = rule({ first: 20_030 })
        for (const wrong of [
          rule({ first: 0 }),
          rule({ first: 20_040, last: 20_039 }),
          rule({ first: 20_040, to: 0 }),
          rule({ first: 20_040, protocol: 1 }),
          rule({ first: 20_040, flags: 0x80 }),
          rule({ first: 20_040, address: LOOPBACK4, flags: 1 }),
          rule({ first: 20_040, device: "x".repeat(16) }),
          rule({ first: 20_030, address: LOOPBACK4 }),
        ]) {
          const [told] = await update(path, table(HOST_TABLE, [good, wrong]))
          deepEqual(told!.rules, [FIRST])
        }
        deepEqual((await update(path, table(9, [good])))[0]!.rules, [FIRST])
        deepEqual((await update(path, "01ffffffff"))[0]!.rules, [FIRST])
        await opens(t, [20_020])
      },
    },
    {
      id: "1.13.in-turn",
      title: "clients that come at once are served in turn: no change undoes another's",
      async run(t) {
        const path = await served(t)
        const one = new PestoClient(path)
        await one.told()
        const two = new PestoClient(path)
        one.send(table(HOST_TABLE, [FIRST, rule({ first: 20_030 })]), "00")
        deepEqual((await two.told())[0]!.rules, [FIRST, rule({ first: 20_030 })])
        await one.end()
        await two.end()
      },
    },
    {
      id: "1.13.unchanged",
      title: "ports that stay are not closed",
      reference: "differs",
      because: "the reference closes all and opens them again: connections that come meanwhile are refused",
      async run(t) {
        const path = await served(t)
        const before = await sockets(t)
        await update(path, table(HOST_TABLE, [FIRST, rule({ first: 20_030 })]))
        await opens(t, [20_020, 20_030])
        equal((await sockets(t)).get(20_020), before.get(20_020))
      },
    },
    {
      id: "1.13.taken",
      title: "where a port is taken everything stays as it was",
      reference: "differs",
      because: "the reference keeps the rule that it can't serve, and serves none of those after it",
      async run(t) {
        const path = await served(t)
        await t.hostPeer.listen("0.0.0.0", 20_030)
        const [told] = await update(path, table(HOST_TABLE, [rule({ first: 20_030 }), rule({ first: 20_040 }), FIRST]))
        deepEqual(told!.rules, [FIRST])
        await opens(t, [20_020, 20_030])
      },
    },
    {
      id: "1.13.stalled",
      title: "a client that stops in the middle stalls nobody's traffic",
      reference: "differs",
      because: "the reference waits for the rest, and no frame passes",
      async run(t) {
        const guest = await t.guest(["-c", t.path("conf")])
        const client = new PestoClient(t.path("conf"))
        t.defer(() => client.end())
        await client.told()
        client.send("0100")
        // It has come by then.
        await new Promise((resolve) => setTimeout(resolve, 100))
        await guest.fence()
      },
    },
    {
      id: "1.13.tables-pasta",
      program: "pasta",
      title: "pasta has a table for the namespace's ports besides",
      async run(t) {
        const none = ["-t", "20020:22", "-u", "none", "-U", "none"]
        const served = await t.serve(["--config-net", "-c", t.path("conf"), ...none, "-T", "20030"])
        const splice = rule({ first: 20_030, device: "lo" })
        const expected = [
          { id: HOST_TABLE, name: "HOST", capabilities: 0x3f, rules: [FIRST] },
          { id: SPLICE_TABLE, name: "SPLICE", capabilities: 0x3f, rules: [splice] },
        ]
        deepEqual(await tablesOf(t.path("conf")), expected)
        await update(t.path("conf"), table(SPLICE_TABLE, [rule({ first: 20_031, device: "lo" })]))
        const open = async (): Promise<string> => served.guest.must(["ss", "-Hnlt"])
        await until("the namespace's port", 5000, async () => (await open()).includes(":20031"))
        ok(!(await open()).includes(":20030"))
        await opens(t, [])
      },
    },
  ],
}
