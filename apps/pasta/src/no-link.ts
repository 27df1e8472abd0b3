/** The link of a namespace without an interface (`--splice-only`): nobody is there, ever. */
import type { FrameTable, Link } from "@passt/core"

export class NoLink implements Link {
  readonly frames: FrameTable
  readonly segmentBytesMax = 65_481
  readonly windowMax = 0
  readonly connected = false
  readonly more = false
  readonly reservedRow = 0
  readonly blocked = false

  constructor(frames: FrameTable) {
    this.frames = frames
  }
  handleEvent(): void {}
  receive(): number {
    return 0
  }
  pull(): number {
    return -1
  }
  reserve(): number {
    return -1
  }
  reserveRows(): number {
    return 0
  }
  commit(): void {}
  flush(): number {
    return 0
  }
}
