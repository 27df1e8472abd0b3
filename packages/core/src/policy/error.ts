/** What is wrong with a policy, and where. */
export class PolicyError extends Error {
  /** Of the text, from 1; 0: there is no text. */
  readonly line: number
  /** As "rules[3].port"; empty: the text is no JSON. */
  readonly field: string
  /** What is wrong, without where. */
  readonly problem: string

  constructor(line: number, field: string, problem: string) {
    super(`${line > 0 ? `line ${line}: ` : ""}${field === "" ? "" : `${field}: `}${problem}`)
    this.name = "PolicyError"
    this.line = line
    this.field = field
    this.problem = problem
  }
}
