/** The guest behind a UNIX stream socket. */
export * from "./unix-link.ts"
