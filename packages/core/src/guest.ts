/**
 * What the engine knows of the guest and of itself on the guest's link: shared by the engine and the responders, and
 * learned from traffic.
 */

/** Four words of an IPv6 address, or of an IPv4 address in mapped form. */
export type AddressWords = Int32Array

export class GuestState {
  /** The guest's MAC address: six bytes. Broadcast until the guest has spoken. */
  readonly mac: Uint8Array = new Uint8Array([255, 255, 255, 255, 255, 255])
  /** Our own MAC address on the link. */
  readonly ourMac: Uint8Array = new Uint8Array([0x9a, 0x55, 0x9a, 0x55, 0x9a, 0x55])
  /** Bumped when `mac` changes, so that prepared headers can be renewed. */
  macGeneration = 0

  /** Whether each family is on. */
  ipv4 = false
  ipv6 = false
  /** IPv4 address that the guest is to have (mapped), and the one seen in its traffic. */
  readonly address4: AddressWords = new Int32Array(4)
  readonly seen4: AddressWords = new Int32Array(4)
  /** IPv6 addresses that the guest is to have, and those seen: global and link-local. All zero: unknown. */
  readonly address6: AddressWords = new Int32Array(4)
  readonly seen6: AddressWords = new Int32Array(4)
  readonly seenLinkLocal6: AddressWords = new Int32Array(4)
  /** Prefix length of address4, 0…32. */
  prefix4 = 0
  /** Whether the user fixed the address: then nothing is learned from traffic. */
  fixed4 = false
  fixed6 = false
  /** The guest's gateways; also our own IPv4 address on the link. All zero: none. */
  readonly gateway4: AddressWords = new Int32Array(4)
  readonly gateway6: AddressWords = new Int32Array(4)
  /** Our own link-local address on the link: the source of router advertisements. */
  readonly ourLinkLocal6: AddressWords = new Int32Array(4)
  /** The IPv6 gateway that the user has given: unless it is link-local, our own address towards others than link-local ones. All
   * zero: none. */
  readonly ourAddress6: AddressWords = new Int32Array(4)
  /** MTU to announce, bytes of IP packet; 0: announce none. */
  mtu = 65520
}
