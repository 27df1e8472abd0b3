// What the demo prints: one line per step, progress while a step takes its time, and the table at the end.

const CLEAR_LINE = "\r\x1b[2K"
const FRAMES = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"] as const
const FRAME_MS = 100
const LABEL_WIDTH = 34

const terminal: boolean = process.stdout.isTTY === true
const colours: boolean = terminal && process.env.NO_COLOR === undefined

function paint(code: number, text: string): string {
  return colours ? `\x1b[${code}m${text}\x1b[0m` : text
}

const bold = (text: string): string => paint(1, text)
const dim = (text: string): string => paint(2, text)
const green = (text: string): string => paint(32, text)
const red = (text: string): string => paint(31, text)

interface Row {
  readonly label: string
  readonly ok: boolean
  readonly detail: string
}

export interface Report {
  heading(text: string): void
  line(text: string): void
  /** A fact, set in two columns. */
  fact(label: string, value: string): void
  /** Do something that must work for the rest to make sense: a failure is shown and thrown on. */
  step<T>(label: string, work: () => Promise<T>, detail?: (result: T) => string): Promise<T>
  /** Do something that is shown in the table: a failure is shown, kept for the table, and the demo goes on. */
  check(label: string, work: () => Promise<string>): Promise<boolean>
  /** Print the table; true if every check passed, and there was one. */
  summary(): boolean
}

export function createReport(): Report {
  const rows: Row[] = []

  function write(text: string): void {
    process.stdout.write(text)
  }
  function mark(ok: boolean, label: string, detail: string, elapsedMs: number): void {
    const sign = ok ? green("✓") : red("✗")
    const time = elapsedMs < 100 ? "" : dim(` (${(elapsedMs / 1000).toFixed(1)} s)`)
    write(`  ${sign} ${label.padEnd(LABEL_WIDTH)} ${detail}${time}\n`)
  }
  /** Something moves while `work` runs: on a terminal in place, else a line if it takes longer than a moment. */
  async function withProgress<T>(label: string, work: () => Promise<T>): Promise<T> {
    let frame = 0
    const timer = terminal
      ? setInterval(() => {
          write(`${CLEAR_LINE}  ${FRAMES[frame++ % FRAMES.length]} ${label} …`)
        }, FRAME_MS)
      : setTimeout(() => write(`  … ${label}\n`), 1000)
    try {
      return await work()
    } finally {
      clearInterval(timer)
      if (terminal) write(CLEAR_LINE)
    }
  }
  function firstLine(error: unknown): string {
    return (error instanceof Error ? error.message : String(error)).split("\n")[0] ?? ""
  }
  return {
    heading: (text) => write(`\n${bold(text)}\n`),
    line: (text) => write(`${text}\n`),
    fact: (label, value) => write(`    ${label.padEnd(LABEL_WIDTH)} ${value}\n`),
    async step(label, work, detail) {
      const began = performance.now()
      try {
        const result = await withProgress(label, work)
        mark(true, label, detail?.(result) ?? "", performance.now() - began)
        return result
      } catch (error) {
        mark(false, label, firstLine(error), performance.now() - began)
        rows.push({ label, ok: false, detail: firstLine(error) })
        throw error
      }
    },
    async check(label, work) {
      const began = performance.now()
      let row: Row
      try {
        row = { label, ok: true, detail: await withProgress(label, work) }
      } catch (error) {
        row = { label, ok: false, detail: firstLine(error) }
      }
      rows.push(row)
      mark(row.ok, row.label, row.detail, performance.now() - began)
      return row.ok
    },
    summary() {
      const failed = rows.filter((row) => !row.ok)
      write(`\n${bold("Summary")}\n`)
      const width = Math.max(...rows.map((row) => row.label.length), 0)
      for (const row of rows)
        write(`  ${row.ok ? green("✓") : red("✗")} ${row.label.padEnd(width)}  ${dim(row.detail)}\n`)
      const verdict = `${rows.length - failed.length} of ${rows.length} worked`
      write(`\n  ${failed.length === 0 && rows.length > 0 ? green(verdict) : red(verdict)}\n`)
      return failed.length === 0 && rows.length > 0
    },
  }
}
