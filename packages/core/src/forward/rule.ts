/**
 * A forwarding rule: ports of the host that lead to the guest.
 */
export interface ForwardRule {
  readonly protocol: "tcp" | "udp"
  /** Address to listen on, four words; null: any address. */
  readonly address: Int32Array | null
  /** Any address of both families, by one IPv6 socket. Only with `address` null. */
  readonly dualStack: boolean
  /** Family of the listening socket when `address` is null and not dual-stack: 4 or 6. */
  readonly family: 4 | 6
  /** Interface to listen on; empty: any. */
  readonly device: string
  /** First and last port to listen on, 1…65535. */
  readonly first: number
  readonly last: number
  /** Port of the guest that `first` leads to; the others follow. */
  readonly target: number
  /** Address to forward to instead of the guest's own; null: the guest's. */
  readonly targetAddress: Int32Array | null
  /** Best effort: ports that can't be bound are passed over, unless none can. */
  readonly weak: boolean
}
