/**
 * Memory for the time when hardly any is to be had (native/cpp/seal.cc): V8's compilers and everything outside of the JavaScript heap
 * use malloc, which gets a reserve here, and nothing from the kernel later.
 */
import { reserveHeap } from "@passt/native"
import { checkResult } from "./error.ts"

/** The largest functions of the program take some 10 MiB to compile. Not touched: it costs address space, no memory. */
const HEAP_BYTES = 40 << 20

/** To be called when everything is made, before the seal. */
export function prepareMemory(): void {
  checkResult("Couldn't reserve memory", reserveHeap(HEAP_BYTES))
}
