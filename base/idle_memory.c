/* SPDX-License-Identifier: Apache-2.0 */
#include "base/idle_memory.h"

#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/thread.h"

#define PAGE_SIZE ((size_t)4096)

/* Of an entry of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst). */
#define PAGEMAP_FILE (1ull << 61)
#define PAGEMAP_PRESENT (1ull << 63)

/* Entries read at once: they are on the stack of threads that keep to its first page. */
#define ENTRIES ((size_t)64)

/*
 * Drop the pages that are as in the file. Others are not: what a debugger or a probe wrote, and
 * code that was put elsewhere when the program began to run.
 */
static void drop_file_pages(int pagemap, uintptr_t start, size_t npages)
{
    uint64_t entries[ENTRIES];
    ssize_t n = pread(pagemap, entries, npages * sizeof(entries[0]),
                      (off_t)(start / PAGE_SIZE * sizeof(entries[0])));
    size_t known = n < 0 ? 0 : (size_t)n / sizeof(entries[0]);
    size_t first = 0;

    for (size_t i = 0; i <= known; i++) {
        if (i < known && (entries[i] & PAGEMAP_FILE || !(entries[i] & PAGEMAP_PRESENT)))
            continue;
        if (i > first)
            (void)madvise((void *)(start + first * PAGE_SIZE), (i - first) * PAGE_SIZE,
                          MADV_DONTNEED); /* advice */
        first = i + 1;
    }
}

/*
 * What the start changed, relocated tables too, is in segments that can be written. From the last
 * segment to the first, which holds the headers read here: it would be mapped again.
 */
static int unmap_unchanged(struct dl_phdr_info *object, size_t size, void *opaque)
{
    const int *pagemap = opaque;

    for (size_t i = object->dlpi_phnum; i-- > 0;) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
        uintptr_t start = object->dlpi_addr + segment->p_vaddr;
        uintptr_t end = align_up(start + segment->p_memsz, PAGE_SIZE);

        start = align_down(start, PAGE_SIZE);
        if (segment->p_type != PT_LOAD || (segment->p_flags & PF_W))
            continue;
        for (; start < end; start += ENTRIES * PAGE_SIZE)
            drop_file_pages(*pagemap, start, min_u64(ENTRIES, (end - start) / PAGE_SIZE));
    }
    return 0;
}

/* What all threads use. */
static void release_shared(void)
{
    int pagemap;

#ifdef __GLIBC__
    (void)malloc_trim(0); /* says whether there was any */
#endif
    pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pagemap < 0)
        return;
    (void)dl_iterate_phdr(unmap_unchanged, &pagemap); /* what unmap_unchanged returned */
    close(pagemap);
}

void idle_memory_release(void)
{
    release_shared();
    thread_trim_stack(); /* last: the other takes some of it */
}

/* ---- parts that work now and then ------------------------------------------------------------ */

static atomic_uint working;

void idle_memory_work_begins(void)
{
    atomic_fetch_add(&working, 1);
}

/* One that begins just after the last has ended is disturbed once, which does no harm. */
void idle_memory_work_ends(void)
{
    if (atomic_fetch_sub(&working, 1) == 1)
        release_shared();
    thread_trim_stack();
}

void idle_memory_work_leaves(void)
{
    atomic_fetch_sub(&working, 1);
}
