/**
 * What an error that a socket reported is called in ICMP and in ICMPv6.
 *
 * Messages of the guest's own family keep type and code. A flow may have one family towards the guest and another towards
 * the network (a resolver behind the DNS address): then RFC 7915 sections 4.2 and 5.2 say what corresponds. What the kernel
 * decided by itself has only an error number, which gets the type and code that Linux would turn into that number.
 *
 * Reads first: RFC 792, RFC 1191, RFC 4443, RFC 7915.
 */
import {
  EACCES,
  ECONNREFUSED,
  EHOSTDOWN,
  EHOSTUNREACH,
  EMSGSIZE,
  ENETDOWN,
  ENETUNREACH,
  ENODEV,
  ENONET,
  EPERM,
} from "../errno.ts"
import { ERROR_CODE, ERROR_ERRNO, ERROR_INFO, ERROR_ORIGIN, ERROR_TYPE } from "../kernel.ts"
import * as icmp from "../wire/icmp.ts"

/** ee_origin, linux/errqueue.h. */
const ORIGIN_ICMP = 2
const ORIGIN_ICMP6 = 3

/** RFC 791 section 3.2: every link carries 68 bytes. */
const MTU_MIN_4 = 68
/** RFC 8200 section 5. */
const MTU_MIN_6 = 1280
/** By how much a packet grows on its way from IPv4 to IPv6. */
const HEADER_DIFFERENCE = 20

/** Codes of "destination unreachable", ICMP (RFC 792, RFC 1122 section 3.2.2.1, RFC 1812 section 5.2.7.1). */
const NETWORK = 0
const HOST = 1
const PROTOCOL = 2
const PORT = 3
const FRAGMENTATION_NEEDED: number = icmp.CODE_FRAGMENTATION_NEEDED
const NETWORK_PROHIBITED = 9
const HOST_PROHIBITED = 10
const PROHIBITED = 13
const PRECEDENCE_VIOLATION = 14
const PRECEDENCE_CUTOFF = 15

/** Codes of "destination unreachable", ICMPv6 (RFC 4443 section 3.1). */
const V6_NO_ROUTE = 0
const V6_PROHIBITED = 1
const V6_ADDRESS = 3
const V6_PORT = 4
/** Code of "parameter problem", ICMPv6. */
const V6_NEXT_HEADER = 1

function pair(type: number, code: number): number {
  return (type << 8) | code
}

/** Type and code for an errno that the kernel came up with by itself.
 * @param family of the guest side @param errno positive
 * @returns type << 8 | code, -1 when there is nothing to tell */
export function errnoToIcmp(family: number, errno: number): number {
  const v4 = family === 4
  switch (errno) {
    case EMSGSIZE:
      return v4 ? pair(icmp.UNREACHABLE, FRAGMENTATION_NEEDED) : pair(icmp.V6_PACKET_TOO_BIG, 0)
    case ECONNREFUSED:
      return v4 ? pair(icmp.UNREACHABLE, PORT) : pair(icmp.V6_UNREACHABLE, V6_PORT)
    case ENETUNREACH:
    case ENETDOWN:
    case ENODEV:
      return v4 ? pair(icmp.UNREACHABLE, NETWORK) : pair(icmp.V6_UNREACHABLE, V6_NO_ROUTE)
    case EHOSTUNREACH:
    case EHOSTDOWN:
    case ENONET:
      return v4 ? pair(icmp.UNREACHABLE, HOST) : pair(icmp.V6_UNREACHABLE, V6_ADDRESS)
    case EACCES:
    case EPERM:
      return v4 ? pair(icmp.UNREACHABLE, PROHIBITED) : pair(icmp.V6_UNREACHABLE, V6_PROHIBITED)
    default:
      return -1
  }
}

/** Type and code for the guest.
 * @param family of the guest side @param error words as Kernel.readError fills them
 * @returns type << 8 | code, -1 when there is nothing to tell */
export function errorToIcmp(family: number, error: Int32Array): number {
  const type = error[ERROR_TYPE] & 0xff
  const code = error[ERROR_CODE] & 0xff
  switch (error[ERROR_ORIGIN]) {
    case ORIGIN_ICMP:
      return family === 4 ? same4(type, code) : from4to6(type, code)
    case ORIGIN_ICMP6:
      return family === 6 ? same6(type, code) : from6to4(type, code)
    default:
      return errnoToIcmp(family, error[ERROR_ERRNO])
  }
}

/** Whether a message says that the node is there, and nothing at that port: to TCP it is a reset that says so.
 * @param what type << 8 | code */
export function isPortUnreachable(family: number, what: number): boolean {
  return what === (family === 4 ? pair(icmp.UNREACHABLE, PORT) : pair(icmp.V6_UNREACHABLE, V6_PORT))
}

/** The MTU that a "fragmentation needed" or "packet too big" for the guest states, bytes: never less than any link
 * must carry, whatever the network claims. */
export function errorMtu(family: number, error: Int32Array): number {
  let mtu = error[ERROR_INFO]
  // Values over 2^31 don't occur but in forged messages; negative here, they end as the minimum.
  if (family === 4) {
    if (error[ERROR_ORIGIN] === ORIGIN_ICMP6) mtu -= HEADER_DIFFERENCE
    return mtu < MTU_MIN_4 ? MTU_MIN_4 : mtu > 0xffff ? 0xffff : mtu
  }
  if (error[ERROR_ORIGIN] === ORIGIN_ICMP) mtu += HEADER_DIFFERENCE
  return mtu < MTU_MIN_6 ? MTU_MIN_6 : mtu
}

function same4(type: number, code: number): number {
  return type === icmp.UNREACHABLE || type === icmp.TIME_EXCEEDED || type === icmp.PARAMETER_PROBLEM
    ? pair(type, code)
    : -1
}

function same6(type: number, code: number): number {
  return type >= icmp.V6_UNREACHABLE && type <= icmp.V6_PARAMETER_PROBLEM ? pair(type, code) : -1
}

/** RFC 7915 section 4.2. */
function from4to6(type: number, code: number): number {
  if (type === icmp.TIME_EXCEEDED) return pair(icmp.V6_TIME_EXCEEDED, code)
  if (type !== icmp.UNREACHABLE) return -1
  switch (code) {
    case PROTOCOL:
      return pair(icmp.V6_PARAMETER_PROBLEM, V6_NEXT_HEADER)
    case PORT:
      return pair(icmp.V6_UNREACHABLE, V6_PORT)
    case FRAGMENTATION_NEEDED:
      return pair(icmp.V6_PACKET_TOO_BIG, 0)
    case NETWORK_PROHIBITED:
    case HOST_PROHIBITED:
    case PROHIBITED:
    case PRECEDENCE_CUTOFF:
      return pair(icmp.V6_UNREACHABLE, V6_PROHIBITED)
    case PRECEDENCE_VIOLATION:
      return -1
    default:
      return pair(icmp.V6_UNREACHABLE, V6_NO_ROUTE)
  }
}

/** RFC 7915 section 5.2. */
function from6to4(type: number, code: number): number {
  switch (type) {
    case icmp.V6_UNREACHABLE:
      if (code === V6_PROHIBITED) return pair(icmp.UNREACHABLE, HOST_PROHIBITED)
      return pair(icmp.UNREACHABLE, code === V6_PORT ? PORT : HOST)
    case icmp.V6_PACKET_TOO_BIG:
      return pair(icmp.UNREACHABLE, FRAGMENTATION_NEEDED)
    case icmp.V6_TIME_EXCEEDED:
      return pair(icmp.TIME_EXCEEDED, code)
    case icmp.V6_PARAMETER_PROBLEM:
      return code === V6_NEXT_HEADER ? pair(icmp.UNREACHABLE, PROTOCOL) : -1
    default:
      return -1
  }
}
