/**
 * What a TCP flow remembers: words of its row after the common ones, and the bits of STATE.
 *
 * Sequence numbers are signed 32-bit words that wrap: compare with `(a - b) | 0` (RFC 9293 section 3.4).
 */
import { PROTOCOL_WORDS } from "../flow/table.ts"

/** Next sequence number to send to the guest. Goes back when data has to be sent again. */
export const SEQ_TO_GUEST: number = PROTOCOL_WORDS
/** Highest acknowledgement from the guest: where the socket's receive queue begins. */
export const ACKED_BY_GUEST: number = PROTOCOL_WORDS + 1
/** Highest sequence number sent to the guest, plus one. */
export const SENT_MAX: number = PROTOCOL_WORDS + 2
/** Next sequence number expected from the guest. */
export const SEQ_FROM_GUEST: number = PROTOCOL_WORDS + 3
/** Up to where the guest's data has been written to the socket; less than SEQ_FROM_GUEST while some is held. */
export const WRITTEN: number = PROTOCOL_WORDS + 4
/** Acknowledgement and right edge of the window that the next segment to the guest will carry. */
export const ACK_TO_GUEST: number = PROTOCOL_WORDS + 5
export const EDGE_TO_GUEST: number = PROTOCOL_WORDS + 6
/** The same, as the last segment carried them. */
export const ACK_SENT: number = PROTOCOL_WORDS + 7
export const EDGE_SENT: number = PROTOCOL_WORDS + 8
/** Sequence number in the guest's stream where the kernel's count of acknowledged bytes (tcpi_bytes_acked) begins: the SYN,
 * which the kernel counts where it connected itself, else the first byte. */
export const FIRST_FROM_GUEST: number = PROTOCOL_WORDS + 9
/** The guest's receive window, bytes (scaled). */
export const WINDOW_FROM_GUEST: number = PROTOCOL_WORDS + 10
/** Window scale of the guest (low byte) and ours (next byte), RFC 7323. */
export const SCALES: number = PROTOCOL_WORDS + 11
/** Largest payload of a segment to the guest, bytes. */
export const MSS: number = PROTOCOL_WORDS + 12
/** Retransmissions since the guest last acknowledged something. */
export const RETRIES: number = PROTOCOL_WORDS + 13
/** Duplicate acknowledgements since the last new one. */
export const DUPLICATES: number = PROTOCOL_WORDS + 14
/** End of fast recovery: SENT_MAX when it began (RFC 6582). */
export const RECOVER: number = PROTOCOL_WORDS + 15
/** Deadlines, milliseconds; valid with RTO_ARMED and ACK_ARMED. */
export const RTO_AT: number = PROTOCOL_WORDS + 16
export const ACK_AT: number = PROTOCOL_WORDS + 17
/** First held block (hold.ts), -1: none; and how many. */
export const HOLD_HEAD: number = PROTOCOL_WORDS + 18
export const HOLD_COUNT: number = PROTOCOL_WORDS + 19
/** Round-trip time of the host's connection, microseconds. */
export const RTT: number = PROTOCOL_WORDS + 20
/** Window that the socket allowed when it was last asked, bytes. */
export const LAST_WINDOW: number = PROTOCOL_WORDS + 21
/** Time of the last segment from the guest, milliseconds. */
export const LAST_FROM_GUEST: number = PROTOCOL_WORDS + 22
/** Hop limit (TTL) that the socket was last told, or HOP_LIMIT_USUAL. */
export const HOP_LIMIT: number = PROTOCOL_WORDS + 23

/** Accepted from the host; a SYN has gone, or will go, to the guest. */
export const ACCEPTED: number = 1 << 0
/** The guest's SYN came; the socket is connecting. */
export const CONNECTING: number = 1 << 1
/** The socket is connected; SYN,ACK has gone, or will go, to the guest. */
export const CONNECTED: number = 1 << 2
/** Both handshakes are done. */
export const ESTABLISHED: number = 1 << 3
/** The end of the host's stream was read. */
export const HOST_EOF: number = 1 << 4
/** FIN sent to the guest; and acknowledged by it. */
export const FIN_SENT: number = 1 << 5
export const FIN_ACKED: number = 1 << 6
/** FIN received from the guest, in order; and passed on to the socket. */
export const GUEST_FIN: number = 1 << 7
export const HOST_SHUT: number = 1 << 8
/** The socket may have more data than has been sent to the guest. */
export const READABLE: number = 1 << 9
/** An acknowledgement is owed; the next segment carries it. */
export const ACK_DUE: number = 1 << 10
/** The peer is on this host or as near as that: what the socket took is as good as delivered. */
export const LOCAL: number = 1 << 11
/** The socket took less than it was given; an event will tell when it takes more. */
export const WRITE_BLOCKED: number = 1 << 12
/** Reads may stop short of what is there (urgent data, tcp(7)): read on until EAGAIN. */
export const URGENT: number = 1 << 13
/** SO_KEEPALIVE is on, because the guest sends keepalives. */
export const KEEPALIVE: number = 1 << 14
export const RTO_ARMED: number = 1 << 15
export const ACK_ARMED: number = 1 << 16
/** One segment, at ACKED_BY_GUEST, is to be sent again. */
export const RESEND: number = 1 << 17
/** Between the start of a fast retransmission and RECOVER. */
export const RECOVERING: number = 1 << 18
/** The socket takes no more (EPIPE): data from the guest is acknowledged and thrown away. */
export const SWALLOW: number = 1 << 19
/** A SYN, or SYN,ACK, is to be sent (again). */
export const SYN_DUE: number = 1 << 20
/** A probe of one byte is to be sent into a closed window. */
export const PROBE: number = 1 << 21
/** The window offered to the guest is small: ask the socket again soon. */
export const WINDOW_LOW: number = 1 << 22
/** Three duplicates of the acknowledgement are owed, so that the guest retransmits at once (RFC 5681 section 3.2). */
export const TRIPLE_ACK: number = 1 << 23
/** A keepalive probe is to be sent to the guest. */
export const KEEPALIVE_DUE: number = 1 << 24
/** The host's peer has sent its FIN: the kernel won't tell again, so reading goes on to the end of the stream. */
export const HOST_ENDING: number = 1 << 25
/** The handshake with the guest needed retransmissions: RFC 6298 section 5.7. */
export const SYN_RETRIED: number = 1 << 26
/** The kernel's peek offset is not SEQ_TO_GUEST - ACKED_BY_GUEST, because setting it failed. */
export const PEEK_LOST: number = 1 << 27
/** The guest's SYN came in a frame to a group: no ICMP error may answer it (RFC 1122 section 3.2.2). */
export const GROUP_FRAME: number = 1 << 28
/** The host's peer began: for those who look from outside, as long as the flow lives. */
export const INBOUND: number = 1 << 29

/** Shifts within SCALES. */
export const SCALE_TO_GUEST_SHIFT = 8
