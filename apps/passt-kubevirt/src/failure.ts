/** How the command ends; documented in usage.ts and docs/kubevirt.md. */
export const EXIT = {
  good: 0,
  /** Something failed and what was done is undone; or status and doctor found something that is not as it should be. */
  bad: 1,
  usage: 2,
  /** The API server is out of reach, or does not let this user do it. */
  access: 3,
  /** The cluster lacks something, or has it in a state in which nothing can be installed. */
  unfit: 4,
  /** Somebody else has set, or owns, what would be changed. */
  conflict: 5,
  /** Something failed, and not everything could be undone. */
  left: 6,
  /** Virtual machines use what would be removed. */
  inUse: 7,
} as const

export type Exit = (typeof EXIT)[keyof typeof EXIT]

/** What the user is told in one line, and the exit status. */
export class Failure extends Error {
  readonly exit: Exit

  constructor(message: string, exit: Exit) {
    super(message)
    this.name = "Failure"
    this.exit = exit
  }
}
