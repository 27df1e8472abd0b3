/** The public surface of the flow engine. */
export * from "./errno.ts"
export * from "./frames.ts"
export * from "./guest.ts"
export * from "./kernel.ts"
export * from "./limits.ts"
export type * from "./link.ts"
export type * from "./responder.ts"
