/** Requests to the kernel: a header and the fixed struct of the family. Written for strict checking: unused fields are zero. */
import {
  NLM_F_DUMP,
  NLM_F_REQUEST,
  RTA_TABLE,
  RTM_GETADDR,
  RTM_GETLINK,
  RTM_GETNEIGH,
  RTM_GETROUTE,
  RT_TABLE_MAIN,
} from "./constants.ts"
import { ATTRIBUTE_HEADER_BYTES, HEADER_BYTES, HOST_ORDER } from "./message.ts"

/** Bytes of the fixed structs: ifinfomsg, ifaddrmsg, rtmsg, ndmsg. */
const LINK_BYTES = 16
const ADDRESS_BYTES = 8
const ROUTE_BYTES = 12
const NEIGHBOUR_BYTES = 12

function request(type: number, family: number, structBytes: number, attributeBytes = 0): DataView<ArrayBuffer> {
  const size = HEADER_BYTES + structBytes + attributeBytes
  const view = new DataView(new ArrayBuffer(size))
  view.setUint32(0, size, HOST_ORDER)
  view.setUint16(4, type, HOST_ORDER)
  view.setUint16(6, NLM_F_REQUEST | NLM_F_DUMP, HOST_ORDER)
  view.setUint8(HEADER_BYTES, family)
  return view
}

export function linkDump(): DataView<ArrayBuffer> {
  return request(RTM_GETLINK, 0, LINK_BYTES)
}

/** @param family AF_INET, AF_INET6 or AF_UNSPEC for both */
export function addressDump(family: number): DataView<ArrayBuffer> {
  return request(RTM_GETADDR, family, ADDRESS_BYTES)
}

/** Routes of the main table. Kernels without strict checking (before 4.20) ignore the filter and send all tables. */
export function routeDump(family: number): DataView<ArrayBuffer> {
  const view = request(RTM_GETROUTE, family, ROUTE_BYTES, ATTRIBUTE_HEADER_BYTES + 4)
  view.setUint8(HEADER_BYTES + 4, RT_TABLE_MAIN)
  const at = HEADER_BYTES + ROUTE_BYTES
  view.setUint16(at, ATTRIBUTE_HEADER_BYTES + 4, HOST_ORDER)
  view.setUint16(at + 2, RTA_TABLE, HOST_ORDER)
  view.setUint32(at + 4, RT_TABLE_MAIN, HOST_ORDER)
  return view
}

export function neighbourDump(): DataView<ArrayBuffer> {
  return request(RTM_GETNEIGH, 0, NEIGHBOUR_BYTES)
}

/** Sets the sequence number by which answers are told apart. */
export function setSequence(view: DataView, sequence: number): void {
  view.setUint32(8, sequence, HOST_ORDER)
}
