/** The guest behind a tap device: a network namespace. */
export * from "./tap-link.ts"
