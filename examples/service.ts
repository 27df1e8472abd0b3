/**
 * A TCP service that is the program itself, at an address of the guest's network: an HTTP server without a listening socket. What
 * the guest's connections carry arrives as ordinary sockets, so that anything of Node's that takes one can serve them.
 *
 *   node examples/service.ts -- COMMAND [ARGUMENT…]       the command finds the service at http://10.0.2.100/
 */
import { createServer } from "node:http"
import { startEngine } from "@passt/engine"
import { startInNamespace } from "./lib/namespace.ts"

const command = process.argv.slice(3)
if (process.argv[2] !== "--" || command.length === 0) {
  console.error("usage: service.ts -- COMMAND [ARGUMENT…]")
  process.exit(1)
}

/** Secrets that the guest may use and must not be able to keep: nobody else reaches this server, whatever listens on the host. */
const http = createServer(async (request, response) => {
  let bytes = 0
  for await (const chunk of request) bytes += (chunk as Buffer).length
  response.end(`${request.method} ${request.url}, ${bytes} bytes: answered by process ${process.pid}\n`)
})

const sandbox = await startInNamespace(command)
await using engine = await startEngine({
  guest: { kind: "namespace", path: sandbox.path, interfaceName: "eth0" },
  ipv6: false,
  address: "10.0.2.15/24",
  gateway: "10.0.2.1",
  services: [{ address: "10.0.2.100", port: 80, onConnection: (socket) => http.emit("connection", socket) }],
  // Nothing but the service.
  onFlow: () => "refuse",
})
engine.on("flowClose", ({ far, bytesFromGuest, bytesToGuest }) => {
  console.log(`${far?.address}:${far?.port}: ${bytesFromGuest} bytes asked, ${bytesToGuest} bytes answered`)
})
process.exitCode = await sandbox.run()
http.closeAllConnections()
