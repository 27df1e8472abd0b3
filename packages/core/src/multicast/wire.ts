/**
 * IGMP (RFC 1112, RFC 2236, RFC 3376) and MLD (RFC 2710, RFC 3810) messages: types, and the records of version 3 and 2.
 */
export const IGMP_QUERY = 0x11
export const IGMP_V1_REPORT = 0x12
export const IGMP_V2_REPORT = 0x16
export const IGMP_V2_LEAVE = 0x17
export const IGMP_V3_REPORT = 0x22
/** 4 bytes, in all but version 3's report. */
export const IGMP_GROUP = 4
export const IGMP_LENGTH = 8
/** Of a question. */
export const IGMP_V3_LENGTH = 12

export const MLD_QUERY = 130
export const MLD_REPORT = 131
export const MLD_DONE = 132
export const MLD_V2_REPORT = 143
/** 16 bytes, in all but version 2's report. */
export const MLD_GROUP = 8
export const MLD_LENGTH = 24
/** Of a question. */
export const MLD_V2_LENGTH = 28
/** Hop limit of every MLD message (RFC 3810 section 5). */
export const MLD_HOP_LIMIT = 1

/** In a report of IGMPv3 or MLDv2: number of records, 2 bytes; where they begin. */
export const RECORD_COUNT = 6
export const RECORDS = 8
/** In a record: type, 1 byte; length of auxiliary data in words, 1 byte; number of sources, 2 bytes; group. */
export const RECORD_TYPE = 0
export const RECORD_AUXILIARY = 1
export const RECORD_SOURCES = 2
export const RECORD_GROUP = 4

/** Types of records (RFC 3376 section 4.2.12). */
export const IS_INCLUDE = 1
export const IS_EXCLUDE = 2
export const TO_INCLUDE = 3
export const TO_EXCLUDE = 4
export const ALLOW = 5
export const BLOCK = 6
