/** The command against an API server: the fake one, or a real one (test-support/cluster.ts). */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest"
import { Cluster, REAL } from "./test-support/cluster.ts"
import { UNKEYED } from "./test-support/fields.ts"
import { bindingEntry, objects } from "./manifests/objects.ts"
import { parseOptions } from "./options.ts"
import { run } from "./run.ts"
import { NEEDED, NEEDED_IF_THERE } from "./cluster/facts.ts"
import { KINDS } from "./cluster/kinds.ts"
import { at } from "./cluster/objects.ts"

const IMAGE = "registry.example/passt/binding:1"
const INSTALL = ["install", "--image", IMAGE] as const
const binding = async (name = "passt"): Promise<unknown> =>
  at(await cluster.get("KubeVirt", "kubevirt", "kubevirt"), "spec", "configuration", "network", "binding", name)

let cluster: Cluster
beforeAll(async () => {
  cluster = await Cluster.start()
}, 60_000)
afterAll(() => cluster.close())
beforeEach(() => cluster.reset(), 60_000)

const machine = (name: string, bindingName = "passt"): Record<string, unknown> => ({
  metadata: { name, namespace: "default" },
  spec: { domain: { devices: { interfaces: [{ name: "default", binding: { name: bindingName } }] } } },
})

describe("install", () => {
  test("makes everything, registers it last, and waits for the nodes", async () => {
    const ran = await cluster.run(...INSTALL)
    expect(ran).toMatchObject({ exit: 0 })
    expect(ran.out.split("\n")).toEqual([
      "create ServiceAccount kubevirt/passt-kubevirt",
      "create ClusterRole passt-kubevirt-viewer",
      "create NetworkAttachmentDefinition kubevirt/passt-kubevirt",
      "create DaemonSet kubevirt/passt-kubevirt",
      "change KubeVirt kubevirt/kubevirt",
      "done: virtual machines have it by binding: {name: passt}",
    ])
    expect(ran.err).toContain("nodes: 3 of 3 ready")
    expect(await binding()).toEqual({ sidecarImage: IMAGE, networkAttachmentDefinition: "kubevirt/passt-kubevirt" })
    if (cluster.fake === undefined) return
    const made = cluster.fake.writes.filter((line) => /^PATCH .*\/passt-kubevirt(-viewer)?$/.test(line))
    expect(made.length).toBe(4)
  })

  test("twice is once", async () => {
    await cluster.run(...INSTALL)
    const before = await cluster.snapshot()
    const generation = (await cluster.get("DaemonSet", "kubevirt", "passt-kubevirt"))?.metadata.generation
    const ran = await cluster.run(...INSTALL)
    expect(ran).toMatchObject({ exit: 0, out: expect.stringContaining("nothing to do") })
    expect(ran.out).not.toMatch(/^(create|change)/m)
    expect(await cluster.snapshot()).toEqual(before)
    expect((await cluster.get("DaemonSet", "kubevirt", "passt-kubevirt"))?.metadata.generation).toBe(generation)
  })

  test("a dry run says what it would do, and does nothing", async () => {
    const before = await cluster.snapshot()
    const ran = await cluster.run(...INSTALL, "--dry-run")
    expect(ran).toMatchObject({ exit: 0 })
    expect(ran.out).toMatch(/^  \+ +sidecarImage: registry.example\/passt\/binding:1$/m)
    expect(ran.out).toContain("create DaemonSet kubevirt/passt-kubevirt\n  +apiVersion: apps/v1")
    expect(await cluster.snapshot()).toEqual(before)
  })

  test("what others have in the KubeVirt resource stays, then and after uninstall", async () => {
    await cluster.reset(
      {
        workloads: {
          nodePlacement: { nodeSelector: { role: "vm" }, tolerations: [{ key: "vm", operator: "Exists" }] },
        },
      },
      {
        network: { defaultNetworkInterface: "masquerade", binding: { other: { sidecarImage: "x" } } },
        imagePullPolicy: "Always",
      },
    )
    const before = (await cluster.get("KubeVirt", "kubevirt", "kubevirt"))?.["spec"]
    expect((await cluster.run(...INSTALL)).exit).toBe(0)
    const installed = await cluster.get("KubeVirt", "kubevirt", "kubevirt")
    expect(at(installed, "spec", "configuration", "network", "binding")).toMatchObject({
      other: { sidecarImage: "x" },
      passt: {},
    })
    const spec = at(await cluster.get("DaemonSet", "kubevirt", "passt-kubevirt"), "spec", "template", "spec")
    expect(spec).toMatchObject({ nodeSelector: { role: "vm" }, tolerations: [{ key: "vm", operator: "Exists" }] })
    expect((await cluster.run("uninstall")).exit).toBe(0)
    expect((await cluster.get("KubeVirt", "kubevirt", "kubevirt"))?.["spec"]).toEqual(before)
  })

  test("options end where they belong", async () => {
    const options = [
      "--binding",
      "mine",
      "--cni-image",
      "cni:2",
      "--preset",
      "openshift",
      "--ping-group",
      "200",
      "--pull-secret",
      "s",
    ]
    const more = ["--migration", "--compute-memory", "250Mi", "--sidecar-memory", "256Mi", "--sidecar-cpu", "500m"]
    expect(await cluster.run(...INSTALL, ...options, ...more)).toMatchObject({ exit: 0 })
    expect(await binding("mine")).toMatchObject({
      migration: {},
      computeResourceOverhead: { requests: { memory: "250Mi" } },
    })
    const kubevirt = await cluster.get("KubeVirt", "kubevirt", "kubevirt")
    const amounts = { cpu: "500m", memory: "256Mi" }
    expect(at(kubevirt, "spec", "configuration", "supportContainerResources")).toEqual([
      { type: "sidecar", resources: { limits: amounts, requests: amounts } },
    ])
    const daemonSet = await cluster.get("DaemonSet", "kubevirt", "passt-kubevirt")
    expect(at(daemonSet, "spec", "template", "spec", "volumes", 0, "hostPath", "path")).toBe("/var/lib/cni/bin")
    expect(at(daemonSet, "spec", "template", "spec", "containers", 0, "image")).toBe("cni:2")
    expect(at(daemonSet, "spec", "template", "spec", "imagePullSecrets")).toEqual([{ name: "s" }])
    expect(await cluster.get("RoleBinding", "kubevirt", "passt-kubevirt")).toBeDefined()
    const network = await cluster.get("NetworkAttachmentDefinition", "kubevirt", "passt-kubevirt")
    expect(JSON.parse(at(network, "spec", "config") as string).plugins).toEqual([
      { type: "passt-kubevirt-cni", pingGroup: 200 },
    ])
    // And back.
    expect((await cluster.run(...INSTALL)).exit).toBe(0)
    expect(await binding("mine")).toBeUndefined()
    expect(await binding()).toBeDefined()
    expect(
      at(await cluster.get("KubeVirt", "kubevirt", "kubevirt"), "spec", "configuration", "supportContainerResources") ??
        [],
    ).toEqual([])
  })
})

describe("as a plugin", () => {
  beforeEach(({ skip }) => skip(!cluster.hasPolicies, "this API server has no policies that change objects"))

  const plugin = [...INSTALL, "--protocol", "plugin"]
  const kinds = async (): Promise<string[]> => {
    const found = []
    for (const kind of ["Plugin", "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"] as const) {
      for (const { metadata } of await cluster.all(kind)) found.push(`${kind}/${metadata.name}`)
    }
    return found
  }

  test("the sidecar comes by a policy, and KubeVirt asks it as a plugin; and back", async () => {
    await cluster.reset({}, { developerConfiguration: { featureGates: ["Plugins"] } })
    await cluster.run(...INSTALL)
    expect(await cluster.run(...plugin)).toMatchObject({ exit: 0 })
    expect(await kinds()).toEqual([
      "Plugin/passt",
      "MutatingAdmissionPolicy/passt-kubevirt",
      "MutatingAdmissionPolicyBinding/passt-kubevirt",
    ])
    expect(await binding()).toEqual({ networkAttachmentDefinition: "kubevirt/passt-kubevirt" })
    const hooks = at(await cluster.get("Plugin", undefined, "passt"), "spec", "domainHooks")
    expect(hooks).toEqual([{ sidecar: { socketPath: "/var/run/kubevirt-plugin/passt/passt.sock" } }])
    expect(await cluster.run("doctor")).toMatchObject({ exit: 0, out: expect.stringMatching(/all is well$/) })
    expect((await cluster.run("status")).out).toMatch(/^binding      passt, as a plugin$/m)
    // What is left over would keep machines from starting.
    const back = await cluster.run(...INSTALL)
    expect(back).toMatchObject({ exit: 0, out: expect.stringContaining("delete Plugin passt") })
    expect(await kinds()).toEqual([])
    await cluster.run(...plugin)
    expect(await cluster.run("uninstall")).toMatchObject({ exit: 0 })
    expect(await kinds()).toEqual([])
  })

  test.skipIf(REAL === undefined)("the policy puts the sidecar into pods of machines with our network", async () => {
    await cluster.reset({}, { developerConfiguration: { featureGates: ["Plugins"] } })
    expect(await cluster.run(...plugin, "--sidecar-memory", "300Mi")).toMatchObject({ exit: 0 })
    const start = async (name: string, networks: string): Promise<unknown> => {
      const labels = { "kubevirt.io": "virt-launcher" }
      const annotations = { "k8s.v1.cni.cncf.io/networks": networks }
      const mounts = [{ name: "private", mountPath: "/private" }]
      const containers = [
        { name: "guest-console-log", image: "l", volumeMounts: mounts },
        { name: "compute", image: "l", volumeMounts: mounts },
      ]
      const spec = { containers, volumes: [{ name: "private", emptyDir: {} }] }
      await cluster.put("Pod", { metadata: { name, namespace: "default", labels, annotations }, spec })
      return (await cluster.get("Pod", "default", name))?.["spec"]
    }
    // The server has seen the policy soon, and then says so by what it does.
    let tries = 0
    const ours = '[{"name":"passt-kubevirt","namespace":"kubevirt"}]'
    const names = async (): Promise<unknown> => at(await start(`ours${++tries}`, ours), "containers", 2, "name")
    await expect.poll(names, { timeout: 10_000 }).toBe("passt-plugin")
    const spec = await start("ours", ours)
    expect(at(spec, "volumes")).toMatchObject([{ name: "private" }, { name: "passt-plugin", emptyDir: {} }])
    expect(at(spec, "containers", 0, "volumeMounts")).toHaveLength(1)
    expect(at(spec, "containers", 1, "volumeMounts", 1)).toEqual({
      name: "passt-plugin",
      mountPath: "/var/run/kubevirt-plugin",
    })
    const amounts = { cpu: "500m", memory: "300Mi" }
    expect(at(spec, "containers", 2)).toMatchObject({
      image: IMAGE,
      env: [{ name: "NETWORK_BINDING_PLUGIN_NAME", value: "passt" }],
      resources: { requests: amounts, limits: amounts },
      securityContext: { runAsUser: 107, capabilities: { drop: ["ALL"] } },
      volumeMounts: [{ name: "passt-plugin", mountPath: "/var/run/kubevirt-plugin/passt", subPath: "passt" }],
    })
    expect(at(await start("theirs", '[{"name":"other"}]'), "containers")).toHaveLength(2)
  })

  test.skipIf(REAL !== undefined)("a deletion that fails is undone, too", async () => {
    await cluster.reset({}, { developerConfiguration: { featureGates: ["Plugins"] } })
    await cluster.run(...plugin)
    const before = [await cluster.snapshot(), await kinds()]
    const fail = { method: "DELETE", status: 500, message: "etcd is down", times: 1 }
    cluster.fake?.failing.push({ path: /\/mutatingadmissionpolicies\//, ...fail })
    expect(await cluster.run(...INSTALL)).toMatchObject({
      exit: 1,
      err: expect.stringContaining("everything is as before"),
    })
    expect(await cluster.snapshot()).toEqual(before[0])
    expect((await kinds()).toSorted()).toEqual((before[1] as string[]).toSorted())
    expect(await binding()).toEqual({ networkAttachmentDefinition: "kubevirt/passt-kubevirt" })
  })

  test.skipIf(REAL !== undefined).each([
    ["plugins", "this KubeVirt has no plugins"],
    ["mutatingadmissionpolicies", "MutatingAdmissionPolicy v1"],
  ])("not without %s", async (plural, message) => {
    await cluster.reset({}, { developerConfiguration: { featureGates: ["Plugins"] } })
    cluster.fake?.unknown.add(plural)
    expect(await cluster.run(...plugin)).toMatchObject({ exit: 4, out: "", err: expect.stringContaining(message) })
  })

  test("not with the gate off", async () => {
    expect(await cluster.run(...plugin)).toMatchObject({
      exit: 4,
      err: expect.stringContaining('["DataVolumes","Plugins"]'),
    })
  })
})

describe("what makes installing pointless", () => {
  test.skipIf(REAL !== undefined).each([
    ["kubevirts", 4, "KubeVirt is not installed"],
    ["network-attachment-definitions", 4, "Multus is not installed"],
  ])("no %s", async (plural, exit, message) => {
    cluster.fake?.unknown.add(plural)
    const ran = await cluster.run(...INSTALL)
    expect(ran).toMatchObject({ exit, out: "", err: expect.stringContaining(message) })
  })

  test("no KubeVirt resource, or several", async () => {
    await cluster.remove("KubeVirt", "kubevirt", "kubevirt")
    expect(await cluster.run(...INSTALL)).toMatchObject({
      exit: 4,
      err: expect.stringContaining("no KubeVirt resource"),
    })
    expect(await cluster.run("uninstall")).toMatchObject({ exit: 0, out: expect.stringContaining("nothing to do") })
  })

  test.each([
    ["an old one", { observedKubeVirtVersion: "v1.0.1", phase: "Deployed" }, "upgrade KubeVirt"],
    ["one that is being deployed", { observedKubeVirtVersion: "v1.6.0", phase: "Deploying" }, "phase is Deploying"],
    [
      "one with a gate that is off",
      { observedKubeVirtVersion: "v1.4.0", phase: "Deployed" },
      '"featureGates":["DataVolumes","NetworkBindingPlugins"]',
    ],
  ])("KubeVirt: %s", async (_, status, message) => {
    await cluster.setStatus("KubeVirt", "kubevirt", "kubevirt", status)
    expect(await cluster.run(...INSTALL)).toMatchObject({ exit: 4, out: "", err: expect.stringContaining(message) })
    const doctor = await cluster.run("doctor")
    expect(doctor).toMatchObject({ exit: 1, out: expect.stringContaining(message) })
  })

  test("the gate that is on", async () => {
    await cluster.reset({}, { developerConfiguration: { featureGates: ["NetworkBindingPlugins"] } })
    await cluster.setStatus("KubeVirt", "kubevirt", "kubevirt", {
      observedKubeVirtVersion: "v1.4.0",
      phase: "Deployed",
    })
    expect((await cluster.run(...INSTALL)).exit).toBe(0)
  })

  test("a namespace that has no privileged pods", async () => {
    await cluster.edit("Namespace", undefined, "kubevirt", {
      metadata: { labels: { "pod-security.kubernetes.io/enforce": "baseline" } },
    })
    expect(await cluster.run(...INSTALL)).toMatchObject({
      exit: 4,
      err: expect.stringContaining("kubectl label namespace kubevirt"),
    })
    await cluster.edit("Namespace", undefined, "kubevirt", {
      metadata: { labels: { "pod-security.kubernetes.io/enforce": "privileged" } },
    })
  })

  test.skipIf(REAL !== undefined)("a user who may not", async () => {
    cluster.fake?.users.set("bob", ["patch daemonsets", "create clusterroles"])
    const ran = await cluster.runAs("bob", INSTALL)
    expect(ran).toMatchObject({
      exit: 3,
      err: expect.stringContaining("may not: create clusterroles.rbac.authorization.k8s.io, patch daemonsets.apps"),
    })
    expect(cluster.fake?.writes.filter((line) => line.startsWith("PATCH /apis") && !line.includes("/status"))).toEqual(
      [],
    )
  })

  test.skipIf(REAL !== undefined)("a user who may not what this cluster has no kinds for", async () => {
    const missing = ["plugins", "mutatingadmissionpolicies", "mutatingadmissionpolicybindings"]
    const verbs = missing.flatMap((plural) => [`list ${plural}`, `get ${plural}`])
    cluster.fake?.users.set("bob", [...verbs, "list network-attachment-definitions"])
    const refused = await cluster.runAs("bob", INSTALL)
    expect(refused).toMatchObject({ exit: 3, err: expect.stringContaining("may not: list plugins.plugin.kubevirt.io") })
    for (const plural of missing) cluster.fake?.unknown.add(plural)
    expect(await cluster.runAs("bob", INSTALL)).toMatchObject({ exit: 0 })
    expect(await cluster.runAs("bob", ["status"])).toMatchObject({ exit: 0 })
    expect((await cluster.runAs("bob", ["doctor"])).out).not.toContain("could not be looked at")
    expect(await cluster.runAs("bob", ["uninstall"])).toMatchObject({ exit: 0 })
  })

  test.skipIf(REAL !== undefined)("a user who may what is asked for, and nothing else", async () => {
    const rights = [...NEEDED, ...NEEDED_IF_THERE].flatMap(({ kind, verbs }) =>
      verbs.map((verb) => `${verb} ${KINDS[kind].plural}`),
    )
    cluster.fake?.users.set("carol", { only: rights })
    const gone = await cluster.snapshot()
    for (const command of [INSTALL, INSTALL, [...INSTALL, "--binding", "other"], ["status"], ["uninstall"]]) {
      expect(await cluster.runAs("carol", command)).toMatchObject({ exit: 0 })
    }
    expect(await cluster.snapshot()).toEqual(gone)
    cluster.sicken("node2", { reason: "ImagePullBackOff", message: "" })
    expect(await cluster.runAs("carol", [...INSTALL, "--timeout", "1"])).toMatchObject({
      exit: 1,
      err: expect.stringContaining("everything is as before"),
    })
    // Nothing that is asked for is needless.
    for (const right of rights) {
      cluster.fake?.users.set("dave", { only: rights.filter((one) => one !== right) })
      expect(await cluster.runAs("dave", INSTALL)).toMatchObject({ exit: 3, out: "" })
    }
  })

  test.skipIf(REAL !== undefined)("a user who may not grant what the role for viewers does", async () => {
    const message = `clusterroles.rbac.authorization.k8s.io "passt-kubevirt-viewer" is forbidden: user "admin" (groups=["people" "system:authenticated"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[""], Resources:["events"], Verbs:["get" "list"]}`
    cluster.fake?.failing.push({
      method: "PATCH",
      path: /\/clusterroles\//,
      status: 403,
      message,
      dryRun: true,
      times: 1,
    })
    const ran = await cluster.run(...INSTALL)
    expect(ran).toMatchObject({ exit: 3, out: "", err: expect.stringMatching(/: install as a cluster administrator$/) })
    expect(ran.err).not.toContain("APIGroups")
  })

  test.skipIf(REAL !== undefined)("a user who may not even look", async () => {
    cluster.fake?.users.set("eve", ["list kubevirts"])
    for (const command of [INSTALL, ["status"], ["doctor"], ["uninstall"]] as const) {
      expect(await cluster.runAs("eve", command)).toMatchObject({
        exit: 3,
        out: "",
        err: expect.stringMatching(/^passt-kubevirt: failed: kubevirts is forbidden: .*$/),
      })
    }
  })

  test("a user whom the API server does not know", async () => {
    expect(await cluster.runAs("nobody", INSTALL)).toMatchObject({
      exit: 3,
      err: "passt-kubevirt: failed: Unauthorized",
    })
  })
})

describe("what somebody else has set", () => {
  test("a binding of that name: told, left, taken over by --force", async () => {
    await cluster.reset(
      {},
      { network: { binding: { passt: { sidecarImage: "theirs", networkAttachmentDefinition: "default/theirs" } } } },
    )
    const before = await cluster.snapshot()
    expect(await cluster.run(...INSTALL)).toMatchObject({ exit: 5, err: expect.stringContaining("--binding NAME") })
    expect(await cluster.snapshot()).toEqual(before)
    expect((await cluster.run(...INSTALL, "--binding", "ours")).exit).toBe(0)
    expect(await binding()).toMatchObject({ sidecarImage: "theirs" })
    await cluster.run("uninstall")
    expect(await cluster.run(...INSTALL, "--force")).toMatchObject({ exit: 0 })
    expect(await binding()).toMatchObject({ sidecarImage: IMAGE })
  })

  test("a binding with more in it than ours is not mixed with it", async () => {
    await cluster.reset({}, { network: { binding: { passt: { domainAttachmentType: "tap" } } } })
    expect(await cluster.run(...INSTALL, "--force")).toMatchObject({
      exit: 5,
      err: expect.stringContaining("domainAttachmentType"),
    })
    expect(await binding()).toEqual({ domainAttachmentType: "tap" })
  })

  test("a field of ours that somebody has edited since", async () => {
    await cluster.run(...INSTALL)
    const edited = { spec: { configuration: { network: { binding: { passt: { sidecarImage: "edited:2" } } } } } }
    await cluster.edit("KubeVirt", "kubevirt", "kubevirt", edited)
    const ran = await cluster.run(...INSTALL)
    expect(ran).toMatchObject({
      exit: 5,
      err: expect.stringMatching(/kubectl-edit.* has set \.spec\.configuration\.network\.binding\.passt\.sidecarImage/),
    })
    expect((await cluster.run("doctor")).out).toContain(
      "warning registration: the binding passt runs edited:2, which kubectl-edit has set since",
    )
    expect((await cluster.run(...INSTALL, "--force")).exit).toBe(0)
    expect(await binding()).toMatchObject({ sidecarImage: IMAGE })
  })

  test("an object of our name", async () => {
    await cluster.put("ServiceAccount", { metadata: { name: "passt-kubevirt", namespace: "kubevirt" } })
    expect(await cluster.run(...INSTALL)).toMatchObject({
      exit: 5,
      err: expect.stringContaining("is there already, made by somebody else"),
    })
    expect(await cluster.run("uninstall")).toMatchObject({
      exit: 0,
      out: expect.stringContaining("keep   ServiceAccount kubevirt/passt-kubevirt"),
    })
    expect(await cluster.get("ServiceAccount", "kubevirt", "passt-kubevirt")).toBeDefined()
  })

  describe("sidecars' resources beside others'", () => {
    const theirs = { type: "virtiofs", resources: { limits: { memory: "80M" }, requests: { memory: "80M" } } }
    const list = async (): Promise<unknown> =>
      at(await cluster.get("KubeVirt", "kubevirt", "kubevirt"), "spec", "configuration", "supportContainerResources")
    const isKeyed = async (): Promise<boolean> =>
      JSON.stringify((await cluster.get("KubeVirt", "kubevirt", "kubevirt"))?.metadata.managedFields).includes(
        String.raw`"k:{\"type\":\"virtiofs\"}"`,
      )

    test("are added, and taken away again", async ({ skip }) => {
      await cluster.reset({}, { supportContainerResources: [theirs] })
      skip(!(await isKeyed()), "this API server has no keys for the list")
      expect(await cluster.run(...INSTALL, "--sidecar-memory", "256Mi")).toMatchObject({ exit: 0 })
      expect(await list()).toHaveLength(2)
      await cluster.run("uninstall")
      expect(await list()).toEqual([theirs])
    })

    test.for([[[]], [["--force"]]])("would replace them: refused %s", async ([more = []], { onTestFinished, skip }) => {
      UNKEYED.add("supportContainerResources")
      onTestFinished(() => void UNKEYED.delete("supportContainerResources"))
      await cluster.reset({}, { supportContainerResources: [theirs] })
      skip(await isKeyed(), "this API server has keys for the list")
      const ran = await cluster.run(...INSTALL, "--sidecar-memory", "256Mi", ...more)
      expect(ran).toMatchObject({ exit: 5, err: expect.stringContaining("does not let be merged") })
      expect(await list()).toEqual([theirs])
    })
  })
})

describe("a step that fails", () => {
  test("nodes that cannot pull the image: told by name, and everything is as before", async () => {
    const before = await cluster.snapshot()
    cluster.sicken("node2", { reason: "ImagePullBackOff", message: "no such image" })
    const ran = await cluster.run(...INSTALL, "--timeout", "1")
    expect(ran).toMatchObject({ exit: 1 })
    expect(ran.err).toContain(
      "the CNI plugin is on 2 of 3 nodes after 1 s: node2: ImagePullBackOff (no such image); everything is as before",
    )
    expect(ran.err).toContain("undone: DaemonSet kubevirt/passt-kubevirt is removed")
    expect(await cluster.snapshot()).toEqual(before)
  }, 90_000)

  test("in an upgrade: the version before is back", async () => {
    await cluster.run(...INSTALL)
    const before = await cluster.snapshot()
    for (const node of ["node1", "node2", "node3"]) cluster.sicken(node, { reason: "ErrImagePull", message: "" })
    const ran = await cluster.run("install", "--image", "other:2", "--ping-group", "5", "--timeout", "1")
    expect(ran).toMatchObject({
      exit: 1,
      err: expect.stringContaining("undone: DaemonSet kubevirt/passt-kubevirt is as before"),
    })
    expect(await cluster.snapshot()).toEqual(before)
  })

  test.skipIf(REAL !== undefined).each([
    ["serviceaccounts", 0],
    ["clusterroles", 1],
    ["network-attachment-definitions", 2],
    ["daemonsets", 3],
    ["kubevirts", 4],
  ])("the API server fails at %s", async (plural, made) => {
    const before = await cluster.snapshot()
    cluster.fake?.failing.push({
      method: "PATCH",
      path: new RegExp(`/${plural}/[^/]+$`),
      status: 500,
      message: "etcd is down",
      times: 1,
    })
    const ran = await cluster.run(...INSTALL)
    expect(ran).toMatchObject({ exit: 1, err: expect.stringContaining("etcd is down") })
    expect(ran.err.match(/^undone: /gm) ?? []).toHaveLength(made)
    expect(await cluster.snapshot()).toEqual(before)
  })

  test.skipIf(REAL !== undefined)(
    "an API server that is away for a moment, while nodes are waited for and while it is undone",
    async () => {
      const before = await cluster.snapshot()
      const away = { status: 503, message: "the server is currently unable to handle the request", times: 3 }
      cluster.sicken("node1", { reason: "ContainerCreating", message: "" })
      const ran = await cluster.runAs("admin", INSTALL, undefined, (line) => {
        if (!line.startsWith("nodes: 2 of 3")) return
        cluster.heal()
        cluster.fake?.failing.push({ method: "GET", path: /\/daemonsets\/passt-kubevirt$/, ...away })
        cluster.fake?.failing.push({ method: "PATCH", path: /\/kubevirts\//, ...away, status: 500, times: 1 })
        cluster.fake?.failing.push({ method: "DELETE", path: /\/clusterroles\//, ...away })
      })
      expect(ran).toMatchObject({ exit: 1, err: expect.stringContaining("everything is as before") })
      expect(ran.err).toContain("nodes: 3 of 3 ready")
      expect(await cluster.snapshot()).toEqual(before)
    },
  )

  test.skipIf(REAL !== undefined)("and then undoing fails too: told what is left", async () => {
    const fail = { status: 500, message: "etcd is down", times: 1 }
    cluster.fake?.failing.push({ method: "PATCH", path: /\/daemonsets\//, ...fail })
    cluster.fake?.failing.push({ method: "DELETE", path: /\/clusterroles\//, ...fail })
    const ran = await cluster.run(...INSTALL)
    expect(ran).toMatchObject({
      exit: 6,
      err: expect.stringContaining("could not be undone: ClusterRole passt-kubevirt-viewer (etcd is down)"),
    })
    expect(Object.keys(await cluster.snapshot())).toEqual(["KubeVirt/kubevirt", "ClusterRole"])
  })

  test("KubeVirt that does not take the registration", async () => {
    const before = await cluster.snapshot()
    await cluster.setStatus("KubeVirt", "kubevirt", "kubevirt", { observedGeneration: 1 })
    const ran = await cluster.run(...INSTALL, "--timeout", "1")
    expect(ran).toMatchObject({
      exit: 1,
      err: expect.stringContaining("has not taken the registration within 1 s; everything is as before"),
    })
    expect(await cluster.snapshot()).toEqual(before)
  })

  test("interrupted while it waits", async () => {
    const before = await cluster.snapshot()
    cluster.sicken("node1", { reason: "ContainerCreating", message: "" })
    const given = new AbortController()
    const token = process.env["PASST_KUBE_TOKEN"] ?? "admin"
    const ran = await cluster.runAs(token, INSTALL, given.signal, (line) => {
      if (line.startsWith("nodes: 2 of 3")) {
        cluster.heal()
        given.abort()
      }
    })
    expect(ran).toMatchObject({ exit: 1, err: expect.stringContaining("interrupted; everything is as before") })
    expect(await cluster.snapshot()).toEqual(before)
  })

  test.skipIf(REAL !== undefined)("a conflict that comes up between asking and doing", async () => {
    cluster.fake?.failing.push({
      method: "PATCH",
      path: /\/kubevirts\//,
      status: 409,
      message: "the object has been modified",
      times: 1,
    })
    expect(await cluster.run(...INSTALL)).toMatchObject({
      exit: 5,
      err: expect.stringContaining("everything is as before"),
    })
  })

  test("an API server that is not there", async () => {
    const folder = mkdtempSync(join(tmpdir(), "passt-kubevirt-"))
    const config = {
      clusters: [{ name: "c", cluster: { server: "https://127.0.0.1:65533" } }],
      contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
      users: [{ name: "u", user: {} }],
      "current-context": "x",
    }
    writeFileSync(`${folder}/config`, JSON.stringify(config))
    const lines: string[] = []
    const surroundings = { print: () => {}, tell: (line: string) => lines.push(line) }
    expect(await run(["status", "--kubeconfig", `${folder}/config`], surroundings)).toBe(3)
    expect(lines).toEqual([
      expect.stringMatching(
        /^passt-kubevirt: the API server at https:\/\/127.0.0.1:65533 cannot be reached: .*ECONNREFUSED/,
      ),
    ])
    expect(await run(["status", "--kubeconfig", `${folder}/none`], surroundings)).toBe(2)
    expect(await run(["status", "--kubeconfig", `${folder}/config`, "--context", "y"], surroundings)).toBe(2)
    expect(lines.at(-1)).toBe("passt-kubevirt: the kubeconfig has no context y; it has x")
    rmSync(folder, { recursive: true })
  })
})

describe("uninstall", () => {
  test("removes what is ours, from the nodes first", async () => {
    const before = await cluster.snapshot()
    await cluster.run(...INSTALL)
    const ran = await cluster.run("uninstall")
    expect(ran).toMatchObject({ exit: 0, out: expect.stringContaining("done: everything of ours is removed") })
    expect(await cluster.snapshot()).toEqual(before)
    expect(await cluster.run("uninstall")).toMatchObject({ exit: 0, out: "nothing to do: nothing of ours is there" })
    if (cluster.fake === undefined) return
    const daemonSets = cluster.fake.writes.filter(
      (line) => line.includes("daemonsets/passt-kubevirt") && !line.includes("/status") && !line.endsWith("dry"),
    )
    expect(daemonSets.map((line) => line.split(" ")[0])).toEqual(["PATCH", "PATCH", "DELETE"])
  })

  test.skipIf(REAL !== undefined)("does nothing where it may not do all", async () => {
    await cluster.run(...INSTALL)
    const installed = await cluster.snapshot()
    for (const denied of ["delete serviceaccounts", "patch kubevirts"]) {
      cluster.fake?.users.set("bob", [denied])
      expect(await cluster.runAs("bob", ["uninstall"])).toMatchObject({
        exit: 3,
        out: denied.startsWith("delete") ? "" : "change KubeVirt kubevirt/kubevirt",
        err: expect.stringMatching(/^passt-kubevirt: failed: .* is forbidden/),
      })
      expect(await cluster.snapshot()).toEqual(installed)
    }
  })

  test("refuses while virtual machines use it", async () => {
    await cluster.run(...INSTALL)
    await cluster.put("VirtualMachineInstance", machine("vm1"))
    await cluster.put("VirtualMachineInstance", machine("vm2", "bridge"))
    const { spec } = machine("vm3")
    await cluster.put("VirtualMachine", { ...machine("vm3"), spec: { template: { spec } } })
    const installed = await cluster.snapshot()
    const ran = await cluster.run("uninstall")
    expect(ran).toMatchObject({ exit: 7, out: "" })
    expect(ran.err).toContain("in use: VirtualMachineInstance default/vm1, VirtualMachine default/vm3; --force")
    expect(await cluster.snapshot()).toEqual(installed)
    expect(await cluster.run(...INSTALL, "--binding", "renamed")).toMatchObject({ exit: 7 })
    expect(await cluster.run("uninstall", "--force")).toMatchObject({ exit: 0 })
    expect(await binding()).toBeUndefined()
  })

  test("a dry run changes nothing", async () => {
    await cluster.run(...INSTALL)
    const installed = await cluster.snapshot()
    const ran = await cluster.run("uninstall", "--dry-run")
    expect(ran).toMatchObject({
      exit: 0,
      out: expect.stringMatching(/^  - +sidecarImage: registry.example\/passt\/binding:1$/m),
    })
    expect(await cluster.snapshot()).toEqual(installed)
  })

  test("a node that does not answer: the rest goes, and it is told", async () => {
    await cluster.run(...INSTALL)
    cluster.sicken("node3", { reason: "NodeLost", message: "" })
    const ran = await cluster.run("uninstall", "--timeout", "1")
    expect(ran).toMatchObject({
      exit: 6,
      err: expect.stringContaining("may still be in /opt/cni/bin of 1 of 3 nodes: node3: NodeLost"),
    })
    expect(Object.keys(await cluster.snapshot()).filter((name) => name !== "KubeVirt/kubevirt")).toEqual(
      REAL === undefined ? [] : expect.not.arrayContaining(["DaemonSet/passt-kubevirt"]),
    )
  })
})

describe("status and doctor", () => {
  test("before and after", async () => {
    expect(await cluster.run("status")).toMatchObject({
      exit: 1,
      out: expect.stringContaining("binding      not registered"),
    })
    expect(await cluster.run("doctor")).toMatchObject({
      exit: 1,
      out: expect.stringContaining("mend: passt-kubevirt install --image IMAGE"),
    })
    await cluster.run(...INSTALL, "--sidecar-memory", "256Mi")
    const status = await cluster.run("status", "--json")
    expect(status.exit).toBe(0)
    expect(JSON.parse(status.out)).toMatchObject({
      ready: true,
      bindings: [{ name: "passt", image: IMAGE, network: "kubevirt/passt-kubevirt" }],
      plugin: { directory: "/opt/cni/bin", nodes: 3, nodesReady: 3 },
    })
    const doctor = await cluster.run("doctor", "--json")
    expect(JSON.parse(doctor.out)).toMatchObject({ healthy: true, errors: 0, warnings: 0 })
    expect(doctor.exit).toBe(0)
    expect(await cluster.run("doctor")).toMatchObject({ out: expect.stringMatching(/all is well$/) })
  })

  test("what Kustomize or Helm has made runs as well, and stays", async () => {
    const settings = parseOptions([...INSTALL])
    if (typeof settings === "string") throw new Error("no options")
    const { binding: name, cniDir, pingGroup } = settings
    const given = {
      namespace: "kubevirt",
      binding: name,
      image: IMAGE,
      cniImage: IMAGE,
      cniDir,
      pingGroup,
      placement: {},
    }
    const rest = { openshift: false, pullSecrets: [], migration: false, protocol: "hooks" as const }
    for (const object of objects({ ...given, ...rest }, "helm")) await cluster.put(object.kind, object)
    const entry = bindingEntry({ ...given, ...rest })
    await cluster.edit("KubeVirt", "kubevirt", "kubevirt", {
      spec: { configuration: { network: { binding: { passt: entry } } } },
    })
    await expect.poll(async () => (await cluster.run("status")).exit, { timeout: 10_000 }).toBe(0)
    expect((await cluster.run("status")).out).toContain(
      `binding      passt, ${IMAGE}, registered by kubectl-edit\n` +
        "network      kubevirt/passt-kubevirt, made by helm\n" +
        "CNI plugin   in /opt/cni/bin, on 3 of 3 nodes, made by helm",
    )
    expect(await cluster.run("doctor")).toMatchObject({
      exit: 0,
      out: expect.stringContaining(
        `ok      registration: the binding passt runs ${IMAGE}, as kubectl-edit has registered it`,
      ),
    })
    const before = await cluster.snapshot()
    expect(await cluster.run(...INSTALL)).toMatchObject({ exit: 5 })
    expect((await cluster.run("uninstall")).out).toContain("keep   DaemonSet kubevirt/passt-kubevirt: made by helm")
    expect(await cluster.snapshot()).toEqual(before)
  })

  test.each([
    ["ErrImagePull", "x", "see that node node2 can pull"],
    [
      "CrashLoopBackOff",
      "passt-kubevirt-cni: another program's file is in the way, and stays: /host/cni-bin/x",
      "move it away",
    ],
    ["CrashLoopBackOff", "cannot write /host/cni-bin/x: Read-only file system", "--cni-dir"],
    ["CreateContainerError", "hostPath type check failed: /opt/cni/bin is not a directory", "--preset"],
  ])("a node with %s (%s)", async (reason, message, remedy) => {
    await cluster.run(...INSTALL)
    cluster.sicken("node2", { reason, message })
    await expect.poll(async () => (await cluster.run("status")).out, { timeout: 10_000 }).toContain("on 2 of 3 nodes")
    const { exit, out } = await cluster.run("doctor")
    expect(exit).toBe(1)
    expect(out).toContain(`not ready on node node2: ${reason}`)
    expect(out).toContain(remedy)
  })

  test("the network is missing, or another one; sidecars have too little memory; a node is left out", async () => {
    await cluster.run(...INSTALL, "--sidecar-memory", "64M")
    await cluster.put("Node", { metadata: { name: "node9", labels: { "kubevirt.io/schedulable": "true" } } })
    await cluster.edit("NetworkAttachmentDefinition", "kubevirt", "passt-kubevirt", {
      spec: { config: '{"type":"bridge"}' },
    })
    const first = (await cluster.run("doctor")).out
    expect(first).toContain("does not call passt-kubevirt-cni")
    expect(first).toContain("sidecars of machines get 64M, too little")
    expect(first).toContain("virtual machines can run on node9, which the DaemonSet does not go to")
    await cluster.remove("NetworkAttachmentDefinition", "kubevirt", "passt-kubevirt")
    expect((await cluster.run("doctor")).out).toContain(
      "there is no NetworkAttachmentDefinition kubevirt/passt-kubevirt",
    )
  })

  test("machines that do not start", async () => {
    await cluster.run(...INSTALL)
    for (const name of ["vm1", "vm2", "vm3"]) {
      await cluster.put("VirtualMachineInstance", machine(name))
      const labels = { "kubevirt.io": "virt-launcher", "vm.kubevirt.io/name": name }
      const spec = { nodeName: "node1", containers: [{ name: "compute", image: "c" }] }
      await cluster.put("Pod", { metadata: { name: `virt-launcher-${name}`, namespace: "default", labels }, spec })
    }
    const sidecar = { name: "hook-sidecar-0", image: IMAGE, imageID: "", ready: false, restartCount: 0 }
    const pulling = { ...sidecar, state: { waiting: { reason: "ErrImagePull" } } }
    await cluster.setStatus("Pod", "default", "virt-launcher-vm1", { phase: "Pending", containerStatuses: [pulling] })
    const killed = { ...sidecar, lastState: { terminated: { reason: "OOMKilled", exitCode: 137 } } }
    await cluster.setStatus("Pod", "default", "virt-launcher-vm2", { phase: "Running", containerStatuses: [killed] })
    await cluster.put("Event", {
      metadata: { name: "e1", namespace: "default" },
      involvedObject: { kind: "Pod", namespace: "default", name: "virt-launcher-vm3" },
      reason: "FailedCreatePodSandBox",
      message: 'plugin type="multus" failed: failed to find plugin "passt-kubevirt-cni" in path [/usr/libexec/cni]',
      lastTimestamp: "2026-01-01T00:00:00Z",
    })
    await cluster.setStatus("Pod", "default", "virt-launcher-vm3", { phase: "Pending" })
    const { exit, out } = await cluster.run("doctor")
    expect(exit).toBe(1)
    expect(out).toContain(`default/vm1: the sidecar's image cannot be pulled: ${IMAGE} (ErrImagePull)`)
    expect(out).toContain("default/vm2: the sidecar has run out of memory")
    expect(out).toContain("default/vm3: the container runtime does not look for plugins where ours is")
  })

  test.skipIf(REAL !== undefined)("a user who may see only some of it", async () => {
    await cluster.run(...INSTALL)
    cluster.fake?.users.set("eve", ["list pods", "patch kubevirts"])
    const { out } = await cluster.runAs("eve", ["doctor"])
    expect(out).toContain("warning permissions: this user may not patch kubevirts.kubevirt.io, list pods")
    expect(out).toMatch(/^nothing wrong in what this user may look at, but for \d warnings$/m)
    expect(out).toContain("mend: bind this user to the ClusterRole passt-kubevirt-viewer")
  })
})
