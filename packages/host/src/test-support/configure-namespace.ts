/** Sets up an interface in a namespace after the one where this runs. Argument: { path, interface, options, ... } as below. */
import { openSync, readFileSync } from "node:fs"
import * as native from "@passt/native"
import { readHost, type HostOptions } from "../host.ts"
import { NamespaceNetwork, type FamilySetup } from "../namespace/configure.ts"
import { nativeCalls } from "../netlink/socket.ts"

interface Argument {
  readonly path: string
  readonly index: number
  readonly mtu?: number
  readonly mac?: readonly number[]
  readonly copyAddresses?: boolean
  readonly copyRoutes?: boolean
  readonly options?: HostOptions
}

const argument = JSON.parse(readFileSync(0, "utf8")) as Argument
const kernel = new native.NativeKernel()
const entered = kernel.enterNamespace(openSync(argument.path, "r"))
if (entered < 0) throw new Error(`errno ${-entered}`)
const network = new NamespaceNetwork({
  ...nativeCalls,
  netlinkOpen: (groups, nonBlocking) => kernel.netlinkOpenInNamespace(groups, nonBlocking),
})
const host = readHost(argument.options ?? {})
const { copyAddresses = true, copyRoutes = true } = argument
const families: FamilySetup[] = []
if (host.ipv4) families.push({ family: 4, host: host.ipv4, copyAddresses, copyRoutes })
if (host.ipv6) families.push({ family: 6, host: host.ipv6, copyAddresses, copyRoutes })
network.bringUpLoopback()
if (argument.mac) network.setMac(argument.index, Uint8Array.from(argument.mac))
const begin = performance.now()
const warnings = network.configure({ index: argument.index, mtu: argument.mtu ?? 0, families })
process.stdout.write(JSON.stringify({ warnings, ms: performance.now() - begin }))
