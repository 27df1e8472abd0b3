/**
 * Memory for the time when none is to be had (native/cpp/seal.cc): V8's compilers and everything outside of the JavaScript heap use
 * malloc, which gets a reserve here; and so does the heap itself.
 */
import { reserveMemory } from "@passt/native"
import { checkResult } from "./error.ts"

/** The largest functions of the program take some 10 MiB to compile. Not touched: it costs address space, no memory. */
const HEAP_BYTES = 40 << 20
/** What V8 maps of its own: a tenth of that is in use after 100,000 flows. */
const PAGE_BYTES = 64 << 20

/** To be called when everything is made, before the seal. */
export function prepareMemory(): void {
  checkResult("Couldn't reserve memory", reserveMemory(HEAP_BYTES, PAGE_BYTES))
}
