/**
 * Address translation: the few addresses that mean something else on the other side.
 *
 * From the guest (`outbound`), the first rule that matches the destination wins:
 *   1. the DNS forwarder's address, TCP or UDP, port 53 or 853      → the host's resolver
 *   2. the address that stands for the host's loopback             → 127.0.0.1 or ::1
 *   3. the address that stands for the guest's address on the host → the address assigned to the guest
 *   4. anything else stays.
 * Rules 1 and 2 also hold for addresses that they had before the host's network changed, and rule 1 for resolvers that the guest
 * was told then.
 *
 * To the guest (`inbound`), the source that the guest sees:
 *   127.0.0.1, ::1                         → the address that stands for the host's loopback, if any
 *   the address assigned to the guest      → the address that stands for it, if any
 *   what the guest can reach               → unchanged
 *   what it can't (other loopback, 0.0.0.0, its own address) → our address on the link: the IPv4 gateway; the IPv6 gateway if
 *     the user has given one, else our link-local
 */
import type { GuestState } from "../guest.ts"
import { copy, equal, isLinkLocal, isLoopback, isMapped, isUnspecified, setMapped } from "../wire/address.ts"

const PORT_DNS = 53
/** DNS over TLS, RFC 7858. */
const PORT_DNS_TLS = 853
const LOOPBACK4 = 0x7f000001

/** Addresses as four words; all zero: the rule is off. One per family of the guest side. */
export interface TranslationConfig {
  readonly dnsForward4: Int32Array
  readonly dnsForward6: Int32Array
  /** Where queries to dnsForward go; may be of the other family. */
  readonly dnsHost4: Int32Array
  readonly dnsHost6: Int32Array
  readonly mapHostLoopback4: Int32Array
  readonly mapHostLoopback6: Int32Array
  readonly mapGuestAddress4: Int32Array
  readonly mapGuestAddress6: Int32Array
}

/** Addresses that meant something until the host's network changed. A guest that has not been told yet, or does not listen,
 * goes on using them, and they go on meaning the same. Four words each. */
export interface FormerAddresses {
  /** Resolvers that the guest was told: queries to them go where those to the forwarder go. */
  readonly resolvers: readonly Int32Array[]
  /** Addresses that stood for the host's loopback. */
  readonly loopback: readonly Int32Array[]
}

export function emptyTranslation(): TranslationConfig {
  return {
    dnsForward4: new Int32Array(4),
    dnsForward6: new Int32Array(4),
    dnsHost4: new Int32Array(4),
    dnsHost6: new Int32Array(4),
    mapHostLoopback4: new Int32Array(4),
    mapHostLoopback6: new Int32Array(4),
    mapGuestAddress4: new Int32Array(4),
    mapGuestAddress6: new Int32Array(4),
  }
}

function applies(rule: Int32Array, a: Int32Array, ai: number): boolean {
  return !isUnspecified(rule, 0) && equal(rule, 0, a, ai)
}

function holds(list: readonly Int32Array[], a: Int32Array, ai: number): boolean {
  for (let i = 0; i < list.length; i++) if (equal(list[i]!, 0, a, ai)) return true
  return false
}

export class Translator {
  #config: TranslationConfig
  #former: FormerAddresses = { resolvers: [], loopback: [] }
  readonly #guest: GuestState

  constructor(config: TranslationConfig, guest: GuestState) {
    this.#config = config
    this.#guest = guest
  }

  /** Other rules from now on, for flows that begin. */
  reconfigure(config: TranslationConfig, former: FormerAddresses): void {
    this.#config = config
    this.#former = former
  }

  /** Translates the destination of a packet from the guest.
   * @param from,fi the address as the guest sent it @param to,ti where the socket's destination goes
   * @param tcpOrUdp whether the DNS rule applies (echo requests go unchanged) */
  outbound(from: Int32Array, fi: number, port: number, tcpOrUdp: boolean, to: Int32Array, ti: number): void {
    const c = this.#config
    const v4 = isMapped(from, fi)
    if (
      tcpOrUdp &&
      (port === PORT_DNS || port === PORT_DNS_TLS) &&
      (applies(v4 ? c.dnsForward4 : c.dnsForward6, from, fi) || holds(this.#former.resolvers, from, fi))
    ) {
      const host = v4 ? c.dnsHost4 : c.dnsHost6
      if (!isUnspecified(host, 0)) {
        copy(to, ti, host, 0)
        return
      }
    }
    if (applies(v4 ? c.mapHostLoopback4 : c.mapHostLoopback6, from, fi) || holds(this.#former.loopback, from, fi)) {
      if (v4) setMapped(to, ti, LOOPBACK4)
      else {
        to[ti] = 0
        to[ti + 1] = 0
        to[ti + 2] = 0
        to[ti + 3] = 1
      }
      return
    }
    const assigned = v4 ? this.#guest.address4 : this.#guest.address6
    // Linux takes 0.0.0.0 and :: for the loopback address: an address that is not known yet must not lead there.
    if (applies(v4 ? c.mapGuestAddress4 : c.mapGuestAddress6, from, fi) && !isUnspecified(assigned, 0)) {
      copy(to, ti, assigned, 0)
    } else {
      copy(to, ti, from, fi)
    }
  }

  /** Translates the source of a packet to the guest.
   * @returns false when the guest has no way to answer it: the flow is refused */
  inbound(from: Int32Array, fi: number, to: Int32Array, ti: number): boolean {
    const c = this.#config
    const guest = this.#guest
    const v4 = isMapped(from, fi)
    const exactLoopback = v4
      ? from[fi + 3] === LOOPBACK4
      : from[fi] === 0 && from[fi + 1] === 0 && from[fi + 2] === 0 && from[fi + 3] === 1
    const loopbackMap = v4 ? c.mapHostLoopback4 : c.mapHostLoopback6
    if (exactLoopback && !isUnspecified(loopbackMap, 0)) {
      copy(to, ti, loopbackMap, 0)
      return true
    }
    const guestMap = v4 ? c.mapGuestAddress4 : c.mapGuestAddress6
    const assigned = v4 ? guest.address4 : guest.address6
    if (!isUnspecified(guestMap, 0) && equal(assigned, 0, from, fi)) {
      copy(to, ti, guestMap, 0)
      return true
    }
    const seen = v4 ? guest.seen4 : guest.seen6
    if (
      !isLoopback(from, fi) &&
      !isUnspecified(from, fi) &&
      !equal(assigned, 0, from, fi) &&
      !equal(seen, 0, from, fi)
    ) {
      copy(to, ti, from, fi)
      return true
    }
    const ours = v4 ? guest.gateway4 : this.#ours6()
    if (isUnspecified(ours, 0)) return false
    copy(to, ti, ours, 0)
    return true
  }

  /** Link-local packets don't leave their link (RFC 4291 section 2.5.6), and behind the guest there may be networks of containers. */
  #ours6(): Int32Array {
    const { seen6, address6, ourAddress6, ourLinkLocal6 } = this.#guest
    const isKnown = !isUnspecified(seen6, 0) || !isUnspecified(address6, 0)
    const isGlobal = !isUnspecified(ourAddress6, 0) && !isLinkLocal(ourAddress6, 0)
    return isKnown && isGlobal ? ourAddress6 : ourLinkLocal6
  }

  /** The guest's address that an inbound flow goes to: what was seen in its traffic, else what was assigned; the
   * link-local one if the source is link-local.
   * @param source the source that the guest will see @returns false when no address is known */
  guestAddress(source: Int32Array, si: number, to: Int32Array, ti: number): boolean {
    const guest = this.#guest
    let a: Int32Array
    if (isMapped(source, si)) {
      a = isUnspecified(guest.seen4, 0) ? guest.address4 : guest.seen4
    } else if (isLinkLocal(source, si)) {
      a = guest.seenLinkLocal6
    } else {
      a = isUnspecified(guest.seen6, 0) ? guest.address6 : guest.seen6
    }
    if (isUnspecified(a, 0)) return false
    copy(to, ti, a, 0)
    return true
  }
}
