/** `passtctl top`: what flows carry now, the busiest first, with a small graph of the last samples each. */
import type { FlowView } from "@passt/core"
import type { Connection } from "./connection.ts"
import { print, sleep } from "./output.ts"
import { ageText, bytesText, endText, table } from "./text.ts"

const SAMPLES = 12
const BLOCKS = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"]
/** For terminals without them. */
const PLAIN = [" ", ".", ":", "-", "=", "+", "*", "#", "@"]
const INTERVAL_MS = 1000

export interface Rate {
  readonly flow: FlowView
  /** Bytes per second. */
  readonly fromGuest: number
  readonly toGuest: number
  readonly packets: number
  /** Bytes per second of both directions in the last samples, the latest last. */
  readonly history: readonly number[]
}

function keyOf(flow: FlowView): string {
  return `${flow.row} ${flow.protocol} ${flow.kind} ${endText(flow.guest)} ${endText(flow.peer)}`
}

/** Keeps what was seen last, and tells what has changed since. */
export class Rates {
  #last = new Map<string, { flow: FlowView; history: readonly number[] }>()

  /** @param seconds since the last time @returns the busiest first */
  update(flows: readonly FlowView[], seconds: number): Rate[] {
    const seen = new Map<string, { flow: FlowView; history: readonly number[] }>()
    const rates = flows.map((flow) => {
      const key = keyOf(flow)
      const last = this.#last.get(key)
      // One that has begun since, also in the row of another: all that it has carried is new.
      const isSame =
        last !== undefined && last.flow.bytesFromGuest <= flow.bytesFromGuest && last.flow.ageMs <= flow.ageMs
      const before = isSame ? last.flow : undefined
      const per = (now: number, then: number | undefined): number => Math.max(0, now - (then ?? 0)) / seconds
      const fromGuest = per(flow.bytesFromGuest, before?.bytesFromGuest)
      const toGuest = per(flow.bytesToGuest, before?.bytesToGuest)
      const packets =
        per(flow.packetsFromGuest, before?.packetsFromGuest) + per(flow.packetsToGuest, before?.packetsToGuest)
      const history = [...(isSame ? last.history : []), fromGuest + toGuest].slice(-SAMPLES)
      seen.set(key, { flow, history })
      return { flow, fromGuest, toGuest, packets, history }
    })
    this.#last = seen
    return rates.sort((a, b) => b.fromGuest + b.toGuest - (a.fromGuest + a.toGuest) || a.flow.row - b.flow.row)
  }
}

/** One character per sample, as high as the largest. */
export function graph(history: readonly number[], isPlain: boolean): string {
  const characters = isPlain ? PLAIN : BLOCKS
  const most = Math.max(...history, 1)
  return history.map((value) => characters[value <= 0 ? 0 : Math.max(1, Math.round((value / most) * 8))]).join("")
}

const TITLES = ["PROTO", "STATE", "GUEST", "", "PEER", "NAME", "GRAPH", "AGE", "PKT/S", "FROM/S", "TO/S"]

/** @param rows of flows to show @param columns of the terminal, 0: no limit */
export function topTable(rates: readonly Rate[], rows: number, columns: number, isPlain: boolean): string {
  const total = (of: (rate: Rate) => number): string =>
    bytesText(Math.round(rates.reduce((sum, rate) => sum + of(rate), 0)))
  const shown = rates
    .slice(0, rows)
    .map(({ flow, fromGuest, toGuest, packets, history }) => [
      flow.protocol,
      flow.state,
      endText(flow.guest),
      flow.direction === "out" ? "->" : "<-",
      endText(flow.peer),
      flow.policy?.names[0] ?? flow.policy?.label ?? "",
      graph(history, isPlain).padEnd(SAMPLES),
      ageText(flow.ageMs),
      packets.toFixed(0),
      bytesText(Math.round(fromGuest)),
      bytesText(Math.round(toGuest)),
    ])
  const head = `${rates.length} flows, ${total((rate) => rate.fromGuest)}/s from the guest, ${total((rate) => rate.toGuest)}/s to it\n\n`
  const text = head + table([TITLES, ...shown], 7)
  if (columns <= 0) return text
  return text
    .split("\n")
    .map((line) => line.slice(0, columns))
    .join("\n")
}

/** @param once a single table, over one interval @returns the exit status */
export function top(connection: Connection, once: boolean): number {
  const { stdout, env } = process
  const isLive = !once && stdout.isTTY
  const isPlain = !/utf-?8/i.test(env["LC_ALL"] ?? env["LC_CTYPE"] ?? env["LANG"] ?? "")
  const rates = new Rates()
  let before = performance.now()
  const look = (): Rate[] => {
    const flows: FlowView[] = []
    connection.ask({ call: "flows" }, (line) => flows.push(line["flow"] as FlowView))
    const now = performance.now()
    const found = rates.update(flows, Math.max(0.001, (now - before) / 1000))
    before = now
    return found
  }
  look()
  for (;;) {
    sleep(INTERVAL_MS)
    const found = look()
    if (!isLive) return print(topTable(found, found.length, 0, isPlain))
    // Cursor home, text, clear what is left below; lines that are shorter than what was there are cleared, too.
    const text = topTable(found, Math.max(1, (stdout.rows ?? 24) - 5), stdout.columns ?? 80, isPlain)
    print(`\x1b[H${text.replaceAll("\n", "\x1b[K\n")}\x1b[J`)
  }
}
