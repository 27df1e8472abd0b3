/** The guest's side when it is a network namespace: its interface, and that set up. */
import { closeSync, openSync } from "node:fs"
import { type FrameTable, REF_LINK, REF_SHIFT } from "@passt/core"
import { errnoText, type FamilySetup, nativeCalls, NamespaceNetwork } from "@passt/host"
import type { NativeKernel } from "@passt/native"
import type { GuestConfig } from "@passt/program"
import { TapLink, type TapLinkObserver } from "@passt/transport-tap"
import type { GuestLink } from "./config.ts"
import { EngineError } from "./config-error.ts"

const NAME_DEFAULT = "tap0"

function check(what: string, result: number): void {
  if (result < 0) throw new EngineError("ERR_PASST_START", `${what}: ${errnoText(-result)}`)
}

/** Enters the namespace with a thread of the kernel's, makes the interface, and sets it up. @throws EngineError */
export function openNamespace(
  guest: GuestLink & { readonly kind: "namespace" },
  config: GuestConfig,
  kernel: NativeKernel,
  frames: FrameTable,
  observer: TapLinkObserver,
  warn: (warning: string) => void,
): TapLink {
  let fd: number
  try {
    fd = openSync(guest.path, "r")
  } catch (cause) {
    throw new EngineError("ERR_PASST_START", `cannot open ${guest.path}`, { cause })
  }
  try {
    check(`cannot enter ${guest.path}`, kernel.enterNamespace(fd))
  } finally {
    closeSync(fd)
  }
  const network = new NamespaceNetwork({
    ...nativeCalls,
    netlinkOpen: (groups, nonBlocking) => kernel.netlinkOpenInNamespace(groups, nonBlocking),
  })
  try {
    network.bringUpLoopback()
    const { ipv4, ipv6 } = config.host
    const template = [ipv4, ipv6].find((family) => family && !family.local)
    const name = guest.interfaceName ?? template?.interfaceName ?? NAME_DEFAULT
    const link = new TapLink(kernel, frames, observer)
    check(`cannot make interface ${name} in ${guest.path}`, link.open(name))
    link.watch(REF_LINK << REF_SHIFT)
    link.readMac(config.guest.mac)
    if (guest.configure === false) return link
    const families: FamilySetup[] = []
    for (const family of [4, 6] as const) {
      const host = family === 4 ? ipv4 : ipv6
      // What was chosen for the guest is all that it gets.
      if (host) families.push({ family, host, copyAddresses: false, copyRoutes: false })
    }
    for (const warning of network.configure({ index: link.index, mtu: config.guest.mtu, families })) warn(warning)
    return link
  } finally {
    network.close()
  }
}
