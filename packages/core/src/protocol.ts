/**
 * What TCP, UDP and ping have in common towards the engine: one object each, which owns the flows of its kind.
 *
 * A flow's life in calls: `open` (first packet from the guest) or `accept` (first from a listening socket), then in any
 * order `fromGuest` (once per batch, with all its frames), `event`, `service`, `timer`, until the protocol gives it to
 * `Context.retire`; no call names it after that.
 */
export interface Protocol {
  /** A packet from the guest that belongs to no flow. Its key is in `ctx.flows.key`; transport header and payload are checked
   * and in the frame's columns.
   * @returns the new flow, indexed on the guest's side, or -1 when there is none: the packet has been answered or counted */
  open(row: number): number
  /** The frames of one flow in this batch: BATCH_HEAD, then `frames.next`. */
  fromGuest(flow: number): void
  /** Something changed at the flow's socket. @param mask EVENT_… bits */
  event(flow: number, mask: number): void
  /** The flow's turn in the work queue: it may send to the guest now. Adds itself again if it has more than its share. */
  service(flow: number): void
  /** The flow's timer is due. */
  timer(flow: number): void
  /** A listening socket of this protocol is readable (level-triggered). */
  accept(listener: number): void
  /** The policy has decided about a flow that has waited (`ctx.gate.verdicts`): it goes on, or ends. */
  settled?(flow: number): void
  /** Called once a second: what needs no exact time. Bounded work per call. */
  sweep(): void
}
