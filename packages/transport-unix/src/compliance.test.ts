import { linkCompliance } from "../../core/src/test-support/link-compliance.ts"
import { framed, unframed } from "./test-support/client.ts"
import { LINK_REF, setting } from "./test-support/setting.ts"

linkCompliance("unix", () => {
  const s = setting()
  const client = s.connect()
  s.link.handleEvent(0, 1)
  return {
    link: s.link,
    frames: s.frames,
    frameBytesMax: 65_535,
    pads: true,
    send: (frames) => void client.write(framed(...frames)),
    exchange() {
      const parts: Buffer[] = []
      for (;;) {
        const left = s.link.flush()
        parts.push(client.read())
        if (left === 0) return unframed(Buffer.concat(parts))
      }
    },
    wait: (timeoutMs) => s.kernel.wait(timeoutMs) === 1 && s.kernel.events[0] === LINK_REF,
    end: () => s.end(),
  }
})
