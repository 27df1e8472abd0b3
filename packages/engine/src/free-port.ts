/**
 * Port 0 in a forward: any port that is free. The rules know only ports that are numbers, so one is asked of the kernel first, by a socket
 * that is closed again. Somebody else may have taken it by then: whoever uses this asks again.
 */
import { createSocket } from "node:dgram"
import { once } from "node:events"
import { createServer, type AddressInfo } from "node:net"

/** "0:22", "127.0.0.1/0:22", "[::1]/0:22", "%eth0/0:22": an IPv4 address, an IPv6 address, and what follows the port. */
const PORT_ZERO = /^(?:(?:([0-9.]+)|\[([0-9a-fA-F:.]+)\])?(?:%[^/]+)?\/)?0(:\d+)$/

/** @returns whether a specification of ports asks for a free one */
export const asksForFreePort = (spec: string): boolean => PORT_ZERO.test(spec)

/** @param spec for which `asksForFreePort` @returns it with a port in the place of 0 @throws if the kernel has none, or not that address */
export async function withFreePort(protocol: "tcp" | "udp", spec: string): Promise<string> {
  const [, ipv4, ipv6, rest] = PORT_ZERO.exec(spec)!
  const address = ipv4 ?? ipv6
  const port = await (protocol === "tcp" ? freeTcpPort(address) : freeUdpPort(address))
  return `${spec.slice(0, spec.length - rest!.length - 1)}${port}${rest}`
}

async function freeTcpPort(address: string | undefined): Promise<number> {
  const server = createServer().listen(0, address)
  await once(server, "listening")
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, "close")
  return port
}

async function freeUdpPort(address: string | undefined): Promise<number> {
  // Without an address it has to be free for both families, if there are both.
  if (address === undefined) return freeUdpPort("::").catch(() => freeUdpPort("0.0.0.0"))
  const socket = createSocket(address.includes(":") ? "udp6" : "udp4").bind(0, address)
  await once(socket, "listening")
  const { port } = socket.address()
  socket.close()
  await once(socket, "close")
  return port
}
