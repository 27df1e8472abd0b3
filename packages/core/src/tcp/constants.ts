/**
 * Numbers of the TCP engine, each with its source.
 */
/** Segment size of a peer that announces none: RFC 9293 section 3.7.1. */
export const MSS_DEFAULT4 = 536
export const MSS_DEFAULT6 = 1220
/** Smallest segment size that we work with: Linux's TCP_MIN_SND_MSS, against peers that ask for one byte each. */
export const MSS_MIN = 48
/** Largest window that a segment with SYN, or a connection without window scale, can announce. */
export const WINDOW_UNSCALED_MAX = 0xffff
/** Window scale that we offer: windows up to 16 MiB. */
export const WINDOW_SCALE = 8
export const WINDOW_MAX: number = 0xffff << WINDOW_SCALE
/** Segments that a window may hold: half of the queue of a usual network device (txqueuelen 1000). A burst that overflows the
 * guest's own queue is lost before we see it, and all that follows waits for retransmissions. The guest's round trip is
 * the one to us, a fraction of a millisecond, so this is no limit on throughput. */
export const WINDOW_SEGMENTS_MAX = 500
/** Room of the send buffer that is offered while the peer's window is open but smaller, bytes: a few of the largest segments. */
export const WINDOW_LEAST: number = 256 << 10
/** Largest scale to believe, RFC 7323 section 2.3. */
export const WINDOW_SCALE_MAX = 14

/** First retransmission timeout, milliseconds: RFC 6298 section 2. */
export const RTO_INITIAL_MS = 1000
/** After a handshake that needed retransmissions: RFC 6298 section 5.7. */
export const RTO_AFTER_RETRIES_MS = 3000
/** Retransmissions of data before the connection is given up. */
export const RETRIES_MAX = 7
/** Duplicate acknowledgements that mean a loss: RFC 5681 section 3.2. */
export const DUPLICATES_MIN = 3

/** A round-trip time up to which a peer counts as local, microseconds. */
export const LOCAL_RTT_US = 500
/** Poll interval while the guest waits for the window or for the peer's acknowledgement, milliseconds: the first, and
 * the last of each kind. A quarter of the silence so far, then a 64th: a peer that does not read for hours costs one look a
 * second. */
export const WINDOW_POLL_MIN_MS = 1
export const WINDOW_POLL_MAX_MS = 64
export const WINDOW_POLL_IDLE_MS = 1000
/** Silence of the guest after which a window that still has room for it is no longer looked at, milliseconds. */
export const WINDOW_POLL_QUIET_MS = 1000

/** Longest time that a handshake with the guest may wait for the link, milliseconds: as long as seven retransmissions. */
export const HANDSHAKE_MS = 128_000

/** No segment from the guest for this long: ask whether it still knows the connection. */
export const KEEPALIVE_MS = 30_000
/** No traffic at all for this long: reset both sides. */
export const INACTIVITY_MS = 7_200_000

/** Connections accepted per event of a listening socket. */
export const ACCEPT_MAX = 16
/** Payload sent to one guest flow per turn of the work queue, bytes: flows take turns. */
export const SERVICE_BYTES_MAX: number = 256 << 10
/** The same while nobody waits for its turn: half of what a virtqueue of the usual size has room for, so that the guest is busy with one half
 * while the other is filled. */
export const SERVICE_ALONE_MAX: number = 512 << 10
/** Longest IP packet. */
export const PACKET_MAX = 65_535
