// Runs a program of the tree once, as the launcher would in the foreground, but without sandbox and seal, and keeps what V8 has compiled
// by then: `node FLAGS rehearse.mjs PATH [ARGUMENT...]` writes PATH.cache for PATH.js.
//
// The script and how it is compiled must be loader.mjs's, or V8 takes the cache for another's.
import { readFileSync, writeFileSync } from "node:fs"
import { dirname } from "node:path"
import { Script } from "node:vm"

const [path] = process.argv.splice(2, 1)

// What has no way back is left out; what it reports is that all went well.
const open = process.dlopen
process.dlopen = (module, ...rest) => {
  open.call(process, module, ...rest)
  Object.assign(module.exports, {
    enterSandbox: () => 0,
    giveUp: () => 0,
    seal: () => 0,
    exitProcess: (status) => process.exit(status),
  })
}
const script = new Script(readFileSync(`${path}.js`, "latin1"), { filename: `${path}.js` })
process.on("exit", () => writeFileSync(`${path}.cache`, script.createCachedData()))
script.runInThisContext()(process.getBuiltinModule, dirname(path))
