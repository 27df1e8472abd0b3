/** Completion as the shells do it, each by itself. */
import { spawnSync } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, describe, expect, it } from "vitest"
import { completion, type Shell } from "./completions.ts"
import { OPTIONS } from "./options.ts"

const folder = mkdtempSync(join(tmpdir(), "completions-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const PROGRAMS = ["passt", "pasta"] as const
for (const program of PROGRAMS) {
  writeFileSync(join(folder, `${program}.bash`), completion("bash", program))
  writeFileSync(join(folder, `_${program}`), completion("zsh", program))
  writeFileSync(join(folder, `${program}.fish`), completion("fish", program))
}
writeFileSync(join(folder, "some-file"), "")
const LOADING: Readonly<Record<Shell, string>> = {
  bash: `PS1=; source ${folder}/passt.bash; source ${folder}/pasta.bash`,
  zsh: `PS1=; fpath=(${folder} $fpath); autoload -Uz compinit; compinit -u -D`,
  fish: `source ${folder}/passt.fish; source ${folder}/pasta.fish`,
}

function isInstalled(command: string): boolean {
  return spawnSync(command, ["--version"]).error === undefined
}

/** Types a line that ends with a tab into an interactive shell on a terminal of its own.
 * @returns the words that the program would get */
function type(shell: "bash" | "zsh", line: string): string[] {
  const command = { bash: "bash --norc --noprofile -i", zsh: "zsh -f -i" }[shell]
  const show = `passt() { printf '<%s>' "$@"; echo; }; pasta() { passt "$@"; }`
  const input = `cd ${folder}; ${LOADING[shell]}\n${show}\n${line}\t\nexit\n`
  const result = spawnSync("script", ["-qec", command, "/dev/null"], {
    input,
    encoding: "utf8",
    timeout: 20_000,
    env: { PATH: process.env["PATH"], HOME: folder, TERM: "dumb", LC_ALL: "C" },
  })
  const shown = [...result.stdout.matchAll(/^(?:<[^<>\r\n]*>)+(?=\r?$)/gm)].at(-1)?.[0] ?? ""
  return [...shown.matchAll(/<(.*?)>/g)].map((match) => match[1]!)
}

/** What bash offers for the last of `words`. */
function bashOffers(...words: string[]): string[] {
  const list = words.map((word) => `'${word}'`).join(" ")
  const script = `cd ${folder}; ${LOADING.bash}; COMP_WORDS=(${list}); COMP_CWORD=${words.length - 1}
_${words[0]}; printf '%s\\n' "\${COMPREPLY[@]}"`
  const result = spawnSync("bash", ["--norc", "-c", script], { encoding: "utf8", timeout: 10_000 })
  expect(result.stderr).toBe("")
  return result.stdout.split("\n").filter((line) => line !== "")
}

function fishOffers(line: string): string[] {
  const script = `cd ${folder}; ${LOADING.fish}; complete -C '${line}'`
  const env = { PATH: process.env["PATH"], HOME: folder, LC_ALL: "C" }
  const result = spawnSync("fish", ["--no-config", "-c", script], { encoding: "utf8", timeout: 20_000, env })
  expect(result.stderr).toBe("")
  return result.stdout.split("\n").flatMap((text) => (text === "" ? [] : [text.split("\t")[0]!]))
}

const TYPED: [string, string[]][] = [
  ["passt --foreg", ["--foreground"]],
  ["passt -q --interface l", ["-q", "--interface", "lo"]],
  ["passt --pcap some-", ["--pcap", "some-file"]],
  ["pasta --no-netns-q", ["--no-netns-quit"]],
  ["pasta -t aut", ["-t", "auto"]],
]

describe.each(["bash", "zsh"] as const)("%s, on a terminal", (shell) => {
  // "script", of util-linux, makes the terminal.
  const skip = !isInstalled(shell) || !isInstalled("script")
  it.skipIf(skip).each(TYPED)("completes %s", { timeout: 30_000 }, (line, words) => {
    expect(type(shell, line)).toEqual(words)
  })
})

describe.skipIf(!isInstalled("bash"))("bash", () => {
  it.each(PROGRAMS)("offers the options of %s that are there, and no others", (program) => {
    const offered = bashOffers(program, "--")
    const { stdout } = spawnSync("bash", ["-n", join(folder, `${program}.bash`)], { encoding: "utf8" })
    expect(stdout).toBe("")
    for (const { name, status, deprecated, modes } of OPTIONS) {
      const isThere = status === "built" && !deprecated && (modes?.includes(program) ?? true)
      expect([name, offered.includes(`--${name}`)]).toEqual([name, isThere])
    }
  })

  it("offers values, in either spelling of an option", () => {
    expect(bashOffers("passt", "-t", "")).toEqual(["none", "all"])
    expect(bashOffers("pasta", "--tcp-ns", "=", "a")).toEqual(["all", "auto"])
    expect(bashOffers("passt", "--interface", "=")).toContain("lo")
    expect(bashOffers("passt", "--mtu", "")).toEqual([])
  })

  it("stops at the first word that is no option", () => {
    expect(bashOffers("passt", "word", "--for")).toEqual([])
    expect(bashOffers("pasta", "-t", "none", "bas")).toContain("bash")
    expect(bashOffers("pasta", "--mtu", "=", "1500", "bas")).toContain("bash")
    expect(bashOffers("pasta", "cat", "some")).toEqual(["some-file"])
  })
})

describe.skipIf(!isInstalled("fish"))("fish", () => {
  it("offers options, values and commands", { timeout: 60_000 }, () => {
    expect(fishOffers("passt --foreg")).toEqual(["--foreground"])
    expect(fishOffers("pasta --no-netns-q")).toEqual(["--no-netns-quit"])
    expect(fishOffers("passt -t ").toSorted()).toEqual(["all", "none"])
    expect(fishOffers("pasta -t a").toSorted()).toEqual(["all", "auto"])
    expect(fishOffers("passt --interface l")).toContain("lo")
    expect(fishOffers("passt --pcap some")).toEqual(["some-file"])
    expect(fishOffers("pasta -q bas")).toContain("bash")
    expect(fishOffers("pasta -t none cat some")).toEqual(["some-file"])
  })
})
