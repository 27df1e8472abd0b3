/**
 * The system calls that the engine may make, as an interface: native code implements it over Linux, the simulator over
 * a model. Calls are synchronous and take and return integers.
 *
 * Results are >= 0, or -errno (Linux numbers, see errno.ts). Nothing throws. Sockets are non-blocking and
 * close-on-exec. `family` is 4 or 6.
 *
 * Addresses travel in `address`, an Int32Array of records of ADDRESS_WORDS words: four address words (each the
 * big-endian value of four bytes; IPv4 mapped, RFC 4291 section 2.5.5.2), the port, the scope (interface index of a
 * link-local IPv6 address, else 0). With family 4 only the last address word is used; with family 6 a mapped address is passed as it is.
 */
export const ADDRESS_WORDS = 6
/** Record of the far end: connect's destination; the source of an accepted connection or received datagram. */
export const ADDRESS_REMOTE = 0
/** Record of our own end: bind's address; the local address of an accepted connection; a datagram's destination. */
export const ADDRESS_LOCAL = 6
/** Record of the node that reported an error (readError). */
export const ADDRESS_OFFENDER = 12

/** Where a socket is made: in this process' own network namespace, or in the one that it serves (pasta). */
export const PLACE_HOST = 0
export const PLACE_NAMESPACE = 1

/** Bits of an event mask: Linux's EPOLLIN, EPOLLPRI, EPOLLOUT, EPOLLERR, EPOLLHUP, EPOLLRDHUP. */
export const EVENT_IN = 0x001
export const EVENT_PRI = 0x002
export const EVENT_OUT = 0x004
export const EVENT_ERR = 0x008
export const EVENT_HUP = 0x010
export const EVENT_RDHUP = 0x2000

/** Words of `info` after tcpInfo. Counters are the low 32 bits. */
export const INFO_BYTES_ACKED = 0
/** The peer's receive window, bytes; -1 when the kernel does not tell. */
export const INFO_SEND_WINDOW = 1
/** Smoothed round-trip time, microseconds. */
export const INFO_RTT = 2
/** Minimum round-trip time, microseconds. */
export const INFO_MIN_RTT = 3
/** Bytes per second that the connection delivers, clamped to 2^31-1; -1 when the kernel does not tell. */
export const INFO_DELIVERY_RATE = 4
/** Size of the send buffer, bytes (SO_MEMINFO's SK_MEMINFO_SNDBUF). */
export const INFO_SEND_BUFFER = 5
/** Bytes of kernel memory that the send queue occupies (SK_MEMINFO_WMEM_QUEUED). */
export const INFO_SEND_QUEUED = 6
/** Largest segment that the kernel sends to the peer, bytes (tcpi_snd_mss). */
export const INFO_SEND_MSS = 7
/** Bytes written to the socket that the peer has not acknowledged (SIOCOUTQ). */
export const INFO_UNACKNOWLEDGED = 8
export const INFO_WORDS = 9

/** Words of `error` after readError (struct sock_extended_err, linux/errqueue.h). */
export const ERROR_ERRNO = 0
/** 1 local, 2 ICMP, 3 ICMPv6. */
export const ERROR_ORIGIN = 1
export const ERROR_TYPE = 2
export const ERROR_CODE = 3
/** MTU for "fragmentation needed" and "packet too big". */
export const ERROR_INFO = 4
/** Bytes of the original datagram's payload that were put into the row. */
export const ERROR_PAYLOAD = 5
export const ERROR_WORDS = 6

export interface Kernel {
  /** Pairs (ref, mask) of what is ready, after `wait`. */
  readonly events: Int32Array
  /** Address records, see above. */
  readonly address: Int32Array
  readonly info: Int32Array
  readonly error: Int32Array
  /** Whether MSG_PEEK on TCP sockets can continue where the last one ended (SO_PEEK_OFF, Linux 6.9 for IPv4 and 6.11
   * for IPv6). */
  readonly peekOffset4: boolean
  readonly peekOffset6: boolean

  /** Blocks until something is ready or `timeoutMs` passed (-1: no limit, 0: don't block).
   * @returns the number of events; EINTR counts as 0. */
  wait(timeoutMs: number): number
  /** Monotonic time, milliseconds, low 32 bits as a signed word; wraps: compare with `(a - b) | 0`. */
  now(): number
  /** Monotonic time, microseconds, low 32 bits as a signed word; wraps every 71 minutes. */
  nowMicros(): number

  /** Watches a socket for IN, OUT, PRI and RDHUP, edge-triggered: an event tells of a change, the engine remembers it. */
  watch(fd: number, ref: number): number
  /** Watches a descriptor for IN, level-triggered. */
  watchLevel(fd: number, ref: number): number
  /** Stops watching; closing a descriptor does that too. */
  unwatch(fd: number): number
  close(fd: number): number
  /** Closes so that the peer gets a reset (SO_LINGER with 0). */
  reset(fd: number): number

  /** A TCP socket for a connection on behalf of the guest: TCP_NODELAY, SO_OOBINLINE. @param place PLACE_… */
  tcpSocket(family: number, place: number): number
  /** Binds to the record ADDRESS_LOCAL. */
  bind(fd: number, family: number): number
  /** Binds to a network interface (SO_BINDTODEVICE); cold. */
  bindToDevice(fd: number, name: string): number
  /** Starts connecting to the record ADDRESS_REMOTE.
   * @returns 0, -EINPROGRESS, or the error. */
  connect(fd: number, family: number): number
  /** A listening TCP socket on the record ADDRESS_LOCAL. `dualStack` (family 6 only): takes IPv4 connections too. `device`: empty for
   * any interface. `freebind`: addresses that the host does not have (yet). @param place PLACE_… */
  listenTcp(family: number, dualStack: boolean, device: string, freebind: boolean, place: number): number
  /** Accepts one connection, with TCP_NODELAY and SO_OOBINLINE; fills ADDRESS_REMOTE and ADDRESS_LOCAL (IPv4 mapped).
   * @returns the socket, -EAGAIN when there is none. */
  accept(fd: number): number
  /** The address that a socket has on this side (getsockname): fills ADDRESS_LOCAL. Cold, and not everybody's to have: without it
   * flows stay on the address that they began with. @returns 0 or -errno. */
  localAddress?(fd: number, family: number): number
  /** The pending error of a socket (SO_ERROR) as a positive errno, 0 if none. */
  socketError(fd: number): number
  /** shutdown(SHUT_WR). */
  shutdownWrite(fd: number): number
  /** TCP_MAXSEG, bytes. */
  setMss(fd: number, mss: number): number
  /** SO_KEEPALIVE. */
  setKeepalive(fd: number): number
  /** Whether a TCP socket of the host queues ICMP errors for `readError` (IP_RECVERR, IPV6_RECVERR). Only while it connects:
   * later each of them would be an error of the connection. */
  queueErrors(fd: number, family: number, on: boolean): number
  /** IP_TTL or IPV6_UNICAST_HOPS of what this socket sends. @param hopLimit 1…255 */
  setHopLimit(fd: number, family: number, hopLimit: number): number
  /** Fills `info`. @returns 0. */
  tcpInfo(fd: number): number

  /** Writes the payload of the rows gather[start … start+count-1] to a TCP socket, in order, in one call.
   * @returns bytes taken (may be fewer than offered), or -errno (-EAGAIN: none). */
  sendFrames(fd: number, start: number, count: number): number
  /** Writes `length` bytes at `offset` of the arena (hold area) to a TCP socket. @returns as sendFrames. */
  sendHeld(fd: number, offset: number, length: number): number
  /** Copies payload within the arena: `length` bytes of a row's payload from `from` (bytes from the start of the frame)
   * to the arena offset `to`. */
  holdPayload(row: number, from: number, length: number, to: number): number
  /** Reads without consuming (MSG_PEEK) into the payload areas of `count` consecutive rows, `bytes` in each. With peek offsets the kernel continues where the last call
   * ended and `skip` must be 0; else the first `skip` bytes of the queue, at most 16 MiB, are passed over.
   * @returns bytes read, 0 at the end of the stream, or -errno (-EAGAIN: nothing new). */
  peekIntoFrames(fd: number, row: number, count: number, bytes: number, skip: number): number
  /** SO_PEEK_OFF: where the next peek starts, bytes from the start of the queue. */
  setPeekOffset(fd: number, offset: number): number
  /** Throws away `bytes` from the start of the receive queue. @returns bytes thrown away. */
  discard(fd: number, bytes: number): number

  /** A UDP socket of a flow: IP_RECVERR / IPV6_RECVERR. `freebind` as for listenTcp. @param place PLACE_… */
  udpSocket(family: number, freebind: boolean, place: number): number
  /** A bound UDP socket for a forwarding rule, that tells destinations (IP_PKTINFO). Else as listenTcp. */
  listenUdp(family: number, dualStack: boolean, device: string, freebind: boolean, place: number): number
  /** SO_REUSEADDR: before bind, for the socket of a flow that clones a listening one. */
  setReuseAddress(fd: number): number
  /** Lets datagrams that a UDP or ping socket receives tell their hop limit (IP_RECVTTL, IPV6_RECVHOPLIMIT). Listening ones do
   * by themselves. */
  wantHopLimits(fd: number, family: number): number
  /** Reads one datagram from a listening socket into a row's payload area; fills ADDRESS_REMOTE and ADDRESS_LOCAL (mapped), payloadLength and
   * hopLimit.
   * `peek`: leaves it in the queue.
   * @returns its length, or -errno. */
  receiveFrom(fd: number, row: number, peek: boolean): number
  /** Sends the payload of rows gather[start…] as one datagram each on a connected socket (sendmmsg).
   * @returns datagrams sent, or -errno when the first failed. */
  sendDatagrams(fd: number, start: number, count: number): number
  /** Reads datagrams of a connected socket into the payload areas of consecutive rows, `bytes` room in each; sets
   * payloadLength and hopLimit of each (recvmmsg).
   * @returns datagrams read, or -errno. */
  receiveDatagrams(fd: number, row: number, count: number, bytes: number): number
  /** An ICMP or ICMPv6 echo socket (ping socket, net.ipv4.ping_group_range); payload includes the ICMP header.
   * IP_RECVERR as for UDP. */
  pingSocket(family: number): number
  /** Takes one entry from the error queue: fills `error`, ADDRESS_OFFENDER, ADDRESS_REMOTE (the original destination)
   * and the row's payload area with up to `bytes` of the original payload.
   * @returns 1, 0 when the queue is empty, or -errno. */
  readError(fd: number, row: number, bytes: number): number

  /** Multicast and broadcast; absent: there is none. */
  readonly groups?: GroupKernel | undefined
  /** Streams that are read on their way; absent: there are none. */
  readonly relay?: RelayKernel | undefined
  /** From socket to socket, and the listening sockets of others; only where there is a second network namespace. */
  readonly splice?: SpliceKernel | undefined
}

/** Calls for UDP sockets (`udpSocket`) that talk to groups: multicast and broadcast addresses. */
export interface GroupKernel {
  /** Readies a socket before it is bound: it may send to broadcast addresses, sends to groups by an interface, hears only
   * groups that it has joined itself, and tells hop limits.
   * @param scope interface index, 0: the kernel's choice. ADDRESS_LOCAL may name the source of multicast over IPv4, else it is all zero
   * @returns 0 or -errno */
  prepare(fd: number, family: number, scope: number): number
  /** Joins the group in ADDRESS_LOCAL on an interface. @returns 0 or -errno (-ENOBUFS: the host allows no more) */
  joinGroup(fd: number, family: number, scope: number): number
  /** As Kernel.localAddress, which may be absent. */
  localAddress(fd: number, family: number): number
  /** Hop limit of what the socket sends to groups, 1…255. */
  setHopLimit(fd: number, family: number, hopLimit: number): number
  /** As Kernel.sendDatagrams on a socket that is not connected: to ADDRESS_REMOTE. */
  send(fd: number, family: number, start: number, count: number): number
  /** Reads one datagram into a row's payload area; fills ADDRESS_REMOTE, payloadLength and hopLimit.
   * @returns its length, or -errno: -EMSGSIZE for one that did not fit and is gone */
  receive(fd: number, row: number): number
}

/** Streams between a flow's socket and another that somebody reads on their way: a pair of sockets in the flow's place, and memory
 * that no guest can write to. */
export interface RelayKernel {
  /** The two ends of the last pair. */
  readonly ends: Int32Array
  /** Lends the memory that `receive` and `send` work in, for the life of the kernel. Once. @returns 0 or -errno */
  attach(memory: Uint8Array<ArrayBuffer>): number
  /** Makes two stream sockets, connected to each other (socketpair, AF_UNIX), and tells them in `ends`. @returns 0 or -errno */
  pair(): number
  /** Reads into the memory. @returns bytes, 0 at the end of the stream, or -errno (-EAGAIN: nothing new) */
  receive(fd: number, offset: number, length: number): number
  /** Writes from the memory. @returns bytes taken (may be fewer than offered), or -errno (-EAGAIN: none) */
  send(fd: number, offset: number, length: number): number
}

/** Words of `result` after `stream`. The pipe that holds bytes on their way, -1: none. */
export const SPLICE_PIPE = 0
/** Bytes in it. */
export const SPLICE_PENDING = 1
/** SPLICED_… bits. */
export const SPLICE_CONDITIONS = 2
export const SPLICE_WORDS = 3
/** Words of `result` after `datagrams`. */
export const SPLICE_DELIVERED = 0
export const SPLICE_BYTES = 1
/** Most datagrams that one call of `datagrams` moves. */
export const SPLICE_DATAGRAM_MAX = 64

/** There is nothing more to read now: an event will tell. */
export const SPLICED_SOURCE_EMPTY = 1
/** The source has ended its stream. */
export const SPLICED_SOURCE_END = 2
/** Reading has failed: the connection is dead. All that it had brought has been read. */
export const SPLICED_SOURCE_FAILED = 4
/** The target takes no more now: an event will tell. */
export const SPLICED_TARGET_FULL = 8
/** Writing has failed: the connection is dead. What was read and not delivered is gone. */
export const SPLICED_TARGET_FAILED = 16
/** No pipe is to be had: nothing was read. */
export const SPLICED_NO_PIPE = 32
/** Much was moved at once: pass SPLICE_BULK next time. */
export const SPLICED_BULK = 64

/** Flags of `stream`. */
/** As SPLICED_BULK of the last call for this direction. */
export const SPLICE_BULK = 1
/** The source is known to end or to have failed: a short read is no sign that it is empty. */
export const SPLICE_ENDING = 2
/** There may be urgent data in the stream. */
export const SPLICE_URGENT = 4

/** Kinds of listening sockets that `scan` looks for. */
export const SCAN_TCP = 0
export const SCAN_UDP = 1
/** Bytes of a bitmap of ports: bit `port & 7` of byte `port >> 3`. */
export const PORT_MAP_BYTES = 8192

export interface SpliceKernel {
  readonly result: Int32Array

  /** Moves a share of a stream from one TCP socket to another: first what is in the pipe, then what can be read.
   * @param pipe the pipe that holds `pending` bytes of this direction, -1: none @param flags SPLICE_… bits
   * @param share bytes after which no more is read (what one read brought is still delivered), at least 1
   * @returns bytes delivered; `result` tells the rest. With no condition the share was used up: there is more to do */
  stream(from: number, to: number, pipe: number, pending: number, flags: number, share: number): number
  /** Gives back a pipe, with what is in it. */
  dropPipe(pipe: number): number
  /** Bytes written to a TCP socket that have not been sent yet, because the peer's window is closed (SIOCOUTQNSD). */
  unsent(fd: number): number

  /** Tells the ends of the first datagram in a socket's queue, which stays there: fills ADDRESS_REMOTE and ADDRESS_LOCAL (mapped).
   * @returns its length, or -errno (-EAGAIN: there is none) */
  peekAddresses(fd: number): number
  /** Moves up to `count` datagrams from one socket to a connected one. Those that the target refuses are gone.
   * @param to -1: nowhere @returns datagrams read (fewer than `count`: the queue is empty), or -errno of the read; then `result`
   *   has in SPLICE_DELIVERED and SPLICE_BYTES what was delivered */
  datagrams(from: number, to: number, count: number): number
  /** Lets a connected UDP socket's datagrams come in runs, as they were sent (UDP_GRO). @returns 0 or -errno */
  wantMerged(fd: number): number

  /** Sets the bits of the ports that somebody listens on, in a bitmap of PORT_MAP_BYTES that is cleared first.
   * @param place PLACE_… @param kind SCAN_… @returns the number of sockets, or -errno: the bitmap is not to be used */
  scan(place: number, kind: number, map: Uint8Array): number
}
