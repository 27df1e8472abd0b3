/** The guest behind vhost-user: virtqueues in its own memory. */
export * from "./device-state.ts"
export * from "./features.ts"
export * from "./vhost-link.ts"
