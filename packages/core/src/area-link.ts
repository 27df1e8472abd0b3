/**
 * What links do alike whose frames lie whole in the arena, both ways: rows to the guest come from a SendArea, and a received frame can be
 * read as far as it goes.
 */
import type { FrameTable } from "./frames.ts"
import type { Link } from "./link.ts"
import { SendArea } from "./send-area.ts"

export abstract class AreaLink implements Link {
  readonly frames: FrameTable
  protected readonly area: SendArea
  abstract readonly segmentBytesMax: number
  abstract readonly windowMax: number
  abstract readonly connected: boolean
  abstract readonly more: boolean
  abstract readonly blocked: boolean

  /** @param headroom bytes that the link's own framing takes before each frame to the guest */
  constructor(frames: FrameTable, headroom: number) {
    this.frames = frames
    this.area = new SendArea(frames, headroom)
  }

  abstract handleEvent(index: number, mask: number): void
  abstract receive(): number
  abstract flush(): number

  get reservedRow(): number {
    return this.area.reservedRow
  }

  pull(row: number, bytes: number): number {
    const length = this.frames.length[row]!
    return bytes <= length ? length : -1
  }

  reserve(bytes: number): number {
    return this.area.reserve(bytes)
  }

  reserveRows(count: number, bytes: number): number {
    return this.area.reserveRows(count, bytes)
  }

  reserveStream(count: number, bytes: number, _flow: number): number {
    return this.area.reserveRows(count, bytes)
  }

  commit(row: number): void {
    this.area.commit(row)
  }
}
