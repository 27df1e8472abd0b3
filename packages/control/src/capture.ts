/** A capture that begins and ends while the program runs. The program can open no files by then: the client passes one along. */
import { RequestError } from "./protocol.ts"

/** What writes frames to files. */
export interface CaptureKernel {
  /** @param fd is the kernel's from then on @returns 0 or -errno */
  captureTo(fd: number): number
  closeCapture(): number
}

export class Capture {
  readonly #kernel: CaptureKernel
  isRunning: boolean

  /** @param isRunning whether there is a capture from the start on (--pcap) */
  constructor(kernel: CaptureKernel, isRunning: boolean) {
    this.#kernel = kernel
    this.isRunning = isRunning
  }

  /** @param take gives the descriptor of a file that is open for writing, -1: none came @throws RequestError */
  start(take: () => number): void {
    if (this.isRunning) throw new RequestError("failed", "There is a capture already")
    const fd = take()
    if (fd < 0)
      throw new RequestError("bad-request", "The file to write to has to come along as a descriptor (SCM_RIGHTS)")
    const result = this.#kernel.captureTo(fd)
    if (result < 0) throw new RequestError("failed", "The descriptor is not that of a regular file that can be written")
    this.isRunning = true
  }

  /** @throws RequestError */
  stop(): void {
    if (!this.isRunning) throw new RequestError("failed", "Nothing is captured")
    this.#kernel.closeCapture()
    this.isRunning = false
  }
}
