/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compiler attributes and the few macros that the whole project uses.
 */
#ifndef MINIVMM_BASE_COMPILER_H
#define MINIVMM_BASE_COMPILER_H

#include <stddef.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))
#define NORETURN __attribute__((noreturn))
#define UNUSED __attribute__((unused))
#define PACKED __attribute__((packed))
#define NO_SANITIZE __attribute__((no_sanitize("address", "thread")))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* The object of type `type` whose member `member` is at `ptr`. */
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#endif
