// Section 1.8, UDP and ICMP.
import { deepEqual, equal, ok } from "node:assert/strict"
import { HOST, PORT, RESOLVER, ROUTER, SERVER } from "../../../tools/world/addresses.ts"
import type { Area, Check } from "../check.ts"
import { echoBody, icmp } from "../wire/build.ts"
import { isIcmpAnswer, parseIp } from "../wire/parse.ts"
import { both } from "./families.ts"

const WORLD_PORT = 20_004

const checks: readonly Check[] = [
  ...both(({ server, host }) => ({
    id: "1.8.udp-echo",
    title: "a datagram of the guest arrives with the host's address and the guest's port, and so does the answer",
    async run(t) {
      const guest = await t.guest()
      const end = await t.worldPeer.bind(server, WORLD_PORT)
      const port = guest.sendUdp(server, WORLD_PORT, "question")
      const { data, address, port: from } = await end.receive()
      deepEqual([data.toString(), address, from], ["question", host, port])
      await end.send(address, from, "answer")
      const packet = await guest.receiveUdp(port)
      deepEqual(
        [packet.udp!.payload.toString(), packet.ip!.source, packet.udp!.sourcePort],
        ["answer", server, WORLD_PORT],
      )
      ok(packet.udp!.checksumIsRight && packet.ip!.checksumIsRight)
    },
  })),
  ...both(({ server }) => ({
    id: "1.8.udp-sizes",
    title: "datagrams of any size pass, empty ones too",
    async run(t) {
      const guest = await t.guest()
      for (const size of [0, 1, 1472, 9000, 65_000]) {
        const data = Buffer.alloc(size, "0123456789")
        const { udp } = await guest.askUdp(server, PORT.echo, data)
        ok(udp!.payload.equals(data) && udp!.checksumIsRight, `${size} bytes`)
      }
    },
  })),
  ...both(({ name, server }) => ({
    id: "1.8.udp-refused",
    title: "where nothing listens, the guest is told: port unreachable, quoting its datagram",
    reference: "differs",
    because: "that came in 2025",
    async run(t) {
      const guest = await t.guest()
      const port = guest.sendUdp(server, PORT.closed, "anybody?")
      const [type, code] = name === "IPv4" ? [3, 3] : [1, 4]
      const packet = await guest.find("port unreachable", (p) => p.icmp?.type === type && p.icmp.code === code && p)
      deepEqual([packet.ip!.source, packet.ip!.destination], [server, guest.own(server)])
      ok(packet.icmp!.checksumIsRight)
      const quoted = parseIp(packet.icmp!.body.subarray(4))!
      deepEqual([quoted.source, quoted.destination], [guest.own(server), server])
      deepEqual([quoted.payload.readUInt16BE(0), quoted.payload.readUInt16BE(2)], [port, PORT.closed])
    },
  })),
  {
    id: "1.8.udp-two-servers",
    title: "one port of the guest may talk to several servers",
    async run(t) {
      const guest = await t.guest()
      const ends = await Promise.all(
        [SERVER.ipv4, RESOLVER.ipv4].map((address) => t.worldPeer.bind(address, WORLD_PORT)),
      )
      const sourcePort = guest.freshPort()
      for (const [index, end] of ends.entries()) {
        const server = [SERVER.ipv4, RESOLVER.ipv4][index]!
        guest.sendUdp(server, WORLD_PORT, "to you", { sourcePort })
        const { address, port } = await end.receive()
        await end.send(address, port, `from ${server}`)
        const packet = await guest.receiveUdp(sourcePort)
        deepEqual([packet.ip!.source, packet.udp!.payload.toString()], [server, `from ${server}`])
      }
    },
  },
  {
    id: "1.8.udp-order",
    title: "datagrams arrive in their order, each by itself",
    async run(t) {
      const guest = await t.guest()
      const end = await t.worldPeer.bind(SERVER.ipv4, WORLD_PORT)
      const sourcePort = guest.freshPort()
      for (let index = 0; index < 100; index++) guest.sendUdp(SERVER.ipv4, WORLD_PORT, `${index}`, { sourcePort })
      for (let index = 0; index < 100; index++) equal((await end.receive()).data.toString(), `${index}`)
    },
  },
  {
    id: "1.8.udp-later-answer",
    title: "a server may answer more than once, and speak again later",
    async run(t) {
      const guest = await t.guest()
      const end = await t.worldPeer.bind(SERVER.ipv4, WORLD_PORT)
      const port = guest.sendUdp(SERVER.ipv4, WORLD_PORT, "subscribe")
      const { address, port: from } = await end.receive()
      for (let index = 0; index < 5; index++) {
        await end.send(address, from, `news ${index}`)
        equal((await guest.receiveUdp(port)).udp!.payload.toString(), `news ${index}`)
      }
    },
  },
  ...both(({ host, router }) => ({
    id: "1.8.udp-inbound",
    title: "a datagram to a forwarded port reaches the guest, from the client's address, and the answer goes back",
    reference: "differs",
    because:
      "the version of 2023 sends the answer to the host's loopback address, for which the gateway's address stands",
    async run(t) {
      const guest = await t.guest(["-u", "20005"])
      const end = await t.worldPeer.bind(router)
      await end.send(host, 20_005, "knock")
      const { ip, udp } = await guest.receiveUdp(20_005)
      deepEqual([ip!.source, udp!.sourcePort, ip!.destination], [router, end.port, host])
      guest.sendUdp(router, end.port, "who is there", { sourcePort: 20_005 })
      const answer = await end.receive()
      deepEqual([answer.data.toString(), answer.address, answer.port], ["who is there", host, 20_005])
    },
  })),
  {
    id: "1.8.udp-source-port-taken",
    title: "a datagram goes out though the host uses its source port: from another one",
    reference: "differs",
    because: "the reference loses it",
    async run(t) {
      const guest = await t.guest()
      await t.hostPeer.bind("0.0.0.0", 30_777)
      const end = await t.worldPeer.bind(SERVER.ipv4, WORLD_PORT)
      guest.sendUdp(SERVER.ipv4, WORLD_PORT, "hello", { sourcePort: 30_777 })
      const { address, port } = await end.receive()
      equal(address, HOST.ipv4)
      await end.send(address, port, "answer")
      equal((await guest.receiveUdp(30_777)).udp!.payload.toString(), "answer")
    },
  },
  {
    id: "1.8.udp-port-zero",
    title: "datagrams to or from port 0 are dropped",
    async run(t) {
      const guest = await t.guest()
      guest.sendUdp(SERVER.ipv4, 0, "to zero")
      guest.sendUdp(SERVER.ipv4, PORT.echo, "from zero", { sourcePort: 0 })
      equal((await guest.askUdp(SERVER.ipv4, PORT.echo, "hello")).udp!.payload.toString(), "hello")
      // Answers, echoes or errors. What passt has to tell others that share it may come as well.
      const answers = (await guest.fence()).filter(
        (packet) => packet.udp?.sourcePort === 0 || packet.udp?.destinationPort === 0 || isIcmpAnswer(packet),
      )
      deepEqual(answers.length, 0)
    },
  },
  {
    id: "1.8.no-udp",
    title: "--no-udp: datagrams get no answer; DHCP does",
    async run(t) {
      const guest = await t.guest(["--no-udp"])
      const port = guest.sendUdp(SERVER.ipv4, PORT.echo, "hello")
      const connection = await guest.connectTcp(SERVER.ipv4)
      await connection.write("x")
      await connection.read(1)
      deepEqual((await guest.fence()).filter((packet) => packet.udp?.destinationPort === port).length, 0)
      ok((await guest.offer()).size > 0)
    },
  },
  ...both(({ server }) => ({
    id: "1.8.ping",
    title: "an echo request is answered, with identifier, sequence number and data",
    async run(t) {
      const { icmp: message, ip } = await (await t.guest()).ping(server, 0x4321, 7, "some data")
      deepEqual([message!.body.readUInt16BE(0), message!.body.subarray(4).toString()], [0x4321, "some data"])
      ok(message!.checksumIsRight && ip!.checksumIsRight)
      equal(ip!.source, server)
    },
  })),
  ...both(({ server, name }) => ({
    id: "1.8.ping-many",
    title: "several pings at once keep apart, and their numbers may go on",
    async run(t) {
      const guest = await t.guest()
      const type = name === "IPv4" ? 0 : 129
      for (let sequence = 1; sequence <= 3; sequence++) {
        for (const id of [10, 20, 30]) guest.sendEcho(server, id, sequence, `${id}`)
      }
      const seen = new Set<string>()
      while (seen.size < 9) {
        const { body } = await guest.find("an echo reply", (p) => p.icmp?.type === type && p.icmp)
        equal(body.subarray(4).toString(), `${body.readUInt16BE(0)}`)
        seen.add(`${body.readUInt16BE(0)}/${body.readUInt16BE(2)}`)
      }
    },
  })),
  {
    id: "1.8.ping-large",
    title: "pings of several kilobytes pass",
    async run(t) {
      const data = Buffer.alloc(5000, "ping")
      const { icmp: message } = await (await t.guest()).ping(SERVER.ipv4, 77, 1, data)
      ok(message!.body.subarray(4).equals(data))
    },
  },
  {
    id: "1.8.ping-reply",
    title: "echo replies and unknown ICMP messages of the guest go nowhere",
    async run(t) {
      const guest = await t.guest()
      const ends = { source: HOST.ipv4, destination: SERVER.ipv4 }
      for (const type of [0, 5, 13, 42]) guest.sendIp(icmp({ ...ends, type }, echoBody(5, 5, "x")))
      await guest.ping(SERVER.ipv4, 78, 1, "x")
      deepEqual((await guest.fence()).filter(isIcmpAnswer).length, 0)
    },
  },
  {
    id: "1.8.ping-gateway",
    title: "the gateway answers pings: it stands for the host",
    async run(t) {
      equal((await (await t.guest()).ping(ROUTER.ipv4, 79, 1, "x")).ip!.source, ROUTER.ipv4)
    },
  },
  {
    id: "1.8.no-icmp",
    title: "--no-icmp: pings get no answer",
    async run(t) {
      const guest = await t.guest(["--no-icmp"])
      guest.sendEcho(SERVER.ipv4, 80, 1, "x")
      await guest.askUdp(SERVER.ipv4, PORT.echo, "hello")
      deepEqual((await guest.fence()).filter(isIcmpAnswer).length, 0)
    },
  },
]

export const datagrams: Area = { title: "UDP and ping", checks }
