/**
 * Guest memory that another process can map: what a vhost-user back-end needs. Backing that a machine has already (huge pages) stays, and is
 * shared; one that says "private" contradicts us, and is refused instead of being overruled.
 */
import { Refusal } from "../refusal.ts"
import { appendChildren, type Edit, type Element, childrenNamed, element, insertBefore, onlyChild } from "./document.ts"

const MEMFD = element("source", { type: "memfd" })
const SHARED = element("access", { mode: "shared" })

/** @param before the element that a new one comes before @throws Refusal */
export function shareMemory(text: string, domain: Element, before: Element): Edit[] {
  refusePrivateCells(domain)
  const backing = onlyChild(domain, "memoryBacking")
  if (backing === undefined) return [insertBefore(text, before, element("memoryBacking", {}, [MEMFD, SHARED]))]
  const access = onlyChild(backing, "access")
  const mode = access?.attributes.get("mode")
  if (access !== undefined && mode !== "shared") {
    throw new Refusal(`the domain's memory has access mode "${mode ?? ""}", and this binding needs "shared"`)
  }
  const source = onlyChild(backing, "source")
  const type = source?.attributes.get("type")
  if (source !== undefined && type !== "memfd" && type !== "file") {
    throw new Refusal(`the domain's memory has source "${type ?? ""}", which can't be shared: "memfd" or "file" can`)
  }
  const missing: string[] = []
  // Huge pages are a file of their own kind; everything else is anonymous memory if nothing is said.
  if (source === undefined && onlyChild(backing, "hugepages") === undefined) missing.push(MEMFD)
  if (access === undefined) missing.push(SHARED)
  return missing.length === 0 ? [] : [appendChildren(text, backing, "memoryBacking", missing)]
}

/** A NUMA cell may overrule the domain's access mode. */
function refusePrivateCells(domain: Element): void {
  const cells = childrenNamed(domain, "cpu")
    .flatMap((cpu) => childrenNamed(cpu, "numa"))
    .flatMap((numa) => childrenNamed(numa, "cell"))
  const mode = cells.map((cell) => cell.attributes.get("memAccess")).find((each) => each && each !== "shared")
  if (mode) throw new Refusal(`a NUMA cell's memory has access mode "${mode}", and this binding needs "shared"`)
}
