/**
 * The link of an engine without a guest's side: whatever goes over a link is dropped. For a namespace that is served by
 * splicing alone.
 */
import { AreaLink } from "./area-link.ts"
import { FrameTable } from "./frames.ts"

export class NoLink extends AreaLink {
  readonly segmentBytesMax = 65_535
  readonly windowMax = 0
  readonly connected = false
  readonly more = false
  readonly blocked = false

  constructor() {
    super(new FrameTable(), 0)
  }

  handleEvent(): void {}
  receive(): number {
    return 0
  }
  override pull(): number {
    return -1
  }
  flush(): number {
    this.area.reset()
    return 0
  }
}
