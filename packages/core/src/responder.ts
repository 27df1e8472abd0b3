/**
 * Answers for frames that belong to no flow: ARP, neighbour discovery, DHCP. Implemented in @passt/ndp and @passt/dhcp;
 * they know frames, not sockets, and queue their answers on the link.
 */
export interface Responder {
  /** Answers one frame from the guest, or swallows it.
   * @param row the frame; its Ethernet header has been checked
   * @param l3 byte offset of the ARP, IPv4 or IPv6 header in the arena, header checked (lengths agree with the frame)
   * @param l4 byte offset of the UDP or ICMPv6 header in the arena (equal to l3 for ARP)
   * @param end byte offset after the last byte of the IP packet in the arena (padding excluded); everything before it
   *   is readable
   */
  respond(row: number, l3: number, l4: number, end: number): void
  /** Does what is due (a router advertisement), and is told that a guest has just been attached.
   * @param nowMs the kernel's clock
   * @returns milliseconds until it wants to be called again, or -1 for never. */
  tick?(nowMs: number): number
  attached?(nowMs: number): void
}

/** Where frames go. ARP: every ARP frame. NDP: ICMPv6 types 133 to 137. DHCP: UDP to port 67. DHCPv6: UDP to port 547,
 * multicast. A missing one swallows. */
export interface Responders {
  arp?: Responder
  ndp?: Responder
  dhcp?: Responder
  dhcpv6?: Responder
}
