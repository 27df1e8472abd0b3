// Neighbour discovery (RFC 4861), router advertisements included.
import { addressBytes, addressText, macBytes, macText, names, uint32 } from "./bytes.ts"
import { icmp } from "./build.ts"

export const NdpType = { RS: 133, RA: 134, NS: 135, NA: 136, REDIRECT: 137 } as const
export const NdpOption = { SOURCE_MAC: 1, TARGET_MAC: 2, PREFIX: 3, MTU: 5, RDNSS: 25, DNSSL: 31 } as const

/** The multicast address at which a neighbour listens (RFC 4291 section 2.7.1). */
export function solicitedNode(address: string): string {
  const bytes = addressBytes("ff02::1:ff00:0")
  addressBytes(address).copy(bytes, 13, 13)
  return addressText(bytes)
}

export function neighbourSolicitation(source: string, target: string, mac: string): Buffer {
  const option =
    source === "::" ? Buffer.alloc(0) : Buffer.concat([Buffer.from([NdpOption.SOURCE_MAC, 1]), macBytes(mac)])
  const body = Buffer.concat([Buffer.alloc(4), addressBytes(target), option])
  return icmp({ source, destination: solicitedNode(target), ttl: 255, type: NdpType.NS }, body)
}

export function routerSolicitation(source: string, mac: string): Buffer {
  const body = Buffer.concat([uint32(0), Buffer.from([NdpOption.SOURCE_MAC, 1]), macBytes(mac)])
  return icmp({ source, destination: "ff02::2", ttl: 255, type: NdpType.RS }, body)
}

/** The options of a message: values without their two bytes of type and length. */
export function ndpOptions(bytes: Buffer): Map<number, Buffer> {
  const options = new Map<number, Buffer>()
  for (let at = 0; at + 8 <= bytes.length && bytes[at + 1] !== 0;) {
    const length = bytes[at + 1]! * 8
    options.set(bytes[at]!, bytes.subarray(at + 2, at + length))
    at += length
  }
  return options
}

export interface RouterAdvertisement {
  readonly hopLimit: number
  readonly managed: boolean
  readonly lifetime: number
  readonly prefix?: {
    readonly length: number
    readonly onLink: boolean
    readonly autonomous: boolean
    readonly valid: number
    readonly preferred: number
    readonly address: string
  }
  readonly mtu?: number
  readonly sourceMac?: string
  readonly dns?: { readonly lifetime: number; readonly servers: string[] }
  readonly search?: { readonly lifetime: number; readonly names: string[] }
}

/** @param body what follows the checksum */
export function parseAdvertisement(body: Buffer): RouterAdvertisement {
  const options = ndpOptions(body.subarray(12))
  const [prefix, mtu, mac, dns, search] = [
    options.get(NdpOption.PREFIX),
    options.get(NdpOption.MTU),
    options.get(NdpOption.SOURCE_MAC),
    options.get(NdpOption.RDNSS),
    options.get(NdpOption.DNSSL),
  ]
  return {
    hopLimit: body[0]!,
    managed: (body[1]! & 0x80) !== 0,
    lifetime: body.readUInt16BE(2),
    ...(prefix && {
      prefix: {
        length: prefix[0]!,
        onLink: (prefix[1]! & 0x80) !== 0,
        autonomous: (prefix[1]! & 0x40) !== 0,
        valid: prefix.readUInt32BE(2),
        preferred: prefix.readUInt32BE(6),
        address: addressText(prefix.subarray(14, 30)),
      },
    }),
    ...(mtu && { mtu: mtu.readUInt32BE(2) }),
    ...(mac && { sourceMac: macText(mac.subarray(0, 6)) }),
    ...(dns && {
      dns: {
        lifetime: dns.readUInt32BE(2),
        servers: Array.from({ length: (dns.length - 6) / 16 }, (_, i) =>
          addressText(dns.subarray(6 + 16 * i, 22 + 16 * i)),
        ),
      },
    }),
    ...(search && { search: { lifetime: search.readUInt32BE(2), names: names(search.subarray(6)) } }),
  }
}
