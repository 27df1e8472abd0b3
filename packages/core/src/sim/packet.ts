/**
 * Frames from the guest.
 */
import { isMapped } from "../wire/address.ts"
import * as ethernet from "../wire/ethernet.ts"
import * as ipv4 from "../wire/ipv4.ts"
import * as ipv6 from "../wire/ipv6.ts"
import { GUEST_MAC } from "./config.ts"

const MAC: Uint8Array = Uint8Array.from(GUEST_MAC)
const GATEWAY_MAC: Uint8Array = new Uint8Array(6).fill(0x9a)

/** Builds a frame from the guest around a transport header and payload.
 * @param source,destination four words each, IPv4 mapped */
export function packet(
  source: Int32Array,
  destination: Int32Array,
  protocol: number,
  body: Uint8Array,
  hopLimit: number,
): Uint8Array {
  const v4 = isMapped(source, 0)
  const header = ethernet.HEADER_LENGTH + (v4 ? ipv4.HEADER_LENGTH : ipv6.HEADER_LENGTH)
  const frame = new Uint8Array(header + body.length)
  const d = new DataView(frame.buffer)
  ethernet.write(d, 0, GATEWAY_MAC, MAC, v4 ? ethernet.TYPE_IPV4 : ethernet.TYPE_IPV6)
  const ip = ethernet.HEADER_LENGTH
  if (v4) ipv4.write(d, ip, ipv4.HEADER_LENGTH + body.length, protocol, hopLimit, source[3]!, destination[3]!)
  else ipv6.write(d, ip, body.length, protocol, hopLimit, 0, source, 0, destination, 0)
  frame.set(body, header)
  return frame
}
