/* SPDX-License-Identifier: Apache-2.0 */
#include "base/idle_memory.h"

#include <link.h>
#include <malloc.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include "base/bytes.h"
#include "base/thread.h"

#define PAGE_SIZE 4096u

/*
 * Code and constants are as in the file. What the start changed, relocated tables too, is in
 * segments that can be written. From the last segment to the first, which holds the headers read
 * here: it would be mapped again.
 */
static int unmap_unchanged(struct dl_phdr_info *object, size_t size, void *opaque)
{
    for (size_t i = object->dlpi_phnum; i-- > 0;) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
        uintptr_t start = object->dlpi_addr + segment->p_vaddr;
        uintptr_t end = align_up(start + segment->p_memsz, PAGE_SIZE);

        start = align_down(start, PAGE_SIZE);
        if (segment->p_type == PT_LOAD && (segment->p_flags & PF_W) == 0)
            (void)madvise((void *)start, end - start, MADV_DONTNEED); /* advice */
    }
    return 0;
}

void idle_memory_release(void)
{
#ifdef __GLIBC__
    (void)malloc_trim(0); /* says whether there was any */
#endif
    thread_trim_stack();
    (void)dl_iterate_phdr(unmap_unchanged, NULL); /* what unmap_unchanged returned */
}
