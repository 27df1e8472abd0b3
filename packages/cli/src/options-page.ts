/** docs/options.md: the options of both programs, as the manual pages explain them, in Markdown. */
import { OPTION_GROUPS, type OptionGroup, type OptionSpec } from "./option-spec.ts"
import { OPTIONS } from "./options.ts"

const WIDTH = 120

export function optionsPage(): string {
  const lines = [
    "<!-- Generated from the option table of @passt/cli: run `pnpm --filter @passt/cli generate` after changing it. -->",
    "",
    "# Options",
    "",
    ...wrap(
      "Of passt and pasta. Options end at the first word that isn't one; long ones may be shortened as long as they are " +
        "unambiguous; `--option=value` is the same as `--option value`. Of options that can't be repeated, the last one " +
        "counts. The guest is the virtual machine behind passt, or the namespace behind pasta. Port specifications " +
        "(_SPEC_) are explained in the manual pages, passt(1) and pasta(1).",
      "",
    ),
  ]
  for (const group of Object.keys(OPTION_GROUPS) as OptionGroup[]) {
    const members = OPTIONS.filter((option) => option.group === group && option.status === "built" && isOurs(option))
    if (members.length === 0) continue
    lines.push("", `## ${OPTION_GROUPS[group]}`, "", ...members.flatMap(describe).slice(0, -1))
  }
  return `${lines.join("\n")}\n`
}

function isOurs({ modes }: OptionSpec): boolean {
  return modes === undefined || modes.includes("passt") || modes.includes("pasta")
}

function describe(option: OptionSpec): string[] {
  const names = [option.name, ...(option.aliases ?? [])].map((name) => `\`--${name}\``)
  if (option.short !== undefined) names.unshift(`\`-${option.short}\``)
  const argument = option.argument === undefined ? "" : ` _${option.argument.replaceAll("[", "\\[")}_`
  const sentences: string[] = []
  if (option.modes !== undefined) sentences.push(option.modes.includes("pasta") ? "pasta only." : "passt only.")
  sentences.push(`${option.help.replaceAll(/(^|\s)(-[-\w]+)/g, "$1`$2`")}.`)
  if (option.man !== undefined) sentences.push(markdown(option.man))
  if (option.manInPasta !== undefined) sentences.push(`In pasta: ${markdown(option.manInPasta)}`)
  if (option.repeatable === "list") sentences.push("May be repeated.")
  if (option.repeatable === "per-family") sentences.push("Once per family.")
  if (option.standard !== undefined) {
    const other = option.standardInPasta === undefined ? "" : `; in pasta: ${option.standardInPasta}`
    sentences.push(`Default: ${option.standard}${other}.`)
  }
  if (option.deprecated) sentences.push("Deprecated.")
  return [`- ${names.join(", ")}${argument}`, "", ...wrap(sentences.join(" "), "  "), ""]
}

/** The few macros of mdoc(7) that texts of options use. */
function markdown(mdoc: string): string {
  const lines = mdoc.split("\n").map((line) => {
    const macro = /^\.(Fl Fl|Cm|Sx|Pa|Va) (.*?)(?: ([.,]))?$/.exec(line)
    if (!macro) return line
    const [, name, text, end = ""] = macro
    if (name === "Fl Fl") return `\`--${text}\`${end}`
    return name === "Sx" ? `${text!.toLowerCase()}${end}` : `\`${text}\`${end}`
  })
  return lines.join(" ").replaceAll("\\-", "-").replaceAll("\\(aq", "'").replaceAll("\\(cq", "'")
}

function wrap(text: string, indent: string): string[] {
  const lines: string[] = []
  let line = indent
  for (const word of text.split(/\s+/)) {
    if (line !== indent && line.length + 1 + word.length > WIDTH) {
      lines.push(line)
      line = indent
    }
    line += line === indent ? word : ` ${word}`
  }
  return [...lines, line]
}
