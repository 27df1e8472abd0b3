/** `--metrics`: the same text that `passtctl metrics` shows, over HTTP. */
import type { CommonOptions } from "@passt/cli"
import { type ControlContext, HttpMetrics, Metrics, nativeSockets } from "@passt/control"
import { ADDRESS_LOCAL, PLACE_HOST } from "@passt/core"
import { errnoText } from "@passt/host"
import type { NativeKernel } from "@passt/native"
import { externalRef } from "./assemble.ts"
import type { Chores } from "./chores.ts"
import { StartError } from "./error.ts"

/** Words of an address record. */
const PORT = 4
const SCOPE = 5

/** Listens. @param first index of its events @throws StartError */
export function openMetrics(
  { address, port, text }: NonNullable<CommonOptions["metrics"]>,
  context: ControlContext,
  kernel: NativeKernel,
  chores: Chores,
  first: number,
): HttpMetrics {
  kernel.address.set(address, ADDRESS_LOCAL)
  kernel.address[ADDRESS_LOCAL + PORT] = port
  kernel.address[ADDRESS_LOCAL + SCOPE] = 0
  const isFour = address[0] === 0 && address[1] === 0 && address[2] === 0xffff
  const listener = kernel.listenTcp(isFour ? 4 : 6, false, "", false, PLACE_HOST)
  if (listener < 0) throw new StartError(`Couldn't serve metrics on ${text}: ${errnoText(-listener)}`)
  const ref = (index: number): number => externalRef(first + index)
  const sockets = { ...nativeSockets(kernel), accept: (fd: number) => kernel.accept(fd) }
  const server = new HttpMetrics(sockets, listener, ref, () => new Metrics(context), kernel.now())
  const watched = server.watch()
  if (watched < 0) throw new StartError(`Couldn't serve metrics on ${text}: ${errnoText(-watched)}`)
  chores.add(server)
  return server
}
