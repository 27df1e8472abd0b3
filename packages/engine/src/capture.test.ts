import { execFileSync, spawnSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, describe, expect, it } from "vitest"
import { captureBlock, captureHeader, type CapturedFrame, MemoryLink, readCapture, startEngine } from "./index.ts"
import { TinyGuest } from "./test-support/tiny-guest.ts"

const folder = mkdtempSync(join(tmpdir(), "passt-capture-"))
afterAll(() => rmSync(folder, { recursive: true }))
const NETWORK = { ipv6: false, address: "192.0.2.15/24", gateway: "192.0.2.1", followHost: false }
const hasTcpdump = spawnSync("tcpdump", ["--version"]).status === 0

const frame = (length: number, fromGuest: boolean): CapturedFrame => ({
  timestampMicros: 1_700_000_000_123_456 + length,
  fromGuest,
  bytes: Uint8Array.from({ length }, (_, index) => index),
  length: length + 10,
})

describe("pcapng", () => {
  it("is read as it was written", () => {
    const frames = [frame(14, true), frame(15, false), frame(1600, true)]
    const file = Buffer.concat([captureHeader(1600), ...frames.map(captureBlock)])
    expect([...readCapture(file)]).toEqual(frames.map((one) => ({ ...one, bytes: Buffer.from(one.bytes) })))
    // A program that was killed leaves half a block.
    expect([...readCapture(file.subarray(0, file.length - 5))]).toHaveLength(2)
  })

  it("is read in the other byte order, too, and nothing else is", () => {
    const file = Buffer.concat([
      captureHeader(65535),
      captureBlock({ timestampMicros: 5, bytes: Buffer.from("hello, frames!!!"), length: 16 }),
    ])
    const swapped = Buffer.from(file)
    for (let at = 0; at < swapped.length; at += 4) swapped.subarray(at, at + 4).reverse()
    // Texts and fields of 16 bits, which are not words.
    swapped.writeUInt16BE(1, 12)
    swapped.writeUInt16BE(0, 14)
    swapped.writeUInt16BE(1, 36)
    swapped.writeUInt16BE(0, 38)
    for (const at of [44, 56, 64]) {
      swapped.writeUInt16BE(file.readUInt16LE(at), at)
      swapped.writeUInt16BE(file.readUInt16LE(at + 2), at + 2)
    }
    file.copy(swapped, 60, 60, 64)
    file.copy(swapped, 72 + 28, 72 + 28, 72 + 28 + 16)
    expect([...readCapture(swapped)]).toMatchObject([{ timestampMicros: 5, length: 16 }])
    expect(() => [...readCapture(Buffer.alloc(24, 1))]).toThrow(RangeError)
    const endless = Buffer.concat([captureHeader(64), Buffer.from("0600000008000000000000000000", "hex")])
    expect(() => [...readCapture(endless)]).toThrow(/block of 8 bytes/)
  })
})

describe("a capture", () => {
  it("has frames both ways, as a file that tcpdump reads, cut and filtered", async () => {
    const path = join(folder, "guest.pcapng")
    const link = new MemoryLink()
    const seen: CapturedFrame[] = []
    const engine = await startEngine({ guest: link, ...NETWORK, capture: { path } })
    const cut = engine.capture({
      onFrame: (one) => seen.push(one),
      snapLength: 20,
      filter: (one) => one.fromGuest === true,
    })
    const broken = engine.capture({
      onFrame: () => {
        throw new Error("full")
      },
    })
    const guest = new TinyGuest(link, "192.0.2.15")
    guest.connect("127.0.0.2", 9)
    guest.sendDatagram("192.0.2.1", 9, Buffer.from("to nobody"))
    await expect.poll(() => seen.length).toBe(2)
    expect(seen.every(({ bytes, length }) => bytes.length === 20 && length > 20)).toBe(true)
    expect(broken.error?.message).toBe("full")
    cut.stop()
    cut.stop()
    guest.sendDatagram("192.0.2.1", 9, Buffer.from("again"))
    await expect.poll(() => engine.stats().framesFromGuest).toBe(3)
    await engine.stop()
    expect(seen).toHaveLength(2)
    const frames = [...readCapture(readFileSync(path))]
    expect(frames.filter((one) => one.fromGuest)).toHaveLength(3)
    if (hasTcpdump) {
      const text = execFileSync("tcpdump", ["-nr", path], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] })
      expect(text).toContain("192.0.2.15.5000 > 192.0.2.1.9: UDP, length 9")
    }
    expect(() => engine.capture({ path })).toThrow(/stopped/)
  })

  it("whose file can't be made is refused", async () => {
    await expect(
      startEngine({ guest: new MemoryLink(), ...NETWORK, capture: { path: join(folder, "no/such") } }),
    ).rejects.toMatchObject({
      code: "ERR_PASST_CAPTURE",
    })
  })
})
