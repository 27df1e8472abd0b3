/** Flows and rules as tables. */
import type { Forward } from "@passt/control"
import type { FlowEnd, FlowPolicy, FlowView } from "@passt/core"

export function endText(end: FlowEnd | null): string {
  if (end === null) return "-"
  return end.address.includes(":") ? `[${end.address}]:${end.port}` : `${end.address}:${end.port}`
}

/** Decimal multiples, three digits. */
export function bytesText(bytes: number): string {
  let value = bytes
  for (const unit of ["B", "kB", "MB", "GB", "TB"]) {
    if (value < 999.5 || unit === "TB")
      return `${unit === "B" ? value : value < 1000 ? value.toPrecision(3) : value.toFixed(0)} ${unit}`
    value /= 1000
  }
  return ""
}

export function ageText(ms: number): string {
  const seconds = ms / 1000
  if (seconds < 60) return `${seconds.toFixed(1)}s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes}m${String(Math.floor(seconds % 60)).padStart(2, "0")}s`
  const hours = Math.floor(minutes / 60)
  return hours < 24 ? `${hours}h${String(minutes % 60).padStart(2, "0")}m` : `${Math.floor(hours / 24)}d${hours % 24}h`
}

const FLOW_TITLES = ["PROTO", "WAY", "STATE", "GUEST", "", "PEER", "AGE", "IDLE", "FROM GUEST", "TO GUEST"]

export function flowRow(flow: FlowView): string[] {
  return [
    flow.protocol,
    flow.kind,
    flow.state,
    endText(flow.guest),
    flow.direction === "out" ? "->" : "<-",
    endText(flow.peer),
    ageText(flow.ageMs),
    flow.idleMs === null ? "-" : ageText(flow.idleMs),
    bytesText(flow.bytesFromGuest),
    bytesText(flow.bytesToGuest),
  ]
}

/** What the policy has said, in a word or two. */
function policyText(policy: FlowPolicy | undefined): string {
  if (policy === undefined) return ""
  const { verdict, rule, label, names } = policy
  const why = label ?? (rule === null ? "" : `rule ${rule}`)
  return [verdict === "allowed" || verdict === "none" ? "" : verdict, why, names[0] ?? ""].filter(Boolean).join(" ")
}

export function flowTable(flows: readonly FlowView[]): string {
  const hasPolicy = flows.some(({ policy }) => policy !== undefined)
  if (!hasPolicy) return table([FLOW_TITLES, ...flows.map(flowRow)], 6)
  const rows = flows.map((flow) => [...flowRow(flow), policyText(flow.policy)])
  return table([[...FLOW_TITLES, "POLICY"], ...rows], 6)
}

export function forwardTable(forwards: readonly Forward[]): string {
  const rows = forwards.map(({ number, place, rule, open }) => [String(number), place, String(open), rule])
  return table([["NUMBER", "PLACE", "OPEN", "RULE"], ...rows], 4)
}

/** Columns side by side. @param right index of the first column that is aligned to the right */
export function table(rows: readonly (readonly string[])[], right: number): string {
  const widths: number[] = []
  for (const row of rows) row.forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 0, cell.length)))
  const lines = rows.map((row) =>
    row
      .map((cell, i) => (i >= right ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)))
      .join("  ")
      .trimEnd(),
  )
  return `${lines.join("\n")}\n`
}
