// A world with passt in it, for one test file.
import { startPasst } from "../../tools/world/passt.ts"
import type { Passt } from "../../tools/world/passt.ts"
import { createWorld } from "../../tools/world/world.ts"
import type { World, WorldOptions } from "../../tools/world/world.ts"
import { createBridgedGuest } from "./bridged-guest.ts"
import type { BridgedGuest, BridgedGuestOptions } from "./bridged-guest.ts"

export interface Stage {
  readonly world: World
  readonly passt: Passt
  readonly guest: BridgedGuest
  close(): Promise<void>
}

/** A world, passt with these arguments, and a bridged guest. */
export async function createStage(
  args: readonly string[] = [],
  guestOptions: BridgedGuestOptions = {},
  worldOptions: WorldOptions = {},
): Promise<Stage> {
  const world = await createWorld(worldOptions)
  const passt = await startPasst(world.host, args)
  const guest = await createBridgedGuest(passt.socket, guestOptions)
  return {
    world,
    passt,
    guest,
    async close() {
      await guest.close()
      await passt.stop()
      await world.close()
    },
  }
}
