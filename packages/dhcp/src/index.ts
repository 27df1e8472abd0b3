/** DHCP and DHCPv6 answers for one guest. */
export type { DhcpConfig, DhcpUpdate } from "./config.ts"
export { DhcpResponder } from "./responder.ts"
export type { Dhcp4Config } from "./responder.ts"
export { Dhcpv6Responder } from "./v6/responder.ts"
export type { Dhcpv6Config } from "./v6/responder.ts"
