/** Cuts what a process or a socket says into lines. */
export class Lines {
  #rest = ""
  readonly #each: (line: string) => void
  readonly #longest: number

  /** @param longest lines beyond it are cut, characters */
  constructor(each: (line: string) => void, longest: number = 1 << 20) {
    this.#each = each
    this.#longest = longest
  }

  add(chunk: string): void {
    const lines = (this.#rest + chunk).split("\n")
    this.#rest = lines.pop()!.slice(0, this.#longest)
    for (const line of lines) if (line !== "") this.#each(line)
  }

  end(): void {
    if (this.#rest !== "") this.#each(this.#rest)
    this.#rest = ""
  }
}
