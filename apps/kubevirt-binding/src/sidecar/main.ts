/** The image's entry point. It takes no arguments: everything is in the environment and in the hooks' requests. */
import { writeSync } from "node:fs"
import { VERSION } from "@passt/program/version"
import { Log } from "./log.ts"
import { readSettings } from "./settings.ts"
import { Sidecar } from "./sidecar.ts"

/** The pod's status shows the last lines of a container that failed: this is the one that matters. */
function fail(error: unknown): never {
  writeSync(2, `passt-binding: ${(error as Error).message}\n`)
  process.exit(1)
}

process.on("uncaughtException", fail)
process.on("unhandledRejection", fail)

try {
  const settings = readSettings(process.env)
  const log = new Log(settings.logLevel, (line) => process.stdout.write(`${line}\n`))
  const end = (): void => {
    log.info("ended")
    process.exit(0)
  }
  const sidecar = new Sidecar(settings, log, end)
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"] as const) {
    process.on(signal, () => {
      if (signal === "SIGTERM" && !sidecar.terminate()) return
      log.info("asked to end", { signal })
      void sidecar.stop().then(end)
    })
  }
  log.info("starting", { version: VERSION, container: settings.containerName, plugin: settings.pluginName })
  await sidecar.start()
} catch (error) {
  fail(error)
}
