/**
 * A forwarding rule: ports of the host that lead to the guest, or ports of the guest's namespace that lead to the host.
 */
export interface ForwardRule {
  readonly protocol: "tcp" | "udp"
  /** Where to listen: four words, IPv4 mapped; 0.0.0.0 or :: is any address of that family only. Null: any address of
   * both families, by one IPv6 socket. */
  readonly address: Int32Array | null
  /** Interface to listen on; empty: any. */
  readonly device: string
  /** First and last port to listen on, 1…65535. */
  readonly first: number
  readonly last: number
  /** Port of the guest that `first` leads to; the others follow. */
  readonly targetFirst: number
  /** Address to forward to instead of the guest's own; null: the guest's. */
  readonly targetAddress: Int32Array | null
  /** Best effort: ports that can't be bound are passed over, unless none can. */
  readonly weak: boolean
  /** PLACE_…: where to listen; absent: on the host. A rule of the namespace leads from its loopback addresses to the host's. */
  readonly place?: number
  /** A port is listened on only while somebody listens on the target port at the other place. */
  readonly auto?: boolean
}
