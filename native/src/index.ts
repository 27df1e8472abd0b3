/** The addon's typed surface. */
export type { Addon, RawEngine, RawTapLink, RawUnixLink } from "./addon.ts"
export * from "./checksum.ts"
export * from "./entropy.ts"
export * from "./kernel.ts"
export * from "./netlink.ts"
export * from "./process.ts"
export * from "./watch.ts"
