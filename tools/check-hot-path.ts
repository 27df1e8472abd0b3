/**
 * The hot path allocates nothing: a test over the source text of the folders that handle every frame. Inside functions
 * there, these make garbage or may: object and array literals, closures, spread, template strings, `new`, views, BigInt.
 * Lines that are cold (start-up, a log message before a drop that is rare) are recognised by what they do: constructors,
 * fields, throws, and calls of `log`.
 */
import { globSync, readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const HOT = [
  "packages/core/src/{tcp,udp,icmp,datagram,flow,multicast}/*.ts",
  "packages/core/src/{tcp,udp}/splice/*.ts",
  "packages/core/src/forward/{auto,splice}.ts",
  "packages/core/src/{emit,send-area}.ts",
]
const BANNED: readonly (readonly [RegExp, string])[] = [
  [/\bnew\s+[A-Z]/, "new"],
  [/=>/, "closure"],
  [/\.\.\./, "spread"],
  [/`/, "template string"],
  [/\.(subarray|slice|map|filter|forEach|concat|split|join)\(/, "allocating method"],
  [/\bBigInt\b|\d+n\b/, "BigInt"],
  [/\basync\b|\bawait\b|\byield\b/, "promise or generator"],
  [/(?:return|=|\()\s*\[/, "array literal"],
]

let broken = 0
for (const pattern of HOT) {
  for (const file of globSync(pattern, { cwd: root })) {
    if (file.endsWith(".test.ts")) continue
    let inFunction = false
    let inComment = false
    let inConstructor = false
    let inLog = false
    readFileSync(join(root, file), "utf8")
      .split("\n")
      .forEach((line, i) => {
        if (/^\s*\/\*/.test(line)) inComment = true
        const code =
          inComment || /^\s*(\/\/|import|export (type|interface|\*|\{))/.test(line) ? "" : line.replace(/\/\/.*$/, "")
        if (/\*\//.test(line)) inComment = false
        if (/^\s*constructor\(/.test(code)) inConstructor = true
        if (/^(export )?function |^ {2}#?[a-z]\w*\(.*\{$/.test(code)) inFunction = true
        if (/\.log\(/.test(code)) inLog = true
        if (inFunction && !inConstructor && !inLog) {
          for (const [banned, name] of BANNED) {
            if (banned.test(code)) {
              console.log(`${file}:${i + 1}: ${name} in the hot path: ${line.trim()}`)
              broken++
            }
          }
        }
        if (inLog && /\)\s*$/.test(code)) inLog = false
        if (/^ {2}\}$/.test(code)) {
          inConstructor = false
          inFunction = false
        }
        if (/^\}$/.test(code)) inFunction = false
      })
  }
}
if (broken > 0) process.exitCode = 1
else console.log("hot path: nothing allocates")
