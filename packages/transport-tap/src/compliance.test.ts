import { test } from "vitest"

import { linkCompliance, type Stage } from "../../core/src/test-support/link-compliance.ts"
import { bridged, LINK_REF, receiveAll, send } from "./test-support/bridged.ts"
import { tapsUnavailable } from "./test-support/space.ts"
import type { TapLinkOptions } from "./tap-link.ts"

function stage(ours: TapLinkOptions): Stage {
  const b = bridged(65_520, ours, { offloads: false })
  return {
    link: b.ours.link,
    frames: b.ours.frames,
    frameBytesMax: 65_534,
    pads: ours.offloads === false,
    send: (frames) => send(b.guest, frames),
    exchange() {
      b.ours.link.flush()
      return receiveAll(b.guest)
    },
    wait: (timeoutMs) => b.ours.kernel.wait(timeoutMs) === 1 && b.ours.kernel.events[0] === LINK_REF,
    end: () => b.end(),
  }
}

const why = tapsUnavailable()
if (why === undefined) {
  linkCompliance("tap", () => stage({}))
  linkCompliance("tap without virtio's header", () => stage({ offloads: false }))
} else {
  console.log(`skipped, tap devices: ${why}`)
  test.skip(`tap devices: ${why}`, () => {})
}
