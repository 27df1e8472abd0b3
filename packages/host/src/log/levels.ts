/** Severities as in syslog(3), so that they need no translation there; trace is ours, below debug. */
export const LEVEL = { error: 3, warning: 4, info: 6, debug: 7, trace: 8 } as const
export type Level = (typeof LEVEL)[keyof typeof LEVEL]

export const LEVEL_NAME: Record<Level, string> = { 3: "error", 4: "warning", 6: "info", 7: "debug", 8: "trace" }
