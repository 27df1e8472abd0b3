import { defineConfig } from "vitest/config"
import { FAILURES_VARIABLE, FailureList } from "./lib/failures.ts"

const failures = process.env[FAILURES_VARIABLE]

export default defineConfig({
  test: {
    dir: import.meta.dirname,
    include: ["**/*.test.ts"],
    // One after another: they measure times, and an emulated guest alone fills a core.
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // Emulated guests share few processors with everything else; the report tells what passed only at the second attempt.
    retry: 1,
    reporters: ["verbose", ...(failures === undefined ? [] : [new FailureList(failures)])],
  },
})
