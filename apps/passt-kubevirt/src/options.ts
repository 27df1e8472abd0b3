import { parseArgs } from "node:util"
import { EXIT, Failure } from "./failure.ts"
import { PRESETS, PROTOCOLS } from "./manifests/settings.ts"
import type { Protocol } from "./manifests/settings.ts"

export const COMMANDS = ["install", "status", "doctor", "uninstall"] as const
export type CommandName = (typeof COMMANDS)[number]

const FLAGS = {
  binding: { type: "string" },
  "cni-dir": { type: "string" },
  "cni-image": { type: "string" },
  "compute-memory": { type: "string" },
  context: { type: "string" },
  "dry-run": { type: "boolean" },
  force: { type: "boolean" },
  help: { type: "boolean", short: "h" },
  image: { type: "string" },
  json: { type: "boolean" },
  kubeconfig: { type: "string" },
  migration: { type: "boolean" },
  namespace: { type: "string", short: "n" },
  "ping-group": { type: "string" },
  preset: { type: "string" },
  protocol: { type: "string" },
  "pull-secret": { type: "string", multiple: true },
  "sidecar-cpu": { type: "string" },
  "sidecar-memory": { type: "string" },
  timeout: { type: "string" },
  version: { type: "boolean" },
} as const

type FlagName = keyof typeof FLAGS

const EVERYWHERE: readonly FlagName[] = ["context", "help", "kubeconfig", "namespace", "version"]
const WITH: Readonly<Record<CommandName, readonly FlagName[]>> = {
  install: [
    "binding",
    "cni-dir",
    "cni-image",
    "compute-memory",
    "dry-run",
    "force",
    "image",
    "migration",
    "ping-group",
    "preset",
    "protocol",
    "pull-secret",
    "sidecar-cpu",
    "sidecar-memory",
    "timeout",
  ],
  status: ["json"],
  doctor: ["json"],
  uninstall: ["dry-run", "force", "timeout"],
}

export interface Options {
  readonly command: CommandName
  readonly kubeconfig?: string | undefined
  readonly context?: string | undefined
  readonly namespace?: string | undefined
  readonly binding: string
  readonly image?: string | undefined
  readonly cniImage?: string | undefined
  readonly cniDir: string
  readonly openshift: boolean
  readonly pingGroup: number
  readonly pullSecrets: readonly string[]
  readonly migration: boolean
  readonly protocol: Protocol
  readonly computeMemory?: string | undefined
  readonly sidecarMemory?: string | undefined
  readonly sidecarCpu?: string | undefined
  readonly dryRun: boolean
  readonly force: boolean
  readonly json: boolean
  readonly timeoutMs: number
}

/** A label as in DNS, which names of namespaces and bindings are (RFC 1123 section 2.1). */
const LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/
/** A reference to an image: [HOST[:PORT]/]PATH[:TAG][@DIGEST]. */
const IMAGE =
  /^[A-Za-z0-9][A-Za-z0-9._-]*(:\d+)?(\/[A-Za-z0-9._-]+)*(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?$/
/** A Kubernetes quantity, as far as memory and processor time go. */
const QUANTITY = /^\d+(\.\d+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$/

function wrong(message: string): Failure {
  return new Failure(`${message} (see passt-kubevirt --help)`, EXIT.usage)
}

function check(name: FlagName, value: string | undefined, form: RegExp, what: string): string | undefined {
  if (value === undefined || form.test(value)) return value
  throw wrong(`--${name}: ${JSON.stringify(value)} is not ${what}`)
}

/** @returns what is asked for, or which text */
export function parseOptions(args: readonly string[]): Options | "help" | "version" {
  let parsed
  try {
    parsed = parseArgs({ args: [...args], options: FLAGS, allowPositionals: true, strict: true })
  } catch (error) {
    throw wrong((error as Error).message.split(". ")[0]!.replace(/\.$/, ""))
  }
  const { values, positionals } = parsed
  if (values.help === true) return "help"
  if (values.version === true) return "version"
  const [name, ...more] = positionals
  if (name === undefined) throw wrong(`what is to be done? ${COMMANDS.join(", ")}`)
  const command = COMMANDS.find((one) => one === name)
  if (command === undefined) throw wrong(`there is no command ${name}; there are ${COMMANDS.join(", ")}`)
  if (more.length > 0) throw wrong(`too many arguments: ${more.join(" ")}`)
  for (const flag of Object.keys(values) as FlagName[]) {
    if (!EVERYWHERE.includes(flag) && !WITH[command].includes(flag)) throw wrong(`${command} has no option --${flag}`)
  }
  const presetName = values.preset ?? "kubernetes"
  const preset = Object.hasOwn(PRESETS, presetName) ? PRESETS[presetName] : undefined
  if (preset === undefined) throw wrong(`--preset: ${presetName} is not one of ${Object.keys(PRESETS).join(", ")}`)
  const protocol = PROTOCOLS.find((one) => one === (values.protocol ?? "hooks"))
  if (protocol === undefined) throw wrong(`--protocol: ${values.protocol} is not one of ${PROTOCOLS.join(", ")}`)
  const timeout = check("timeout", values.timeout, /^\d{1,5}$/, "a number of seconds") ?? "300"
  const group = Number(check("ping-group", values["ping-group"], /^\d{1,10}$/, "a group number") ?? "107")
  if (group > 4294967294) throw wrong("--ping-group: group numbers end at 4294967294")
  const cniDir = check("cni-dir", values["cni-dir"], /^\/[^\0\n]+$/, "an absolute path") ?? preset.cniDir
  if (cniDir.split("/").includes("..")) throw wrong("--cni-dir: a path without ..")
  if (command === "install" && values.image === undefined) {
    throw wrong("install needs --image: where the cluster gets the image of the binding from")
  }
  return {
    command,
    kubeconfig: values.kubeconfig,
    context: values.context,
    namespace: check("namespace", values.namespace, LABEL, "the name of a namespace"),
    binding: check("binding", values.binding, LABEL, "a name (letters, digits, hyphens)") ?? "passt",
    image: check("image", values.image, IMAGE, "a reference to an image"),
    cniImage: check("cni-image", values["cni-image"], IMAGE, "a reference to an image"),
    cniDir,
    openshift: preset.openshift === true,
    pingGroup: group,
    pullSecrets: values["pull-secret"] ?? [],
    migration: values.migration === true,
    protocol,
    computeMemory: check("compute-memory", values["compute-memory"], QUANTITY, "a quantity such as 250Mi"),
    sidecarMemory: check("sidecar-memory", values["sidecar-memory"], QUANTITY, "a quantity such as 256Mi"),
    sidecarCpu: check("sidecar-cpu", values["sidecar-cpu"], QUANTITY, "a quantity such as 500m"),
    dryRun: values["dry-run"] === true,
    force: values.force === true,
    json: values.json === true,
    timeoutMs: Number(timeout) * 1000,
  }
}
