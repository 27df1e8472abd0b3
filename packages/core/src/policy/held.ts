/** First datagrams of flows that wait for a decision: copies, few for each flow and of all together. */

/** Datagrams of one flow, and bytes of all. */
const PER_FLOW_MAX = 16
const BYTES_MAX: number = 1 << 20

export interface HeldDatagram {
  readonly bytes: Uint8Array
  /** Where the transport header and the payload begin, and how long that is: as the columns of FrameTable. */
  readonly transport: number
  readonly payload: number
  readonly payloadLength: number
  readonly hopLimit: number
  readonly flags: number
  readonly segmentSize: number
}

export class HeldDatagrams {
  readonly #byFlow = new Map<number, HeldDatagram[]>()
  #bytes = 0

  /** @returns false: no room, it is not kept */
  add(flow: number, datagram: HeldDatagram): boolean {
    const list = this.#byFlow.get(flow)
    const size = datagram.bytes.length
    if ((list !== undefined && list.length >= PER_FLOW_MAX) || this.#bytes + size > BYTES_MAX) return false
    this.#bytes += size
    if (list === undefined) this.#byFlow.set(flow, [datagram])
    else list.push(datagram)
    return true
  }

  /** Takes out what is kept for a flow. */
  take(flow: number): readonly HeldDatagram[] {
    const list = this.#byFlow.get(flow)
    if (list === undefined) return []
    this.#byFlow.delete(flow)
    for (const { bytes } of list) this.#bytes -= bytes.length
    return list
  }
}
