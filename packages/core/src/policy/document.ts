/**
 * A policy as text: JSON, whose format docs/policy.md describes. Everything is checked here, and what nobody knows is an error, so that a
 * typing mistake does not open anything.
 */
import { format, isMapped, isUnicast, parse4, parse6 } from "../wire/address.ts"
import { PolicyError } from "./error.ts"
import { type JsonObject, type JsonValue, readJson } from "./json.ts"
import { Matcher } from "./matcher.ts"
import { RATE_MAX, RATE_MIN } from "./rate.ts"
import type {
  DefaultAction,
  DnsPolicy,
  PolicyDirection,
  PolicyProtocol,
  PolicyRule,
  PortRange,
  Prefix,
  RateLimit,
  Redirect,
  RefuseWith,
  RuleSet,
} from "./rule.ts"

/** Rules of one policy. */
export const RULES_MAX = 65_536
/** Bytes of its text. */
export const POLICY_TEXT_MAX: number = 16 << 20
const LABEL_LENGTH_MAX = 64
/** Rules that are checked between two steps. */
const STEP = 16

/** Ranges of addresses by name. */
const GROUPS: Readonly<Record<string, readonly string[]>> = {
  ipv4: ["0.0.0.0/0"],
  ipv6: ["::/0"],
  // RFC 1918, RFC 6598, RFC 4193.
  private: ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"],
  loopback: ["127.0.0.0/8", "::1/128"],
  "link-local": ["169.254.0.0/16", "fe80::/10"],
  // And broadcast.
  multicast: ["224.0.0.0/4", "255.255.255.255/32", "ff00::/8"],
}

export interface PolicyDocument extends RuleSet {
  /** What a new policy means for flows that have begun: "end" ends those that it refuses. */
  readonly existingFlows: "keep" | "end"
}

export interface CompiledPolicy {
  readonly document: PolicyDocument
  readonly matcher: Matcher
}

export interface DocumentOptions {
  /** Whether there is a function for the action "ask". */
  readonly mayAsk?: boolean
}

/** At once. @throws PolicyError */
export function parsePolicy(text: string, options?: DocumentOptions): PolicyDocument {
  const steps = readPolicy(text, options)
  for (;;) {
    const { done, value } = steps.next()
    if (done) return value
  }
}

/** Step by step, ready to be used. @throws PolicyError */
export function* compilePolicy(
  text: string,
  options?: DocumentOptions,
): Generator<undefined, CompiledPolicy, undefined> {
  const document = yield* readPolicy(text, options)
  return { document, matcher: yield* Matcher.compile(document.rules) }
}

function* readPolicy(text: string, options: DocumentOptions = {}): Generator<undefined, PolicyDocument, undefined> {
  if (text.length > POLICY_TEXT_MAX) throw new PolicyError(0, "", `a policy is at most ${POLICY_TEXT_MAX} bytes long`)
  const root = new Place(yield* readJson(text), "")
  const fields = root.object(["default", "existing-flows", "dns", "rules"])
  const actions = ["allow", "refuse", "drop", ...(options.mayAsk ? ["ask"] : [])]
  const found = (fields.get("default")?.word(actions) ?? "refuse") as DefaultAction
  const existingFlows = (fields.get("existing-flows")?.word(["keep", "end"]) ?? "keep") as "keep" | "end"
  const dns = fields.get("dns")
  const items = fields.get("rules")?.list() ?? []
  if (items.length > RULES_MAX) fields.get("rules")!.fail(`there may be ${RULES_MAX} rules, not ${items.length}`)
  const rules: PolicyRule[] = []
  for (const item of items) {
    rules.push(readRule(item, options))
    if (rules.length % STEP === 0) yield
  }
  return { rules, default: found, existingFlows, ...(dns === undefined ? {} : { dns: readDns(dns) }) }
}

function readDns(place: Place): DnsPolicy {
  const fields = place.object(["names", "private-answers"])
  return {
    onlyAllowedNames: fields.get("names")?.word(["all", "only-allowed"]) === "only-allowed",
    refusePrivateAnswers: fields.get("private-answers")?.word(["allow", "refuse"]) === "refuse",
  }
}

const RULE_FIELDS = [
  "action",
  "direction",
  "protocol",
  "remote",
  "name",
  "port",
  "refuse-with",
  "to",
  "limit",
  "label",
] as const

function readRule(place: Place, options: DocumentOptions): PolicyRule {
  const fields = place.object(RULE_FIELDS)
  const action = (fields.get("action") ?? place.missing("action")).word([
    "allow",
    "refuse",
    "drop",
    "redirect",
    ...(options.mayAsk ? ["ask"] : []),
  ]) as PolicyRule["action"]
  const names = fields.get("name")?.several().map(readName)
  const to = fields.get("to")
  if (action === "redirect" && to === undefined) place.missing("to")
  if (to !== undefined && action !== "redirect") to.fail('belongs to rules with the action "redirect"')
  const onlyOut = names !== undefined || action === "redirect"
  const direction = (fields.get("direction")?.word(["in", "out"]) ?? (onlyOut ? "out" : undefined)) as
    | PolicyDirection
    | undefined
  if (names !== undefined && direction === "in") fields.get("direction")!.fail("names are of what the guest looks for")
  if (names !== undefined) fields.get("remote")?.fail("goes not together with a name: make two rules")
  const protocols = fields
    .get("protocol")
    ?.several()
    .map((each) => each.word(["tcp", "udp", "icmp"]) as PolicyProtocol)
  const port = fields.get("port")
  const ports = port?.several().map(readPorts)
  if (ports !== undefined && protocols?.every((protocol) => protocol === "icmp")) port!.fail("ICMP has no ports")
  const how = fields.get("refuse-with")
  if (how !== undefined && action !== "refuse") how.fail('belongs to rules with the action "refuse"')
  const limit = fields.get("limit")
  if (limit !== undefined && (action === "refuse" || action === "drop")) limit.fail("there is nothing to be limited")
  const remote = fields.get("remote")
  return {
    action,
    ...given("direction", direction),
    ...given("protocols", protocols),
    ...given("remotes", remote?.several().flatMap(readRemote)),
    ...given("names", names),
    ...given("ports", ports),
    ...given("refuseWith", how?.word(["reset", "port-unreachable", "prohibited"]) as RefuseWith | undefined),
    ...given("redirect", to === undefined ? undefined : readTarget(to)),
    ...given("limit", limit === undefined ? undefined : readLimit(limit)),
    ...given("label", fields.get("label")?.text(LABEL_LENGTH_MAX)),
  }
}

/** A property only when there is a value. */
function given<K extends string, V>(key: K, value: V | undefined): Partial<Record<K, V>> {
  return value === undefined ? {} : ({ [key]: value } as Partial<Record<K, V>>)
}

function readName(place: Place): string {
  const text = place.text(255).toLowerCase().replace(/\.$/, "")
  if (text === "*") return text
  const labels = text.replace(/^\*\./, "").split(".")
  if (text.length > 253 || !labels.every((label) => /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/.test(label))) {
    place.fail(
      `"${text}" is no name: write "example.org", "*.example.org" for all below it, or "*"; others in their xn-- form`,
    )
  }
  return text
}

function readRemote(place: Place): Prefix[] {
  const text = place.text(64)
  const group = Object.hasOwn(GROUPS, text) ? GROUPS[text]! : [text]
  return group.map((one) => readPrefix(place, one))
}

function readPrefix(place: Place, text: string): Prefix {
  const slash = text.indexOf("/")
  const address = slash < 0 ? text : text.slice(0, slash)
  const four = parse4(address)
  const words = four ?? parse6(address)
  if (words === undefined) {
    return place.fail(
      `"${text}" is no address, no network as 192.0.2.0/24, and none of ${Object.keys(GROUPS).join(", ")}`,
    )
  }
  const most = four ? 32 : 128
  const bits = slash < 0 ? most : /^\d{1,3}$/.test(text.slice(slash + 1)) ? Number(text.slice(slash + 1)) : -1
  if (bits < 0 || bits > most) place.fail(`"${text}": the length is 0 to ${most}`)
  for (let i = bits; i < most; i++) {
    const at = four ? 96 + i : i
    if (((words[at >> 5]! >>> (31 - (at & 31))) & 1) !== 0) {
      place.fail(`"${text}" has bits beyond its length of ${bits}: is it one address, or another network?`)
    }
  }
  return { address: words, bits: four ? 96 + bits : bits }
}

function readPorts(place: Place): PortRange {
  const value = place.plain()
  const found =
    typeof value === "number" ? [value, value] : (/^(\d{1,5})(?:-(\d{1,5}))?$/.exec(String(value)) ?? []).slice(1)
  const first = Number(found[0])
  const last = Number(found[1] ?? found[0])
  if (!(Number.isInteger(first) && first >= 1 && first <= last && last <= 0xffff)) {
    place.fail(`${JSON.stringify(value)} is neither a port, 1 to 65535, nor a range as "8000-8999"`)
  }
  return { first, last }
}

function readTarget(place: Place): Redirect {
  const text = place.text(64)
  const parts = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(\d{1,5}))?$/.exec(text)
  const bare = parts === null ? parse6(text) : undefined
  const port = Number(parts?.[3] ?? 0)
  const written = parts?.[1] ?? parts?.[2] ?? ""
  const address = bare ?? (parts?.[1] === undefined ? parse4(written) : parse6(written)) ?? null
  const isNone =
    (address === null && (written !== "" || port === 0)) || port > 0xffff || (parts?.[3] !== undefined && port === 0)
  if ((parts === null && bare === undefined) || isNone || (address !== null && !isUnicast(address, 0))) {
    place.fail(`"${text}" is no target: write "192.0.2.1:8080", "[2001:db8::1]:8080", "192.0.2.1" or ":8080"`)
  }
  return { address, port }
}

const UNITS: Readonly<Record<string, number>> = { "": 1, k: 1e3, M: 1e6, G: 1e9 }

function readLimit(place: Place): RateLimit {
  if (place.isObject) {
    const fields = place.object(["rate", "burst"])
    const burst = fields.get("burst")
    return {
      bytesPerSecond: readRate(fields.get("rate") ?? place.missing("rate")),
      ...(burst === undefined ? {} : { burstBytes: readRate(burst) }),
    }
  }
  return { bytesPerSecond: readRate(place) }
}

function readRate(place: Place): number {
  const value = place.plain()
  const found = /^(\d+(?:\.\d+)?)([kMG]?)$/.exec(String(value))
  const bytes = found === null ? Number.NaN : Number(found[1]) * UNITS[found[2]!]!
  if (!(bytes >= RATE_MIN && bytes <= RATE_MAX)) {
    place.fail(`${JSON.stringify(value)} is no number of bytes from ${RATE_MIN} to 2^40, as 500000, "500k" or "1.5M"`)
  }
  return bytes
}

/** A rule in the form that it has in the text. */
export function writeRule(rule: PolicyRule): Readonly<Record<string, unknown>> {
  const { action, direction, protocols, remotes, names, ports, refuseWith, redirect, limit, label } = rule
  return {
    action,
    ...given("direction", direction),
    ...given("protocol", one(protocols)),
    ...given("remote", one(remotes?.map(writePrefix))),
    ...given("name", one(names)),
    ...given("port", one(ports?.map(({ first, last }) => (first === last ? first : `${first}-${last}`)))),
    ...given("refuse-with", refuseWith),
    ...given("to", redirect === undefined ? undefined : writeTarget(redirect)),
    ...given("limit", limit === undefined ? undefined : writeLimit(limit)),
    ...given("label", label),
  }
}

function one<T>(list: readonly T[] | undefined): T | readonly T[] | undefined {
  return list?.length === 1 ? list[0] : list
}

function writePrefix({ address, bits }: Prefix): string {
  const four = bits >= 96 && isMapped(address, 0)
  const length = four ? bits - 96 : bits
  return length === (four ? 32 : 128) ? format(address) : `${format(address)}/${length}`
}

function writeTarget({ address, port }: Redirect): string {
  if (address === null) return `:${port}`
  const text = format(address)
  if (port === 0) return text
  return isMapped(address, 0) ? `${text}:${port}` : `[${text}]:${port}`
}

function writeLimit({ bytesPerSecond, burstBytes }: RateLimit): unknown {
  return burstBytes === undefined ? bytesPerSecond : { rate: bytesPerSecond, burst: burstBytes }
}

/** A value and where it stands. */
class Place {
  readonly #value: JsonValue
  readonly #field: string

  constructor(value: JsonValue, field: string) {
    this.#value = value
    this.#field = field
  }

  fail(problem: string): never {
    throw new PolicyError(this.#value.line, this.#field, problem)
  }

  missing(name: string): never {
    throw new PolicyError(this.#value.line, this.#sub(name), "is missing")
  }

  #sub(name: string): string {
    return this.#field === "" ? name : `${this.#field}.${name}`
  }

  get isObject(): boolean {
    return this.#value.kind === "object"
  }

  object(known: readonly string[]): ReadonlyMap<string, Place> {
    if (this.#value.kind !== "object") return this.fail("must be an object")
    const { fields } = this.#value as JsonObject
    const places = new Map<string, Place>()
    for (const [name, value] of fields) {
      const place = new Place(value, this.#sub(name.slice(0, 64)))
      if (!known.includes(name)) place.fail(`is unknown; known are ${known.join(", ")}`)
      places.set(name, place)
    }
    return places
  }

  list(): Place[] {
    if (this.#value.kind !== "list") return this.fail("must be a list")
    return this.#value.items.map((item, i) => new Place(item, `${this.#field}[${i}]`))
  }

  /** One, or a list of at least one. */
  several(): Place[] {
    if (this.#value.kind !== "list") return [this]
    if (this.#value.items.length === 0) this.fail("an empty list would match nothing: leave it out, or the rule")
    return this.list()
  }

  plain(): string | number | boolean | null {
    return this.#value.kind === "plain" ? this.#value.value : this.fail("must be a single value")
  }

  text(most: number): string {
    const value = this.plain()
    if (typeof value !== "string") return this.fail("must be a string")
    if (value.length > most) this.fail(`is longer than ${most} characters`)
    return value
  }

  word(known: readonly string[]): string {
    const value = this.plain()
    if (typeof value !== "string" || !known.includes(value)) {
      return this.fail(`${JSON.stringify(value)} is none of ${known.join(", ")}`)
    }
    return value
  }
}
