// Writing a cpio archive in the "newc" form, the one the kernel unpacks as initramfs
// (Documentation/driver-api/early-userspace/buffer-format.rst). Own code, since it may hold device nodes and files of
// root without being root.

const FileType = { DIRECTORY: 0o040000, FILE: 0o100000, LINK: 0o120000, CHARACTER: 0o020000 } as const

export type CpioEntry =
  | { readonly kind: "directory"; readonly path: string }
  | { readonly kind: "file"; readonly path: string; readonly content: Buffer; readonly executable?: boolean }
  | { readonly kind: "link"; readonly path: string; readonly target: string }
  | { readonly kind: "character"; readonly path: string; readonly major: number; readonly minor: number }

function padding(length: number): Buffer {
  return Buffer.alloc((4 - (length % 4)) % 4)
}

function member(inode: number, mode: number, path: string, content: Buffer, major: number, minor: number): Buffer[] {
  const name = Buffer.from(`${path}\0`)
  const links = 1
  // Thirteen numbers of eight hex digits: inode, mode, uid, gid, links, mtime, size, device, special device, name, check.
  const numbers = [inode, mode, 0, 0, links, 0, content.length, 0, 0, major, minor, name.length, 0]
  const header = Buffer.from("070701" + numbers.map((number) => number.toString(16).padStart(8, "0")).join(""))
  return [header, name, padding(header.length + name.length), content, padding(content.length)]
}

/** The archive of these entries, in this order; missing parent directories are added. */
export function cpioArchive(entries: readonly CpioEntry[]): Buffer {
  const parts: Buffer[] = []
  const known = new Set<string>([""])
  const none = Buffer.alloc(0)
  let inode = 1
  const addDirectory = (path: string): void => {
    if (known.has(path)) return
    addDirectory(path.includes("/") ? path.slice(0, path.lastIndexOf("/")) : "")
    known.add(path)
    parts.push(...member(inode++, FileType.DIRECTORY | 0o755, path, none, 0, 0))
  }
  for (const entry of entries) {
    const path = entry.path.replace(/^\//, "")
    addDirectory(path.includes("/") ? path.slice(0, path.lastIndexOf("/")) : "")
    if (entry.kind === "directory") addDirectory(path)
    else if (entry.kind === "file") {
      const mode = FileType.FILE | (entry.executable === true ? 0o755 : 0o644)
      parts.push(...member(inode++, mode, path, entry.content, 0, 0))
    } else if (entry.kind === "link") {
      parts.push(...member(inode++, FileType.LINK | 0o777, path, Buffer.from(entry.target), 0, 0))
    } else {
      parts.push(...member(inode++, FileType.CHARACTER | 0o600, path, none, entry.major, entry.minor))
    }
  }
  parts.push(...member(0, 0, "TRAILER!!!", none, 0, 0))
  return Buffer.concat(parts)
}
