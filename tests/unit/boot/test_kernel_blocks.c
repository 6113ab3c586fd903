/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "boot/kernel_blocks.h"
#include "boot/kernel_cache.h"
#include "memory/guest_mem.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

#define LINK 0x1000000u
#define FIRST (0x80000000u + LINK) /* of the kernel, as a word */
#define DELTA 0x2a00000u

/* Blocks 1 and 3 are dense; the last one is not whole. */
#define BLOCK (2 * MIB)
#define PAGE (4 * KIB)
#define LEN (4 * BLOCK + 3 * PAGE)
#define WORDS 2048u

static struct guest_mem *mem;
static uint8_t *kernel; /* in guest memory */
static uint8_t *expected;
static struct boot_file file;
static uint32_t table[WORDS];
static struct relocs relocs;

/* A place in each page of the dense blocks, one across each end of a block, and a few more. */
static void make_table(void)
{
    struct relocs_kernel linked = {.link_gpa = LINK, .len = LEN};
    size_t n = 1;
    struct err err;

    memset(table, 0, sizeof(table));
    table[n++] = FIRST;
    for (uint32_t off = PAGE; off < LEN; off += PAGE)
        if (off % BLOCK == 0 || off / BLOCK == 1 || off / BLOCK == 3)
            table[n++] = FIRST + off - 3;
    table[n++] = FIRST + LEN - 8;
    n++;
    table[n++] = FIRST + 2 * BLOCK + 100;
    n++;
    table[n++] = FIRST + 2 * BLOCK + 200;
    ck_assert_uint_lt(n, WORDS);
    ck_assert_int_eq(
        relocs_parse((const uint8_t *)table, n * sizeof(table[0]), &linked, &relocs, &err), 0);
}

static void make_file(void)
{
    static const char header[KERNEL_CACHE_IMAGE_OFF];

    file.fd = open(scratch_path("entry"), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    ck_assert_int_ge(file.fd, 0);
    ck_assert_int_eq(write(file.fd, header, sizeof(header)), sizeof(header));
    ck_assert_int_eq(write(file.fd, expected, LEN), (ssize_t)LEN);
}

static void set_up(void)
{
    const struct mem_range range = {.len = 8 * BLOCK};
    struct err err;
    void *host;

    scratch_set_up();
    ck_assert_int_eq(guest_mem_new(&range, 1, &mem, &err), 0);
    ck_assert_int_eq(guest_mem_at(mem, BLOCK, LEN, &host), 0);
    kernel = host;
    expected = malloc(LEN);
    ck_assert_ptr_nonnull(expected);
    for (size_t i = 0; i < LEN; i++)
        expected[i] = (uint8_t)(i * 7 + i / PAGE);
    make_table();
    make_file();
}

static void tear_down(void)
{
    free(expected);
    close(file.fd);
    guest_mem_free(mem);
    scratch_tear_down();
}

static struct kernel_blocks fill(const struct relocs *by)
{
    const struct kernel_blocks blocks = {
        .kernel = kernel, .len = LEN, .relocs = by, .delta = DELTA};
    struct err err;

    ck_assert_int_eq(kernel_blocks_fill(&blocks, &file, KERNEL_CACHE_IMAGE_OFF, &err), 0);
    ck_assert_mem_eq(kernel, expected, LEN);
    return blocks;
}

/* A page that is mapped changes with the file until something is written to it. */
static bool is_mapped(size_t block)
{
    off_t off = (off_t)(block * BLOCK + PAGE + 50);
    uint8_t other = (uint8_t)~expected[off];

    ck_assert_int_eq(pwrite(file.fd, &other, 1, (off_t)KERNEL_CACHE_IMAGE_OFF + off), 1);
    return kernel[off] == other;
}

START_TEST(all_places_are_relocated)
{
    const struct kernel_blocks blocks = fill(&relocs);
    struct err err;

    ck_assert_int_eq(kernel_blocks_relocate(&blocks, &err), 0);
    relocs_apply(&relocs, expected, 0, LEN, DELTA);
    ck_assert_mem_eq(kernel, expected, LEN);
}
END_TEST

START_TEST(only_what_is_changed_in_most_pages_is_read)
{
    (void)fill(&relocs);
    ck_assert(is_mapped(0));
    ck_assert(!is_mapped(1));
    ck_assert(is_mapped(2));
    ck_assert(!is_mapped(3));
    ck_assert(is_mapped(4));
}
END_TEST

START_TEST(without_relocations_all_is_mapped)
{
    const struct kernel_blocks blocks = fill(NULL);
    struct err err;

    ck_assert_int_eq(kernel_blocks_relocate(&blocks, &err), 0);
    ck_assert_mem_eq(kernel, expected, LEN);
    for (size_t i = 0; i <= LEN / BLOCK; i++)
        ck_assert_msg(is_mapped(i), "block %zu", i);
}
END_TEST

START_TEST(the_file_stays_as_it_was)
{
    const struct kernel_blocks blocks = fill(&relocs);
    uint8_t *read_back = malloc(LEN);
    struct err err;

    ck_assert_ptr_nonnull(read_back);
    ck_assert_int_eq(kernel_blocks_relocate(&blocks, &err), 0);
    ck_assert_int_eq(pread(file.fd, read_back, LEN, KERNEL_CACHE_IMAGE_OFF), (ssize_t)LEN);
    ck_assert_mem_eq(read_back, expected, LEN);
    free(read_back);
}
END_TEST

START_TEST(a_file_that_ends_early_is_an_error)
{
    const struct kernel_blocks blocks = {
        .kernel = kernel, .len = LEN, .relocs = &relocs, .delta = DELTA};
    struct err err;

    ck_assert_int_eq(ftruncate(file.fd, (off_t)(3 * BLOCK + PAGE)), 0);
    ck_assert_int_lt(kernel_blocks_fill(&blocks, &file, KERNEL_CACHE_IMAGE_OFF, &err), 0);
    ck_assert_int_eq(guest_mem_unmap_file(kernel, LEN), 0);
    memset(expected, 0, LEN);
    ck_assert_mem_eq(kernel, expected, LEN);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "kernel_blocks", set_up, tear_down, all_places_are_relocated,
                   only_what_is_changed_in_most_pages_is_read, without_relocations_all_is_mapped,
                   the_file_stays_as_it_was, a_file_that_ends_early_is_an_error);
}

UNIT_USES_THREADS;
UNIT_MAIN("kernel_blocks", add_tests)
