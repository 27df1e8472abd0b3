/** The guest that responders are tested with. */
import type { GuestState } from "../guest.ts"
import { hex, words } from "./bytes.ts"

export const GUEST_MAC = "52 54 00 12 34 56"
export const OUR_MAC = "9a 55 9a 55 9a 55"
export const GUEST6 = "2001:db8:1:2:5054:ff:fe12:3456"

export function setUpGuest(guest: GuestState): void {
  guest.mac.set(hex(GUEST_MAC))
  guest.ipv4 = true
  guest.ipv6 = true
  guest.address4.set(words("192.0.2.15"))
  guest.gateway4.set(words("192.0.2.1"))
  guest.prefix4 = 24
  guest.address6.set(words(GUEST6))
  guest.gateway6.set(words("fe80::1"))
  guest.ourLinkLocal6.set(words("fe80::1"))
  guest.mtu = 1500
}
