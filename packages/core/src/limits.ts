/**
 * Every capacity of the engine, as a number with its reason. Nothing in the data path grows beyond these.
 */

/** Flows of all kinds that may be alive at once. The flow column array is this times FLOW_WORDS * 4 bytes, untouched
 * pages of which cost nothing. */
export const FLOW_MAX = 131_072

/** Frames of one batch from the guest. At MTU 1500 that is 384 KiB, which fits a level-2 cache. */
export const RX_FRAME_MAX = 256

/** Frames prepared for the guest between two flushes. Twice the batch, so that each frame of a batch can be answered
 * (an acknowledgement, a reset) and data still finds room. */
export const TX_FRAME_MAX = 1024

/** Rows of the frame table: from-guest rows first, then to-guest rows. */
export const FRAME_MAX: number = RX_FRAME_MAX + TX_FRAME_MAX

/** Longest Ethernet frame on any link: the IPv4 total length is 16 bits, plus the Ethernet header; also the limit of
 * the 16-bit frame sizes of the reference and well under QEMU's buffer (69,632). */
export const FRAME_LENGTH_MAX = 65_535

/** Shortest frame sent to a guest: Ethernet's 64 bytes less the frame check sequence; shorter ones are zero-padded. */
export const FRAME_LENGTH_MIN = 60

/** Receive area: what one read of the guest's link can bring, plus one partial frame carried over. */
export const RX_ARENA_BYTES: number = 1 << 20

/** Send area. Only what a turn uses is ever touched; large because datagram slots are laid out for the largest
 * datagram. */
export const TX_ARENA_BYTES: number = 8 << 20

/** Room of the send area that only short frames (acknowledgements, resets, ARP, NDP, DHCP, ICMP) may use, so that a
 * guest that does not read can't stop them by filling the area with data. */
export const TX_CONTROL_BYTES: number = 256 << 10

/** Rows kept for the same: one for each frame of a batch. */
export const TX_CONTROL_FRAMES: number = RX_FRAME_MAX

/** Longest frame that may use that room: an ICMPv6 error (1280 bytes) or a DHCP answer on any MTU. */
export const TX_CONTROL_FRAME_BYTES: number = 2 << 10

/** Held segments: payload from the guest that a socket could not take yet, or that came after a hole. */
export const HOLD_ARENA_BYTES: number = 4 << 20

/** The whole arena: receive area, send area, hold area. */
export const ARENA_BYTES: number = RX_ARENA_BYTES + TX_ARENA_BYTES + HOLD_ARENA_BYTES

/** Ready sockets that one wait can report. */
export const EVENT_MAX = 256

/** Datagrams read from one socket per call. */
export const DATAGRAM_BATCH_MAX = 32

/** Frames that one system call gathers from: Linux's IOV_MAX. */
export const GATHER_MAX = 1024

/** Listening sockets of all rules: 5 tables of 65,536 ports would be 327,680, as in the reference. */
export const LISTENER_MAX = 327_680

/** Multicast groups that the guest may be in: a socket each. Desktops are in fewer than ten. */
export const MEMBERSHIP_MAX = 128

/** Ports of groups that are listened on: a socket each. */
export const GROUP_PORT_MAX = 256

/** Ports of groups that are remembered because the guest has sent there, joined or not. */
export const GROUP_PORT_MEMORY = 256

/** Datagrams to groups that are remembered until the host's own loop brings them back: four batches. */
export const ECHO_MAX: number = 4 * RX_FRAME_MAX

/** Connections to resolvers that are overheard at a time: three descriptors and two buffers each. A stub resolver has one or two. */
export const RELAY_MAX = 32

/** Room for one direction of such a connection: a whole message with its length (RFC 1035 section 4.2.2), and some of the next. */
export const RELAY_BUFFER_BYTES: number = (1 << 16) + 4096
