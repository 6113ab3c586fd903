/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/guest_mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/bytes.h"
#include "memory/guest_mem_populate.h"
#include "tests/lib/host_calls.h"
#include "tests/lib/unit.h"

#define PAGE 4096ul

/* 1 MiB at 0, a hole, 2 MiB at 16 MiB. */
static const struct mem_range two_ranges[] = {
    {.gpa = 0, .len = 1 * MIB},
    {.gpa = 16 * MIB, .len = 2 * MIB},
};

static struct guest_mem *new_mem(const struct mem_range *ranges, size_t nranges)
{
    struct guest_mem *mem;
    struct err err = {0};

    ck_assert_msg(guest_mem_new(ranges, nranges, &mem, &err) == 0, "%s", err.msg);
    return mem;
}

START_TEST(addresses_inside_and_outside)
{
    static const struct {
        uint64_t gpa;
        size_t len;
        int result;
    } cases[] = {
        {0, 1, 0},
        {0, 1 * MIB, 0},
        {1 * MIB - 1, 1, 0},
        {1 * MIB - 1, 2, -EFAULT},        /* leaves the region */
        {1 * MIB, 1, -EFAULT},            /* the hole */
        {0, 17 * MIB, -EFAULT},           /* across the hole */
        {16 * MIB, 2 * MIB, 0},           /* all of the second */
        {16 * MIB, 2 * MIB + 1, -EFAULT}, /* one byte too many */
        {18 * MIB, 0, -EFAULT},           /* past the end, even for nothing */
        {16 * MIB, 0, 0},                 /* nothing, inside */
        {17 * MIB, SIZE_MAX, -EFAULT},    /* the sum wraps */
        {UINT64_MAX, 1, -EFAULT},
        {UINT64_MAX, SIZE_MAX, -EFAULT},
        {UINT64_MAX - 4095, 8192, -EFAULT} /* wraps to a valid address */
    };
    struct guest_mem *mem = new_mem(two_ranges, 2);

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        void *ptr = NULL;

        ck_assert_msg(guest_mem_at(mem, cases[i].gpa, cases[i].len, &ptr) == cases[i].result,
                      "case %zu", i);
        ck_assert_msg((ptr != NULL) == (cases[i].result == 0), "case %zu", i);
    }
    guest_mem_free(mem);
}
END_TEST

START_TEST(memory_is_zero_and_keeps_what_is_written)
{
    struct guest_mem *mem = new_mem(two_ranges, 2);
    uint8_t buf[4] = {1, 2, 3, 4};
    uint8_t back[4] = {9, 9, 9, 9};

    ck_assert_int_eq(guest_mem_read(mem, 18 * MIB - 4, back, 4), 0);
    ck_assert_mem_eq(back, "\0\0\0\0", 4);
    ck_assert_int_eq(guest_mem_write(mem, 18 * MIB - 4, buf, 4), 0);
    ck_assert_int_eq(guest_mem_read(mem, 18 * MIB - 4, back, 4), 0);
    ck_assert_mem_eq(back, buf, 4);
    guest_mem_free(mem);
}
END_TEST

START_TEST(access_outside_copies_nothing)
{
    struct guest_mem *mem = new_mem(two_ranges, 2);
    uint8_t buf[2] = {7, 7};
    uint8_t last = 9;

    ck_assert_int_eq(guest_mem_write(mem, 1 * MIB - 1, buf, 2), -EFAULT);
    ck_assert_int_eq(guest_mem_read(mem, 1 * MIB - 1, &last, 1), 0);
    ck_assert_int_eq(last, 0);
    ck_assert_int_eq(guest_mem_read(mem, 1 * MIB - 1, buf, 2), -EFAULT);
    ck_assert_int_eq(buf[0], 7);
    guest_mem_free(mem);
}
END_TEST

START_TEST(host_addresses_allow_huge_pages)
{
    struct guest_mem *mem = new_mem(two_ranges, 2);

    for (size_t i = 0; i < mem->nregions; i++)
        ck_assert(is_aligned((uintptr_t)mem->regions[i].host, 2 * MIB));
    ck_assert_uint_eq(guest_mem_size(mem), 3 * MIB);
    guest_mem_free(mem);
}
END_TEST

/* Memory of this process in pages. */
static void get_statm(unsigned long *ret_mapped, unsigned long *ret_resident)
{
    FILE *file = fopen("/proc/self/statm", "r");

    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fscanf(file, "%lu %lu", ret_mapped, ret_resident), 2);
    fclose(file);
}

START_TEST(large_memory_costs_nothing_until_touched)
{
    const struct mem_range range = {.gpa = 0, .len = 64 * GIB};
    unsigned long mapped;
    unsigned long before;
    unsigned long after;
    struct guest_mem *mem;

    get_statm(&mapped, &before);
    mem = new_mem(&range, 1);
    get_statm(&mapped, &after);
    ck_assert_uint_lt(after, before + 1024); /* a sanitizer touches some of its own */
    ck_assert_int_eq(guest_mem_write(mem, 64 * GIB - 1, "x", 1), 0);
    guest_mem_free(mem);
}
END_TEST

START_TEST(bad_ranges_are_refused_by_name)
{
    static const struct {
        struct mem_range ranges[2];
        size_t nranges;
    } cases[] = {
        {{{0, 0}}, 1},                                  /* empty */
        {{{0, 4095}}, 1},                               /* not whole pages */
        {{{1, 4096}}, 1},                               /* not on a page */
        {{{0, 8192}, {4096, 4096}}, 2},                 /* overlap */
        {{{0, 4096}, {4096, 4096}}, 2},                 /* touch */
        {{{8192, 4096}, {0, 4096}}, 2},                 /* descending */
        {{{UINT64_MAX - 4095, 8192}}, 1},               /* wraps */
        {{{0, 4096}}, 0},                               /* none */
        {{{0, 4096}, {8192, UINT64_MAX - 8192 + 1}}, 2} /* ends past the last address */
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct guest_mem *mem = NULL;
        struct err err = {0};

        ck_assert_msg(guest_mem_new(cases[i].ranges, cases[i].nranges, &mem, &err) == -EINVAL,
                      "case %zu", i);
        ck_assert_ptr_null(mem);
        ck_assert_ptr_nonnull(strstr(err.msg, "guest memory"));
    }
}
END_TEST

START_TEST(no_address_space_says_how_much_was_wanted)
{
    const struct mem_range range = {.gpa = 0, .len = 1ull << 60};
    struct guest_mem *mem = NULL;
    struct err err = {0};

    ck_assert_int_eq(guest_mem_new(&range, 1, &mem, &err), -ENOMEM);
    ck_assert_ptr_null(mem);
    ck_assert_ptr_nonnull(strstr(err.msg, "1099511627776 MiB"));
}
END_TEST

START_TEST(failure_of_a_later_region_unmaps_the_earlier)
{
    const struct mem_range ranges[] = {
        {.gpa = 0, .len = 1 * GIB},
        {.gpa = 4 * GIB, .len = 1ull << 60},
    };
    struct guest_mem *mem = NULL;
    unsigned long resident;
    unsigned long before;
    unsigned long after;

    get_statm(&before, &resident);
    ck_assert_int_eq(guest_mem_new(ranges, 2, &mem, NULL), -ENOMEM);
    get_statm(&after, &resident);
    ck_assert_ptr_null(mem);
    ck_assert_uint_lt(after, before + 1 * GIB / 4096);
}
END_TEST

START_TEST(cleared_memory_is_zero_and_its_neighbours_stay)
{
    const struct mem_range range = {.gpa = 0, .len = 64 * KIB};
    static const size_t ranges[][2] = {{0, 0},       {0, 4096},   {1, 4094},  {4095, 2},
                                       {100, 10000}, {4096, 1},   {0, 65536}, {5000, 60536},
                                       {8191, 4098}, {4000, 100}, {65536, 0}};

    for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
        size_t off = ranges[i][0], len = ranges[i][1];
        struct guest_mem *mem = NULL;
        uint8_t expected[64 * KIB];
        void *host;

        ck_assert_int_eq(guest_mem_new(&range, 1, &mem, NULL), 0);
        ck_assert_int_eq(guest_mem_at(mem, 0, sizeof(expected), &host), 0);
        memset(host, 0x5a, sizeof(expected));
        memset(expected, 0x5a, sizeof(expected));
        memset(expected + off, 0, len);
        guest_mem_clear((uint8_t *)host + off, len);
        ck_assert_mem_eq(host, expected, sizeof(expected));
        guest_mem_free(mem);
    }
}
END_TEST

START_TEST(a_mapped_file_is_read_and_never_written)
{
    const struct mem_range range = {.gpa = 0, .len = 64 * KIB};
    struct guest_mem *mem = NULL;
    uint8_t page[4096], *host;
    FILE *file = tmpfile();
    int fd = fileno(file);
    void *start;

    memset(page, 0x11, sizeof(page));
    ck_assert_int_eq(pwrite(fd, page, sizeof(page), 0), sizeof(page));
    memset(page, 0x22, sizeof(page));
    ck_assert_int_eq(pwrite(fd, page, sizeof(page), sizeof(page)), sizeof(page));
    ck_assert_int_eq(guest_mem_new(&range, 1, &mem, NULL), 0);
    ck_assert_int_eq(guest_mem_at(mem, 0, 64 * KIB, &start), 0);
    host = start;
    memset(host, 0x33, 64 * KIB);
    ck_assert_int_eq(guest_mem_map_file(host + 8192, 4096, fd, 4096), 0);
    ck_assert_mem_eq(host + 8192, page, sizeof(page));
    ck_assert_uint_eq(host[8191], 0x33);
    ck_assert_uint_eq(host[8192 + 4096], 0x33);
    host[8192] = 0x44;
    ck_assert_int_eq(pread(fd, page, 1, 4096), 1);
    ck_assert_uint_eq(page[0], 0x22);

    ck_assert_int_eq(guest_mem_unmap_file(host + 8192, 4096), 0);
    memset(page, 0, sizeof(page));
    ck_assert_mem_eq(host + 8192, page, sizeof(page));
    ck_assert_uint_eq(host[8191], 0x33);

    /* What cannot be mapped leaves the memory alone. */
    ck_assert_int_eq(guest_mem_map_file(host, 4096, -1, 0), -EBADF);
    host_calls[HOST_MMAP] = (struct host_call){.fail = 1, .error = ENOMEM};
    ck_assert_int_eq(guest_mem_map_file(host, 4096, fd, 0), -ENOMEM);
    for (size_t i = 0; i < 4096; i++)
        ck_assert_uint_eq(host[i], 0x33);
    guest_mem_free(mem);
    (void)fclose(file);
}
END_TEST

/* A hole that the host leaves is plugged, and the caller told. */
START_TEST(a_mapping_that_fails_half_way_is_told_apart)
{
    const struct mem_range range = {.gpa = 0, .len = 64 * KIB};
    struct guest_mem *mem = NULL;
    FILE *file = tmpfile();
    unsigned char in_core;
    void *host;

    ck_assert_int_eq(ftruncate(fileno(file), 4096), 0);
    ck_assert_int_eq(guest_mem_new(&range, 1, &mem, NULL), 0);
    ck_assert_int_eq(guest_mem_at(mem, 0, 64 * KIB, &host), 0);
    host_calls[HOST_MREMAP] = (struct host_call){.fail = 2, .error = ENOMEM};
    ck_assert_int_eq(guest_mem_map_file(host, 4096, fileno(file), 0), GUEST_MEM_LOST);
    memset(host, 0x33, 4096);
    ck_assert_int_eq(munmap(host, 4096), 0);
    ck_assert_int_eq(guest_mem_map_file(host, 4096, fileno(file), 0), GUEST_MEM_LOST);
    ck_assert_int_eq(mincore(host, 4096, &in_core), 0);
    host_calls[HOST_MMAP] = (struct host_call){.fail = 1, .error = ENOMEM};
    ck_assert_int_eq(guest_mem_unmap_file(host, 4096), GUEST_MEM_LOST);
    guest_mem_free(mem);
    (void)fclose(file);
}
END_TEST

/* What the host says of the mapping that begins at `host`: its flags, such as " hg ". */
static void read_flags(const void *host, char ret_flags[512])
{
    FILE *file = fopen("/proc/self/smaps", "re");
    unsigned long long start, end;
    bool found = false;
    char line[512];

    ck_assert_ptr_nonnull(file);
    ret_flags[0] = '\0';
    while (ret_flags[0] == '\0' && fgets(line, sizeof(line), file)) {
        if (sscanf(line, "%llx-%llx ", &start, &end) == 2)
            found = start == (uintptr_t)host;
        else if (found && strncmp(line, "VmFlags:", 8) == 0)
            memcpy(ret_flags, line + 8, strlen(line + 8) + 1);
    }
    (void)fclose(file);
}

static size_t count_resident(uint8_t *host, size_t len)
{
    unsigned char pages[4096];
    size_t n = 0;

    for (size_t off = 0; off < len; off += sizeof(pages) * 4096) {
        size_t piece = min_u64(len - off, sizeof(pages) * 4096);

        ck_assert_int_eq(mincore(host + off, piece, pages), 0);
        for (size_t i = 0; i < piece / 4096; i++)
            n += pages[i] & 1;
    }
    return n;
}

/* ---- memory that goes back while the guest runs ---------------------------------------------- */

static bool is_filled(const uint8_t *host, size_t len, uint8_t byte)
{
    for (size_t i = 0; i < len; i++)
        if (host[i] != byte)
            return false;
    return true;
}

static void check_discarding(struct guest_mem *mem)
{
    uint8_t *host = mem->regions[0].host;

    memset(host, 0x33, 64 * KIB);
    guest_mem_discard(mem, host + PAGE - 1, 2 * PAGE + 2); /* two pages of it are whole */
    ck_assert(is_filled(host, PAGE, 0x33));
    ck_assert_uint_eq(count_resident(host + PAGE, 2 * PAGE), 0);
    ck_assert(is_filled(host + PAGE, 2 * PAGE, 0));
    ck_assert(is_filled(host + 3 * PAGE, PAGE, 0x33));
    guest_mem_discard(mem, host + 1, PAGE - 1);
    guest_mem_discard(mem, host, 0);
    ck_assert(is_filled(host, PAGE, 0x33));
}

START_TEST(discarded_pages_read_as_zeroes)
{
    struct guest_mem *mem = new_mem(two_ranges, 2);

    check_discarding(mem);
    guest_mem_free(mem);
}
END_TEST

/* Given back, they would read as the file and not as zeroes. */
START_TEST(pages_of_files_are_not_discarded)
{
    struct guest_mem *mem = new_mem(two_ranges, 2);
    uint8_t *host = mem->regions[0].host;
    FILE *file = tmpfile();

    memset(host, 0x33, 64 * KIB);
    ck_assert_int_eq(ftruncate(fileno(file), 2 * PAGE), 0);
    ck_assert_int_eq(guest_mem_map_file(host + 2 * PAGE, PAGE, fileno(file), 0), 0);
    ck_assert_int_eq(guest_mem_map_file(host + 4 * PAGE, PAGE, fileno(file), 0), 0);
    memset(host + 2 * PAGE, 0x44, PAGE);
    memset(host + 4 * PAGE, 0x44, PAGE);
    guest_mem_discard(mem, host, 64 * KIB);
    ck_assert(is_filled(host, 2 * PAGE, 0));
    ck_assert(is_filled(host + 2 * PAGE, PAGE, 0x44));
    ck_assert(is_filled(host + 4 * PAGE, PAGE, 0x44));
    ck_assert(is_filled(host + 5 * PAGE, 64 * KIB - 5 * PAGE, 0));

    memset(host, 0x33, 2 * PAGE);
    guest_mem_discard(mem, host, PAGE);
    guest_mem_discard(mem, host + 2 * PAGE, 3 * PAGE);
    ck_assert(is_filled(host, PAGE, 0) && is_filled(host + PAGE, PAGE, 0x33));
    ck_assert(is_filled(host + 2 * PAGE, PAGE, 0x44));
    guest_mem_free(mem);
    (void)fclose(file);
}
END_TEST

START_TEST(shared_memory_is_in_its_file)
{
    struct guest_mem *mem = NULL;
    const struct mem_region *region;
    uint8_t *other;
    char flags[512];

    ck_assert_int_eq(guest_mem_new_shared(two_ranges, 2, &mem, NULL), 0);
    region = &mem->regions[0];
    ck_assert_int_ne(region->fd, mem->regions[1].fd);
    ck_assert(is_aligned((uintptr_t)region->host, 2 * MIB));
    ck_assert_uint_eq(count_resident(region->host, region->len), 0);
    read_flags(region->host, flags);
    ck_assert_ptr_nonnull(strstr(flags, " dd "));
    other = mmap(NULL, region->len, PROT_READ | PROT_WRITE, MAP_SHARED, region->fd, 0);
    ck_assert_ptr_ne(other, MAP_FAILED);
    region->host[PAGE] = 0x55;
    ck_assert_uint_eq(other[PAGE], 0x55);
    check_discarding(mem);
    ck_assert(is_filled(other, PAGE, 0x33) && is_filled(other + PAGE, 2 * PAGE, 0));
    ck_assert_int_eq(munmap(other, region->len), 0);
    guest_mem_free(mem);
}
END_TEST

/* Whoever has the file cannot make it shorter, of which we would die, nor allow that again. */
START_TEST(shared_memory_keeps_its_size)
{
    struct guest_mem *mem = NULL;

    ck_assert_int_eq(guest_mem_new_shared(two_ranges, 2, &mem, NULL), 0);
    for (size_t i = 0; i < 2; i++) {
        const struct mem_region *region = &mem->regions[i];
        const off_t lens[] = {0, (off_t)(region->len - PAGE), (off_t)(region->len + PAGE)};

        for (size_t j = 0; j < ARRAY_SIZE(lens); j++) {
            errno = 0;
            ck_assert_int_eq(ftruncate(region->fd, lens[j]), -1);
            ck_assert_int_eq(errno, EPERM);
        }
        errno = 0;
        ck_assert_int_eq(fcntl(region->fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
        ck_assert_int_eq(errno, EPERM);
    }
    check_discarding(mem);
    guest_mem_free(mem);
}
END_TEST

START_TEST(memory_that_cannot_be_shared_is_an_error)
{
    struct rlimit limit;
    struct guest_mem *mem = NULL;
    struct err err = {0};

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = 0;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_int_eq(guest_mem_new_shared(two_ranges, 2, &mem, &err), -EMFILE);
    limit.rlim_cur = limit.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_ptr_nonnull(strstr(err.msg, "cannot share"));
}
END_TEST

/* ---- pages of the host ----------------------------------------------------------------------- */

START_TEST(cleared_pages_go_back_unless_they_are_kept)
{
    struct guest_mem *mem = new_mem(two_ranges, 2);
    uint8_t *host = mem->regions[1].host;

    memset(host, 1, 64 * KIB);
    guest_mem_clear(host, 64 * KIB);
    ck_assert_uint_eq(host[4096], 0);
    memset(host, 1, 64 * KIB);
    guest_mem_keep_pages(true);
    guest_mem_clear(host, 64 * KIB);
    guest_mem_keep_pages(false);
    ck_assert_uint_ge(count_resident(host, 64 * KIB), 16);
    ck_assert_uint_eq(host[4096], 0);
    guest_mem_free(mem);
}
END_TEST

START_TEST(the_host_is_asked_for_huge_pages_only_when_told_to)
{
    struct guest_mem *mem = new_mem(two_ranges, 2);
    char flags[512];

    if (access("/sys/kernel/mm/transparent_hugepage", F_OK) == 0) {
        ck_assert_int_eq(guest_mem_use_pages(mem, GUEST_PAGES_HOST, NULL), 0);
        read_flags(mem->regions[1].host, flags);
        ck_assert_ptr_nonnull(strstr(flags, " wr "));
        ck_assert_ptr_null(strstr(flags, " hg "));
        ck_assert_int_eq(guest_mem_use_pages(mem, GUEST_PAGES_THP, NULL), 0);
        for (size_t i = 0; i < 2; i++) {
            read_flags(mem->regions[i].host, flags);
            ck_assert_ptr_nonnull(strstr(flags, " hg "));
            ck_assert_ptr_nonnull(strstr(flags, " dd "));
        }
    }
    guest_mem_free(mem);
}
END_TEST

/* More than any pool has. */
START_TEST(a_pool_that_is_too_small_is_named_with_what_it_has)
{
    const struct mem_range range = {.gpa = 0, .len = 64 * GIB};
    struct guest_mem *mem = new_mem(&range, 1);
    struct err err = {0};

    ck_assert_int_lt(guest_mem_use_pages(mem, GUEST_PAGES_2M, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.msg, "cannot have 32768 huge pages of 2 MiB"));
    ck_assert_ptr_nonnull(strstr(err.msg, "vm.nr_hugepages"));
    guest_mem_free(mem);
}
END_TEST

START_TEST(a_part_of_a_huge_page_is_refused)
{
    struct guest_mem *mem = new_mem(two_ranges, 2);
    struct err err = {0};

    ck_assert_int_eq(guest_mem_use_pages(mem, GUEST_PAGES_2M, &err), -EINVAL);
    ck_assert_ptr_nonnull(strstr(err.msg, "1 MiB: expected whole pages of 2 MiB"));
    guest_mem_free(mem);
}
END_TEST

/* Pieces of several sizes, more than there are threads. */
START_TEST(populated_memory_is_all_there)
{
    static const struct mem_range ranges[] = {
        {.gpa = 0, .len = 129 * MIB},
        {.gpa = 256 * MIB, .len = 1 * MIB},
    };
    struct guest_mem *mem = new_mem(ranges, 2);

    for (size_t i = 0; i < 2; i++)
        ck_assert_uint_eq(count_resident(mem->regions[i].host, ranges[i].len), 0);
    ck_assert_int_eq(guest_mem_populate(mem, NULL), 0);
    for (size_t i = 0; i < 2; i++)
        ck_assert_uint_eq(count_resident(mem->regions[i].host, ranges[i].len),
                          ranges[i].len / 4096);
    guest_mem_free(mem);
}
END_TEST

/* As on a host without that much memory, and as on one whose kernel has no such call. */
START_TEST(memory_that_cannot_be_populated_is_an_error)
{
    struct guest_mem *mem = new_mem(two_ranges, 2);
    uint8_t *last = mem->regions[1].host + MIB;
    struct err err = {0};

    ck_assert_int_eq(munmap(last, 4096), 0);
    ck_assert_int_eq(guest_mem_populate(mem, &err), -ENOMEM);
    ck_assert_ptr_nonnull(strstr(err.msg, "cannot provide all of it"));

    ck_assert_ptr_eq(mmap(last, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
                     last);
    ck_assert_int_eq(guest_mem_populate(mem, &err), -EINVAL);
    ck_assert_ptr_nonnull(strstr(err.msg, "needs Linux 5.14"));
    guest_mem_free(mem);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "pages", cleared_pages_go_back_unless_they_are_kept,
              the_host_is_asked_for_huge_pages_only_when_told_to,
              a_pool_that_is_too_small_is_named_with_what_it_has, a_part_of_a_huge_page_is_refused,
              populated_memory_is_all_there, memory_that_cannot_be_populated_is_an_error);
    unit_case(suite, "access", addresses_inside_and_outside,
              memory_is_zero_and_keeps_what_is_written, access_outside_copies_nothing,
              cleared_memory_is_zero_and_its_neighbours_stay,
              a_mapped_file_is_read_and_never_written, a_mapping_that_fails_half_way_is_told_apart);
    unit_case(suite, "going back", discarded_pages_read_as_zeroes, pages_of_files_are_not_discarded,
              shared_memory_is_in_its_file, shared_memory_keeps_its_size,
              memory_that_cannot_be_shared_is_an_error);
    unit_case(suite, "mapping", host_addresses_allow_huge_pages,
              large_memory_costs_nothing_until_touched, bad_ranges_are_refused_by_name,
              no_address_space_says_how_much_was_wanted,
              failure_of_a_later_region_unmaps_the_earlier);
}

UNIT_USES_THREADS;
UNIT_MAIN("guest_mem", add_tests)
