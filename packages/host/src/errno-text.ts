import { getSystemErrorMap } from "node:util"

/** The sentence for a positive errno, as strerror would say it: "No such device". */
export function errnoText(errno: number): string {
  const known = getSystemErrorMap().get(-errno)
  if (!known) return `error ${errno}`
  const sentence = known[1]
  return sentence.charAt(0).toUpperCase() + sentence.slice(1)
}
