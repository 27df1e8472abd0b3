/**
 * A cluster for tests. Its API server is the fake one, or a real one that somebody has started:
 *
 *   PASST_KUBE_API=https://127.0.0.1:6443 PASST_KUBE_TOKEN=TOKEN npm test -- apps/passt-kubevirt
 *
 * It has to be empty and is left so. Nodes are played either way: no kubelet and no virt-operator run.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { request as httpRequest } from "node:http"
import { request as httpsRequest } from "node:https"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { run } from "../run.ts"
import { KINDS, pathOf, rootOf } from "../cluster/kinds.ts"
import type { Kind } from "../cluster/kinds.ts"
import type { Manifest } from "../cluster/objects.ts"
import { FakeApi } from "./fake-api.ts"
import { DEFINITIONS } from "./definitions.ts"

export const REAL: string | undefined = process.env["PASST_KUBE_API"]

export interface Ran {
  readonly exit: number
  readonly out: string
  readonly err: string
}

type Body = Record<string, unknown>

/** What a node makes of the DaemonSet's pod, if it does not become ready. */
export interface Illness {
  readonly reason: string
  readonly message: string
}

export class Cluster {
  readonly fake: FakeApi | undefined
  /** Whether the API server lets policies change objects: Kubernetes 1.36. */
  hasPolicies = true
  private readonly url: string
  private readonly folder = mkdtempSync(join(tmpdir(), "passt-kubevirt-"))
  private readonly ill = new Map<string, Illness>()
  private nodes: readonly string[] = ["node1", "node2", "node3"]
  private readonly ended = new AbortController()
  private playing: Promise<void> | undefined

  private constructor(fake: FakeApi | undefined, url: string) {
    this.fake = fake
    this.url = url
  }

  static async start(): Promise<Cluster> {
    if (REAL === undefined) {
      const fake = await FakeApi.start()
      return new Cluster(fake, fake.url)
    }
    const cluster = new Cluster(undefined, REAL)
    for (const definition of DEFINITIONS) await cluster.put("CustomResourceDefinition", definition)
    await new Promise((resolve) => setTimeout(resolve, 3000))
    const { body } = await cluster.send("GET", rootOf("MutatingAdmissionPolicy"))
    cluster.hasPolicies = JSON.stringify(body).includes(`"${KINDS.MutatingAdmissionPolicy.plural}"`)
    return cluster
  }

  async close(): Promise<void> {
    this.ended.abort()
    await this.playing
    if (this.fake === undefined) await this.clear()
    await this.fake?.close()
    rmSync(this.folder, { recursive: true })
  }

  /** As a cluster with KubeVirt and Multus is before anything is installed. */
  async reset(kubevirt: Body = {}, configuration: Body = {}): Promise<void> {
    this.ill.clear()
    this.nodes = ["node1", "node2", "node3"]
    this.playing ??= this.play()
    if (this.fake !== undefined) this.fake.reset()
    else await this.clear()
    await this.put("Namespace", { metadata: { name: "kubevirt" } })
    await this.put("KubeVirt", {
      metadata: { name: "kubevirt", namespace: "kubevirt" },
      spec: {
        configuration: { developerConfiguration: { featureGates: ["DataVolumes"] }, ...configuration },
        ...kubevirt,
      },
    })
    await this.setStatus("KubeVirt", "kubevirt", "kubevirt", { phase: "Deployed", observedKubeVirtVersion: "v1.6.2" })
  }

  private async clear(): Promise<void> {
    for (const kind of [
      "DaemonSet",
      "NetworkAttachmentDefinition",
      "RoleBinding",
      "ServiceAccount",
      "Event",
    ] as const) {
      for (const { metadata } of await this.all(kind, "kubevirt"))
        if (metadata.name !== "default") await this.remove(kind, "kubevirt", metadata.name)
    }
    for (const kind of ["MutatingAdmissionPolicyBinding", "MutatingAdmissionPolicy", "Plugin"] as const) {
      for (const { metadata } of await this.all(kind)) await this.remove(kind, undefined, metadata.name)
    }
    await this.remove("ClusterRole", undefined, "passt-kubevirt-viewer")
    await this.remove("KubeVirt", "kubevirt", "kubevirt")
    for (const kind of ["VirtualMachineInstance", "VirtualMachine", "Pod"] as const) {
      for (const namespace of ["default", "kubevirt"]) {
        for (const { metadata } of await this.all(kind, namespace)) await this.remove(kind, namespace, metadata.name)
      }
    }
    for (const { metadata } of await this.all("Node")) await this.remove("Node", undefined, metadata.name)
  }

  /** Runs the command. */
  async run(...args: string[]): Promise<Ran> {
    return await this.runAs(process.env["PASST_KUBE_TOKEN"] ?? "admin", args)
  }

  async runAs(
    token: string,
    args: readonly string[],
    signal?: AbortSignal,
    onTell?: (line: string) => void,
  ): Promise<Ran> {
    const out: string[] = []
    const err: string[] = []
    const exit = await run([...args, "--kubeconfig", this.kubeconfig(token)], {
      print: (line) => out.push(line),
      tell: (line) => {
        err.push(line)
        onTell?.(line)
      },
      pollMs: 20,
      ...(signal === undefined ? {} : { signal }),
    })
    return { exit, out: out.join("\n"), err: err.join("\n") }
  }

  kubeconfig(token: string): string {
    const path = join(this.folder, `config-${token}`)
    const config = {
      apiVersion: "v1",
      kind: "Config",
      clusters: [{ name: "c", cluster: { server: this.url, "insecure-skip-tls-verify": true } }],
      users: [{ name: "u", user: { token } }],
      contexts: [{ name: "test", context: { cluster: "c", user: "u" } }],
      "current-context": "test",
    }
    writeFileSync(path, JSON.stringify(config))
    return path
  }

  /** A node does not make the DaemonSet's pod ready. */
  sicken(node: string, illness: Illness): void {
    this.ill.set(node, illness)
  }

  heal(): void {
    this.ill.clear()
  }

  // As an administrator with kubectl.

  async put(kind: Kind, object: Body): Promise<void> {
    const { apiVersion } = KINDS[kind]
    const namespace = (object["metadata"] as { namespace?: string }).namespace
    const { status } = await this.send("POST", pathOf(kind, namespace), { apiVersion, kind, ...object })
    if (status >= 300 && status !== 409) throw new Error(`cannot create ${kind}: ${status}`)
  }

  async get(kind: Kind, namespace: string | undefined, name: string): Promise<Manifest | undefined> {
    const { status, body } = await this.send("GET", pathOf(kind, namespace, name))
    return status === 200 ? (body as Manifest) : undefined
  }

  async all(kind: Kind, namespace?: string): Promise<Manifest[]> {
    const { body } = await this.send("GET", pathOf(kind, namespace))
    return ((body as { items?: Manifest[] }).items ?? []) as Manifest[]
  }

  async edit(kind: Kind, namespace: string | undefined, name: string, patch: Body): Promise<void> {
    const { status, body } = await this.send(
      "PATCH",
      `${pathOf(kind, namespace, name)}?fieldManager=kubectl-edit`,
      patch,
    )
    if (status >= 300) throw new Error(`cannot edit ${kind} ${name}: ${JSON.stringify(body)}`)
  }

  async setStatus(kind: Kind, namespace: string | undefined, name: string, status: Body): Promise<void> {
    await this.send("PATCH", `${pathOf(kind, namespace, name)}/status`, { status })
  }

  async remove(kind: Kind, namespace: string | undefined, name: string): Promise<void> {
    await this.send("DELETE", pathOf(kind, namespace, name), { gracePeriodSeconds: 0 })
  }

  /** Everything that installing touches, without what changes by itself. */
  async snapshot(): Promise<Record<string, unknown>> {
    const found: Record<string, unknown> = {}
    for (const kind of [
      "DaemonSet",
      "KubeVirt",
      "NetworkAttachmentDefinition",
      "ServiceAccount",
      "RoleBinding",
    ] as const) {
      for (const object of await this.all(kind, "kubevirt")) found[`${kind}/${object.metadata.name}`] = essence(object)
    }
    const role = await this.get("ClusterRole", undefined, "passt-kubevirt-viewer")
    if (role !== undefined) found["ClusterRole"] = essence(role)
    return found
  }

  private async send(method: string, path: string, body?: unknown): Promise<{ status: number; body: unknown }> {
    const url = new URL(path, this.url)
    const type = method === "PATCH" ? "application/merge-patch+json" : "application/json"
    const text = body === undefined ? "" : JSON.stringify(body)
    const headers = {
      Authorization: `Bearer ${process.env["PASST_KUBE_TOKEN"] ?? "admin"}`,
      "Content-Type": type,
      // Node.js says no length for DELETE by itself, and a server then takes what follows for the next request.
      "Content-Length": Buffer.byteLength(text),
    }
    const options = { method, headers, rejectUnauthorized: false }
    return await new Promise((resolve, reject) => {
      const request = (url.protocol === "https:" ? httpsRequest : httpRequest)(url, options, (response) => {
        let answer = ""
        response.setEncoding("utf8")
        response.on("data", (chunk: string) => (answer += chunk))
        response.on("end", () => {
          let parsed: unknown = answer
          try {
            parsed = JSON.parse(answer)
          } catch {}
          resolve({ status: response.statusCode ?? 0, body: parsed })
        })
      })
      request.on("error", reject)
      request.end(text)
    })
  }

  /** The nodes and the DaemonSet's controller: pods by the template, and how they are. */
  private async play(): Promise<void> {
    while (!this.ended.signal.aborted) {
      try {
        const daemonSets = await this.all("DaemonSet", "kubevirt")
        const pods = await this.all("Pod", "kubevirt")
        for (const daemonSet of daemonSets) await this.playDaemonSet(daemonSet, pods)
        for (const pod of pods) {
          const owner = pod.metadata.labels?.["daemonset"]
          if (owner !== undefined && !daemonSets.some(({ metadata }) => metadata.name === owner)) {
            await this.remove("Pod", "kubevirt", pod.metadata.name)
          }
        }
      } catch (error) {
        if (!this.ended.signal.aborted) throw error
      }
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }

  private async playDaemonSet(daemonSet: Manifest, pods: readonly Manifest[]): Promise<void> {
    const { generation, name } = daemonSet.metadata
    const template = (daemonSet["spec"] as { template: { metadata: { labels: Record<string, string> }; spec: Body } })
      .template
    for (const node of this.nodes) {
      const pod = `${name}-${node}-${generation}`
      for (const { metadata } of pods) {
        if (metadata.name.startsWith(`${name}-${node}-`) && metadata.name !== pod)
          await this.remove("Pod", "kubevirt", metadata.name)
      }
      if (!pods.some(({ metadata }) => metadata.name === pod)) {
        const labels = { ...template.metadata.labels, daemonset: name }
        await this.put("Pod", {
          metadata: { name: pod, namespace: "kubevirt", labels },
          spec: { ...template.spec, nodeName: node },
        })
      }
      await this.setStatus("Pod", "kubevirt", pod, podStatus(this.ill.get(node)))
    }
    const ready = this.nodes.filter((node) => !this.ill.has(node)).length
    const count = this.nodes.length
    const status = {
      observedGeneration: generation,
      currentNumberScheduled: count,
      desiredNumberScheduled: count,
      updatedNumberScheduled: count,
      numberReady: ready,
      numberMisscheduled: 0,
    }
    const now = daemonSet["status"] as Body | undefined
    if (Object.entries(status).some(([field, value]) => now?.[field] !== value))
      await this.setStatus("DaemonSet", "kubevirt", name, status)
  }
}

function podStatus(illness: Illness | undefined): Body {
  const ready = illness === undefined
  const conditions = [
    { type: "Ready", status: ready ? "True" : "False", lastProbeTime: null, lastTransitionTime: null },
  ]
  const container = { name: "cni", image: "i", imageID: "", ready, restartCount: 0 }
  if (illness === undefined)
    return { phase: "Running", conditions, containerStatuses: [{ ...container, state: { running: {} } }] }
  const state = { waiting: { reason: illness.reason, message: illness.message } }
  return { phase: "Pending", conditions, containerStatuses: [{ ...container, state }] }
}

function essence(object: Manifest): unknown {
  const { name, namespace, labels, managedFields } = object.metadata
  const mine = managedFields?.filter((one) => one.manager === "passt-kubevirt").map(({ fieldsV1 }) => fieldsV1)
  return { name, namespace, labels, mine, spec: object["spec"], rules: object["rules"], subjects: object["subjects"] }
}
