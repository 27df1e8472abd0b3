/**
 * Service meshes that put a proxy into the pod: how a virtual machine's metadata tells that one is there, and the ports that are the
 * proxy's own. Guests must not have them, even if their owner lists them.
 */
import type { PortRange, ProtocolPorts } from "./ports.ts"

export interface Metadata {
  readonly annotations: Readonly<Record<string, string>>
  readonly labels: Readonly<Record<string, string>>
}

export interface Mesh {
  readonly name: string
  readonly ports: ProtocolPorts
  isIn(metadata: Metadata): boolean
}

function each(...ports: readonly number[]): PortRange[] {
  return ports.map((port) => ({ first: port, last: port }))
}

/**
 * TCP ports of Istio's proxy: outbound, debugging, inbound, tunnels, telemetry, health, DNS, Envoy's statistics.
 * KubeVirt's own binding leaves out the same; in this order, which is also that of the elements it writes.
 */
const ISTIO_TCP_PORTS = [15_000, 15_001, 15_004, 15_006, 15_008, 15_009, 15_020, 15_021, 15_053, 15_090]

const ISTIO: Mesh = {
  name: "istio",
  // Of UDP only DNS is the proxy's.
  ports: { tcp: each(...ISTIO_TCP_PORTS), udp: each(15_053) },
  isIn({ annotations, labels }) {
    // The label is what Istio prefers; the annotation is older. Ambient mode has its proxy's sockets in the pod, too.
    const inject = labels["sidecar.istio.io/inject"] ?? annotations["sidecar.istio.io/inject"]
    return inject?.toLowerCase() === "true" || labels["istio.io/dataplane-mode"]?.toLowerCase() === "ambient"
  },
}

const LINKERD: Mesh = {
  name: "linkerd",
  ports: { tcp: each(4140, 4143, 4190, 4191), udp: [] },
  isIn({ annotations }) {
    return ["enabled", "ingress"].includes(annotations["linkerd.io/inject"]?.toLowerCase() ?? "")
  },
}

export const MESHES: readonly Mesh[] = [ISTIO, LINKERD]
