/** The guest behind vhost-user: virtqueues in its own memory. */
export * from "./features.ts"
export * from "./vhost-link.ts"
