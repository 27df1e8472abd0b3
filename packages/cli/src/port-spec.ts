/**
 * The grammar of `-t` and `-u`: what to listen for on the host, and where it leads in the guest; and of `-T` and `-U`: what
 * to listen for on the namespace's loopback, and where it leads on the host's.
 *
 *   SPEC   = "none" | [ LISTEN "/" ] PORTS
 *   LISTEN = [ ADDRESS | "*" ] [ "%" INTERFACE ]          ADDRESS: IPv4, IPv6 or [IPv6]
 *   PORTS  = CHUNK { "," CHUNK }
 *   CHUNK  = "all" [ ":" ADDRESS ] | "auto" | "~" RANGE | RANGE [ ":" TARGET ]
 *   TARGET = ADDRESS "/" RANGE | ADDRESS | RANGE
 *   RANGE  = PORT [ "-" PORT ]
 *
 * A specification is read twice: exclusions ("~") and "auto" hold for the whole of it wherever they stand, so they are
 * collected first; then each range becomes a rule, split around the excluded ports. A specification without a range
 * stands for all ports but the excluded and the host's ephemeral ones, as far as they can be had.
 */
import { LISTENER_MAX, PLACE_NAMESPACE } from "@passt/core"
import { address } from "@passt/core/wire"
import { ConfigError } from "./config-error.ts"
import { FORWARD_RULE_MAX, formatRule, rulesConflict, type ForwardRule, type Place } from "./forward-rule.ts"
import { isInterfaceName, parseAddress, parseDecimal, type Address, type AddressWords } from "./values.ts"

/** One `-t`, `-u`, `-T` or `-U` as it stood on the command line. */
export interface PortOption {
  readonly protocol: "tcp" | "udp"
  readonly place: Place
  readonly spec: string
  /** How the user wrote the option, for messages: "-t", "--tcp-ports". */
  readonly written: string
}

/** What the rules depend on beside the command line. */
export interface PortContext {
  /** Families in use. With both, a wildcard is dual stack. */
  readonly ipv4: boolean
  readonly ipv6: boolean
  /** Protocols in use: rules of others are refused. */
  readonly tcp: boolean
  readonly udp: boolean
  /** Ports that the host's kernel hands out (net.ipv4.ip_local_port_range): left out where a specification names none. */
  readonly ephemeralFirst: number
  readonly ephemeralLast: number
  /** Whether "auto" is possible: pasta, which sees the listeners of both sides. */
  readonly auto: boolean
}

/** Ephemeral ports where the host does not tell its own (RFC 6335 section 6). */
export const EPHEMERAL_FIRST_DEFAULT = 49_152
export const EPHEMERAL_LAST_DEFAULT = 65_535

interface PortRange {
  readonly first: number
  readonly last: number
}

interface Chunk {
  readonly kind: "all" | "auto" | "exclude" | "include"
  /** Of "exclude" and "include". */
  readonly range: PortRange | null
  readonly target: PortRange | null
  readonly targetAddress: Address | null
}

/**
 * Parses the port options in their order on the command line.
 * @throws ConfigError for a specification outside the grammar, for rules that conflict, and beyond the limits.
 */
export function parsePortOptions(options: readonly PortOption[], context: PortContext): ForwardRule[] {
  const rules: ForwardRule[] = []
  let listeners = 0
  for (const option of options) {
    if (option.spec === "none") {
      if (rules.some((rule) => rule.protocol === option.protocol && rule.place === option.place)) {
        throw new ConfigError(`${option.written} none conflicts with previous options`)
      }
      continue
    }
    if (!context[option.protocol]) {
      const name = option.protocol.toUpperCase()
      throw new ConfigError(`${option.written} ${option.spec}: ${name} is disabled by --no-${option.protocol}`)
    }
    for (const rule of parseSpec(option, context)) {
      const rival = rules.find((earlier) => rulesConflict(earlier, rule))
      if (rival) {
        const pair = `${formatRule(rule).trimEnd()} versus ${formatRule(rival).trimEnd()}`
        throw new ConfigError(`Forwarding configuration conflict: ${pair}`)
      }
      if (rules.filter(({ place }) => place === rule.place).length === FORWARD_RULE_MAX) {
        throw new ConfigError(`Too many forwarding rules (maximum ${FORWARD_RULE_MAX})`)
      }
      // Of the others few are ever open at a time.
      if (!rule.auto) listeners += rule.last - rule.first + 1
      if (listeners > LISTENER_MAX) throw new ConfigError(`Too many listening sockets (maximum ${LISTENER_MAX})`)
      rules.push(rule)
    }
  }
  return rules
}

/** Parses one specification other than "none". Conflicts and limits are the caller's. */
function parseSpec(option: PortOption, context: PortContext): ForwardRule[] {
  const invalid = (): ConfigError => new ConfigError(`Invalid port specifier '${option.spec}'`)
  const { listen, device: given, ports } = splitListen(option.spec)
  const chunks = ports.split(",").map(parseChunk)
  if (chunks.includes(undefined)) throw invalid()
  const parsed = chunks as Chunk[]

  let device = given
  if (option.place === PLACE_NAMESPACE) {
    // The loopback interface, whatever addresses it has: nobody but the namespace itself gets there.
    if (ports !== option.spec)
      throw new ConfigError(`Listening address not allowed for ${option.written} ${option.spec}`)
    if (parsed.some((chunk) => chunk.targetAddress)) {
      throw new ConfigError(`Target address not allowed for ${option.written} ${option.spec}`)
    }
    device = "lo"
  }
  if (listen) {
    const enabled = listen.family === 4 ? context.ipv4 : context.ipv6
    if (!enabled) throw new ConfigError(`${option.written} ${option.spec}: IPv${listen.family} is disabled`)
  }
  const dualStack = !listen && context.ipv4 && context.ipv6
  const listenWords = listen?.words ?? wildcard(context)

  // First pass: what holds for the whole list.
  const excluded = new Uint8Array(65_536)
  let auto = false
  for (const chunk of parsed) {
    if (chunk.kind === "exclude") excluded.fill(1, chunk.range!.first, chunk.range!.last + 1)
    if (chunk.kind === "auto") auto = true
  }
  if (auto && !context.auto) throw new ConfigError("'auto' port forwarding is only allowed for pasta")

  // Second pass: the rules.
  const rules: ForwardRule[] = []
  const add = (range: PortRange, targetFirst: number, target: Address | null, weak: boolean): void => {
    const { protocol, place } = option
    const common = { protocol, place, address: listenWords, dualStack, device, weak, auto }
    checkTarget(target, listenWords, option)
    for (let first = range.first; first <= range.last; first++) {
      if (excluded[first]) continue
      let last = first
      while (last < range.last && !excluded[last + 1]) last++
      const to = targetFirst + first - range.first
      if (first === 0) throw new ConfigError("Forwarding rule attempts to map from port 0")
      if (to === 0) throw new ConfigError("Forwarding rule attempts to map to port 0")
      rules.push({ ...common, first, last, targetFirst: to, targetAddress: target?.words ?? null })
      first = last
    }
  }
  const included = parsed.filter((chunk) => chunk.kind === "include")
  const alls = parsed.filter((chunk) => chunk.kind === "all")
  if (alls.length > 1 || (alls.length === 1 && included.length > 0)) throw invalid()
  if (included.length === 0) {
    excluded.fill(1, context.ephemeralFirst, context.ephemeralLast + 1)
    add({ first: 1, last: 65_535 }, 1, alls[0]?.targetAddress ?? null, true)
  }
  for (const chunk of included) {
    add(chunk.range!, chunk.target?.first ?? chunk.range!.first, chunk.targetAddress, false)
  }
  return rules
}

/** What a missing or "*" address stands for: null with both families, else any address of the one in use. */
function wildcard(context: PortContext): AddressWords | null {
  if (context.ipv4 && context.ipv6) return null
  const words = new Int32Array(4)
  if (context.ipv4) address.setMapped(words, 0, 0)
  return words
}

function checkTarget(target: Address | null, listen: AddressWords | null, option: PortOption): void {
  if (!target) return
  const text = address.format(target.words)
  if (!address.isUnicast(target.words, 0)) {
    throw new ConfigError(`Invalid target address ${text} in '${option.spec}': it must be a unicast address`)
  }
  if (!listen) {
    const any = target.family === 4 ? "0.0.0.0" : "::"
    const fixed = `${any}${option.spec.replace(/^\*?(%[^/,]*)?\/?/, "$1/")}`
    throw new ConfigError(
      `Target address ${text} in '${option.spec}' needs a listening address. Did you mean ${fixed} instead?`,
    )
  }
  if ((target.family === 4) !== address.isMapped(listen, 0)) {
    throw new ConfigError(
      `Target address ${text} in '${option.spec}' is not of the family of ${address.format(listen)}`,
    )
  }
}

/**
 * Takes LISTEN off the front. It reaches to the first slash, but only if what stands before is one; else that slash
 * belongs to a target ("22:10.0.0.5/23") and all of the text is PORTS.
 */
function splitListen(spec: string): { listen: Address | null; device: string; ports: string } {
  const none = { listen: null, device: "", ports: spec }
  const slash = spec.indexOf("/")
  if (slash < 0) return none
  const text = spec.slice(0, slash)
  const percent = text.indexOf("%")
  const host = percent < 0 ? text : text.slice(0, percent)
  const device = percent < 0 ? "" : text.slice(percent + 1)
  if (percent >= 0 && !isInterfaceName(device)) return none
  const ports = spec.slice(slash + 1)
  if (host === "" || host === "*") return { listen: null, device, ports }
  const listen = parseBracketed(host)
  return listen ? { listen, device, ports } : none
}

/** IPv4, IPv6 or [IPv6]. */
function parseBracketed(text: string): Address | undefined {
  if (!text.startsWith("[") || !text.endsWith("]")) return parseAddress(text)
  const inner = parseAddress(text.slice(1, -1))
  return inner?.family === 6 ? inner : undefined
}

function parseChunk(text: string): Chunk | undefined {
  const chunk = (kind: Chunk["kind"], range: PortRange | null = null): Chunk => {
    return { kind, range, target: null, targetAddress: null }
  }
  if (text === "auto") return chunk("auto")
  if (text.startsWith("~")) {
    const range = parseRange(text.slice(1))
    return range && chunk("exclude", range)
  }
  const colon = text.indexOf(":")
  const head = colon < 0 ? text : text.slice(0, colon)
  const tail = colon < 0 ? null : text.slice(colon + 1)
  if (head === "all") {
    if (tail === null) return chunk("all")
    const targetAddress = parseBracketed(tail)
    return targetAddress && { ...chunk("all"), targetAddress }
  }
  const range = parseRange(head)
  if (!range) return undefined
  if (tail === null) return chunk("include", range)
  const targetAddress = parseBracketed(tail)
  if (targetAddress) return { ...chunk("include", range), targetAddress }
  const slash = tail.indexOf("/")
  const base = slash < 0 ? null : parseBracketed(tail.slice(0, slash))
  if (base === undefined) return undefined
  const target = parseRange(tail.slice(slash + 1))
  if (!target || target.last - target.first !== range.last - range.first) return undefined
  return { ...chunk("include", range), target, targetAddress: base }
}

/** PORT or PORT-PORT, 0…65535, in order. Port 0 is refused later, with its own message. */
function parseRange(text: string): PortRange | undefined {
  const dash = text.indexOf("-")
  const first = parseDecimal(dash < 0 ? text : text.slice(0, dash))
  const last = dash < 0 ? first : parseDecimal(text.slice(dash + 1))
  if (first === undefined || last === undefined || last > 65_535 || last < first) return undefined
  return { first, last }
}
