/* In front of each file of the addon that is compiled for musl with the compiler's own C++ headers, which were set up for glibc: what
 * these miss. No code of glibc's gets in: what is left undefined is looked for in tools/packages/prebuild.ts. */
#pragma once
#include <pthread.h>
#include <stddef.h>
#define __GLIBC_PREREQ(major, minor) 0
#define __locale_t locale_t
/* Named by a header; musl has it from 1.2.4 on. Nobody calls it. */
extern "C" int pthread_cond_clockwait(pthread_cond_t*, pthread_mutex_t*, clockid_t, const struct timespec*);
