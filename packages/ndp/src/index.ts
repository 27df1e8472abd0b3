/** ARP, neighbour discovery and router advertisements for a guest. */
export { ArpResponder } from "./arp.ts"
export type { AdvertiseConfig, AdvertiseUpdate } from "./advertise.ts"
export { learnNeighbour } from "./learn.ts"
export type { Announcers } from "./learn.ts"
export { NdpResponder } from "./ndp.ts"
export type { NdpConfig } from "./ndp.ts"
export { NEIGHBOUR_MAX, NeighbourTable } from "./neighbours.ts"
