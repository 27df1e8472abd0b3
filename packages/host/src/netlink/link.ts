import { IFF_LOOPBACK, IFF_UP, IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, RTM_NEWLINK } from "./constants.ts"
import type { NetlinkMessage } from "./message.ts"
import { attributes, bytes, HOST_ORDER, text, uint32 } from "./message.ts"

/** A network interface (struct ifinfomsg and IFLA_* attributes). */
export interface Link {
  readonly index: number
  readonly name: string
  readonly up: boolean
  readonly loopback: boolean
  /** Bytes of IP packet; 0 if unknown. */
  readonly mtu: number
  /** Link-layer address: six bytes on Ethernet, none or another length on tunnels. */
  readonly mac: Uint8Array
}

const STRUCT_BYTES = 16

/** @returns undefined for messages of another kind or too short */
export function parseLink(view: DataView, message: NetlinkMessage): Link | undefined {
  const { start, end } = message
  if (message.type !== RTM_NEWLINK || end - start < STRUCT_BYTES) return undefined
  const flags = view.getUint32(start + 8, HOST_ORDER)
  const found = attributes(view, start + STRUCT_BYTES, end)
  const mac = found.get(IFLA_ADDRESS)
  const name = text(view, found.get(IFLA_IFNAME))
  if (name === "") return undefined
  return {
    index: view.getInt32(start + 4, HOST_ORDER),
    name,
    up: (flags & IFF_UP) !== 0,
    loopback: (flags & IFF_LOOPBACK) !== 0,
    mtu: uint32(view, found.get(IFLA_MTU), 0),
    mac: mac ? bytes(view, mac) : new Uint8Array(0),
  }
}
