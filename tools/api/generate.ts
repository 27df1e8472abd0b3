/**
 * The API reference, from the declarations that the compiler has made of the sources, and the comments that stand above them. Not a
 * documentation tool: these files are formatted the same everywhere, so reading their lines is enough.
 *
 *   node tools/api/generate.ts           docs/api.md: @passt/engine; tools/api/generate.test.ts compares
 *   node tools/api/generate.ts FOLDER    a page for each published package, as the build does for dist/share/doc
 */
import { execFileSync } from "node:child_process"
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { publishedPackages } from "../packages/pack.ts"

const ROOT = join(import.meta.dirname, "../..")
export const REFERENCE: string = join(ROOT, "docs/api.md")

/** One exported name. */
interface Entry {
  readonly name: string
  /** The comment above it, without stars; empty: none. */
  readonly comment: string
  readonly declaration: string
}

const DECLARATION = /^export (?:declare )?(?:abstract )?(class|interface|type|function|const|enum) (\w+)/

/** Declarations of a module's own, in their order. */
export function declarations(text: string): Entry[] {
  const lines = text.split("\n")
  const found: Entry[] = []
  let comment: string[] = []
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i]!
    if (line.startsWith("/**")) {
      comment = [line]
      while (!lines[i]!.includes("*/")) comment.push(lines[++i]!)
      continue
    }
    const match = DECLARATION.exec(line)
    if (match) {
      const body = [line.replace(/^export (declare )?/, "")]
      // A declaration ends where the next one, or a comment at the margin, begins.
      while (i + 1 < lines.length && !/^(export |\/\*\*|\/\/#|declare |import )/.test(lines[i + 1]!))
        body.push(lines[++i]!)
      const kept = body.filter((part) => !/^\s+(#private;|private |\/\/#)/.test(part))
      found.push({ name: match[2]!, comment: unstarred(comment), declaration: kept.join("\n").trimEnd() })
    }
    comment = []
  }
  return found
}

/** A comment's text as paragraphs: tags of parameters and results become a list. */
function unstarred(comment: readonly string[]): string {
  const text = comment
    .map((line) => line.replace(/^\s*\/?\*+\/?\s?/, "").replace(/\s*\*\/\s*$/, ""))
    .join("\n")
    .trim()
  const [head = "", ...tags] = text.split(/(?:^|\s)(?=@(?:param|returns|throws)\b)/)
  const list = tags.map((tag) => {
    const flat = tag.replaceAll(/\s+/g, " ").trim()
    const param = /^@param (\S+) (.*)$/.exec(flat)
    if (param) return `- \`${param[1]}\`: ${param[2]}`
    return `- ${flat.replace(/^@returns/, "Returns").replace(/^@throws/, "Throws")}`
  })
  return [head.trim(), list.join("\n")].filter((part) => part !== "").join("\n\n")
}

/** What a module exports: its own declarations, and those of modules that it passes on. */
export function exportsOf(file: string, read: (file: string) => string): Entry[] {
  const text = read(file)
  const all = declarations(text)
  for (const [, names, from] of text.matchAll(/^export (?:type )?(\*(?: as \w+)?|\{[^}]*\}) from "([^"]+)";?$/gm)) {
    // Namespaces of headers are the standards' own.
    if (names!.startsWith("* as")) continue
    const target = from!.startsWith(".")
      ? join(dirname(file), from!.replace(/\.ts$/, ".d.ts"))
      : join(ROOT, from!.replace("@passt/", "packages/"), "dist/index.d.ts")
    const wanted =
      names === "*"
        ? undefined
        : names!
            .replaceAll(/[{}]|\btype\b/g, "")
            .split(",")
            .map((name) => name.trim())
    for (const entry of exportsOf(target, read)) {
      if ((wanted === undefined || wanted.includes(entry.name)) && !all.some(({ name }) => name === entry.name)) {
        all.push(entry)
      }
    }
  }
  return all
}

/** The page of one package. */
export function page(name: string, description: string, entries: readonly Entry[]): string {
  const sorted = entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))
  const sections = sorted.map(({ name: symbol, comment, declaration }) => {
    return `## ${symbol}\n\n${comment === "" ? "" : `${comment}\n\n`}\`\`\`ts\n${declaration}\n\`\`\`\n`
  })
  return `# ${name}\n\n${description}.\n\nMade from its declarations by tools/api.\n\n${sections.join("\n")}`
}

/** The pages of all packages, by name. */
export function pages(): Map<string, string> {
  return new Map(
    publishedPackages().map(({ name, folder, manifest }) => {
      const entries = exportsOf(join(folder, "dist/index.d.ts"), (file) => readFileSync(file, "utf8"))
      return [name, page(name, String(manifest["description"]), entries)]
    }),
  )
}

if (import.meta.main) {
  const [folder] = process.argv.slice(2)
  if (folder === undefined) {
    writeFileSync(REFERENCE, pages().get("@passt/engine")!)
    execFileSync(join(ROOT, "node_modules/.bin/oxfmt"), [REFERENCE])
  } else {
    mkdirSync(folder, { recursive: true })
    for (const [name, text] of pages()) writeFileSync(join(folder, `${name.replace("@passt/", "")}.md`), text)
  }
}
