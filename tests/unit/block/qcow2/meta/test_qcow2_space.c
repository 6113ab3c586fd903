/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which clusters a qcow2 image takes: those that are free already before the file grows, and at the
 * same cost whether the image is small or large, full or fragmented.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/block/qcow2/qcow2_image.h"
#include "tests/lib/unit.h"

#define CLUSTER 512u
#define DISK (24u * MIB)

static struct mem_disk disk;
static struct mem_env env;
static struct block *block;
static uint8_t data[MIB];

static void open_image(void)
{
    mem_env_init(&env);
    mem_env_add(&env, &disk);
    block = mem_env_open(&env, "top", BLOCK_FORMAT_QCOW2, false);
}

static void set_up(void)
{
    mem_disk_init(&disk, "top");
    qcow2_image_make(
        &disk, &(struct qcow2_image_options){.cluster_bits = 9, .refcount_order = 4, .size = DISK});
    memset(data, 1, sizeof(data));
    open_image();
}

static void tear_down(void)
{
    struct qcow2_image_check check;

    ck_assert_int_eq(block_close(block), 0);
    qcow2_image_check(&disk, &check);
    ck_assert_msg(check.errors == 0 && check.leaks == 0, "%u leaks %s", check.leaks, check.first);
    mem_disk_done(&disk);
}

static void reopen(void)
{
    ck_assert_int_eq(block_close(block), 0);
    open_image();
}

static void fill(uint64_t len)
{
    for (uint64_t off = 0; off < len; off += MIB)
        ck_assert_int_eq(mem_block_write(block, off, data, MIB), 0);
}

static void write_cluster(uint64_t n)
{
    ck_assert_int_eq(mem_block_write(block, n * CLUSTER, data, CLUSTER), 0);
}

static void discard(uint64_t n, uint64_t count)
{
    ck_assert_int_eq(mem_block_op(block, BLOCK_DISCARD, 0, n * CLUSTER, count * CLUSTER), 0);
}

static void flush(void)
{
    ck_assert_int_eq(mem_block_op(block, BLOCK_FLUSH, 0, 0, 0), 0);
}

/* 900 clusters after a disk that was filled up to `len`. */
static void write_behind(uint64_t len)
{
    for (unsigned i = 0; i < 900; i++)
        write_cluster(len / CLUSTER + i);
}

/* A file with a hole of 1000 clusters, opened again; its length. */
static uint64_t make_hole(void)
{
    fill(8 * MIB);
    discard(15000, 1000);
    flush();
    reopen();
    return disk.len;
}

START_TEST(freed_clusters_are_taken_before_the_file_grows)
{
    uint64_t len;

    fill(2 * MIB);
    discard(100, 1000);
    flush();
    len = disk.len;
    write_behind(2 * MIB);
    flush();
    ck_assert_uint_eq(disk.len, len);
}
END_TEST

/* Looking for holes goes on by the piece, so a few clusters may be taken past the file's end. */
START_TEST(holes_are_found_again_after_opening)
{
    uint64_t len = make_hole();

    write_behind(8 * MIB);
    reopen(); /* cuts off what the file was made longer ahead */
    ck_assert_uint_le(disk.len, len + 150ull * CLUSTER);
}
END_TEST

START_TEST(file_that_cannot_grow_is_searched_to_its_end)
{
    uint64_t len = make_hole();

    block->file->fixed_len = true;
    write_behind(8 * MIB);
    flush();
    ck_assert_uint_eq(disk.len, len);
}
END_TEST

/* The file was made longer ahead of its use, and nobody cut it. */
START_TEST(after_a_crash_the_hole_at_the_end_is_used_and_cut)
{
    struct mem_disk crashed;
    uint64_t len;

    fill(3 * MIB);
    flush();
    write_cluster(20000); /* of which the tables in the file know nothing */
    mem_disk_init(&crashed, "crashed");
    mem_disk_copy(&crashed, &disk);
    ck_assert_int_eq(block_close(block), 0);
    len = disk.len;
    ck_assert_uint_gt(crashed.len, len + 100ull * CLUSTER);

    mem_disk_copy(&disk, &crashed);
    mem_disk_done(&crashed);
    open_image();
    for (unsigned i = 0; i < 10; i++)
        write_cluster(30000 + i);
    reopen();
    ck_assert_uint_le(disk.len, len + 20ull * CLUSTER);
}
END_TEST

/*
 * What a crash left where a refcount block comes: none of it counts. Blocks are larger than slices.
 */
START_TEST(new_refcount_block_is_empty_whatever_was_there)
{
    const unsigned bits = 13;
    const uint64_t covered = (1ull << bits) / 8 << bits; /* by the first block */

    ck_assert_int_eq(block_close(block), 0);
    qcow2_image_make(&disk, &(struct qcow2_image_options){
                                .cluster_bits = bits, .refcount_order = 6, .size = DISK});
    memset(disk.data + covered, 0xff, covered);
    disk.len = 2 * covered;
    open_image();
    fill(DISK);
}
END_TEST

/* Something lies far past what can be counted: one larger refcount table is not enough. */
START_TEST(file_far_longer_than_its_counts_can_be_written)
{
    ck_assert_int_eq(block_close(block), 0);
    disk.len = 200 * MIB;
    disk.data[disk.len - 1] = 1;
    open_image();
    for (unsigned i = 0; i < 300; i++)
        write_cluster(30000 + i);
}
END_TEST

static uint64_t meta_reads(void)
{
    return block_get_stats(block)->meta_reads;
}

/* Most metadata reads of one allocating write with next to nothing in memory. */
static uint64_t cost_in_full_image(uint64_t len)
{
    uint64_t most = 0;

    fill(len);
    reopen();
    for (unsigned i = 0; i < 300; i++) {
        uint64_t n = i % 2 ? i : len / CLUSTER - 1 - i; /* low and high clusters by turns */
        uint64_t before = meta_reads();

        write_cluster(n);
        discard(n, 1);
        flush();
        write_cluster(n);
        most = max_u64(most, meta_reads() - before);
        block->driver->trim(block);
    }
    return most;
}

START_TEST(cost_does_not_grow_with_the_image)
{
    ck_assert_uint_le(cost_in_full_image(DISK), 16);
}
END_TEST

/* Host operations of 1000 small writes, each into a cluster of its own, and their flushes. */
static unsigned operations_on_disk_of(uint64_t size)
{
    struct mem_disk other;
    struct mem_env other_env;
    struct block *image;
    unsigned n = 0;

    mem_disk_init(&other, "other");
    qcow2_image_make(&other, &(struct qcow2_image_options){.refcount_order = 4, .size = size});
    mem_env_init(&other_env);
    mem_env_add(&other_env, &other);
    image = mem_env_open(&other_env, "other", BLOCK_FORMAT_QCOW2, false);
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t off = i * 7919ull % 2048 * (512 << 10);

        ck_assert_int_eq(mem_block_write(image, off, data, 4096), 0);
        if (i % 10 == 9)
            ck_assert_int_eq(mem_block_op(image, BLOCK_FLUSH, 0, 0, 0), 0);
    }
    ck_assert_int_eq(block_close(image), 0);
    for (unsigned i = 0; i < MEM_OPS; i++)
        n += other.counts[i];
    mem_disk_done(&other);
    return n;
}

START_TEST(disk_of_1_tib_costs_what_one_of_1_gib_costs)
{
    unsigned small = operations_on_disk_of(1ull << 30);
    unsigned large = operations_on_disk_of(1ull << 40);

    ck_assert_uint_le(large, small + small / 100);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(
        suite, "space", set_up, tear_down, freed_clusters_are_taken_before_the_file_grows,
        holes_are_found_again_after_opening, after_a_crash_the_hole_at_the_end_is_used_and_cut,
        new_refcount_block_is_empty_whatever_was_there,
        file_far_longer_than_its_counts_can_be_written,
        file_that_cannot_grow_is_searched_to_its_end, cost_does_not_grow_with_the_image,
        disk_of_1_tib_costs_what_one_of_1_gib_costs);
}

UNIT_MAIN("qcow2_space", add_tests)
