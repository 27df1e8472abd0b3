/** The text of `--version`. Callers read its first word, some its first line. Ends with a newline. */
export function versionText(name: string, version: string): string {
  return `${name} ${version}
Copyright The passt.js authors
Licensed under the Apache License, Version 2.0
<https://www.apache.org/licenses/LICENSE-2.0>

This is free software: you may change and redistribute it. It comes without
warranty, to the extent permitted by law.
`
}
