/**
 * Completion of command lines in bash, zsh and fish: options, what their arguments could be, and, for pasta, the command
 * to spawn. Made from the option table.
 */
import { mkdirSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import type { OptionSpec, Source } from "./option-spec.ts"
import { optionsOf } from "./options.ts"

type Program = "passt" | "pasta"

export const SHELLS = ["bash", "zsh", "fish"] as const
export type Shell = (typeof SHELLS)[number]

/** Where each shell looks, below PREFIX/share. */
export const COMPLETION_PATHS: Readonly<Record<Shell, (program: string) => string>> = {
  bash: (program) => `bash-completion/completions/${program}`,
  zsh: (program) => `zsh/site-functions/_${program}`,
  fish: (program) => `fish/vendor_completions.d/${program}.fish`,
}

export function completion(shell: Shell, program: Program): string {
  return { bash, zsh, fish }[shell](program)
}

/** Writes all of them. @param share of the installed tree */
export function writeCompletions(share: string): void {
  for (const shell of SHELLS) {
    for (const program of ["passt", "pasta"] as const) {
      const path = join(share, COMPLETION_PATHS[shell](program))
      mkdirSync(dirname(path), { recursive: true })
      writeFileSync(path, completion(shell, program))
    }
  }
}

/** Deprecated options work, but nobody should start to use them. */
function shown(program: Program): OptionSpec[] {
  return optionsOf(program).filter((option) => !option.deprecated)
}

function namesOf(option: OptionSpec): string[] {
  const long = [option.name, ...(option.aliases ?? [])].map((name) => `--${name}`)
  return option.short === undefined ? long : [`-${option.short}`, ...long]
}

function offersOf(option: OptionSpec, program: Program): { words: string[]; sources: Source[] } {
  const words: string[] = []
  const sources: Source[] = []
  for (const offer of option.offers ?? []) {
    if (typeof offer === "string") sources.push(offer)
    else if (program === "pasta" || offer.word !== "auto") words.push(offer.word)
  }
  return { words, sources }
}

const BASH_SOURCES: Readonly<Record<Source, string>> = {
  files: `$(compgen -f -- "$word")`,
  interfaces: `$(cd /sys/class/net 2>/dev/null && compgen -f -- "$word")`,
  users: `$(compgen -u -- "$word")`,
  namespaces: `$(cd /run/netns 2>/dev/null && compgen -f -- "$word")`,
}

function bash(program: Program): string {
  const options = shown(program)
  const withArgument = options.filter((option) => option.argument !== undefined)
  const cases = withArgument.flatMap((option) => {
    const { words, sources } = offersOf(option, program)
    if (words.length + sources.length === 0) return []
    const found = sources.map((source) => BASH_SOURCES[source])
    if (words.length > 0) found.unshift(`$(IFS=" "; compgen -W "${words.join(" ")}" -- "$word")`)
    const lines = [`    ${namesOf(option).join("|")})`, `      COMPREPLY=(${found.join(" ")})`]
    if (sources.includes("files")) lines.push("      compopt -o filenames 2>/dev/null")
    return [...lines, "      return ;;"]
  })
  const taking = withArgument.flatMap(namesOf).join("|")
  const operand =
    program === "passt"
      ? []
      : [
          `  if [[ $word != -* ]]; then`,
          `    COMPREPLY=($(compgen -c -- "$word"))`,
          `    compopt -o filenames 2>/dev/null`,
          `    return`,
          `  fi`,
        ]
  // The command's own completion needs the library of the bash-completion package.
  const command =
    program === "passt"
      ? ["        return ;;"]
      : [
          `        if declare -F _command_offset >/dev/null; then _command_offset $i`,
          `        else COMPREPLY=($(compgen -f -- "$word")); compopt -o filenames 2>/dev/null; fi`,
          `        return ;;`,
        ]
  return `# bash completion for ${program}(1). Generated from the option table of @passt/cli.
_${program}() {
  local IFS=$'\\n' word=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD-1]} i
  COMPREPLY=()
  # To readline, the "=" of --option=value is a word.
  if [[ $word == "=" ]]; then
    word=
  elif [[ $before == "=" ]]; then
    before=\${COMP_WORDS[COMP_CWORD-2]}
  fi
  # Options end at the first word that is none.
  for ((i = 1; i < COMP_CWORD; i++)); do
    case \${COMP_WORDS[i]} in
      ${taking})
        [[ \${COMP_WORDS[i+1]} == "=" ]] && ((i++))
        ((i++)) ;;
      -?*|=) ;;
      *)
${command.join("\n")}
    esac
  done
  case $before in
${cases.join("\n")}
    ${taking})
      return ;;
  esac
${[...operand, `  COMPREPLY=($(IFS=" "; compgen -W "${options.flatMap(namesOf).join(" ")}" -- "$word"))`].join("\n")}
}
complete -F _${program} ${program}
`
}

const ZSH_SOURCES: Readonly<Record<Source, string>> = {
  files: "_files",
  interfaces: "_files -W /sys/class/net",
  users: "_users",
  namespaces: "_files -W /run/netns",
}

function zsh(program: Program): string {
  const lines = shown(program).map((option) => {
    const names = namesOf(option)
    const { words, sources } = offersOf(option, program)
    const found = sources.map((source) => ZSH_SOURCES[source])
    if (words.length > 0) found.unshift(`compadd -- ${words.join(" ")}`)
    const action = found.length === 0 ? " " : `{ ${found.join("; ")} }`
    const argument = option.argument === undefined ? "" : `:${zshText(option.argument)}:${action}`
    // Of names that exclude each other, the list says so; repeatable options exclude nothing.
    const prefix = option.repeatable ? "*" : names.length > 1 ? `(${names.join(" ")})` : ""
    const spelled = names.map((name) => (argument === "" ? name : `${name}${name.startsWith("--") ? "=" : "+"}`))
    const list = spelled.length > 1 ? `{${spelled.join(",")}}` : spelled[0]!
    return `  ${prefix === "" ? "" : `'${prefix}'`}${list}'[${zshText(option.help)}]${argument}'`
  })
  if (program === "pasta") lines.push(`  '(-):command:_command_names -e'`, `  '*::argument:_normal'`)
  return `#compdef ${program}
# zsh completion for ${program}(1). Generated from the option table of @passt/cli.
_arguments -s -S \\
${lines.join(" \\\n")}
`
}

/** In a quoted specification of _arguments. */
function zshText(text: string): string {
  return text.replaceAll(/[[\]:\\]/g, "\\$&").replaceAll("'", "'\\''")
}

const FISH_SOURCES: Readonly<Record<Exclude<Source, "files">, string>> = {
  interfaces: "(command ls /sys/class/net 2>/dev/null)",
  users: "(__fish_complete_users)",
  namespaces: "(command ls /run/netns 2>/dev/null)",
}

function fish(program: Program): string {
  const options = shown(program)
  const lines = options.map((option) => {
    const words = ["complete", "-c", program]
    if (option.short !== undefined) words.push("-s", option.short)
    for (const name of [option.name, ...(option.aliases ?? [])]) words.push("-l", name)
    if (option.argument !== undefined) {
      const { words: fixed, sources } = offersOf(option, program)
      words.push(sources.includes("files") ? "-r -F" : "-x")
      const found = sources.flatMap((source) => (source === "files" ? [] : [FISH_SOURCES[source]]))
      if (fixed.length + found.length > 0) words.push("-a", fishText([...fixed, ...found].join(" ")))
    }
    words.push("-d", fishText(option.help))
    return words.join(" ")
  })
  const taking = options.filter((option) => option.argument !== undefined).flatMap(namesOf)
  const operand =
    program === "passt"
      ? "complete -c passt -f"
      : `complete -c pasta -x -a ${fishText(`(__fish_complete_subcommand ${taking.join(" ")})`)}`
  return `# fish completion for ${program}(1). Generated from the option table of @passt/cli.
${operand}
${lines.join("\n")}
`
}

function fishText(text: string): string {
  return `'${text.replaceAll(/[\\']/g, "\\$&")}'`
}
