/**
 * The guest and the configuration that every simulated world begins with.
 */
import type { EngineConfig } from "../context.ts"
import type { ForwardRule } from "../forward/rule.ts"
import { emptyTranslation } from "../forward/translate.ts"
import { GuestState } from "../guest.ts"
import type { Kernel } from "../kernel.ts"
import type { Link } from "../link.ts"
import { parse } from "../wire/address.ts"
import type { AddressRecord } from "./datagram-kernel.ts"

export const GUEST4 = "192.0.2.15"
export const GATEWAY4 = "192.0.2.1"
export const GUEST6 = "2001:db8::15"
export const GATEWAY6 = "fe80::1"
export const GUEST_MAC: readonly number[] = [0x52, 0x54, 0, 0x12, 0x34, 0x56]

/** An address as four words. @throws Error when the text is none */
export function words(text: string): Int32Array {
  const parsed = parse(text)
  if (parsed === undefined) throw new Error(`not an address: ${text}`)
  return parsed
}

/** An address record of kernel.ts. */
export function record(text: string, port: number, scope = 0): AddressRecord {
  return [...words(text), port, scope]
}

/** A rule that forwards one port on any address to the same port of the guest, where nothing else is told. */
export function forwardRule(protocol: "tcp" | "udp", rule: Partial<ForwardRule>): ForwardRule {
  const first = rule.first ?? 5000
  return {
    protocol,
    address: null,
    device: "",
    first,
    last: rule.last ?? first,
    targetFirst: rule.targetFirst ?? first,
    targetAddress: null,
    weak: false,
    ...rule,
  }
}

/** A guest with an address of each family, whose MAC address is known. */
export function newGuest(): GuestState {
  const guest = new GuestState()
  guest.ipv4 = true
  guest.ipv6 = true
  guest.address4.set(words(GUEST4))
  guest.gateway4.set(words(GATEWAY4))
  guest.address6.set(words(GUEST6))
  guest.gateway6.set(words(GATEWAY6))
  guest.ourLinkLocal6.set(words(GATEWAY6))
  guest.mac.set(GUEST_MAC)
  guest.macGeneration++
  return guest
}

/** Everything on, everything at its default, a small flow table. */
export function newConfig(kernel: Kernel, link: Link, guest: GuestState): EngineConfig {
  return {
    kernel,
    link,
    guest,
    secret: Int32Array.of(1, 2, 3, 4),
    translation: emptyTranslation(),
    responders: {},
    rules: [],
    tcp: true,
    udp: true,
    icmp: true,
    outbound4: new Int32Array(4),
    outbound6: new Int32Array(4),
    outboundDevice4: "",
    outboundDevice6: "",
    linkLocalScope: 7,
    freebind: false,
    synRetries: 6,
    synLinear: 4,
    rtoMaxMs: 120_000,
    udpTimeout: 30,
    udpStreamTimeout: 120,
    flowMax: 64,
  }
}
