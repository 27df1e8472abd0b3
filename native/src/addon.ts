/**
 * The addon as C++ exports it. Calls take and return integers: >= 0, or -errno. Each room in cpp/ documents its own.
 * Functions of an engine or link carry what they belong to with them.
 */

/** Calls of one engine (cpp/engine.cc and the rooms that it binds). */
export interface RawEngine {
  attach(
    arena: Uint8Array,
    columns: Int32Array,
    gather: Int32Array,
    frameMax: number,
    gatherMax: number,
    columnCount: number,
  ): number
  close(): number

  wait(timeoutMs: number): number
  watch(fd: number, ref: number): number
  watchLevel(fd: number, ref: number): number
  unwatch(fd: number): number
  epollFd(): number
  joinLoop(callback: () => void): number
  armLoop(milliseconds: number): number
  keepLoop(keep: number): number
  leaveLoop(): number
  now(): number
  nowMicros(): number
  watchSignals(ref: number): number
  catchSignal(number: number): number
  takeSignal(): number

  closeFd(fd: number): number
  reset(fd: number): number
  tcpSocket(family: number, place: number): number
  bind(fd: number, family: number): number
  bindToDevice(fd: number, name: string): number
  connect(fd: number, family: number): number
  listenTcp(family: number, dualStack: number, device: string, freebind: number, place: number): number
  accept(fd: number): number
  socketError(fd: number): number
  shutdownWrite(fd: number): number
  setMss(fd: number, mss: number): number
  setKeepalive(fd: number): number
  queueErrors(fd: number, family: number, on: number): number
  localAddress(fd: number, family: number): number
  setHopLimit(fd: number, family: number, hopLimit: number): number
  wantHopLimits(fd: number, family: number): number
  setReuseAddress(fd: number): number
  setPeekOffset(fd: number, offset: number): number
  probePeekOffset(family: number): number
  tcpInfo(fd: number): number

  sendFrames(fd: number, start: number, count: number): number
  sendHeld(fd: number, offset: number, length: number): number
  holdPayload(row: number, from: number, length: number, to: number): number
  peekIntoFrames(fd: number, row: number, count: number, bytes: number, skip: number): number
  discard(fd: number, bytes: number): number

  udpSocket(family: number, freebind: number, place: number): number
  listenUdp(family: number, dualStack: number, device: string, freebind: number, place: number): number
  pingSocket(family: number): number
  receiveFrom(fd: number, row: number, peek: number): number
  sendDatagrams(fd: number, start: number, count: number): number
  sendDatagramsTo(fd: number, family: number, start: number, count: number): number
  prepareGroups(fd: number, family: number, scope: number): number
  joinGroup(fd: number, family: number, scope: number): number
  setGroupHopLimit(fd: number, family: number, hopLimit: number): number
  receiveGroup(fd: number, row: number): number
  receiveDatagrams(fd: number, row: number, count: number, bytes: number): number
  readError(fd: number, row: number, bytes: number): number

  attachRelay(memory: Uint8Array, ends: Int32Array): number
  relayPair(): number
  relayReceive(fd: number, offset: number, length: number): number
  relaySend(fd: number, offset: number, length: number): number

  openSplice(result: Int32Array): number
  spliceStream(from: number, to: number, pipe: number, pending: number, flags: number, share: number): number
  spliceDropPipe(pipe: number): number
  unsent(fd: number): number
  spliceDatagrams(from: number, to: number, count: number): number
  peekAddresses(fd: number): number
  wantMerged(fd: number): number
  scanListeners(place: number, kind: number, map: Uint8Array, files?: number): number

  openCapture(path: string): number
  captureTo(fd: number): number
  closeCapture(): number
  enterNamespace(netnsFd: number, bare: number): number
  leaveNamespace(): number
  netlinkOpenInNamespace(groups: number, nonBlocking: number): number
  createUnixLink(state: Int32Array): RawUnixLink | number
  createTapLink(state: Int32Array): RawTapLink | number
  createVhostLink(state: Int32Array, message: Uint8Array, reply: Uint8Array): RawVhostLink | number
}

/** Calls of one UNIX stream link (cpp/unix-link.cc). */
export interface RawUnixLink {
  listen(path: string): number
  adopt(fd: number): number
  adoptListener(fd: number): number
  accept(): number
  watch(ref: number): number
  receive(): number
  flush(to: number): number
  disconnect(): number
  close(): number
}

/** Calls of one tap link (cpp/tap-link.cc). */
export interface RawTapLink {
  open(name: string, queue: number, vnet: number): number
  name(): string
  adopt(fd: number, vnet: number): number
  watch(ref: number): number
  receive(): number
  flush(to: number): number
  close(): number
}

/** What a front-end of vhost-user sets up. Results are >= 0 or -errno. Descriptors are named by their place in the message that is being
 * handled. */
export interface RawVhostDevice {
  setFeatures(features: bigint): number
  clearMemory(): number
  addMemory(descriptor: number, guest: bigint, size: bigint, user: bigint, offset: bigint): number
  removeMemory(guest: bigint, size: bigint, user: bigint): number
  startLog(descriptor: number, size: bigint, offset: bigint): number
  setLogFd(descriptor: number): number
  setRingSize(ring: number, size: number): number
  setRingAddresses(
    ring: number,
    logged: number,
    descriptors: bigint,
    used: bigint,
    available: bigint,
    log: bigint,
  ): number
  setRingBase(ring: number, base: number): number
  /** @returns the base that it goes on with */
  stopRing(ring: number): number
  setRingKick(ring: number, descriptor: number): number
  /** @param descriptor -1: none */
  setRingCall(ring: number, descriptor: number): number
  setRingError(ring: number, descriptor: number): number
  enableRing(ring: number, on: number): number
  /** Makes a file to track buffers in flight, which goes with the reply. @returns its bytes */
  makeInflight(queues: number, entries: number): number
  setInflight(descriptor: number, size: bigint, offset: bigint, queues: number, entries: number): number
  /** Begins to read a device's state from a pipe. */
  loadState(descriptor: number): number
  /** Stops and forgets all rings. */
  resetDevice(): number
}

/** Calls of one vhost-user link (cpp/vhost-link.cc). */
export interface RawVhostLink extends RawVhostDevice {
  listen(path: string): number
  adopt(fd: number): number
  adoptListener(fd: number): number
  watch(ref: number): number
  readMessage(): number
  endMessage(replyBytes: number): number
  receive(): number
  lendRows(row: number, count: number, bytes: number, flow: number): number
  flush(to: number): number
  disconnect(): number
  close(): number
  /** Writes the device's state to a pipe. */
  saveState(descriptor: number, state: Uint8Array): number
  /** @returns bytes of the state that was loaded, or -errno */
  takeState(to: Uint8Array): number
}

export interface Addon {
  createEngine(events: Int32Array, address: Int32Array, info: Int32Array, error: Int32Array): RawEngine | number
  entropy(target: ArrayBufferView): number
  checksumVariants(): string[]
  checksum(variant: string, bytes: Uint8Array, from: number, length: number, start: number): number
}
