/** A filter of system calls, put together from what the comments beside the calls say. Apart from installing it. */
#pragma once

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace passt {

/** What does not fit falls through to this: SIGSYS for whoever made the call, which the handler in seal.cc makes a line of. */
inline constexpr uint32_t forbidden = SECCOMP_RET_TRAP;

/** Arguments are 64 bits wide, and what is compared are integers of 32: the kernel looks at no more either. */
constexpr uint32_t lowWord(uint32_t argument) {
  constexpr bool little = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__;
  return static_cast<uint32_t>(offsetof(seccomp_data, args)) + argument * 8 + (little ? 0 : 4);
}

/** Ends a block in the generated list, and tells under which conditions it is part of the filter. */
inline constexpr uint16_t endMark = 0xffff;
constexpr sock_filter blockEnd(uint32_t conditions) { return {endMark, 0, 0, conditions}; }

// Processes of the launcher have lists of their own: nothing here may be shared between files of one program.
#ifndef FILTER_BLOCKS
#define FILTER_BLOCKS "filter-blocks.h"
#endif
#include FILTER_BLOCKS

/** Longest filter that the kernel takes is 4096. */
inline constexpr size_t filterMax = 2048;

/** Strings together the blocks whose conditions hold. @returns the number of instructions */
static inline size_t assemble(sock_filter* filter, uint32_t conditions) {
  size_t length = 0;
  filter[length++] = BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch));
  filter[length++] = BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, filterArchitecture, 1, 0);
  filter[length++] = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
  filter[length++] = BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr));
  const sock_filter* block = filterBlocks;
  for (const sock_filter& line : filterBlocks) {
    if (line.code != endMark) continue;
    const auto count = static_cast<size_t>(&line - block);
    if ((line.k & conditions) == line.k && length + count < filterMax) {
      memcpy(filter + length, block, count * sizeof *block);
      length += count;
    }
    block = &line + 1;
  }
  filter[length++] = BPF_STMT(BPF_RET | BPF_K, forbidden);
  return length;
}

}  // namespace passt
