/** Datagrams from the host's side that were kept while their flow waited. */
import type { Context } from "../context.ts"
import { noteToGuest } from "../datagram/state.ts"
import { FLOW_SHIFT } from "../flow/table.ts"
import { COUNTER } from "../stats.ts"
import { datagramHeaderLength, emitDatagram } from "../udp/to-guest.ts"

/** Sends them to the guest. */
export function replayFromHost(ctx: Context, flow: number): void {
  const base = flow << FLOW_SHIFT
  ctx.gate!.replayPayloads(flow, datagramHeaderLength(ctx.words, base), (row) => {
    emitDatagram(ctx, flow, row)
    noteToGuest(ctx, base, 1)
  })
}

/** Sends them to a connected socket. @returns bytes sent */
export function replayToSocket(ctx: Context, flow: number, fd: number): number {
  const { frames, kernel } = ctx
  let bytes = 0
  ctx.gate!.replayPayloads(flow, 0, (row) => {
    frames.gather[0] = row
    frames.flags[row] = 0
    if (kernel.sendDatagrams(fd, 0, 1) > 0) bytes += frames.payloadLength[row]!
    else ctx.count(COUNTER.dropDatagram)
  })
  return bytes
}
