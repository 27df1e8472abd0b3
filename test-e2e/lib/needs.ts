// What some tests need and a machine may lack, and how to get it. A test that lacks something is skipped with that
// message; where CI=true, main.ts refuses to start instead.
import { accessSync, constants, existsSync } from "node:fs"
import { join } from "node:path"

interface Need {
  readonly what: string
  readonly remedy: string
  readonly there: () => boolean
}

function program(name: string, packageName: string): Need {
  const folders = [...(process.env.PATH ?? "").split(":"), "/usr/sbin", "/sbin"]
  return {
    what: name,
    remedy: `apt-get install ${packageName}`,
    there: () => folders.some((folder) => folder !== "" && existsSync(join(folder, name))),
  }
}

export const NEEDS = {
  qemu: program("qemu-system-x86_64", "qemu-system-x86"),
  iperf3: program("iperf3", "iperf3"),
  testpmd: program("dpdk-testpmd", "dpdk-dev librte-net-virtio23 librte-mempool-ring23"),
  nft: program("nft", "nftables"),
  tc: program("tc", "iproute2"),
  ping: program("ping", "iputils-ping"),
  traceroute: program("traceroute", "traceroute"),
  socat: program("socat", "socat"),
  strace: program("strace", "strace"),
  udhcpc: program("udhcpc", "udhcpc"),
  dhclient: program("dhclient", "isc-dhcp-client"),
  dhcpcd: program("dhcpcd", "dhcpcd5"),
  avahi: program("avahi-resolve", "avahi-daemon avahi-utils"),
  debootstrap: program("debootstrap", "debootstrap"),
  mmdebstrap: program("mmdebstrap", "mmdebstrap"),
  haproxy: program("haproxy", "haproxy"),
  iptables: program("iptables-restore", "iptables"),
  root: {
    what: "root",
    remedy: "run as root",
    there: () => process.getuid?.() === 0,
  },
  tun: {
    what: "/dev/net/tun",
    remedy: "run as root, or chmod 0666 /dev/net/tun",
    there: () => {
      try {
        accessSync("/dev/net/tun", constants.R_OK | constants.W_OK)
        return true
      } catch {
        return false
      }
    },
  },
} as const satisfies Record<string, Need>

/** What the tests with other Debian systems need. */
export const TREE_NEEDS: readonly NeedName[] = ["debootstrap", "mmdebstrap", "root"]

export type NeedName = keyof typeof NEEDS

export function missing(names: readonly NeedName[] = Object.keys(NEEDS) as NeedName[]): readonly Need[] {
  return names.map((name) => NEEDS[name]).filter((need) => !need.there())
}

/** For the title of a suite: " (skipped: …)" if it cannot run here, else nothing. */
export function skipNote(...names: NeedName[]): string {
  const lacking = missing(names)
  if (lacking.length === 0) return ""
  return ` (skipped: ${lacking.map((need) => `${need.what} is missing: ${need.remedy}`).join("; ")})`
}
