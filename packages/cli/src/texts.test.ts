/** The texts made from the option table: help, version, manual page. */
import { spawnSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { describe, expect, it } from "vitest"
import { readCommandLine, readPastaCommandLine } from "./command-line.ts"
import { helpText } from "./help.ts"
import { manualPage } from "./man.ts"
import { optionsPage } from "./options-page.ts"
import { OPTIONS, optionsOf } from "./options.ts"
import { versionText } from "./version.ts"

describe("readCommandLine", () => {
  it("shows help on standard output, whatever valid options stand before", () => {
    const result = readCommandLine("passt", ["-q", "--mtu=1500", "--help", "--nonsense"], "1.2.3")
    expect(result).toEqual({ kind: "exit", status: 0, stdout: helpText("passt", "passt"), stderr: "" })
  })

  it("shows the version on standard output", () => {
    const result = readCommandLine("passt", ["--version"], "1.2.3")
    expect(result).toEqual({ kind: "exit", status: 0, stdout: versionText("passt", "1.2.3"), stderr: "" })
    expect(versionText("passt", "1.2.3").split("\n")[0]).toBe("passt 1.2.3")
  })

  it("shows error and usage on standard error for words that can't be read", () => {
    const result = readCommandLine("/usr/bin/passt", ["--map-guest-adr"], "1.2.3")
    expect(result).toMatchObject({ kind: "exit", status: 1, stdout: "" })
    const stderr = result.kind === "exit" ? result.stderr : ""
    expect(stderr.split("\n").slice(0, 2)).toEqual([
      "/usr/bin/passt: unrecognized option '--map-guest-adr'",
      "Usage: /usr/bin/passt [OPTION]...",
    ])
  })

  it("does the same for pasta", () => {
    const help = readPastaCommandLine("pasta", ["--host-lo-to-ns-lo", "--help"], "1.2.3")
    expect(help).toEqual({ kind: "exit", status: 0, stdout: helpText("pasta", "pasta"), stderr: "" })
    const version = readPastaCommandLine("pasta", ["--version"], "1.2.3")
    expect(version).toMatchObject({ status: 0, stdout: versionText("pasta", "1.2.3") })
    const wrong = readPastaCommandLine("pasta", ["--map-guest-adr"], "1.2.3")
    expect(wrong).toMatchObject({ kind: "exit", status: 1, stdout: "" })
    expect(wrong.kind === "exit" && wrong.stderr).toMatch(/^pasta: unrecognized option '--map-guest-adr'\nUsage: pasta/)
  })

  it("runs with what is left", () => {
    expect(readCommandLine("passt", ["-q"], "1.2.3")).toMatchObject({ kind: "run", options: { logLevel: "warning" } })
  })
})

describe.each(["passt", "pasta"] as const)("the texts of %s", (program) => {
  const shown = optionsOf(program).filter((option) => !option.deprecated)
  const names = optionsOf(program).map((option) => option.name)
  const hidden = OPTIONS.filter((option) => !names.includes(option.name))
  const page = manualPage("1.2.3", new Date("2026-11-24T00:00:00Z"), program)

  it("name every option that is there, and none that isn't", () => {
    const help = helpText(program, program)
    for (const { name } of shown) {
      expect(help).toMatch(new RegExp(`^ .*--${name}( |$)`, "m"))
      expect(page).toMatch(new RegExp(`^\\.It .*Fl Fl ${name}( |$)`, "m"))
    }
    for (const { name } of hidden) {
      expect(help).not.toMatch(new RegExp(`--${name}( |$)`, "m"))
      expect(page).not.toMatch(new RegExp(`Fl Fl ${name}( |$)`, "m"))
    }
  })

  it("tell version and date", () => {
    expect(page).toContain(
      ".Dd November 24, 2026\n.Dt PASST 1\n.Os passt 1.2.3\n".replace("PASST", program.toUpperCase()),
    )
  })

  it("fit a terminal", () => {
    const lines = helpText(program, program).split("\n")
    expect(lines.filter((line) => line.length > 80)).toEqual([])
    expect(lines.filter((line) => line !== line.trimEnd())).toEqual([])
  })

  const checkers: [string, string[]][] = [
    ["mandoc", ["-T", "lint", "-W", "warning"]],
    ["groff", ["-mdoc", "-Tutf8", "-ww", "-z"]],
  ]
  for (const [program, args] of checkers) {
    const found = spawnSync(program, ["--version"]).error === undefined
    it.runIf(found)(`make a manual page that ${program} has nothing to say about`, () => {
      const result = spawnSync(program, args, { input: page, encoding: "utf8" })
      expect(result.stdout + result.stderr).toBe("")
    })
  }
})

describe("docs/compatibility.md", () => {
  it("has a row for every option, and calls those not yet that are planned", () => {
    const page = readFileSync(new URL("../../../docs/compatibility.md", import.meta.url), "utf8")
    const states = new Map<string, string>()
    for (const [, names, state] of page.matchAll(/^\| (`--.*?) +\| (same|better|not yet) +\|/gm)) {
      for (const [, name] of names!.matchAll(/`--([\w-]+)`/g)) states.set(name!, state!)
    }
    // Of the repair path only "none" is there.
    const isPlanned = ({ status, name }: (typeof OPTIONS)[number]): boolean =>
      status === "planned" || name === "repair-path"
    const planned = OPTIONS.filter(isPlanned).map(({ name }) => name)
    expect([...states.keys()].filter((name) => name !== "socket-path").toSorted()).toEqual(
      OPTIONS.map(({ name }) => name).toSorted(),
    )
    expect([...states].flatMap(([name, state]) => (state === "not yet" ? [name] : [])).toSorted()).toEqual(
      planned.toSorted(),
    )
  })
})

describe("docs/options.md", () => {
  const page = readFileSync(new URL("../../../docs/options.md", import.meta.url), "utf8")

  it("is what the option table makes it", () => {
    expect(page).toBe(optionsPage())
  })

  it("leaves no macros of manual pages", () => {
    expect(page).not.toMatch(/(^|\s)\.[A-Z][a-z]\b|\\\(/m)
  })
})
