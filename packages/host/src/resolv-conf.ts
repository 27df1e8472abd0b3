/** The host's resolver configuration (resolv.conf(5)). */
import { readFileSync } from "node:fs"
import { domainToASCII } from "node:url"
import { address as ip } from "@passt/core/wire"

export interface Resolver {
  /** Four words, IPv4 mapped. */
  readonly address: Int32Array
  /** Zone of a link-local IPv6 address (RFC 4007 section 11): an interface name or number; "" without. */
  readonly zone: string
}

export interface ResolverConfig {
  /** In the order of the file. */
  readonly servers: readonly Resolver[]
  /** Domains to search, without trailing dots, in ASCII form. */
  readonly search: readonly string[]
}

/** More than any real file has; how many of them fit into an answer is for DHCP and NDP to decide. */
const SEARCH_MAX = 64
const SERVERS_MAX = 32
/** Bytes of resolv.conf that are read. */
const FILE_BYTES_MAX = 256 * 1024

/** A domain as it goes on the wire: labels of 1 to 63 bytes, at most 253 in all (RFC 1035 section 2.3.4); undefined if it isn't
 * one. Unicode becomes ASCII (RFC 5891); the root alone is no domain to search. */
export function domainName(text: string): string | undefined {
  const ascii = /^[\x21-\x7e]+$/.test(text) ? text : domainToASCII(text)
  const name = ascii.endsWith(".") ? ascii.slice(0, -1) : ascii
  if (name === "" || name.length > 253) return undefined
  return name.split(".").every((label) => /^[\x21-\x7e]{1,63}$/.test(label)) ? name : undefined
}

/** Parses what glibc, musl and people write: spaces or tabs, comments at the start of a line or after a value, CR LF.
 * Of several `search` and `domain` lines the last counts. Lines that make no sense are passed over. */
export function parseResolvConf(text: string): ResolverConfig {
  const servers: Resolver[] = []
  let search: string[] = []
  for (const raw of text.split("\n")) {
    // A comment may hold what "." takes for an end of line: the carriage return of CR LF, for one.
    const line = raw.replace(/(^|\s)[#;].*$/s, "").trim()
    const [keyword, ...values] = line.split(/\s+/)
    const first = values[0]
    if (first === undefined) continue
    if (keyword === "nameserver" && servers.length < SERVERS_MAX) {
      const percent = first.indexOf("%")
      const words = ip.parse(percent < 0 ? first : first.slice(0, percent))
      if (words && ip.isUnicast(words, 0))
        servers.push({ address: words, zone: percent < 0 ? "" : first.slice(percent + 1) })
    } else if (keyword === "search" || keyword === "domain") {
      const names = keyword === "domain" ? [first] : values
      search = []
      for (const name of names) {
        const domain = domainName(name)
        if (domain !== undefined && search.length < SEARCH_MAX) search.push(domain)
      }
    }
  }
  return { servers, search }
}

/** Reads the file. A missing or unreadable one is as an empty one. */
export function readResolvers(path = "/etc/resolv.conf"): ResolverConfig {
  let text: string
  try {
    text = readFileSync(path, "utf8")
  } catch {
    return { servers: [], search: [] }
  }
  return parseResolvConf(text.slice(0, FILE_BYTES_MAX))
}
