/** What the runtime's executable calls in the C library, and putting functions of ours in its place. */
#pragma once

#include <cstddef>
#include <cstdint>

namespace passt {

/** A function by name, and what is called instead of it. */
struct Replacement {
  const char* name;
  void* function;
  /** Whether the runtime must call it by that name, or it is not one that we know. */
  bool needed;
};

/**
 * From here on the main executable's calls of these functions end up in ours. Calls within the C library, and those of other
 * objects, the addon among them, stay as they are.
 * @returns 0, -ENOENT when a needed one is not there to be replaced (a static executable), or another -errno
 */
int32_t replaceImports(const Replacement* replacements, size_t count);

}  // namespace passt
