import { expect, test } from "vitest"
import { Lines } from "./lines.ts"
import { addFamilies } from "./metrics.ts"

test("families of several engines are one each, with a label for the interface", () => {
  const text = (value: number): string =>
    `# TYPE passt_flows gauge\n# HELP passt_flows Flows.\npasst_flows{protocol="tcp",state="a}b 1"} ${value}\n` +
    `# TYPE passt_up counter\npasst_up_total ${value} 123\nnonsense\n# EOF\n`
  const families = new Map()
  addFamilies(families, text(1), "default")
  addFamilies(families, text(2), "lab")
  addFamilies(families, "", "dead")
  expect([...families]).toEqual([
    [
      "passt_flows",
      {
        about: ["# TYPE passt_flows gauge", "# HELP passt_flows Flows."],
        samples: [
          'passt_flows{interface="default",protocol="tcp",state="a}b 1"} 1',
          'passt_flows{interface="lab",protocol="tcp",state="a}b 1"} 2',
        ],
      },
    ],
    [
      "passt_up",
      {
        about: ["# TYPE passt_up counter"],
        samples: ['passt_up_total{interface="default"} 1 123', 'passt_up_total{interface="lab"} 2 123'],
      },
    ],
  ])
})

test("lines come whole, however they arrive; one without end is cut", () => {
  const lines: string[] = []
  const cut = new Lines((line) => lines.push(line), 5)
  for (const chunk of ["a", "b\nc", "\n\nd\ne", "f", "ghijklm"]) cut.add(chunk)
  expect(lines).toEqual(["ab", "c", "d"])
  cut.end()
  cut.end()
  expect(lines).toEqual(["ab", "c", "d", "efghi"])
})
