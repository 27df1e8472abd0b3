/** Metrics in the text format of OpenMetrics 1.0: the sidecar's own, and those of its engines, labelled by interface. */
import { createServer, type Server } from "node:http"
import { VERSION } from "@passt/program/version"
import type { Engines } from "./engines.ts"
import type { Log } from "./log.ts"

const CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
/** Prometheus waits ten seconds by default; one who does not read is let go. */
const REQUEST_MS = 5000

interface Family {
  /** Lines "# TYPE", "# HELP", "# UNIT". */
  readonly about: string[]
  readonly samples: string[]
}

export class Metrics {
  /** By hook and result: how many, and how long, seconds. */
  readonly #calls: Map<string, { count: number; seconds: number }> = new Map()
  readonly #engines: Engines
  readonly #log: Log
  #server: Server | undefined
  #port: number | null = null

  constructor(engines: Engines, log: Log) {
    this.#engines = engines
    this.#log = log
  }

  count(hook: string, result: "ok" | "refused" | "failed", seconds: number): void {
    const key = `hook="${hook}",result="${result}"`
    const entry = this.#calls.get(key) ?? { count: 0, seconds: 0 }
    entry.count++
    entry.seconds += seconds
    this.#calls.set(key, entry)
  }

  async text(): Promise<string> {
    const families = new Map<string, Family>()
    this.#own(families)
    for (const engine of this.#engines) addFamilies(families, await engine.metrics(), engine.plan.interfaceName)
    return (
      [...families.values()].map(({ about, samples }) => [...about, ...samples, ""].join("\n")).join("") + "# EOF\n"
    )
  }

  /** Serves them on a port of the pod, from now on; null: not. A port that is taken is told, and nothing else waits for it. */
  serve(port: number | null): void {
    if (port === this.#port) return
    this.close()
    this.#port = port
    if (port === null) return
    const server = createServer((request, response) => {
      if (request.method !== "GET" || request.url?.split("?")[0] !== "/metrics") {
        response.writeHead(404, { "content-type": "text/plain" }).end("There is only GET /metrics\n")
        return
      }
      void this.text().then((text) => response.writeHead(200, { "content-type": CONTENT_TYPE }).end(text))
    })
    server.requestTimeout = REQUEST_MS
    server.headersTimeout = REQUEST_MS
    server.maxConnections = 8
    server.on("error", (error) => this.#log.error(`metrics are not served: ${error.message}`, { port }))
    server.listen({ port, host: "::" }, () => this.#log.info("serving metrics", { port }))
    this.#server = server
  }

  close(): void {
    this.#server?.close()
    this.#server?.closeAllConnections()
    this.#server = undefined
    this.#port = null
  }

  #own(families: Map<string, Family>): void {
    const family = (name: string, type: string, help: string, samples: string[]): void => {
      families.set(name, { about: [`# TYPE ${name} ${type}`, `# HELP ${name} ${help}`], samples })
    }
    family("passt_binding", "info", "The sidecar.", [`passt_binding_info{version="${VERSION}"} 1`])
    const calls = [...this.#calls]
    family(
      "passt_binding_hook_seconds",
      "summary",
      "Hooks by result, and the time they took.",
      calls.flatMap(([labels, { count, seconds }]) => [
        `passt_binding_hook_seconds_count{${labels}} ${count}`,
        `passt_binding_hook_seconds_sum{${labels}} ${seconds}`,
      ]),
    )
    const engines = [...this.#engines]
    const label = (name: string): string => `{interface="${name}"}`
    family(
      "passt_binding_engine_ready",
      "gauge",
      "Whether the interface's engine works.",
      engines.map((each) => `passt_binding_engine_ready${label(each.plan.interfaceName)} ${Number(each.isReady)}`),
    )
    family(
      "passt_binding_engine_restarts",
      "counter",
      "How often it was started again.",
      engines.map((each) => `passt_binding_engine_restarts_total${label(each.plan.interfaceName)} ${each.restarts}`),
    )
    family("process_resident_memory_bytes", "gauge", "Memory of the sidecar, without its engines.", [
      `process_resident_memory_bytes ${process.memoryUsage.rss()}`,
    ])
  }
}

/** Puts an engine's families to those that are there; samples get a label for the interface. */
export function addFamilies(families: Map<string, Family>, text: string, interfaceName: string): void {
  let family: Family = { about: [], samples: [] }
  for (const line of text.split("\n")) {
    if (line === "" || line === "# EOF") continue
    const about = /^# (TYPE|HELP|UNIT) (\S+)/.exec(line)
    if (about !== null) {
      const name = about[2]!
      family = families.get(name) ?? { about: [], samples: [] }
      families.set(name, family)
      // Of a second engine they are the same.
      if (!family.about.includes(line)) family.about.push(line)
      continue
    }
    const sample = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S.*)$/.exec(line)
    if (sample === null) continue
    const labels = [`interface="${interfaceName}"`, ...(sample[2] ? [sample[2]] : [])].join(",")
    family.samples.push(`${sample[1]}{${labels}} ${sample[3]}`)
  }
}
