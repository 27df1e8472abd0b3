import { describe, expect, it } from "vitest"
import { readSettings } from "./sysctl.ts"

const DEFAULTS = {
  ephemeralPorts: [49152, 65535],
  tcpSynRetries: 6,
  tcpSynLinearTimeouts: 4,
  tcpRtoMaxMs: 120_000,
  udpTimeout: 30,
  udpStreamTimeout: 120,
  pingGroups: [1, 0],
}

describe("readSettings", () => {
  it("has the kernel's defaults for what can't be read", () => {
    expect(readSettings(() => undefined)).toEqual(DEFAULTS)
  })
  it("has them for nonsense too", () => {
    for (const text of ["", "x", "-1", "99999999999", "1 2 3"]) {
      expect(readSettings(() => text)).toEqual(DEFAULTS)
    }
    expect(readSettings(() => "60000 1").ephemeralPorts).toEqual([49152, 65535])
    expect(readSettings(() => "70000 80000").ephemeralPorts).toEqual([49152, 65535])
  })
  it("reads what the kernel writes", () => {
    const files: Record<string, string> = {
      "net/ipv4/ip_local_port_range": "32768\t60999\n",
      "net/ipv4/tcp_syn_retries": "3\n",
      "net/ipv4/tcp_syn_linear_timeouts": "0\n",
      "net/ipv4/tcp_rto_max_ms": "5000\n",
      "net/netfilter/nf_conntrack_udp_timeout": "10\n",
      "net/netfilter/nf_conntrack_udp_timeout_stream": "60\n",
      "net/ipv4/ping_group_range": "0\t2147483647\n",
    }
    expect(readSettings((name) => files[name])).toEqual({
      ephemeralPorts: [32768, 60999],
      tcpSynRetries: 3,
      tcpSynLinearTimeouts: 0,
      tcpRtoMaxMs: 5000,
      udpTimeout: 10,
      udpStreamTimeout: 60,
      pingGroups: [0, 2147483647],
    })
  })
})
