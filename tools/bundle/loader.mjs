// The first file of an installed program. The program itself lies beside it as one function in one script, and beside that what V8 has
// made of it when it was built (rehearse.mjs): most of a start would else go into reading and compiling.
// Modules are asked for by name rather than imported: an import reads every property of the module, and with it loads half of Node.
const { readFileSync } = process.getBuiltinModule("node:fs")
const { Script } = process.getBuiltinModule("node:vm")

const path = import.meta.filename.slice(0, -".mjs".length)
let cachedData
try {
  cachedData = readFileSync(`${path}.cache`)
} catch {
  // It starts without, only slower; as it does when the cache is another runtime's.
}
// The script is ASCII.
const script = new Script(readFileSync(`${path}.js`, "latin1"), { filename: `${path}.js`, cachedData })
script.runInThisContext()(process.getBuiltinModule, import.meta.dirname)
