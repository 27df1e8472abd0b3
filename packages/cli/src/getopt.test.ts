import { describe, expect, it } from "vitest"
import { UsageError } from "./config-error.ts"
import { getopt, type GetoptTable } from "./getopt.ts"

const TABLE: GetoptTable = {
  short: [
    { spelling: "m", id: "mtu", takesArgument: true },
    { spelling: "q", id: "quiet", takesArgument: false },
    { spelling: "1", id: "one-off", takesArgument: false },
    { spelling: "s", id: "socket", takesArgument: true },
  ],
  long: [
    { spelling: "mtu", id: "mtu", takesArgument: true },
    { spelling: "quiet", id: "quiet", takesArgument: false },
    { spelling: "one-off", id: "one-off", takesArgument: false },
    { spelling: "socket", id: "socket", takesArgument: true },
    { spelling: "socket-path", id: "socket", takesArgument: true },
    { spelling: "no-tcp", id: "no-tcp", takesArgument: false },
    { spelling: "no-udp", id: "no-udp", takesArgument: false },
    { spelling: "outbound", id: "outbound", takesArgument: true },
    { spelling: "outbound-if4", id: "outbound-if4", takesArgument: true },
  ],
}

/** Options as "id" or "id=value", then "|" and the operands. */
function read(...args: string[]): string {
  const words = getopt(args, TABLE)
  const seen: string[] = []
  let word = words.next()
  while (!word.done) {
    seen.push(word.value.value === null ? word.value.id : `${word.value.id}=${word.value.value}`)
    word = words.next()
  }
  return [...seen, "|", ...args.slice(word.value)].join(" ").trim()
}

describe("getopt", () => {
  it("reads long options in every form", () => {
    expect(read("--mtu", "1500", "--quiet", "--socket=/tmp/s")).toBe("mtu=1500 quiet socket=/tmp/s |")
    expect(read("--mtu=", "--mtu", "")).toBe("mtu= mtu= |")
    expect(read("--mtu=a=b")).toBe("mtu=a=b |")
  })

  it("reads bundled short options, with the argument attached or following", () => {
    expect(read("-q1m1500", "-m", "9000", "-1q")).toBe("quiet one-off mtu=1500 mtu=9000 one-off quiet |")
    expect(read("-m=5")).toBe("mtu==5 |")
  })

  it("takes whatever follows as an argument, even an option", () => {
    expect(read("-m", "--quiet", "--mtu", "--")).toBe("mtu=--quiet mtu=-- |")
  })

  it("stops at the first word that is no option", () => {
    expect(read("-q", "word", "--mtu", "5")).toBe("quiet | word --mtu 5")
    expect(read("-q", "-", "-1")).toBe("quiet | - -1")
    expect(read("-q", "--", "-1")).toBe("quiet | -1")
  })

  it("completes abbreviations, further spellings of one option being no rivals", () => {
    expect(read("--mt", "5", "--sock", "x", "--no-t")).toBe("mtu=5 socket=x no-tcp |")
  })

  it("prefers the exact name to longer ones", () => {
    expect(read("--outbound", "::2")).toBe("outbound=::2 |")
  })

  it.each([
    [["--foo"], "unrecognized option '--foo'"],
    [["--foo=bar"], "unrecognized option '--foo=bar'"],
    [["--mtu"], "option '--mtu' requires an argument"],
    [["--mt"], "option '--mtu' requires an argument"],
    [["--quiet=1"], "option '--quiet' doesn't allow an argument"],
    [["--qu=1"], "option '--quiet' doesn't allow an argument"],
    [["-x"], "invalid option -- 'x'"],
    [["-qx"], "invalid option -- 'x'"],
    [["-m"], "option requires an argument -- 'm'"],
    [["--no"], "option '--no' is ambiguous; possibilities: '--no-tcp' '--no-udp'"],
    [["--o=3"], "option '--o=3' is ambiguous; possibilities: '--one-off' '--outbound' '--outbound-if4'"],
  ])("words the error for %j as glibc does", (args, message) => {
    expect(() => read(...args)).toThrow(new UsageError(message))
  })

  it("yields what precedes an error first", () => {
    const words = getopt(["-q", "--foo"], TABLE)
    expect(words.next().value).toEqual({ id: "quiet", value: null, written: "-q" })
    expect(() => words.next()).toThrow(UsageError)
  })
})
