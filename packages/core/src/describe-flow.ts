/**
 * Flows in words, for an operator's debug log.
 */
import { equal, format, isMapped } from "./wire/address.ts"
import {
  FAR,
  FLOW_SHIFT,
  GUEST,
  KIND,
  KIND_PING,
  KIND_TCP,
  KIND_TCP_SPLICE,
  KIND_UDP,
  KIND_UDP_SPLICE_IN,
  KIND_UDP_SPLICE_OUT,
  OUR,
  PEER,
  PORT,
  isSplicedKind,
} from "./flow/table.ts"

const NAMES: Readonly<Record<number, string>> = {
  [KIND_TCP]: "TCP",
  [KIND_UDP]: "UDP",
  [KIND_PING]: "ICMP echo",
  [KIND_TCP_SPLICE]: "TCP, spliced",
  [KIND_UDP_SPLICE_IN]: "UDP, spliced",
  [KIND_UDP_SPLICE_OUT]: "UDP, spliced",
}

function end(words: Int32Array, at: number): string {
  const address = format(words, at)
  return `${isMapped(words, at) ? address : `[${address}]`}:${words[at + PORT]!}`
}

/**
 * What a flow is: its number, protocol and ends. Of spliced ones the end that asked, and whom; of others the guest's, and
 * the one that it talks to, with what that is for the host's socket where it is translated.
 *
 * @param words of the flow table
 */
export function describeFlow(words: Int32Array, flow: number): string {
  const base = flow << FLOW_SHIFT
  const kind = words[base + KIND]!
  const name = `Flow ${flow} (${NAMES[kind] ?? "ended"})`
  if (isSplicedKind(kind)) {
    return `${name}: ${end(words, base + PEER)}, ${end(words, base + OUR)}`
  }
  const far = base + FAR
  const peer = base + PEER
  const same = equal(words, far, words, peer) && words[far + PORT] === words[peer + PORT]
  return `${name}: guest ${end(words, base + GUEST)}, ${end(words, far)}${same ? "" : ` = ${end(words, peer)} of the host`}`
}
