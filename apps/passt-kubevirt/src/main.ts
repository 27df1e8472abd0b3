import { run } from "./run.ts"

const given = new AbortController()
// Once: a second one ends it as it always does, undone or not.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => given.abort())

process.exitCode = await run(process.argv.slice(2), {
  print: (line) => process.stdout.write(`${line}\n`),
  tell: (line) => process.stderr.write(`${line}\n`),
  signal: given.signal,
})
