/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest physical memory: RAM regions, each one piece of host memory.
 *
 * The table is built at set-up and constant while vCPUs run, so lookups take no lock and any
 * thread may make them. The pages are mapped and untouched until the guest or a loader touches
 * them. A guest can change what it points at any time: copy a value once, decide on the copy.
 */
#ifndef MINIVMM_MEMORY_GUEST_MEM_H
#define MINIVMM_MEMORY_GUEST_MEM_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/compiler.h"
#include "base/err.h"

struct mem_region {
    uint64_t gpa;
    uint64_t len;
    uint8_t *host;
    int fd; /* of shared memory: a file of `len` bytes, all of it mapped at `host`; else -1 */
};

#define GUEST_MEM_REGIONS_MAX 8

struct guest_mem {
    struct mem_region regions[GUEST_MEM_REGIONS_MAX]; /* ascending, not touching each other */
    size_t nregions;
};

struct mem_range {
    uint64_t gpa;
    uint64_t len;
};

/*
 * Map RAM for each range (page-aligned, ascending, not touching each other). Cost does not depend
 * on the size. 0, or a negative errno with *err filled.
 */
int guest_mem_new(const struct mem_range *ranges, size_t nranges, struct guest_mem **ret_mem,
                  struct err *err) MUST_CHECK;

/*
 * The same in memory that another process can map: each region is a file without a name, which is
 * passed on by its descriptor. All mappings of it shall have the same, so guest_mem_map_file must
 * not be used, and guest_mem_keep_pages is to be set.
 */
int guest_mem_new_shared(const struct mem_range *ranges, size_t nranges, struct guest_mem **ret_mem,
                         struct err *err) MUST_CHECK;
void guest_mem_free(struct guest_mem *mem);

/* Which pages of the host guest memory consists of. */
enum guest_pages {
    GUEST_PAGES_THP,  /* transparent huge pages where the host finds some, small ones elsewhere */
    GUEST_PAGES_HOST, /* as the host is set up */
    GUEST_PAGES_2M,   /* pages of 2 MiB from the host's pool, which are reserved at once */
};

/*
 * Let all of guest memory, in which there is nothing yet, consist of such pages. 0, or a negative
 * errno with *err filled; of the memory, only guest_mem_free may be called then.
 */
int guest_mem_use_pages(struct guest_mem *mem, enum guest_pages pages, struct err *err) MUST_CHECK;

/*
 * Does guest_mem_clear leave pages to the guest instead of giving them back to the host? For a
 * pool's pages, those that are provided beforehand, and shared ones, which would not read as zeros.
 * Before anything is cleared.
 */
void guest_mem_keep_pages(bool keep);

/*
 * Map a guest range to host memory.
 *
 * Returns 0 and sets *ret_ptr, valid until guest_mem_free; -EFAULT if any byte of
 * [gpa, gpa + len) lies outside RAM or the range crosses two regions. len 0 is valid anywhere in
 * RAM.
 */
int guest_mem_at(const struct guest_mem *mem, uint64_t gpa, size_t len, void **ret_ptr) MUST_CHECK;

/*
 * Fetch a value through a pointer that guest_mem_at gave. The compiler may not look at `host` again
 * when `buf` is used: what was checked is what is acted on.
 */
static inline void guest_mem_fetch(void *buf, const void *host, size_t len)
{
    memcpy(buf, host, len);
    __asm__ volatile("" : : : "memory");
}

/* Copy out of or into guest memory. 0 or -EFAULT, nothing copied then. */
int guest_mem_read(const struct guest_mem *mem, uint64_t gpa, void *buf, size_t len) MUST_CHECK;
int guest_mem_write(const struct guest_mem *mem, uint64_t gpa, const void *buf,
                    size_t len) MUST_CHECK;

/*
 * Advise the host to use huge pages for `len` bytes of guest memory that are about to be filled
 * and begin with a page: they are found faster than small ones.
 */
void guest_mem_prefer_huge(uint8_t *host, size_t len);

/*
 * Let [host, host + len), a piece of one region, read as zeros, and give the pages back to the
 * host. Before the guest runs.
 */
void guest_mem_clear(uint8_t *host, size_t len);

/*
 * Give back to the host what of [host, host + len), a piece of one region, is whole pages; they
 * read as zeros then. Pages that the host does not take, and those around what is mapped from a
 * file, which would read as that file, keep their contents. While the guest runs, on any thread.
 */
void guest_mem_discard(const struct guest_mem *mem, uint8_t *host, size_t len);

/*
 * Let `len` bytes of guest memory at `host`, whole pages, be those of a file from `off` on; what
 * the guest writes there does not reach the file. 0; -errno, the memory being as it was; or
 * GUEST_MEM_LOST: there may be nothing mapped at `host` any more, and this guest cannot start.
 * Before the guest runs.
 */
int guest_mem_map_file(uint8_t *host, size_t len, int fd, uint64_t off) MUST_CHECK;

/* Let it be plain memory again, and zero. 0 or GUEST_MEM_LOST. */
int guest_mem_unmap_file(uint8_t *host, size_t len) MUST_CHECK;

/* No other error has this number. */
#define GUEST_MEM_LOST (-ENOTRECOVERABLE)

/* Sum of all regions in bytes. */
uint64_t guest_mem_size(const struct guest_mem *mem);

#endif
