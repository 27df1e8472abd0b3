// Sections 1.0 and 1.9: the two programs, and how their command lines are read.
import { deepEqual, equal, match, ok } from "node:assert/strict"
import type { Area } from "../check.ts"
import { DhcpOption } from "../wire/dhcp.ts"

/** The lines of a message. */
const lines = (text: string): string[] => text.split("\n").filter((line) => line !== "")

export const programs: Area = {
  title: "Programs and command line",
  checks: [
    {
      id: "1.0.version",
      title: "passt --version: name and version on standard output, status 0",
      reference: "differs",
      because: "the version of 2025 prints nothing unless the output is a terminal",
      async run(t) {
        const { status, stdout } = await t.run(["--version"])
        equal(status, 0)
        match(stdout, /^passt \S+/)
      },
    },
    {
      id: "1.0.version-pasta",
      program: "pasta",
      title: "pasta --version: name and version on standard output, status 0",
      reference: "differs",
      because: "the version of 2025 prints nothing unless the output is a terminal",
      async run(t) {
        const { status, stdout } = await t.pasta(["--version"])
        equal(status, 0)
        match(stdout, /^pasta \S+/)
      },
    },
    {
      id: "1.9.help",
      title: "passt --help: usage on standard output, nothing on standard error, status 0",
      reference: "differs",
      because:
        "the version of 2023 ends with status 1, that of 2025 loses the end of it unless the output is a terminal",
      async run(t) {
        const { status, stdout, stderr } = await t.run(["--help"])
        deepEqual([status, stderr], [0, ""])
        for (const word of ["--socket", "--tcp-ports", "--one-off"]) ok(stdout.includes(word), word)
      },
    },
    {
      id: "1.9.help-pasta",
      program: "pasta",
      title: "pasta --help: usage on standard output, nothing on standard error, status 0",
      reference: "differs",
      because:
        "the version of 2023 ends with status 1, that of 2025 loses the end of it unless the output is a terminal",
      async run(t) {
        const { status, stdout, stderr } = await t.pasta(["--help"])
        deepEqual([status, stderr], [0, ""])
        for (const word of ["--netns", "--tcp-ns", "--config-net"]) ok(stdout.includes(word), word)
      },
    },
    {
      id: "1.9.unknown-option",
      title: "an unknown option: getopt's wording, which callers match, the usage on standard error, status 1",
      async run(t) {
        const { status, stdout, stderr } = await t.run(["--no-such-option"])
        t.unknownOption = undefined
        deepEqual([status, stdout], [1, ""])
        match(stderr, /unrecognized option '--no-such-option'/)
        match(stderr, /--tcp-ports/)
      },
    },
    {
      id: "1.9.unknown-letter",
      title: "an unknown letter: getopt's wording, status 1",
      async run(t) {
        const { status, stderr } = await t.run(["-y"])
        t.unknownOption = undefined
        equal(status, 1)
        match(stderr, /invalid option -- 'y'/)
      },
    },
    {
      id: "1.9.missing-argument",
      title: "an option without its argument: getopt's wording, status 1",
      async run(t) {
        const long = await t.run(["--mtu"])
        equal(long.status, 1)
        match(long.stderr, /option '--mtu' requires an argument/)
        const short = await t.run(["-m"])
        equal(short.status, 1)
        match(short.stderr, /option requires an argument -- 'm'/)
      },
    },
    {
      id: "1.9.unwanted-argument",
      title: "an argument for an option that takes none: getopt's wording, status 1",
      async run(t) {
        const { status, stderr } = await t.run(["--quiet=yes"])
        equal(status, 1)
        match(stderr, /option '--quiet' doesn't allow an argument/)
      },
    },
    {
      id: "1.9.ambiguous",
      title: "an abbreviation of several options: getopt's wording, status 1",
      async run(t) {
        const { status, stderr } = await t.run(["--no-d"])
        equal(status, 1)
        match(stderr, /option '--no-d' is ambiguous/)
      },
    },
    {
      id: "1.9.abbreviation",
      title: "options may be abbreviated, and written with an equals sign",
      async run(t) {
        const guest = await t.guest(["--mt=1300"])
        equal((await guest.offer()).get(DhcpOption.MTU)?.readUInt16BE(0), 1300)
      },
    },
    {
      id: "1.9.bundled",
      title: "letters may be bundled, and an argument may follow its letter without a space",
      async run(t) {
        const guest = await t.guest(["-4qm1300"])
        equal((await guest.offer()).get(DhcpOption.MTU)?.readUInt16BE(0), 1300)
      },
    },
    {
      id: "1.9.last-wins",
      title: "of an option that is given twice the last one counts",
      reference: "differs",
      because: "the version of 2023 refuses repeated options",
      async run(t) {
        const guest = await t.guest(["-m", "1300", "-m", "1400"])
        equal((await guest.offer()).get(DhcpOption.MTU)?.readUInt16BE(0), 1400)
      },
    },
    {
      id: "1.9.last-wins-family",
      title: "of --ipv4-only and --ipv6-only the last one counts",
      reference: "differs",
      because: "the version of 2023 refuses one together with the other",
      async run(t) {
        const guest = await t.guest(["-6", "-4"])
        ok((await guest.offer()).size > 0)
      },
    },
    {
      id: "1.9.extra-argument",
      title: "a word that is no option is refused by passt, status 1",
      async run(t) {
        const { status, stderr } = await t.run(["guest"])
        equal(status, 1)
        match(stderr, /non-option argument/)
      },
    },
    {
      id: "1.9.other-program-pasta",
      title: "passt refuses what is pasta's",
      reference: "differs",
      because: "the version of 2023 ignores them",
      async run(t) {
        for (const args of [["--config-net"], ["--netns", "/proc/self/ns/net"], ["-T", "22"], ["--tcp-ns", "none"]]) {
          const { status } = await t.run(args)
          equal(status, 1, args.join(" "))
        }
      },
    },
    {
      id: "1.9.other-program-passt",
      program: "pasta",
      title: "pasta refuses what is passt's",
      reference: "differs",
      because: "the version of 2023 ignores them",
      async run(t) {
        for (const args of [["--socket", t.path("socket")], ["--one-off"]]) {
          const { status } = await t.pasta([...args, "true"])
          equal(status, 1, args.join(" "))
        }
      },
    },
    {
      id: "1.9.one-line",
      title: "a value that can't be honoured: one line on standard error, nothing on standard output, status 1",
      async run(t) {
        const { status, stdout, stderr } = await t.run(["--socket", t.path("socket"), "--address", "300.1.2.3"])
        deepEqual([status, stdout, lines(stderr).length], [1, "", 1])
        match(stderr, /300\.1\.2\.3/)
      },
    },
    {
      id: "1.9.stops-at-command",
      program: "pasta",
      title: "options end at the first other word: what follows is the command's",
      reference: "differs",
      because: "the version of 2023 takes options behind the command for its own",
      async run(t) {
        const { status, stdout } = await t.pasta(["-q", "echo", "--help", "-f"])
        deepEqual([status, stdout], [0, "--help -f\n"])
      },
    },
    {
      id: "1.9.double-dash",
      program: "pasta",
      title: "-- ends options, and is not the command's",
      async run(t) {
        const { status, stdout } = await t.pasta(["-q", "--", "echo", "--", "x"])
        deepEqual([status, stdout], [0, "-- x\n"])
      },
    },
  ],
}
