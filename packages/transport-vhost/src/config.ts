/**
 * The device's configuration space (VIRTIO 1.2 section 5.1.4), for front-ends that ask the back-end for it. QEMU and
 * cloud-hypervisor make it up themselves.
 *
 * ```
 *   0 mac[6] | 6 status u16 | 8 max_virtqueue_pairs u16 | 10 mtu u16
 * ```
 */

export const CONFIG_BYTES = 12
export const MAC_BYTES = 6

/** The link is up: always, as far as the device is concerned. */
const STATUS_LINK_UP = 1

export class DeviceConfig {
  readonly #bytes = new Uint8Array(CONFIG_BYTES)

  /** @param mac of the network card @param pairs of queues, at most @param mtu bytes, 68 to 65535 */
  constructor(mac: Uint8Array, pairs: number, mtu: number) {
    this.#bytes.set(mac.subarray(0, MAC_BYTES))
    const view = new DataView(this.#bytes.buffer)
    view.setUint16(6, STATUS_LINK_UP, true)
    view.setUint16(8, pairs, true)
    view.setUint16(10, mtu, true)
  }

  /** @returns a part of it; undefined if it is not all there */
  read(offset: number, size: number): Uint8Array | undefined {
    return offset + size <= CONFIG_BYTES ? this.#bytes.slice(offset, offset + size) : undefined
  }

  /** The driver writes: only drivers of before virtio 1.0 do, and only the MAC address. @returns whether it may */
  write(offset: number, bytes: Uint8Array): boolean {
    if (offset + bytes.length > MAC_BYTES) return false
    this.#bytes.set(bytes, offset)
    return true
  }

  /** What another back-end's configuration was, in a migration: the guest has read it, so we keep the address.
   * @returns whether it fits */
  adopt(offset: number, bytes: Uint8Array): boolean {
    if (offset + bytes.length > CONFIG_BYTES) return false
    for (let i = 0; i < bytes.length && offset + i < MAC_BYTES; i++) this.#bytes[offset + i] = bytes[i]!
    return true
  }
}
