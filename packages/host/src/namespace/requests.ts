/** Requests that set up an interface in a namespace (rtnetlink(7)). */
import type { Attribute } from "../netlink/build.ts"
import { addressBytes, attributeList, changeRequest, word } from "../netlink/build.ts"
import {
  AF_INET,
  AF_INET6,
  IFA_ADDRESS,
  IFA_F_NODAD,
  IFA_FLAGS,
  IFA_LOCAL,
  IFF_UP,
  IFLA_ADDRESS,
  IFLA_AF_SPEC,
  IFLA_INET6_ADDR_GEN_MODE,
  IFLA_MTU,
  IN6_ADDR_GEN_MODE_EUI64,
  IN6_ADDR_GEN_MODE_NONE,
  NLM_F_CREATE,
  NLM_F_EXCL,
  RT_SCOPE_UNIVERSE,
  RT_TABLE_MAIN,
  RTA_GATEWAY,
  RTA_OIF,
  RTM_NEWADDR,
  RTM_NEWLINK,
  RTM_NEWROUTE,
  RTN_UNICAST,
  RTNH_F_ONLINK,
  RTPROT_STATIC,
} from "../netlink/constants.ts"
import { HOST_ORDER } from "../netlink/message.ts"

const numberOf = (family: 4 | 6): number => (family === 4 ? AF_INET : AF_INET6)

export interface LinkChange {
  readonly up?: boolean
  /** Whether the kernel makes an IPv6 link-local address when the interface goes up. */
  readonly makeLinkLocal?: boolean
  readonly mtu?: number
  /** Six bytes. */
  readonly mac?: Uint8Array
}

/** Changes an interface that is there (struct ifinfomsg). */
export function linkChange(index: number, change: LinkChange): DataView<ArrayBuffer> {
  const fixed = new DataView(new ArrayBuffer(16))
  fixed.setInt32(4, index, HOST_ORDER)
  let flags = 0
  let mask = 0
  if (change.up !== undefined) {
    mask |= IFF_UP
    if (change.up) flags |= IFF_UP
  }
  fixed.setUint32(8, flags, HOST_ORDER)
  fixed.setUint32(12, mask, HOST_ORDER)
  const attributes: Attribute[] = []
  if (change.mtu !== undefined) attributes.push({ type: IFLA_MTU, value: word(change.mtu) })
  if (change.makeLinkLocal !== undefined) {
    const mode = change.makeLinkLocal ? IN6_ADDR_GEN_MODE_EUI64 : IN6_ADDR_GEN_MODE_NONE
    const of6 = attributeList([{ type: IFLA_INET6_ADDR_GEN_MODE, value: Uint8Array.of(mode) }])
    attributes.push({ type: IFLA_AF_SPEC, value: attributeList([{ type: AF_INET6, value: of6 }]) })
  }
  if (change.mac) attributes.push({ type: IFLA_ADDRESS, value: change.mac })
  return changeRequest(RTM_NEWLINK, 0, new Uint8Array(fixed.buffer), attributes)
}

/** Struct ifaddrmsg. */
export function addressStruct(family: 4 | 6, prefix: number, scope: number, index: number): Uint8Array {
  const fixed = new DataView(new ArrayBuffer(8))
  fixed.setUint8(0, numberOf(family))
  fixed.setUint8(1, prefix)
  fixed.setUint8(3, scope)
  fixed.setUint32(4, index, HOST_ORDER)
  return new Uint8Array(fixed.buffer)
}

/** Gives an interface an address, for ever and at once. An equal one that is there is an error (EEXIST). */
export function newAddress(index: number, family: 4 | 6, words: Int32Array, prefix: number): DataView<ArrayBuffer> {
  const value = addressBytes(family, words)
  return changeRequest(
    RTM_NEWADDR,
    NLM_F_CREATE | NLM_F_EXCL,
    addressStruct(family, prefix, RT_SCOPE_UNIVERSE, index),
    [
      { type: IFA_LOCAL, value },
      { type: IFA_ADDRESS, value },
      { type: IFA_FLAGS, value: word(IFA_F_NODAD) },
    ],
  )
}

/** A default route. @param onLink whether the gateway is on the link although no address of the interface says so */
export function defaultRoute(
  index: number,
  family: 4 | 6,
  gateway: Int32Array,
  onLink: boolean,
): DataView<ArrayBuffer> {
  const fixed = new DataView(new ArrayBuffer(12))
  fixed.setUint8(0, numberOf(family))
  fixed.setUint8(4, RT_TABLE_MAIN)
  fixed.setUint8(5, RTPROT_STATIC)
  fixed.setUint8(6, RT_SCOPE_UNIVERSE)
  fixed.setUint8(7, RTN_UNICAST)
  fixed.setUint32(8, onLink ? RTNH_F_ONLINK : 0, HOST_ORDER)
  return changeRequest(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, new Uint8Array(fixed.buffer), [
    { type: RTA_OIF, value: word(index) },
    { type: RTA_GATEWAY, value: addressBytes(family, gateway) },
  ])
}
