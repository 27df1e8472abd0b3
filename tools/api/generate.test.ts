import { execFileSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { expect, test } from "vitest"
import { declarations, exportsOf, page, pages, REFERENCE } from "./generate.ts"

test("reads declarations with their comments", () => {
  const text = `import type { A } from "./a.ts";
/** What it is.
 * @param one the first @param two the second,
 * on two lines @returns a sum */
export declare function add(one: number, two: number): number;
/** A class. */
export declare class Thing {
    #private;
    /** A member. */
    readonly member: A;
    private hidden;
}
declare const own: number;
export type Short = "a" | "b";
//# sourceMappingURL=x.d.ts.map`
  expect(declarations(text)).toEqual([
    {
      name: "add",
      comment: "What it is.\n\n- `one`: the first\n- `two`: the second, on two lines\n- Returns a sum",
      declaration: "function add(one: number, two: number): number;",
    },
    {
      name: "Thing",
      comment: "A class.",
      declaration: "class Thing {\n    /** A member. */\n    readonly member: A;\n}",
    },
    { name: "Short", comment: "", declaration: `type Short = "a" | "b";` },
  ])
})

test("follows what is passed on, by name and as a whole", () => {
  const files: Record<string, string> = {
    "x/index.d.ts": `export * from "./a.ts";\nexport { type B, c } from "./b.ts";\nexport * as d from "./d.ts";`,
    "x/a.d.ts": `export declare const a: 1;`,
    "x/b.d.ts": `export interface B {\n}\nexport declare const c: 2;\nexport declare const hidden: 3;`,
  }
  const entries = exportsOf("x/index.d.ts", (file) => files[file]!)
  expect(entries.map(({ name }) => name)).toEqual(["a", "B", "c"])
  expect(page("@x/y", "An example", entries)).toContain("# @x/y\n\nAn example.\n")
})

test("every package has a page; that of the library is what its sources say", () => {
  const made = pages()
  for (const [name, text] of made) expect(text).toContain(`# ${name}\n`)
  const folder = mkdtempSync(join(tmpdir(), "passt-api-"))
  try {
    const file = join(folder, "api.md")
    writeFileSync(file, made.get("@passt/engine")!)
    const root = join(import.meta.dirname, "../..")
    execFileSync(join(root, "node_modules/.bin/oxfmt"), ["-c", join(root, ".oxfmtrc.json"), file])
    const same = readFileSync(REFERENCE, "utf8") === readFileSync(file, "utf8")
    expect(same, "node tools/api/generate.ts renews docs/api.md").toBe(true)
  } finally {
    rmSync(folder, { recursive: true })
  }
})
