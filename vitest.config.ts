import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: [
      "packages/*/src/**/*.test.ts",
      "native/src/**/*.test.ts",
      "apps/*/src/**/*.test.ts",
      "apps/*/image/**/*.test.ts",
      "tools/**/*.test.ts",
    ],
    // Two cores are normal for a developer's virtual machine and for CI.
    maxWorkers: 2,
    testTimeout: 30_000,
    // Many start processes, and the kernel decides who runs first: the report tells what passed only at the second attempt.
    retry: 1,
  },
})
