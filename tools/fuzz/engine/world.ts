/** The real engine with the real responders, between a kernel and a link that obey a seed; and what must always hold. */
import { REF_RELAY, REF_SHIFT } from "../../../packages/core/src/context.ts"
import { Engine } from "../../../packages/core/src/engine.ts"
import { FLOW_SHIFT, FD, KIND, KIND_FREE, KIND_TCP } from "../../../packages/core/src/flow/table.ts"
import { emptyTranslation } from "../../../packages/core/src/forward/translate.ts"
import type { ForwardRule } from "../../../packages/core/src/forward/rule.ts"
import { GuestState } from "../../../packages/core/src/guest.ts"
import type { PolicyOptions } from "../../../packages/core/src/policy/rule.ts"
import type { Responder } from "../../../packages/core/src/responder.ts"
import { COUNTER_COUNT } from "../../../packages/core/src/stats.ts"
import { HOLD_COUNT } from "../../../packages/core/src/tcp/state.ts"
import { DhcpResponder, Dhcpv6Responder } from "../../../packages/dhcp/src/index.ts"
import { ArpResponder, learnNeighbour, NdpResponder, NeighbourTable } from "../../../packages/ndp/src/index.ts"
import { Random } from "../random.ts"
import { Failure, hex } from "../target.ts"
import * as a from "./addresses.ts"
import { FuzzKernel } from "./kernel.ts"
import { FuzzLink } from "./link.ts"
import { type Emitted, faultOf } from "./well-formed.ts"

/** What happens in one turn. */
export interface Step {
  readonly seed: number
  readonly advanceMs: number
  readonly link: "up" | "stalled" | "gone"
  readonly frames: readonly Uint8Array[]
}

const NEIGHBOUR_MAC = "02005e105301"
/** Turns of one step: what a batch starts needs a few to be done. */
const TURNS = 3

export class World {
  readonly link: FuzzLink
  readonly kernel: FuzzKernel
  readonly engine: Engine
  readonly guest: GuestState = new GuestState()
  readonly #flowMax: number
  readonly #sources: Set<string>

  /** @param seed of the configuration @param poison a byte */
  constructor(seed: number, poison: number) {
    const r = new Random(seed)
    this.link = new FuzzLink(r.pick([0, 0, 65_536]), poison)
    this.kernel = new FuzzKernel(this.link, r.chance(0.5), r.pick([1000, 0x7fffff00, -5000]))
    this.kernel.reseed(seed)
    this.#flowMax = r.pick([4, 64, 1000])
    const { guest, link } = this
    guest.ipv4 = r.chance(0.95)
    guest.ipv6 = r.chance(0.95)
    guest.mac.set(a.GUEST_MAC)
    guest.macGeneration++
    if (r.chance(0.95)) guest.address4.set(a.words(a.GUEST4))
    if (r.chance(0.95)) guest.gateway4.set(a.words(a.GATEWAY4))
    guest.prefix4 = r.pick([24, 32, 0, 8])
    guest.address6.set(a.words(r.pick([a.GUEST6, a.GUEST6, a.GUEST_LINK_LOCAL, "::"])))
    guest.gateway6.set(a.words(a.GATEWAY6))
    guest.ourLinkLocal6.set(a.words(a.GATEWAY6))
    guest.mtu = r.pick([65_520, 1500, 1280, 0])
    guest.fixed4 = r.chance(0.3)
    guest.fixed6 = r.chance(0.3)

    const translation = emptyTranslation()
    if (r.chance(0.7)) {
      translation.mapHostLoopback4.set(a.words(a.MAPPED4))
      translation.mapHostLoopback6.set(a.words(a.MAPPED6))
      translation.mapGuestAddress4.set(a.words(a.MAP_GUEST4))
      translation.mapGuestAddress6.set(a.words(a.MAP_GUEST6))
      translation.dnsForward4.set(a.words(a.DNS4))
      translation.dnsForward6.set(a.words(a.DNS6))
      translation.dnsHost4.set(a.words(r.pick(["127.0.0.53", "2001:db8::53"])))
      translation.dnsHost6.set(a.words(r.pick(["127.0.0.53", "2001:db8::53"])))
    }
    const neighbours = new NeighbourTable(guest, 1, 2)
    const config = {
      dns: r.chance(0.8) ? [a.words("192.0.2.53"), a.words("2001:db8::53")] : [],
      search: r.chance(0.8) ? ["example.org", `${"long.".repeat(30)}example`] : [],
      advertiseDns: r.chance(0.9),
      advertiseSearch: r.chance(0.9),
      managed: r.chance(0.8),
      advertise: r.chance(0.9),
      random: () => r.word(),
      duidTime: 7,
      ...(r.chance(0.5) ? { fqdn: "guest.example.org", hostname: "guest" } : {}),
    }
    const arp = new ArpResponder(link, guest, neighbours)
    const ndp = new NdpResponder(link, guest, neighbours, config)
    const mac = Uint8Array.from(Buffer.from(NEIGHBOUR_MAC, "hex"))
    for (const text of ["192.0.2.77", "fe80::77"]) {
      if (r.chance(0.5)) learnNeighbour(neighbours, { arp, ndp }, a.words(text), 0, mac)
    }
    this.#sources = new Set([Buffer.from(guest.ourMac).toString("hex"), NEIGHBOUR_MAC])
    const rules: ForwardRule[] = []
    for (const protocol of ["tcp", "udp"] as const) {
      if (!r.chance(0.7)) continue
      rules.push({
        protocol,
        address: r.pick([null, a.words("0.0.0.0"), a.words("::")]),
        device: "",
        first: 5001,
        last: 5003,
        targetFirst: 80,
        targetAddress: r.chance(0.2) ? a.words(r.pick(["192.0.2.99", "2001:db8::99"])) : null,
        weak: false,
      })
    }
    const none = new Int32Array(4)
    const outbound = r.chance(0.2)
    const policed = r.chance(0.4)
    if (policed && r.chance(0.9)) this.kernel.enableRelays(poison)
    this.engine = new Engine({
      kernel: this.kernel,
      link,
      guest,
      secret: Int32Array.of(1, 2, 3, 4),
      translation,
      neighbours: {
        macs: neighbours.macs,
        lookup: (words, index) => neighbours.resolve(words, index),
        get generation() {
          return neighbours.generation
        },
      },
      responders: {
        arp,
        ndp,
        dhcp: named("dhcp", link, new DhcpResponder(link, guest, config)),
        dhcpv6: named("dhcpv6", link, new Dhcpv6Responder(link, guest, config)),
      },
      rules,
      tcp: r.chance(0.98),
      udp: r.chance(0.98),
      icmp: r.chance(0.98),
      outbound4: outbound ? a.words("203.0.113.9") : none,
      outbound6: outbound ? a.words("2001:db8:2::9") : none,
      outboundDevice4: "",
      outboundDevice6: r.chance(0.1) ? "eth0" : "",
      linkLocalScope: 2,
      freebind: false,
      synRetries: 2,
      synLinear: 1,
      rtoMaxMs: 8000,
      udpTimeout: 30,
      udpStreamTimeout: 120,
      flowMax: this.#flowMax,
      ...(policed ? { policy: policyOf(r) } : {}),
    })
    this.engine.listen()
    this.kernel.trouble = r.pick([0, 0.02, 0.1])
  }

  /** @returns what went to the guest @throws Failure when something does not hold */
  step(step: Step): Emitted[] {
    const { kernel, link, engine } = this
    kernel.timeMs = (kernel.timeMs + step.advanceMs) | 0
    kernel.reseed(step.seed)
    if (step.link === "gone" && link.connected) link.disconnect()
    if (step.link !== "gone") link.connected = true
    link.stalled = step.link === "stalled"
    if (link.connected) link.waiting = step.frames
    for (let i = 0; i < TURNS; i++) engine.turn(0)
    this.#check()
    const sent = link.sent.splice(0)
    const guestMac = Buffer.from(this.guest.mac).toString("hex")
    for (const emitted of sent) {
      // Frames that were queued before the guest's MAC address changed have the old one.
      const fault = faultOf(emitted, guestMac, this.#sources) ?? undefined
      if (fault !== undefined && !fault.startsWith("destination MAC")) {
        throw new Failure(`to the guest: ${fault}: ${hex(emitted.frame.subarray(0, 200))}`)
      }
    }
    return sent
  }

  #check(): void {
    const { flows, words } = this.engine.ctx
    let descriptors = 0
    let rows = 0
    let held = 0
    for (let flow = 0; flow < flows.highWater; flow++) {
      const base = flow << FLOW_SHIFT
      if (words[base + KIND] === KIND_FREE) continue
      rows++
      if (words[base + FD]! >= 0) descriptors++
      if (words[base + FD]! >= 0 && !this.kernel.sockets.has(words[base + FD]!))
        throw new Failure("a flow names a closed socket")
      if (words[base + KIND] === KIND_TCP) held += words[base + HOLD_COUNT]!
    }
    if (rows !== flows.count || rows > this.#flowMax) throw new Failure(`${rows} flows, ${flows.count} counted`)
    if (held !== this.engine.tcp.hold.used)
      throw new Failure(`${this.engine.tcp.hold.used} blocks held, ${held} of flows`)
    let others = 0
    for (const { listening, ref } of this.kernel.sockets.values()) {
      if (listening || (ref >= 0 && ref >>> REF_SHIFT === REF_RELAY)) others++
    }
    // One descriptor is kept in reserve.
    const spare = this.kernel.sockets.size - descriptors - others
    if (spare < 0 || spare > 1) throw new Failure(`${spare} sockets belong to nobody`)
  }

  /** All that can be compared. */
  get state(): string {
    const { counters, ctx } = this.engine
    const list = Array.from({ length: COUNTER_COUNT }, (_, i) => counters[i]!)
    return `digest ${this.kernel.digest} flows ${ctx.flows.count} counters ${list.join(" ")}`
  }

  /** Ends the world. @throws Failure when something is left over */
  close(): void {
    this.engine.close()
    if (this.kernel.sockets.size > 0) throw new Failure(`${this.kernel.sockets.size} sockets are left open`)
    if (this.engine.ctx.timers.armed > 0) throw new Failure(`${this.engine.ctx.timers.armed} timers are left armed`)
    if (this.engine.tcp.hold.used > 0) throw new Failure(`${this.engine.tcp.hold.used} blocks are left held`)
    if ((this.engine.policy?.relays.used ?? 0) > 0) throw new Failure("places for relays are left taken")
    if (this.engine.ctx.flows.count > 0) throw new Failure(`${this.engine.ctx.flows.count} flows are left`)
  }
}

/** Names matter, and most may begin. */
function policyOf(r: Random): PolicyOptions {
  return {
    default: r.chance(0.8) ? "allow" : "refuse",
    dns: { onlyAllowedNames: r.chance(0.5), refusePrivateAnswers: r.chance(0.5) },
    rules: [
      { action: "allow", names: ["*.example.org"], ports: [{ first: 80, last: 80 }] },
      { action: r.pick(["allow", "drop"]), protocols: ["tcp"], ports: [{ first: 443, last: 443 }] },
    ],
    resolvers: [a.words(a.DNS4), a.words(a.DNS6)],
  }
}

/** A responder whose answers are known for its own. */
function named(name: string, link: FuzzLink, responder: Responder): Responder {
  return {
    respond: (row, l3, l4, end) => {
      link.by = name
      responder.respond(row, l3, l4, end)
      link.by = ""
    },
  }
}
