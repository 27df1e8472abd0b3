import { expect, test } from "vitest"
import { describeFrame } from "./trace.ts"

function described(hex: string, length?: number): string {
  const bytes = Buffer.from(hex.replaceAll(" ", ""), "hex")
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  return describeFrame(view, 0, bytes.length, length ?? bytes.length)
}

const ETHERNET = "020000000001 020000000002"

test.each([
  [`${ETHERNET} 0806 0001`, "ARP, 16 bytes"],
  [`${ETHERNET} 88cc 0001`, "type 0x88cc, 16 bytes"],
  [`${ETHERNET} 0800 4500`, "type 0x0800, 16 bytes"],
  ["0200", "cut off, 2 bytes"],
  [
    `${ETHERNET} 0800 4500001d00004000ff110000 c0000202 c6336435 7531 0035 00090000 78`,
    "UDP 192.0.2.2:30001 -> 198.51.100.53:53, 43 bytes",
  ],
  [
    `${ETHERNET} 86dd 6000000000003aff fe800000000000000000000000000001 ff020000000000000000000000000002`,
    "ICMPv6 [fe80:0:0:0:0:0:0:1] -> [ff02:0:0:0:0:0:0:2], 54 bytes",
  ],
])("%s", (hex, line) => {
  expect(described(hex)).toBe(line)
})

test("a header longer than the frame gives no ports", () => {
  expect(described(`${ETHERNET} 0800 4f00001d00004000ff060000 c0000202 c6336435`)).toBe(
    "TCP 192.0.2.2 -> 198.51.100.53, 34 bytes",
  )
})
