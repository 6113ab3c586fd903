/* SPDX-License-Identifier: Apache-2.0 */
#include "base/io_memory.h"

#include <stdint.h>
#include <sys/mman.h>

#include "base/bytes.h"

#define HUGE_PAGE ((size_t)2 << 20)

/* Less than this would waste most of a huge page. */
#define HUGE_MIN (HUGE_PAGE / 2)

static size_t mapped_len(size_t len)
{
    return align_up(len, len < HUGE_MIN ? 4096 : HUGE_PAGE);
}

static void *map(size_t len)
{
    void *memory =
        mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

/*
 * Without what lies beside the huge pages. Giving back a part of a mapping of our own cannot fail.
 */
static void *map_huge(size_t len)
{
    uint8_t *memory = map(len + HUGE_PAGE);
    size_t head;

    if (!memory)
        return NULL;
    head = align_up((uintptr_t)memory, HUGE_PAGE) - (uintptr_t)memory;
    if (head > 0)
        (void)munmap(memory, head);
    if (head < HUGE_PAGE)
        (void)munmap(memory + head + len, HUGE_PAGE - head);
    (void)madvise(memory + head, len, MADV_HUGEPAGE); /* advice: the host may have none */
    return memory + head;
}

void *io_memory_new(size_t len)
{
    if (len > SIZE_MAX / 2)
        return NULL;
    return len < HUGE_MIN ? map(mapped_len(len)) : map_huge(mapped_len(len));
}

void io_memory_free(void *memory, size_t len)
{
    if (memory)
        (void)munmap(memory, mapped_len(len)); /* cannot fail for a mapping of our own */
}
