/**
 * A dynamic executable calls other objects' functions by way of a table of addresses, which the linker has filled (ELF, System V ABI,
 * "global offset table"). An address that is changed there is changed for each call in the executable, and for nobody else.
 */
#include "imports.h"

#include <elf.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace passt {
namespace {

#if defined(__x86_64__)
constexpr uint32_t slotKinds[] = {R_X86_64_JUMP_SLOT, R_X86_64_GLOB_DAT};
#elif defined(__aarch64__)
constexpr uint32_t slotKinds[] = {R_AARCH64_JUMP_SLOT, R_AARCH64_GLOB_DAT};
#endif

/** What of the executable is of use here. */
struct Executable {
  ElfW(Addr) base = 0;
  const ElfW(Sym)* symbols = nullptr;
  const char* names = nullptr;
  const ElfW(Rela)* tables[2] = {};
  size_t counts[2] = {};
  /** What the linker has made read-only once it was done. */
  ElfW(Addr) fixedFrom = 0;
  ElfW(Addr) fixedTo = 0;
};

int readExecutable(dl_phdr_info* info, size_t, void* data) {
  Executable& executable = *static_cast<Executable*>(data);
  executable.base = info->dlpi_addr;
  const ElfW(Dyn)* entry = nullptr;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr)& part = info->dlpi_phdr[i];
    if (part.p_type == PT_DYNAMIC) entry = reinterpret_cast<const ElfW(Dyn)*>(info->dlpi_addr + part.p_vaddr);
    if (part.p_type != PT_GNU_RELRO) continue;
    executable.fixedFrom = info->dlpi_addr + part.p_vaddr;
    executable.fixedTo = executable.fixedFrom + part.p_memsz;
  }
  // The linker has made addresses of offsets here, on most processors.
  const auto at = [info](ElfW(Addr) value) { return value < info->dlpi_addr ? value + info->dlpi_addr : value; };
  for (; entry && entry->d_tag != DT_NULL; entry++) {
    if (entry->d_tag == DT_SYMTAB) executable.symbols = reinterpret_cast<const ElfW(Sym)*>(at(entry->d_un.d_ptr));
    if (entry->d_tag == DT_STRTAB) executable.names = reinterpret_cast<const char*>(at(entry->d_un.d_ptr));
    if (entry->d_tag == DT_JMPREL) executable.tables[0] = reinterpret_cast<const ElfW(Rela)*>(at(entry->d_un.d_ptr));
    if (entry->d_tag == DT_PLTRELSZ) executable.counts[0] = entry->d_un.d_val / sizeof(ElfW(Rela));
    if (entry->d_tag == DT_RELA) executable.tables[1] = reinterpret_cast<const ElfW(Rela)*>(at(entry->d_un.d_ptr));
    if (entry->d_tag == DT_RELASZ) executable.counts[1] = entry->d_un.d_val / sizeof(ElfW(Rela));
  }
  // The first object is the executable.
  return 1;
}

bool isSlot(const ElfW(Rela) & relocation) {
  const auto kind = static_cast<uint32_t>(ELF64_R_TYPE(relocation.r_info));
  return kind == slotKinds[0] || kind == slotKinds[1];
}

/** @returns 0 or -errno */
int32_t writeSlot(const Executable& executable, void** slot, void* function) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<uintptr_t>(slot);
  void* const start = reinterpret_cast<void*>(address & ~(page - 1));
  // A slot is aligned, so it lies in one page.
  if (mprotect(start, page, PROT_READ | PROT_WRITE) < 0) return -errno;
  *slot = function;
  const bool fixed = address >= executable.fixedFrom && address < executable.fixedTo;
  return fixed && mprotect(start, page, PROT_READ) < 0 ? -errno : 0;
}

}  // namespace

int32_t replaceImports(const Replacement* replacements, size_t count) {
  Executable executable;
  dl_iterate_phdr(readExecutable, &executable);
  if (!executable.symbols || !executable.names) return -ENOENT;
  for (size_t wanted = 0; wanted < count; wanted++) {
    const Replacement& replacement = replacements[wanted];
    bool found = false;
    for (int table = 0; table < 2; table++) {
      for (size_t i = 0; i < executable.counts[table]; i++) {
        const ElfW(Rela)& relocation = executable.tables[table][i];
        if (!isSlot(relocation)) continue;
        const char* const name = executable.names + executable.symbols[ELF64_R_SYM(relocation.r_info)].st_name;
        if (strcmp(name, replacement.name) != 0) continue;
        void** const slot = reinterpret_cast<void**>(executable.base + relocation.r_offset);
        if (const int32_t error = writeSlot(executable, slot, replacement.function)) return error;
        found = true;
      }
    }
    if (!found && replacement.needed) return -ENOENT;
  }
  return 0;
}

}  // namespace passt
