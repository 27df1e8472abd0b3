/**
 * One front-end's connection, from its first message to its last: which message is allowed when, what it must contain, and what
 * is to be done with the device. No I/O: messages come in as bytes, replies go out as bytes, and the device is an interface.
 *
 * ```
 *   features → protocol features → memory → per ring: NUM, ADDR, BASE, CALL, KICK (starts) → ENABLE
 *                                           per ring: GET_VRING_BASE (stops)
 * ```
 *
 * A front-end is trusted no more than its guest. What breaks the rules throws ProtocolError, and ends the connection; what
 * can't be done although it is allowed (memory that can't be mapped) is told in the reply, if there is one, and ends the connection if
 * not: the specification leaves a front-end no other way to know.
 *
 * Reads first: QEMU's docs/interop/vhost-user.rst.
 */
import type { RawVhostDevice } from "@passt/native"
import type { DeviceConfig } from "./config.ts"
import {
  FEATURE,
  mask,
  OFFERED,
  OFFERED_PROTOCOL,
  PROTOCOL_FEATURE,
  type ProtocolFeature,
  REQUIRES,
} from "./features.ts"
import { halves, type Message, nameOf, parse, ProtocolError, REQUEST, writeReply } from "./message.ts"

/** Regions of one SET_MEM_TABLE: as many descriptors as a message may have. */
const TABLE_REGION_MAX = 8
/** Regions that ADD_MEM_REG may add up to: GuestMemory::regionMax in native/cpp/vhost-memory.h. */
export const MEMORY_SLOTS = 64
/** VIRTIO 1.2 section 2.7: a queue holds at most that many. */
const RING_SIZE_MAX = 32_768
const EINVAL = 22
/** Shortest and longest MTU of a device (VIRTIO 1.2 section 5.1.4.1). */
const MTU_MIN = 68
const MTU_MAX = 65_535

/** What a front-end sets up, and what becomes of it beyond the rings. */
export interface Device extends RawVhostDevice {
  /** Writes the device's state to a pipe. */
  saveState(descriptor: number): number
  /** Takes on what was read. */
  takeState(): number
  /** The guest's driver is told to keep to this MTU. */
  setMtu(mtu: number): void
}

interface Region {
  readonly guest: bigint
  readonly size: bigint
  readonly user: bigint
  readonly offset: bigint
}

const DONE = 0

/** The pair of queues that there is without multiqueue. */
const ONE_PAIR = 1
/** Bytes of the payload of GET_CONFIG and SET_CONFIG before the configuration, and of that at most. */
const CONFIG_HEADER_BYTES = 12
const CONFIG_BYTES_MAX = 256
/** Kinds of writes by SET_CONFIG. */
const CONFIG_WRITABLE = 0
const CONFIG_MIGRATION = 1
/** Of a reply to SET_DEVICE_STATE_FD: the front-end's descriptor is used. */
const NO_DESCRIPTOR = 0x100
const STATE_SAVE = 0
const STATE_LOAD = 1
/** The only phase that there is: the device is stopped. */
const PHASE_STOPPED = 0

export class Session {
  readonly #device: Device
  readonly #pairs: number
  readonly #config: DeviceConfig
  #features = 0n
  #protocol = 0n
  #protocolSet = false
  #regions: Region[] = []
  #status = 0
  /** Per ring: whether its size was set. */
  readonly #sized: boolean[]
  /** What CHECK_DEVICE_STATE is to answer about: nothing, a state that was written (0 or -errno), or one that is read. */
  #transfer: "none" | "load" | number = "none"

  /** @param pairs of queues, at most @param config outlives the session */
  constructor(device: Device, pairs: number, config: DeviceConfig) {
    this.#device = device
    this.#pairs = pairs
    this.#config = config
    this.#sized = Array.from({ length: 2 * pairs + 1 }, () => false)
  }

  get #rings(): number {
    // The control queue comes after the pairs.
    const control = this.#has(FEATURE.controlQueue) ? 1 : 0
    return 2 * (this.#hasProtocol("multiqueue") ? this.#pairs : ONE_PAIR) + control
  }

  /** What was negotiated. */
  get features(): bigint {
    return this.#features
  }

  /** Attends to a message.
   * @param descriptors that came with it @param reply where the reply goes @returns its length, 0: none
   * @throws ProtocolError: the connection must end */
  handle(bytes: Uint8Array, length: number, descriptors: number, reply: Uint8Array): number {
    const message = parse(bytes, length)
    const { request, needReply } = message
    const answer = this.#dispatch(message, descriptors)
    if (typeof answer !== "number") return writeReply(reply, request, answer)
    const acknowledged = needReply && this.#hasProtocol("replyAck")
    if (answer < 0 && !acknowledged) throw new ProtocolError(`${nameOf(request)} failed: errno ${-answer}`)
    return acknowledged ? writeReply(reply, request, answer < 0 ? [-answer, 0] : [0, 0]) : 0
  }

  /** @returns the words or bytes of a reply; or 0 or -errno, of a request that has no reply of its own */
  #dispatch(message: Message, descriptors: number): readonly number[] | Uint8Array | number {
    const { request, payload } = message
    const device = this.#device
    const expect = (bytes: number, fds = 0): void => this.#expect(message, bytes, descriptors, fds)
    const u64 = (at: number): bigint => payload.getBigUint64(at, true)
    const need = (feature: ProtocolFeature): void => {
      if (!this.#hasProtocol(feature)) throw new ProtocolError(`${nameOf(request)}, which was not negotiated`)
    }
    switch (request) {
      case REQUEST.getFeatures:
        expect(0)
        return halves(OFFERED)
      case REQUEST.setFeatures:
        expect(8)
        return this.#setFeatures(u64(0))
      case REQUEST.getProtocolFeatures:
        expect(0)
        return halves(OFFERED_PROTOCOL)
      case REQUEST.setProtocolFeatures:
        expect(8)
        return this.#setProtocol(u64(0))
      case REQUEST.setOwner:
        expect(0)
        return DONE
      case REQUEST.resetOwner:
        // Deprecated; some send it in place of RESET_DEVICE, others to disable all rings: "should be ignored".
        expect(0)
        return DONE
      case REQUEST.resetDevice:
        need("resetDevice")
        expect(0)
        this.#sized.fill(false)
        this.#status = 0
        return device.resetDevice()
      case REQUEST.getQueueNum:
        expect(0)
        return halves(BigInt(this.#pairs))
      case REQUEST.setMemTable:
        return this.#setMemTable(message, descriptors)
      case REQUEST.getMaxMemSlots:
        need("configureMemSlots")
        expect(0)
        return halves(BigInt(MEMORY_SLOTS))
      case REQUEST.addMemReg:
        need("configureMemSlots")
        expect(40, 1)
        return this.#addRegion(readRegion(payload, 8), 0)
      case REQUEST.remMemReg:
        need("configureMemSlots")
        // Some front-ends send the region's descriptor here too.
        if (descriptors > 1) expect(40, 0)
        expect(40, descriptors)
        return this.#removeRegion(readRegion(payload, 8))
      case REQUEST.setLogBase: {
        need("logShmfd")
        expect(16, 1)
        const result = device.startLog(0, u64(0), u64(8))
        if (result < 0) throw new ProtocolError(`SET_LOG_BASE failed: errno ${-result}`)
        return [0, 0]
      }
      case REQUEST.setLogFd:
        if (descriptors > 1) expect(0, 1)
        return device.setLogFd(descriptors - 1)
      case REQUEST.setVringNum: {
        expect(8)
        const ring = this.#ring(payload)
        const size = payload.getUint32(4, true)
        const power = (size & (size - 1)) === 0 || this.#has(FEATURE.packed)
        if (size === 0 || size > RING_SIZE_MAX || !power) {
          throw new ProtocolError(`SET_VRING_NUM: a queue of ${size}`)
        }
        this.#sized[ring] = true
        return device.setRingSize(ring, size)
      }
      case REQUEST.setVringAddr: {
        expect(40)
        const ring = this.#ring(payload)
        if (!this.#sized[ring]) throw new ProtocolError("SET_VRING_ADDR before SET_VRING_NUM")
        const flags = payload.getUint32(4, true)
        return device.setRingAddresses(ring, flags & 1, u64(8), u64(16), u64(24), u64(32))
      }
      case REQUEST.setVringBase: {
        expect(8)
        const base = payload.getUint32(4, true)
        // Packed: the upper half is the next entry to be used. It is the same as the next available one, as nothing is in flight, and some
        // front-ends leave it out.
        if (base > 0xffff && !this.#has(FEATURE.packed)) throw new ProtocolError(`SET_VRING_BASE: ${base}`)
        return device.setRingBase(this.#ring(payload), base & 0xffff)
      }
      case REQUEST.getVringBase: {
        expect(8)
        const ring = this.#ring(payload)
        const base = device.stopRing(ring)
        return [ring, this.#has(FEATURE.packed) ? (base | (base << 16)) >>> 0 : base]
      }
      case REQUEST.setVringKick: {
        const ring = this.#fdRing(message, descriptors, "required")
        const result = device.setRingKick(ring, 0)
        // Without the protocol's features rings are enabled when they start.
        if (result === 0 && !this.#has(FEATURE.protocolFeatures)) device.enableRing(ring, 1)
        return result
      }
      case REQUEST.setVringCall:
        return device.setRingCall(this.#fdRing(message, descriptors, "optional"), descriptors - 1)
      case REQUEST.setVringErr:
        return device.setRingError(this.#fdRing(message, descriptors, "optional"), descriptors - 1)
      case REQUEST.setVringEnable: {
        // QEMU enables before it has told which features the driver wants.
        if (!this.#protocolSet && !this.#has(FEATURE.protocolFeatures)) {
          throw new ProtocolError("SET_VRING_ENABLE, which was not negotiated")
        }
        expect(8)
        const on = payload.getUint32(4, true)
        if (on > 1) throw new ProtocolError(`SET_VRING_ENABLE: ${on}`)
        return device.enableRing(this.#ring(payload), on)
      }
      case REQUEST.sendRarp:
        // There is no network behind us that would have to learn where the guest is now.
        need("rarp")
        expect(8)
        return DONE
      case REQUEST.netSetMtu: {
        need("netMtu")
        expect(8)
        const mtu = u64(0)
        if (mtu < MTU_MIN || mtu > MTU_MAX) throw new ProtocolError(`NET_SET_MTU: ${mtu}`)
        device.setMtu(Number(mtu))
        return DONE
      }
      case REQUEST.setStatus: {
        need("status")
        expect(8)
        const status = u64(0)
        if (status > 0xff) throw new ProtocolError(`SET_STATUS: ${status}`)
        this.#status = Number(status)
        return DONE
      }
      case REQUEST.getStatus:
        need("status")
        expect(0)
        return halves(BigInt(this.#status))
      case REQUEST.getConfig:
        need("config")
        return this.#getConfig(message, descriptors)
      case REQUEST.setConfig:
        need("config")
        return this.#setConfig(message, descriptors)
      case REQUEST.getInflightFd: {
        need("inflight")
        const { queues, entries } = this.#inflight(message, descriptors, 0)
        const bytes = device.makeInflight(queues, entries)
        if (bytes < 0) throw new ProtocolError(`GET_INFLIGHT_FD failed: errno ${-bytes}`)
        // As long as the request, which some pad.
        return [bytes, 0, 0, 0, queues | (entries << 16), 0].slice(0, payload.byteLength / 4)
      }
      case REQUEST.setInflightFd: {
        need("inflight")
        const { size, offset, queues, entries } = this.#inflight(message, descriptors, 1)
        return device.setInflight(0, size, offset, queues, entries)
      }
      case REQUEST.setDeviceStateFd: {
        need("deviceState")
        expect(8, 1)
        const direction = payload.getUint32(0, true)
        const phase = payload.getUint32(4, true)
        if (direction > STATE_LOAD) throw new ProtocolError(`SET_DEVICE_STATE_FD: direction ${direction}`)
        if (phase !== PHASE_STOPPED) throw new ProtocolError(`SET_DEVICE_STATE_FD: phase ${phase}`)
        const result = direction === STATE_SAVE ? device.saveState(0) : device.loadState(0)
        this.#transfer = direction === STATE_LOAD && result === 0 ? "load" : result
        return [result < 0 ? NO_DESCRIPTOR | 1 : NO_DESCRIPTOR, 0]
      }
      case REQUEST.checkDeviceState: {
        need("deviceState")
        expect(0)
        const result = this.#transfer === "load" ? device.takeState() : this.#transfer
        this.#transfer = "none"
        return result === "none" || result < 0 ? [1, 0] : [0, 0]
      }
      default:
        throw new ProtocolError(`${nameOf(request)}, which is not supported`)
    }
  }

  /** @returns the configuration behind the request's own header; nothing at all if it is not there */
  #getConfig(message: Message, descriptors: number): Uint8Array {
    const { offset, size } = this.#configRequest(message, descriptors)
    const config = this.#config.read(offset, size)
    if (config === undefined) return new Uint8Array()
    const { buffer, byteOffset, byteLength } = message.payload
    const reply = new Uint8Array(buffer, byteOffset, byteLength).slice()
    reply.set(config, CONFIG_HEADER_BYTES)
    return reply
  }

  #setConfig(message: Message, descriptors: number): number {
    const { offset, size, flags } = this.#configRequest(message, descriptors)
    const { buffer, byteOffset } = message.payload
    const bytes = new Uint8Array(buffer, byteOffset + CONFIG_HEADER_BYTES, size)
    if (flags !== CONFIG_WRITABLE && flags !== CONFIG_MIGRATION) throw new ProtocolError(`SET_CONFIG: flags ${flags}`)
    const taken = flags === CONFIG_WRITABLE ? this.#config.write(offset, bytes) : this.#config.adopt(offset, bytes)
    return taken ? DONE : -EINVAL
  }

  #configRequest(message: Message, descriptors: number) {
    const { request, payload } = message
    if (payload.byteLength < CONFIG_HEADER_BYTES) this.#expect(message, CONFIG_HEADER_BYTES, descriptors, 0)
    const [offset, size, flags] = [0, 4, 8].map((at) => payload.getUint32(at, true)) as [number, number, number]
    if (size > CONFIG_BYTES_MAX) throw new ProtocolError(`${nameOf(request)}: ${size} bytes`)
    this.#expect(message, CONFIG_HEADER_BYTES + size, descriptors, 0)
    return { offset, size, flags }
  }

  #inflight(message: Message, descriptors: number, wanted: number) {
    const { request, payload } = message
    // The structure's own bytes, or padded to a multiple of eight.
    this.#expect(message, payload.byteLength === 24 ? 24 : 20, descriptors, wanted)
    const queues = payload.getUint16(16, true)
    const entries = payload.getUint16(18, true)
    const power = (entries & (entries - 1)) === 0 || this.#has(FEATURE.packed)
    if (queues === 0 || queues > this.#rings || entries === 0 || entries > RING_SIZE_MAX || !power) {
      throw new ProtocolError(`${nameOf(request)}: ${queues} queues of ${entries}`)
    }
    return { size: payload.getBigUint64(0, true), offset: payload.getBigUint64(8, true), queues, entries }
  }

  #has(feature: number): boolean {
    return (this.#features & mask(feature)) !== 0n
  }
  #hasProtocol(feature: ProtocolFeature): boolean {
    return (this.#protocol & mask(PROTOCOL_FEATURE[feature])) !== 0n
  }

  #expect({ request, payload }: Message, bytes: number, descriptors: number, wanted: number): void {
    if (payload.byteLength !== bytes) {
      throw new ProtocolError(`${nameOf(request)} of ${payload.byteLength} bytes instead of ${bytes}`)
    }
    if (descriptors !== wanted) {
      throw new ProtocolError(`${nameOf(request)} with ${descriptors} descriptors instead of ${wanted}`)
    }
  }

  #ring(payload: DataView): number {
    const ring = payload.getUint32(0, true)
    if (ring >= this.#rings) throw new ProtocolError(`there is no queue ${ring}`)
    return ring
  }

  /** The ring of a message that sets a descriptor: eight bits of it, and a bit that says that there is none. */
  #fdRing(message: Message, descriptors: number, descriptor: "required" | "optional"): number {
    const { request, payload } = message
    if (payload.byteLength !== 8) this.#expect(message, 8, descriptors, descriptors)
    const value = payload.getBigUint64(0, true)
    const none = (value & 0x100n) !== 0n
    if (none && descriptor === "required")
      throw new ProtocolError(`${nameOf(request)} without a descriptor: we don't poll`)
    this.#expect(message, 8, descriptors, none ? 0 : 1)
    if (value > 0x1ffn) throw new ProtocolError(`${nameOf(request)}: ${value}`)
    const ring = Number(value & 0xffn)
    if (ring >= this.#rings) throw new ProtocolError(`there is no queue ${ring}`)
    return ring
  }

  #setFeatures(features: bigint): number {
    const unknown = features & ~OFFERED
    if (unknown !== 0n) throw new ProtocolError(`features that were not offered: 0x${unknown.toString(16)}`)
    for (const [feature, other] of REQUIRES) {
      if ((features & mask(FEATURE[feature])) !== 0n && (features & mask(FEATURE[other])) === 0n) {
        throw new ProtocolError(`feature ${feature} without ${other}`)
      }
    }
    if (((features ^ this.#features) & mask(FEATURE.packed)) !== 0n) this.#sized.fill(false)
    this.#features = features
    return this.#device.setFeatures(features)
  }

  #setProtocol(features: bigint): number {
    const unknown = features & ~OFFERED_PROTOCOL
    if (unknown !== 0n) throw new ProtocolError(`protocol features that were not offered: 0x${unknown.toString(16)}`)
    this.#protocol = features
    this.#protocolSet = true
    return DONE
  }

  #setMemTable(message: Message, descriptors: number): number {
    const { payload } = message
    if (payload.byteLength < 8) this.#expect(message, 8, descriptors, descriptors)
    const count = payload.getUint32(0, true)
    if (count === 0 || count > TABLE_REGION_MAX) throw new ProtocolError(`SET_MEM_TABLE of ${count} regions`)
    this.#expect(message, 8 + 32 * count, descriptors, count)
    const regions = Array.from({ length: count }, (_, i) => readRegion(payload, 8 + 32 * i))
    this.#device.clearMemory()
    this.#regions = []
    for (let i = 0; i < count; i++) {
      const result = this.#addRegion(regions[i]!, i)
      if (result === 0) continue
      this.#device.clearMemory()
      this.#regions = []
      return result
    }
    return DONE
  }

  #addRegion(region: Region, descriptor: number): number {
    const { guest, size, user, offset } = region
    if (size === 0n) throw new ProtocolError("a region of memory without a size")
    for (const start of [guest, user, offset]) {
      if (start + size >= 1n << 64n) throw new ProtocolError("a region of memory beyond the end of addresses")
    }
    // QEMU before 8.1 adds and removes each region once for each pair of queues.
    if (this.#regionAt(region) >= 0) return DONE
    for (const other of this.#regions) {
      if (overlap(guest, size, other.guest, other.size) || overlap(user, size, other.user, other.size)) {
        throw new ProtocolError("regions of memory that overlap")
      }
    }
    if (this.#regions.length === MEMORY_SLOTS) throw new ProtocolError(`more than ${MEMORY_SLOTS} regions of memory`)
    const result = this.#device.addMemory(descriptor, guest, size, user, offset)
    if (result === 0) this.#regions.push(region)
    return result
  }

  #removeRegion(region: Region): number {
    const at = this.#regionAt(region)
    if (at < 0) return DONE
    this.#regions.splice(at, 1)
    return this.#device.removeMemory(region.guest, region.size, region.user)
  }

  #regionAt({ guest, size, user }: Region): number {
    return this.#regions.findIndex((one) => one.guest === guest && one.size === size && one.user === user)
  }
}

function readRegion(payload: DataView, at: number): Region {
  const u64 = (offset: number): bigint => payload.getBigUint64(at + offset, true)
  return { guest: u64(0), size: u64(8), user: u64(16), offset: u64(24) }
}

function overlap(a: bigint, sizeA: bigint, b: bigint, sizeB: bigint): boolean {
  return a < b + sizeB && b < a + sizeA
}
