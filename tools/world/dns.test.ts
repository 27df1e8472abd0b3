import { expect, test } from "vitest"
import { answerQuery, RecordType } from "./dns.ts"
import type { Zone } from "./dns.ts"

const ZONE: Zone = {
  "www.example": { A: ["192.0.2.1", "192.0.2.2"], AAAA: ["2001:db8::1"], TXT: ["short"] },
  "large.example": { TXT: ["z".repeat(600)] },
}

function query(name: string, type: number, flags: number = 0x0100): Buffer {
  const labels = name.split(".").map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]))
  const header = Buffer.from([0xab, 0xcd, flags >> 8, flags & 0xff, 0, 1, 0, 0, 0, 0, 0, 0])
  return Buffer.concat([header, ...labels, Buffer.from([0, type >> 8, type & 0xff, 0, 1])])
}

const answer = (name: string, type: number, most: number = 512): Buffer =>
  answerQuery(query(name, type), ZONE, most) ?? Buffer.alloc(0)

test("A records, with the query's identifier and question", () => {
  const message = answer("www.example", RecordType.A)
  expect(message.readUInt16BE(0)).toBe(0xabcd)
  expect(message.readUInt16BE(2)).toBe(0x8580)
  expect(message.readUInt16BE(6)).toBe(2)
  expect(message.subarray(-4)).toEqual(Buffer.from([192, 0, 2, 2]))
})

test("AAAA records", () => {
  const address = Buffer.from("20010db8000000000000000000000001", "hex")
  expect(answer("www.example", RecordType.AAAA).subarray(-16)).toEqual(address)
})

test("names are compared without regard to case", () => {
  expect(answer("WWW.Example", RecordType.A).readUInt16BE(6)).toBe(2)
})

test("a name without such a record: no error, no record; an unknown name: NXDOMAIN", () => {
  const without = answer("large.example", RecordType.A)
  expect([without.readUInt16BE(2) & 15, without.readUInt16BE(6)]).toEqual([0, 0])
  expect(answer("nowhere.example", RecordType.A).readUInt16BE(2) & 15).toBe(3)
})

test("an answer that is too long for a datagram is truncated, over TCP it is whole", () => {
  expect(answer("large.example", RecordType.TXT).readUInt16BE(2) & 0x0200).toBe(0x0200)
  const whole = answer("large.example", RecordType.TXT, 65_535)
  expect(whole.readUInt16BE(2) & 0x0200).toBe(0)
  expect(whole.toString("latin1").replace(/[^z]/g, "")).toHaveLength(600)
})

test("what is no query is not answered", () => {
  expect(answerQuery(Buffer.alloc(5), ZONE, 512)).toBeUndefined()
  expect(answerQuery(query("www.example", 1, 0x8000), ZONE, 512)).toBeUndefined()
  const cut = query("www.example", 1)
  for (let length = 12; length < cut.length - 1; length++) {
    expect(answerQuery(cut.subarray(0, length), ZONE, 512)).toBeUndefined()
  }
})
