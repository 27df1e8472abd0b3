import fc from "fast-check"
import { describe, expect, test } from "vitest"

import { CONFIG_BYTES, DeviceConfig } from "./config.ts"
import { FEATURE, mask, OFFERED, OFFERED_PROTOCOL, PROTOCOL_FEATURE } from "./features.ts"
import { HEADER_BYTES, MESSAGE_BYTES_MAX, ProtocolError, REQUEST, writeReply } from "./message.ts"
import { type Device, MEMORY_SLOTS, Session } from "./session.ts"

const EINVAL = 22
const QUEUE_PAIRS = 8
const MAC = new Uint8Array([2, 1, 2, 3, 4, 5])
const NEED_REPLY = 8

/** A device that notes what it is told. */
class Notes implements Device {
  readonly calls: string[] = []
  result = 0
  #note(name: string, ...values: unknown[]): number {
    this.calls.push([name, ...values].join(" "))
    return this.result
  }
  setFeatures = (features: bigint) => this.#note("features", features.toString(16))
  clearMemory = () => this.#note("clear")
  addMemory = (...values: unknown[]) => this.#note("add", ...values)
  removeMemory = (...values: unknown[]) => this.#note("remove", ...values)
  startLog = (...values: unknown[]) => this.#note("log", ...values)
  setLogFd = (descriptor: number) => this.#note("logFd", descriptor)
  setRingSize = (...values: unknown[]) => this.#note("size", ...values)
  setRingAddresses = (...values: unknown[]) => this.#note("addresses", ...values)
  setRingBase = (...values: unknown[]) => this.#note("base", ...values)
  stopRing = (ring: number) => {
    this.#note("stop", ring)
    return 77
  }
  setRingKick = (...values: unknown[]) => this.#note("kick", ...values)
  setRingCall = (...values: unknown[]) => this.#note("call", ...values)
  setRingError = (...values: unknown[]) => this.#note("error", ...values)
  enableRing = (...values: unknown[]) => this.#note("enable", ...values)
  resetDevice = () => this.#note("reset")
  makeInflight = (...values: unknown[]) => {
    this.#note("inflight", ...values)
    return this.result < 0 ? this.result : 4096
  }
  setInflight = (...values: unknown[]) => this.#note("setInflight", ...values)
  saveState = (descriptor: number) => this.#note("save", descriptor)
  loadState = (descriptor: number) => this.#note("load", descriptor)
  takeState = () => this.#note("take")
  setMtu = (mtu: number) => void this.#note("mtu", mtu)
}

type Field = readonly [bits: 32 | 64, value: number | bigint]
const u32 = (value: number): Field => [32, value]
const u64 = (value: number | bigint): Field => [64, value]

class FrontEnd {
  readonly device = new Notes()
  readonly session = new Session(this.device, QUEUE_PAIRS, new DeviceConfig(MAC, QUEUE_PAIRS, 9000))
  readonly reply = new Uint8Array(MESSAGE_BYTES_MAX)

  raw(bytes: Uint8Array, descriptors = 0): Buffer {
    const message = new Uint8Array(MESSAGE_BYTES_MAX)
    message.set(bytes)
    const length = this.session.handle(message, bytes.length, descriptors, this.reply)
    return Buffer.from(this.reply.subarray(0, length))
  }
  send(request: number, fields: readonly Field[] = [], descriptors = 0, flags = 1): Buffer {
    const size = fields.reduce((sum, [bits]) => sum + bits / 8, 0)
    const bytes = Buffer.alloc(HEADER_BYTES + size)
    bytes.writeUInt32LE(request, 0)
    bytes.writeUInt32LE(flags, 4)
    bytes.writeUInt32LE(size, 8)
    let at = HEADER_BYTES
    for (const [bits, value] of fields) {
      if (bits === 32) bytes.writeUInt32LE(Number(value), at)
      else bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)), at)
      at += bits / 8
    }
    return this.raw(bytes, descriptors)
  }
  /** As QEMU begins. */
  negotiate(features = OFFERED, protocol = OFFERED_PROTOCOL): this {
    this.send(REQUEST.setProtocolFeatures, [u64(protocol)])
    this.send(REQUEST.setFeatures, [u64(features)])
    this.device.calls.length = 0
    return this
  }
}

const region = (guest: bigint, size: bigint, user: bigint, offset = 0n): Field[] =>
  [guest, size, user, offset].map((value) => u64(value))

function answer64(bytes: Buffer): bigint {
  expect(bytes.length).toBe(HEADER_BYTES + 8)
  expect(bytes.readUInt32LE(4)).toBe(5)
  expect(bytes.readUInt32LE(8)).toBe(8)
  return bytes.readBigUInt64LE(HEADER_BYTES)
}

describe("what is asked", () => {
  test.each([
    [REQUEST.getFeatures, OFFERED],
    [REQUEST.getProtocolFeatures, OFFERED_PROTOCOL],
    [REQUEST.getQueueNum, BigInt(QUEUE_PAIRS)],
    [REQUEST.getMaxMemSlots, BigInt(MEMORY_SLOTS)],
    [REQUEST.getStatus, 0n],
  ])("request %i", (request, value) => {
    const reply = new FrontEnd().negotiate().send(request)
    expect(reply.readUInt32LE(0)).toBe(request)
    expect(answer64(reply)).toBe(value)
  })

  test("a ring that stops tells where it stands", () => {
    const reply = new FrontEnd().negotiate(OFFERED & ~mask(FEATURE.packed)).send(REQUEST.getVringBase, [u32(1), u32(0)])
    expect([reply.readUInt32LE(8), reply.readUInt32LE(12), reply.readUInt32LE(16)]).toEqual([8, 1, 77])
  })

  test("what has no reply gets one if it is asked for, and negotiated", () => {
    const f = new FrontEnd().negotiate()
    expect(f.send(REQUEST.setOwner).length).toBe(0)
    expect(answer64(f.send(REQUEST.setOwner, [], 0, 1 | NEED_REPLY))).toBe(0n)
    const without = new FrontEnd().negotiate(OFFERED, 0n)
    expect(without.send(REQUEST.setOwner, [], 0, 1 | NEED_REPLY).length).toBe(0)
  })

  test("what fails is told in the reply; without one, the connection ends", () => {
    const f = new FrontEnd().negotiate()
    f.device.result = -EINVAL
    expect(answer64(f.send(REQUEST.setVringBase, [u32(0), u32(5)], 0, 1 | NEED_REPLY))).toBe(BigInt(EINVAL))
    expect(() => f.send(REQUEST.setVringBase, [u32(0), u32(5)])).toThrow("SET_VRING_BASE failed: errno 22")
  })

  test("the device's status is remembered", () => {
    const f = new FrontEnd().negotiate()
    f.send(REQUEST.setStatus, [u64(7)])
    expect(answer64(f.send(REQUEST.getStatus))).toBe(7n)
    f.send(REQUEST.resetDevice)
    expect(answer64(f.send(REQUEST.getStatus))).toBe(0n)
    expect(f.device.calls).toEqual(["reset"])
  })
})

describe("a device is set up", () => {
  test("memory, then rings", () => {
    const f = new FrontEnd().negotiate()
    f.send(
      REQUEST.setMemTable,
      [u32(2), u32(0), ...region(0n, 0x1000n, 0x7000n), ...region(0x8000n, 0x2000n, 0x9000n, 0x1000n)],
      2,
    )
    f.send(REQUEST.setVringNum, [u32(1), u32(256)])
    f.send(REQUEST.setVringAddr, [u32(1), u32(1), u64(16), u64(32), u64(48), u64(64)])
    f.send(REQUEST.setVringBase, [u32(1), u32(65_535)])
    f.send(REQUEST.setVringCall, [u64(1)], 1)
    f.send(REQUEST.setVringCall, [u64(0x101)], 0)
    f.send(REQUEST.setVringErr, [u64(1)], 1)
    f.send(REQUEST.setVringKick, [u64(1)], 1)
    f.send(REQUEST.setVringEnable, [u32(1), u32(1)])
    f.send(REQUEST.netSetMtu, [u64(1500)])
    f.send(REQUEST.setLogBase, [u64(8), u64(0)], 1)
    f.send(REQUEST.setLogFd, [], 1)
    expect(f.device.calls).toEqual([
      "clear",
      "add 0 0 4096 28672 0",
      "add 1 32768 8192 36864 4096",
      "size 1 256",
      "addresses 1 1 16 32 48 64",
      "base 1 65535",
      "call 1 0",
      "call 1 -1",
      "error 1 0",
      "kick 1 0",
      "enable 1 1",
      "mtu 1500",
      "log 0 8 0",
      "logFd 0",
    ])
  })

  test("without the protocol's features, rings are enabled when they start", () => {
    const f = new FrontEnd()
    f.send(REQUEST.setFeatures, [u64(mask(FEATURE.version1))])
    f.send(REQUEST.setVringKick, [u64(0)], 1)
    expect(f.device.calls).toEqual(["features 100000000", "kick 0 0", "enable 0 1"])
  })

  test("memory is plugged and unplugged", () => {
    const f = new FrontEnd().negotiate()
    f.send(REQUEST.addMemReg, [u64(0), ...region(0n, 0x1000n, 0x1000n)], 1)
    f.send(REQUEST.addMemReg, [u64(0), ...region(0x1000n, 0x1000n, 0x2000n)], 1)
    f.send(REQUEST.remMemReg, [u64(0), ...region(0n, 0x1000n, 0x1000n)])
    f.send(REQUEST.addMemReg, [u64(0), ...region(0n, 0x1000n, 0x1000n)], 1)
    expect(f.device.calls.map((call) => call.split(" ")[0])).toEqual(["add", "add", "remove", "add"])
  })

  test("of a table that can't be mapped, nothing stays", () => {
    const f = new FrontEnd().negotiate()
    f.device.result = -12
    const table = [u32(1), u32(0), ...region(0n, 0x1000n, 0x7000n)]
    expect(answer64(f.send(REQUEST.setMemTable, table, 1, 1 | NEED_REPLY))).toBe(12n)
    f.device.result = 0
    f.send(REQUEST.addMemReg, [u64(0), ...region(0n, 0x1000n, 0x7000n)], 1)
  })
})

describe("configuration", () => {
  const config = (offset: number, size: number, flags = 0, bytes = Buffer.alloc(size)) => {
    const words = [u32(offset), u32(size), u32(flags)]
    for (let i = 0; i < size; i += 4) words.push(u32(bytes.readUInt32LE(i)))
    return words
  }
  test("MAC address, link, pairs of queues, MTU", () => {
    const f = new FrontEnd().negotiate()
    const reply = f.send(REQUEST.getConfig, config(0, CONFIG_BYTES))
    expect(reply.subarray(HEADER_BYTES).toString("hex")).toBe(
      "000000000c00000000000000" + "020102030405" + "0100" + "0800" + "2823",
    )
    expect(
      f
        .send(REQUEST.getConfig, config(8, 4))
        .subarray(HEADER_BYTES + 12)
        .toString("hex"),
    ).toBe("08002823")
  })
  test("what is not there is told by an empty reply", () => {
    const f = new FrontEnd().negotiate()
    expect(f.send(REQUEST.getConfig, config(4, CONFIG_BYTES)).length).toBe(HEADER_BYTES)
    expect(f.send(REQUEST.getConfig, config(0xffff_fff0, 16)).length).toBe(HEADER_BYTES)
  })
  test("only the MAC address can be written, and in a migration it is taken on", () => {
    const f = new FrontEnd().negotiate()
    const bytes = Buffer.from("0a0b0c0d0e0f0000ffff0100", "hex")
    const write = (...args: Parameters<typeof config>) =>
      answer64(f.send(REQUEST.setConfig, config(...args), 0, 1 | NEED_REPLY))
    expect(write(0, 4, 0, bytes)).toBe(0n)
    expect(
      f
        .send(REQUEST.getConfig, config(0, 8))
        .subarray(HEADER_BYTES + 12, HEADER_BYTES + 18)
        .toString("hex"),
    ).toBe("0a0b0c0d0405")
    expect(write(4, 4, 0, bytes)).toBe(BigInt(EINVAL))
    expect(write(0, 12, 1, bytes)).toBe(0n)
    expect(write(4, 12, 1, bytes)).toBe(BigInt(EINVAL))
    expect(
      f
        .send(REQUEST.getConfig, config(0, 12))
        .subarray(HEADER_BYTES + 12)
        .toString("hex"),
    ).toBe("0a0b0c0d0e0f" + "0100" + "0800" + "2823")
  })
})

describe("buffers in flight", () => {
  test.each([20, 24])("a file comes with a reply as long as the request, of %i bytes", (bytes) => {
    const f = new FrontEnd().negotiate()
    const pad = bytes === 24 ? [u32(0)] : []
    const reply = f.send(REQUEST.getInflightFd, [u64(0), u64(0), u32(4 | (256 << 16)), ...pad])
    expect(reply.length).toBe(HEADER_BYTES + bytes)
    expect(reply.readBigUInt64LE(HEADER_BYTES)).toBe(4096n)
    expect(reply.readBigUInt64LE(HEADER_BYTES + 8)).toBe(0n)
    expect([reply.readUInt16LE(HEADER_BYTES + 16), reply.readUInt16LE(HEADER_BYTES + 18)]).toEqual([4, 256])
    f.send(REQUEST.setInflightFd, [u64(4096), u64(64), u32(4 | (256 << 16)), ...pad], 1)
    expect(f.device.calls).toEqual(["inflight 4 256", "setInflight 0 4096 64 4 256"])
  })
})

describe("state of the device", () => {
  const answers =
    (request: number, fields: readonly Field[] = [], fds = 0) =>
    (f: FrontEnd) =>
      answer64(f.send(request, fields, fds))
  const save = answers(REQUEST.setDeviceStateFd, [u32(0), u32(0)], 1)
  const load = answers(REQUEST.setDeviceStateFd, [u32(1), u32(0)], 1)
  const check = answers(REQUEST.checkDeviceState)
  test("is written, and read", () => {
    const f = new FrontEnd().negotiate()
    expect([save(f), check(f), load(f), check(f)]).toEqual([0x100n, 0n, 0x100n, 0n])
    expect(f.device.calls).toEqual(["save 0", "load 0", "take"])
  })
  test("failures are told; and that there was none to check", () => {
    const f = new FrontEnd().negotiate()
    expect(check(f)).toBe(1n)
    expect(load(f)).toBe(0x100n)
    f.device.result = -EINVAL
    expect([check(f), check(f), save(f), check(f)]).toEqual([1n, 1n, 0x101n, 1n])
  })
})

describe("what breaks the rules", () => {
  const full = 2n ** 64n - 1n
  test.each<[string, number, readonly Field[], number]>([
    ["there is no queue 17", REQUEST.setVringNum, [u32(17), u32(256)], 0],
    ["there is no queue 4294967295", REQUEST.getVringBase, [u32(0xffff_ffff), u32(0)], 0],
    ["there is no queue 255", REQUEST.setVringKick, [u64(255)], 1],
    ["SET_VRING_NUM: a queue of 0", REQUEST.setVringNum, [u32(0), u32(0)], 0],
    ["SET_VRING_NUM: a queue of 65536", REQUEST.setVringNum, [u32(0), u32(65_536)], 0],
    ["SET_VRING_NUM: a queue of 2147483648", REQUEST.setVringNum, [u32(0), u32(0x8000_0000)], 0],
    ["SET_VRING_NUM of 4 bytes instead of 8", REQUEST.setVringNum, [u32(0)], 0],
    ["SET_VRING_NUM with 1 descriptors instead of 0", REQUEST.setVringNum, [u32(0), u32(256)], 1],
    ["SET_VRING_ADDR before SET_VRING_NUM", REQUEST.setVringAddr, [u64(0), u64(0), u64(0), u64(0), u64(0)], 0],
    ["SET_VRING_ENABLE: 2", REQUEST.setVringEnable, [u32(0), u32(2)], 0],
    ["SET_VRING_KICK without a descriptor: we don't poll", REQUEST.setVringKick, [u64(0x100)], 0],
    ["SET_VRING_KICK with 0 descriptors instead of 1", REQUEST.setVringKick, [u64(0)], 0],
    ["SET_VRING_KICK with 2 descriptors instead of 1", REQUEST.setVringKick, [u64(0)], 2],
    ["SET_VRING_CALL with 1 descriptors instead of 0", REQUEST.setVringCall, [u64(0x100)], 1],
    ["SET_VRING_ERR: 512", REQUEST.setVringErr, [u64(512)], 1],
    ["SET_MEM_TABLE of 0 regions", REQUEST.setMemTable, [u32(0), u32(0)], 0],
    ["SET_MEM_TABLE of 9 regions", REQUEST.setMemTable, [u32(9), u32(0)], 0],
    ["SET_MEM_TABLE of 4294967295 regions", REQUEST.setMemTable, [u32(0xffff_ffff), u32(0)], 0],
    ["SET_MEM_TABLE of 8 bytes instead of 40", REQUEST.setMemTable, [u32(1), u32(0)], 1],
    ["with 0 descriptors instead of 1", REQUEST.setMemTable, [u32(1), u32(0), ...region(0n, 1n, 0n)], 0],
    ["a region of memory without a size", REQUEST.setMemTable, [u32(1), u32(0), ...region(0n, 0n, 0n)], 1],
    ["beyond the end of addresses", REQUEST.setMemTable, [u32(1), u32(0), ...region(full, 1n, 0n)], 1],
    ["beyond the end of addresses", REQUEST.setMemTable, [u32(1), u32(0), ...region(1n, full, 0n)], 1],
    ["beyond the end of addresses", REQUEST.addMemReg, [u64(0), ...region(0n, 2n, 0n, full)], 1],
    ["features that were not offered: 0x10", REQUEST.setFeatures, [u64(mask(FEATURE.version1, 4))], 0],
    ["feature guestTso4 without guestCsum", REQUEST.setFeatures, [u64(mask(FEATURE.version1, FEATURE.guestTso4))], 0],
    ["protocol features that were not offered: 0x20", REQUEST.setProtocolFeatures, [u64(32)], 0],
    ["NET_SET_MTU: 67", REQUEST.netSetMtu, [u64(67)], 0],
    ["NET_SET_MTU: 65536", REQUEST.netSetMtu, [u64(65_536)], 0],
    ["SET_STATUS: 256", REQUEST.setStatus, [u64(256)], 0],
    ["GET_CONFIG of 4 bytes instead of 12", REQUEST.getConfig, [u32(0)], 0],
    ["GET_CONFIG of 12 bytes instead of 18", REQUEST.getConfig, [u32(0), u32(6), u32(0)], 0],
    ["GET_CONFIG: 257 bytes", REQUEST.getConfig, [u32(0), u32(257), u32(0)], 0],
    ["SET_CONFIG: 4294967295 bytes", REQUEST.setConfig, [u32(0), u32(0xffff_ffff), u32(0)], 0],
    ["SET_CONFIG: flags 2", REQUEST.setConfig, [u32(0), u32(0), u32(2)], 0],
    ["GET_INFLIGHT_FD: 0 queues of 256", REQUEST.getInflightFd, [u64(0), u64(0), u32(256 << 16)], 0],
    ["GET_INFLIGHT_FD: 18 queues of 256", REQUEST.getInflightFd, [u64(0), u64(0), u32(18 | (256 << 16))], 0],
    ["GET_INFLIGHT_FD: 2 queues of 0", REQUEST.getInflightFd, [u64(0), u64(0), u32(2)], 0],
    ["GET_INFLIGHT_FD of 8 bytes instead of 20", REQUEST.getInflightFd, [u64(0)], 0],
    ["SET_INFLIGHT_FD with 0 descriptors instead of 1", REQUEST.setInflightFd, [u64(0), u64(0), u64(0x100_0001)], 0],
    ["SET_DEVICE_STATE_FD: direction 2", REQUEST.setDeviceStateFd, [u32(2), u32(0)], 1],
    ["SET_DEVICE_STATE_FD: phase 1", REQUEST.setDeviceStateFd, [u32(0), u32(1)], 1],
    ["SET_DEVICE_STATE_FD with 0 descriptors instead of 1", REQUEST.setDeviceStateFd, [u32(0), u32(0)], 0],
    ["request 33, which is not supported", 33, [], 0],
    ["request 4294967295, which is not supported", 0xffff_ffff, [], 0],
  ])("%s", (message, request, fields, descriptors) => {
    const f = new FrontEnd().negotiate()
    expect(() => f.send(request, fields, descriptors)).toThrow(ProtocolError)
    expect(() => f.send(request, fields, descriptors)).toThrow(message)
    expect(f.device.calls.filter((call) => call !== "clear")).toEqual([])
  })

  test("overlapping memory", () => {
    const f = new FrontEnd().negotiate()
    f.send(REQUEST.addMemReg, [u64(0), ...region(0x1000n, 0x1000n, 0x1000n)], 1)
    for (const other of [region(0x1fffn, 1n, 0x9000n), region(0n, 0x1001n, 0x9000n), region(0x9000n, 2n, 0x0fffn)]) {
      expect(() => f.send(REQUEST.addMemReg, [u64(0), ...other], 1)).toThrow("regions of memory that overlap")
    }
    f.send(REQUEST.addMemReg, [u64(0), ...region(0x2000n, 1n, 0x2000n)], 1)
  })

  test("memory that is there already, or not there any more: QEMU says so once for each pair of queues", () => {
    const f = new FrontEnd().negotiate()
    const one = [u64(0), ...region(0x1000n, 0x1000n, 0x1000n)]
    for (let i = 0; i < 2; i++) f.send(REQUEST.addMemReg, one, 1)
    for (let i = 0; i < 2; i++) f.send(REQUEST.remMemReg, one)
    expect(f.device.calls).toEqual(["add 0 4096 4096 4096 0", "remove 4096 4096 4096"])
  })

  test("more memory than there are slots", () => {
    const f = new FrontEnd().negotiate()
    const add = (i: number) => f.send(REQUEST.addMemReg, [u64(0), ...region(BigInt(i), 1n, BigInt(i))], 1)
    for (let i = 0; i < MEMORY_SLOTS; i++) add(i)
    expect(() => add(MEMORY_SLOTS)).toThrow("more than 64 regions of memory")
  })

  test.each(Object.entries(PROTOCOL_FEATURE))("what needs %s, when that was not negotiated", (name, bit) => {
    const needs: Record<string, readonly [number, readonly Field[], number]> = {
      logShmfd: [REQUEST.setLogBase, [u64(8), u64(0)], 1],
      rarp: [REQUEST.sendRarp, [u64(0)], 0],
      netMtu: [REQUEST.netSetMtu, [u64(1500)], 0],
      resetDevice: [REQUEST.resetDevice, [], 0],
      configureMemSlots: [REQUEST.getMaxMemSlots, [], 0],
      status: [REQUEST.getStatus, [], 0],
      multiqueue: [REQUEST.setVringNum, [u32(3), u32(256)], 0],
      config: [REQUEST.getConfig, [u32(0), u32(0), u32(0)], 0],
      inflight: [REQUEST.getInflightFd, [u64(0), u64(0), u32(2 | (256 << 16))], 0],
      deviceState: [REQUEST.checkDeviceState, [], 0],
    }
    const need = needs[name]
    if (need === undefined) return expect(name).toBe("replyAck")
    const f = new FrontEnd().negotiate(OFFERED, OFFERED_PROTOCOL & ~mask(bit))
    expect(() => f.send(...need)).toThrow(name === "multiqueue" ? "there is no queue 3" : "which was not negotiated")
  })

  test("split rings are powers of two, and begin at an index; packed ones are not, and begin in a round", () => {
    const split = new FrontEnd().negotiate(OFFERED & ~mask(FEATURE.packed))
    expect(() => split.send(REQUEST.setVringNum, [u32(0), u32(257)])).toThrow("SET_VRING_NUM: a queue of 257")
    expect(() => split.send(REQUEST.setVringBase, [u32(0), u32(65_536)])).toThrow("SET_VRING_BASE: 65536")
    expect(split.send(REQUEST.getVringBase, [u32(0), u32(0)]).readUInt32LE(16)).toBe(77)
    const packed = new FrontEnd().negotiate()
    packed.send(REQUEST.setVringNum, [u32(15), u32(257)])
    packed.send(REQUEST.setVringBase, [u32(15), u32(0x8003_8003)])
    expect(packed.device.calls).toEqual(["size 15 257", "base 15 32771"])
    expect(packed.send(REQUEST.getVringBase, [u32(0), u32(0)]).readUInt32LE(16)).toBe(0x4d_004d)
  })

  test("headers: versions, and replies", () => {
    const f = new FrontEnd()
    expect(() => f.send(REQUEST.getFeatures, [], 0, 0)).toThrow("version 0 in GET_FEATURES")
    expect(() => f.send(REQUEST.getFeatures, [], 0, 2)).toThrow("version 2")
    expect(() => f.send(REQUEST.getFeatures, [], 0, 5)).toThrow("a reply that nobody asked for: GET_FEATURES")
  })

  test("any sequence of messages ends in a reply, in silence or in a ProtocolError", () => {
    const word = fc.oneof(fc.bigInt({ min: 0n, max: full }), fc.bigInt({ min: 0n, max: 9n }))
    const message = fc.record({
      request: fc.oneof(fc.integer({ min: 0, max: 45 }), fc.integer({ min: 0, max: 0xffff_ffff })),
      flags: fc.oneof({ weight: 9, arbitrary: fc.constantFrom(1, 9) }, { weight: 1, arbitrary: fc.nat(0xff) }),
      words: fc.array(word, { maxLength: 40 }),
      cut: fc.nat(7),
      descriptors: fc.nat(8),
      result: fc.constantFrom(0, 0, 0, -22),
    })
    fc.assert(
      fc.property(fc.array(message, { maxLength: 30 }), (messages) => {
        const f = new FrontEnd()
        for (const { request, flags, words, cut, descriptors, result } of messages) {
          f.device.result = result
          const size = Math.max(0, words.length * 8 - cut)
          const bytes = Buffer.alloc(HEADER_BYTES + words.length * 8)
          bytes.writeUInt32LE(request, 0)
          bytes.writeUInt32LE(flags, 4)
          bytes.writeUInt32LE(size, 8)
          words.forEach((value, i) => bytes.writeBigUInt64LE(value, HEADER_BYTES + 8 * i))
          try {
            f.raw(bytes.subarray(0, HEADER_BYTES + size), descriptors)
          } catch (error) {
            if (!(error instanceof ProtocolError)) throw error
          }
        }
        for (const call of f.device.calls) {
          const [name, ring] = call.split(" ")
          if (["size", "addresses", "base", "kick", "call", "error", "enable", "stop"].includes(name!)) {
            expect(Number(ring)).toBeLessThan(2 * QUEUE_PAIRS + 1)
          }
        }
      }),
      { numRuns: 500 },
    )
  })
})

test("a reply is a header and its words", () => {
  const to = new Uint8Array(64)
  expect(writeReply(to, 11, [1, 0xffff_ffff])).toBe(20)
  expect(Buffer.from(to.subarray(0, 20)).toString("hex")).toBe("0b000000050000000800000001000000ffffffff")
})
