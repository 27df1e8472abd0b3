// Which accelerator boots a guest here. /dev/kvm may open and yet run no guest (nested virtualisation with gaps), so the
// question is put by booting one; the answer is kept in the cache.
import { accessSync, constants, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { CACHE } from "./packages.ts"
import { bootGuest } from "./qemu.ts"

/** A guest under KVM is up in two seconds; one that is not after this long never will be. */
const KVM_BOOT_MS = 15_000

const ANSWER: string = join(CACHE, "accelerator")

let known: "kvm" | "tcg" | undefined

export async function accelerator(): Promise<"kvm" | "tcg"> {
  known ??= await find()
  return known
}

async function find(): Promise<"kvm" | "tcg"> {
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK)
  } catch {
    return "tcg"
  }
  if (existsSync(ANSWER)) return readFileSync(ANSWER, "utf8").trim() === "kvm" ? "kvm" : "tcg"
  let answer: "kvm" | "tcg" = "tcg"
  try {
    const guest = await bootGuest({ accel: "kvm", network: "none", bootTimeoutMs: KVM_BOOT_MS })
    await guest.kill()
    answer = "kvm"
  } catch {
    // Whatever the reason, emulation works.
  }
  try {
    mkdirSync(CACHE, { recursive: true })
    writeFileSync(ANSWER, `${answer}\n`)
  } catch {
    // A read-only tree asks again next time.
  }
  return answer
}
