import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll } from "vitest"

import { linkCompliance, type Stage } from "../../core/src/test-support/link-compliance.ts"
import { FEATURE, mask } from "./features.ts"
import { buildFrontEnd, FrontEnd, LINK_REF } from "./test-support/front-end.ts"

const folder = mkdtempSync(join(tmpdir(), "passt-vhost-"))
const program = buildFrontEnd(folder)
afterAll(() => rmSync(folder, { recursive: true }))

function stage(features: bigint, pairs = 1): Stage {
  const f = new FrontEnd(program, features, pairs)
  return {
    link: f.link,
    frames: f.frames,
    frameBytesMax: 65_535,
    pads: false,
    queues: pairs,
    send: (frames) => void f.exchange(frames),
    exchange: () => f.flush(),
    wait: (timeoutMs) => f.kernel.wait(timeoutMs) === 1 && f.kernel.events[0] === LINK_REF,
    end: () => f.end(),
  }
}

const { version1, mergeable, indirect, eventIndex, packed, multiqueue } = FEATURE
linkCompliance("vhost-user", () => stage(mask(version1, mergeable, indirect, eventIndex)))
linkCompliance("vhost-user, one buffer for each frame", () => stage(mask(version1)))
linkCompliance("vhost-user, a driver of before virtio 1.0", () => stage(mask(indirect)))
linkCompliance("vhost-user, packed queues", () => stage(mask(version1, mergeable, indirect, eventIndex, packed)))
linkCompliance("vhost-user, three pairs of plain packed queues", () =>
  stage(mask(version1, mergeable, packed, multiqueue), 3),
)
