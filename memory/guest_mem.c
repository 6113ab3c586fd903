/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/guest_mem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <linux/mman.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"

#define PAGE_SIZE 4096u

/*
 * Host addresses of regions are multiples of the huge page size, as the guest addresses of all but
 * odd regions are: only then can the host back guest memory with transparent huge pages.
 */
#define HUGE_PAGE_SIZE (2 * MIB)

/*
 * No page of guest memory goes back to the host: of the pool's, another VM could take it, and what
 * was provided beforehand shall be there. Of this process, which has one guest at a time.
 */
static atomic_bool keeps_pages;

/* Nothing outside of [begin, end) is mapped from a file; of this process, too. */
static struct {
    atomic_uintptr_t begin;
    atomic_uintptr_t end;
} file_pages;

static int check_ranges(const struct mem_range *ranges, size_t nranges, struct err *err)
{
    uint64_t min_gpa = 0;

    if (nranges == 0 || nranges > GUEST_MEM_REGIONS_MAX)
        return err_set(err, -EINVAL, "guest memory: %zu regions, expected 1 to %d", nranges,
                       GUEST_MEM_REGIONS_MAX);
    for (size_t i = 0; i < nranges; i++) {
        const struct mem_range *range = &ranges[i];
        uint64_t end;

        if (range->len == 0 || !is_aligned(range->gpa | range->len, PAGE_SIZE) ||
            !add_u64(range->gpa, range->len, &end) || range->gpa < min_gpa)
            return err_set(err, -EINVAL,
                           "guest memory: bad region of %#llx bytes at %#llx: expected whole "
                           "pages above the region before",
                           (unsigned long long)range->len, (unsigned long long)range->gpa);
        min_gpa = end + 1; /* regions that touch should have been one */
    }
    return 0;
}

/* No program that is given the file may shorten it: we would die of SIGBUS. Holes are allowed. */
#define MEMORY_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* A file that consists of memory, with holes where nobody wrote. Its descriptor or -errno. */
static int make_memory_file(uint64_t len, unsigned flags)
{
    int fd, r;

    if (len > INT64_MAX)
        return -EFBIG;
    fd = memfd_create("guest memory", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)len) == 0 && fcntl(fd, F_ADD_SEALS, MEMORY_SEALS) == 0)
        return fd;
    r = -errno;
    close(fd);
    return r;
}

static int share_region(struct mem_region *region, struct err *err)
{
    int fd = make_memory_file(region->len, 0);

    /* In place of what is there: where that fails, there is no guest. */
    if (fd < 0 || mmap(region->host, region->len, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0) == MAP_FAILED) {
        int r = fd < 0 ? fd : -errno;

        if (fd >= 0)
            close(fd);
        return err_set_errno(err, r, "guest memory: cannot share %llu MiB",
                             (unsigned long long)(region->len / MIB));
    }
    region->fd = fd;
    (void)madvise(region->host, region->len, MADV_DONTDUMP); /* advice */
    return 0;
}

/*
 * Reserve more than asked for and give back what lies before and after the aligned part. No page
 * is touched and none is accounted for (MAP_NORESERVE), so 64 GiB cost what 128 MiB cost. Guest
 * memory stays out of core dumps: it is large and not ours to show.
 */
static int map_region(struct mem_region *region, const struct mem_range *range, struct err *err)
{
    uint64_t reserved;
    uint64_t head;
    uint8_t *host;

    if (!add_u64(range->len, HUGE_PAGE_SIZE, &reserved) || reserved > SIZE_MAX)
        return err_set(err, -ENOMEM, "guest memory: cannot map %llu MiB: no such address space",
                       (unsigned long long)(range->len / MIB));
    host = mmap(NULL, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                -1, 0);
    if (host == MAP_FAILED)
        return err_set_errno(err, -errno, "guest memory: cannot map %llu MiB",
                             (unsigned long long)(range->len / MIB));

    head = align_up((uintptr_t)host, HUGE_PAGE_SIZE) - (uintptr_t)host;
    if (head > 0)
        (void)munmap(host, head); /* cannot fail; what stays mapped would be address space only */
    (void)munmap(host + head + range->len, HUGE_PAGE_SIZE - head);
    host += head;
    (void)madvise(host, range->len, MADV_DONTDUMP); /* advice */

    *region = (struct mem_region){.gpa = range->gpa, .len = range->len, .host = host, .fd = -1};
    return 0;
}

static int make(const struct mem_range *ranges, size_t nranges, bool shared,
                struct guest_mem **ret_mem, struct err *err)
{
    struct guest_mem *mem;
    int r;

    r = check_ranges(ranges, nranges, err);
    if (r < 0)
        return r;
    mem = calloc(1, sizeof(*mem));
    if (!mem)
        return err_set(err, -ENOMEM, "guest memory: out of memory");
    for (size_t i = 0; i < nranges; i++) {
        r = map_region(&mem->regions[i], &ranges[i], err);
        if (r == 0)
            mem->nregions++;
        if (r == 0 && shared)
            r = share_region(&mem->regions[i], err);
        if (r < 0) {
            guest_mem_free(mem);
            return r;
        }
    }
    atomic_store(&file_pages.begin, 0);
    atomic_store(&file_pages.end, 0);
    *ret_mem = mem;
    return 0;
}

int guest_mem_new(const struct mem_range *ranges, size_t nranges, struct guest_mem **ret_mem,
                  struct err *err)
{
    return make(ranges, nranges, false, ret_mem, err);
}

int guest_mem_new_shared(const struct mem_range *ranges, size_t nranges, struct guest_mem **ret_mem,
                         struct err *err)
{
    return make(ranges, nranges, true, ret_mem, err);
}

void guest_mem_free(struct guest_mem *mem)
{
    if (!mem)
        return;
    for (size_t i = 0; i < mem->nregions; i++) {
        (void)munmap(mem->regions[i].host, mem->regions[i].len); /* ours, so it cannot fail */
        if (mem->regions[i].fd >= 0)
            close(mem->regions[i].fd);
    }
    free(mem);
}

/* ---- pages of the host ----------------------------------------------------------------------- */

#define POOL_FREE "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages"

/* Free pages in the host's pool of huge pages; 0 where it has none. */
static unsigned long long pool_free_pages(void)
{
    unsigned long long pages = 0;
    FILE *file = fopen(POOL_FREE, "re");

    if (!file)
        return 0;
    if (fscanf(file, "%llu", &pages) != 1)
        pages = 0;
    (void)fclose(file); /* it was only read */
    return pages;
}

/*
 * Without MAP_NORESERVE the host sets the pages aside, so that none is missing while the VM runs.
 * Returns MAP_FAILED with errno set; *ret_fd is the file of shared memory, or -1.
 */
static void *map_pool(const struct mem_region *region, int *ret_fd)
{
    void *host;
    int fd;

    *ret_fd = -1;
    if (region->fd < 0)
        return mmap(NULL, region->len, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_2MB, -1, 0);
    fd = make_memory_file(region->len, MFD_HUGETLB | MFD_HUGE_2MB);
    if (fd < 0) {
        errno = -fd;
        return MAP_FAILED;
    }
    host = mmap(NULL, region->len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (host == MAP_FAILED)
        close(fd); /* which leaves errno alone: there is nothing to write back */
    else
        *ret_fd = fd;
    return host;
}

static int use_pool(struct mem_region *region, struct err *err)
{
    void *host;
    int fd;

    if (!is_aligned(region->len, HUGE_PAGE_SIZE))
        return err_set(err, -EINVAL,
                       "guest memory: %llu MiB: expected whole pages of 2 MiB, an even number",
                       (unsigned long long)(region->len / MIB));
    /*
     * Not in place of what is there: a failure might leave a hole, which another thread could fill.
     */
    host = map_pool(region, &fd);
    if (host == MAP_FAILED)
        return err_set_errno(err, -errno,
                             "guest memory: cannot have %llu huge pages of 2 MiB (the host has "
                             "%llu free; `sysctl vm.nr_hugepages=N` sets how many there are)",
                             (unsigned long long)(region->len / HUGE_PAGE_SIZE), pool_free_pages());
    (void)munmap(region->host, region->len); /* ours, so it cannot fail */
    if (region->fd >= 0)
        close(region->fd);
    region->fd = fd;
    region->host = host;
    (void)madvise(region->host, region->len, MADV_DONTDUMP); /* advice */
    return 0;
}

void guest_mem_keep_pages(bool keep)
{
    atomic_store(&keeps_pages, keep);
}

int guest_mem_use_pages(struct guest_mem *mem, enum guest_pages pages, struct err *err)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < mem->nregions; i++) {
        if (pages == GUEST_PAGES_2M)
            r = use_pool(&mem->regions[i], err);
        else if (pages == GUEST_PAGES_THP)
            /* Advice, which only a kernel built without transparent huge pages refuses. */
            (void)madvise(mem->regions[i].host, mem->regions[i].len, MADV_HUGEPAGE);
    }
    return r;
}

/* ---- access ---------------------------------------------------------------------------------- */

int guest_mem_at(const struct guest_mem *mem, uint64_t gpa, size_t len, void **ret_ptr)
{
    for (size_t i = 0; i < mem->nregions; i++) {
        const struct mem_region *region = &mem->regions[i];

        if (gpa >= region->gpa && gpa - region->gpa < region->len) {
            uint64_t off = gpa - region->gpa;

            if (!range_fits(off, len, region->len))
                return -EFAULT;
            *ret_ptr = region->host + off;
            return 0;
        }
    }
    return -EFAULT;
}

int guest_mem_read(const struct guest_mem *mem, uint64_t gpa, void *buf, size_t len)
{
    void *host;
    int r;

    r = guest_mem_at(mem, gpa, len, &host);
    if (r < 0)
        return r;
    guest_mem_fetch(buf, host, len);
    return 0;
}

int guest_mem_write(const struct guest_mem *mem, uint64_t gpa, const void *buf, size_t len)
{
    void *host;
    int r;

    r = guest_mem_at(mem, gpa, len, &host);
    if (r < 0)
        return r;
    memcpy(host, buf, len);
    return 0;
}

void guest_mem_prefer_huge(uint8_t *host, size_t len)
{
    (void)madvise(host, len, MADV_HUGEPAGE); /* advice: the host may have none */
}

/* Whole pages of a private mapping read as zeros once they are given back. */
void guest_mem_clear(uint8_t *host, size_t len)
{
    size_t head = min_u64(len, align_up((uintptr_t)host, PAGE_SIZE) - (uintptr_t)host);
    size_t pages = align_down(len - head, PAGE_SIZE);

    if (atomic_load(&keeps_pages)) {
        memset(host, 0, len);
        return;
    }
    memset(host, 0, head);
    if (pages > 0 && madvise(host + head, pages, MADV_DONTNEED) < 0)
        memset(host + head, 0, pages);
    memset(host + head + pages, 0, len - head - pages);
}

static bool is_shared(const struct guest_mem *mem, const uint8_t *host)
{
    for (size_t i = 0; i < mem->nregions; i++) {
        const struct mem_region *region = &mem->regions[i];

        if (host >= region->host && host < region->host + region->len)
            return region->fd >= 0;
    }
    return false;
}

void guest_mem_discard(const struct guest_mem *mem, uint8_t *host, size_t len)
{
    /* Of shared memory the file gets a hole; otherwise other mappings would still have the page. */
    const int advice = is_shared(mem, host) ? MADV_REMOVE : MADV_DONTNEED;
    const uintptr_t begin = align_up((uintptr_t)host, PAGE_SIZE);
    const uintptr_t end = align_down((uintptr_t)host + len, PAGE_SIZE);
    const uintptr_t file_begin = max_u64(begin, atomic_load(&file_pages.begin));
    const uintptr_t file_end = min_u64(end, atomic_load(&file_pages.end));

    /* What the host does not take is kept. */
    if (file_begin >= file_end) {
        if (begin < end)
            (void)madvise((void *)begin, end - begin, advice);
        return;
    }
    if (begin < file_begin)
        (void)madvise((void *)begin, file_begin - begin, advice);
    if (file_end < end)
        (void)madvise((void *)file_end, end - file_end, advice);
}

static void note_file_pages(const uint8_t *host, size_t len)
{
    uintptr_t begin = atomic_load(&file_pages.begin), end = atomic_load(&file_pages.end);

    if (begin == end || (uintptr_t)host < begin)
        atomic_store(&file_pages.begin, (uintptr_t)host);
    if ((uintptr_t)host + len > end)
        atomic_store(&file_pages.end, (uintptr_t)host + len);
}

/*
 * The host makes room before it knows that a mapping can be made, so one that is made in its place
 * can leave a hole, which another thread would fill. A file is therefore mapped elsewhere and moved
 * here: what can go wrong with it went wrong before.
 */
int guest_mem_map_file(uint8_t *host, size_t len, int fd, uint64_t off)
{
    void *elsewhere =
        mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, (off_t)off);

    if (elsewhere == MAP_FAILED)
        return -errno;
    (void)madvise(elsewhere, len, MADV_DONTDUMP); /* advice */
    note_file_pages(host, len);
    if (mremap(elsewhere, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, host) == host)
        return 0;
    (void)munmap(elsewhere, len); /* ours, so it cannot fail */
    /* If there is a hole, nobody shall fill it: all of guest memory is unmapped some day. */
    (void)mmap(host, len, PROT_NONE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1, 0);
    return GUEST_MEM_LOST;
}

int guest_mem_unmap_file(uint8_t *host, size_t len)
{
    if (mmap(host, len, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
        return GUEST_MEM_LOST;
    (void)madvise(host, len, MADV_DONTDUMP); /* advice */
    return 0;
}

uint64_t guest_mem_size(const struct guest_mem *mem)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < mem->nregions; i++)
        sum += mem->regions[i].len;
    return sum;
}
