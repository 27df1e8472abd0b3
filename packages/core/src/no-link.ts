/**
 * The link of an engine without a guest's side: whatever goes over a link is dropped. For a namespace that is served by
 * splicing alone.
 */
import { FrameTable } from "./frames.ts"
import type { Link } from "./link.ts"
import { SendArea } from "./send-area.ts"

export class NoLink implements Link {
  readonly frames: FrameTable = new FrameTable()
  readonly segmentBytesMax = 65_535
  readonly windowMax = 0
  readonly connected = false
  readonly more = false
  readonly blocked = false
  readonly #area: SendArea = new SendArea(this.frames, 0)

  get reservedRow(): number {
    return this.#area.reservedRow
  }
  handleEvent(): void {}
  receive(): number {
    return 0
  }
  pull(): number {
    return -1
  }
  reserve(bytes: number): number {
    return this.#area.reserve(bytes)
  }
  reserveRows(count: number, bytes: number): number {
    return this.#area.reserveRows(count, bytes)
  }
  commit(row: number): void {
    this.#area.commit(row)
  }
  flush(): number {
    this.#area.reset()
    return 0
  }
}
