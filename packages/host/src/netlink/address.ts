import { AF_INET, AF_INET6, IFA_ADDRESS, IFA_FLAGS, IFA_LOCAL, RTM_NEWADDR } from "./constants.ts"
import type { NetlinkMessage } from "./message.ts"
import { addressWords, attributes, HOST_ORDER, uint32 } from "./message.ts"

/** An address of an interface (struct ifaddrmsg and IFA_* attributes). */
export interface InterfaceAddress {
  readonly interfaceIndex: number
  readonly family: 4 | 6
  /** Four words; IPv4 mapped. */
  readonly address: Int32Array
  /** Prefix length, 0…32 or 0…128. */
  readonly prefix: number
  /** IFA_F_* bits. */
  readonly flags: number
  /** RT_SCOPE_*. */
  readonly scope: number
}

const STRUCT_BYTES = 8

/** @returns undefined for messages of another kind, another family or without a whole address */
export function parseAddress(view: DataView, message: NetlinkMessage): InterfaceAddress | undefined {
  const { start, end } = message
  if (message.type !== RTM_NEWADDR || end - start < STRUCT_BYTES) return undefined
  const kind = view.getUint8(start)
  if (kind !== AF_INET && kind !== AF_INET6) return undefined
  const family = kind === AF_INET ? 4 : 6
  const found = attributes(view, start + STRUCT_BYTES, end)
  // On point-to-point interfaces IFA_ADDRESS is the peer's; ours is IFA_LOCAL, which IPv6 only has in that case.
  const span = found.get(IFA_LOCAL) ?? found.get(IFA_ADDRESS)
  const prefix = view.getUint8(start + 1)
  if (!span || span.end - span.start !== (family === 4 ? 4 : 16) || prefix > (family === 4 ? 32 : 128)) return undefined
  return {
    interfaceIndex: view.getUint32(start + 4, HOST_ORDER),
    family,
    address: addressWords(view, span)!,
    prefix,
    // The header has room for eight flags; IFA_FLAGS carries all of them.
    flags: uint32(view, found.get(IFA_FLAGS), view.getUint8(start + 2)),
    scope: view.getUint8(start + 3),
  }
}
