/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What requests on qcow2 images cost the host: how much is read, written, zeroed and synced.
 */
#include <errno.h>
#include <string.h>

#include "base/aio.h"
#include "base/bytes.h"
#include "base/loop.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/block/qcow2/qcow2_image.h"
#include "tests/lib/unit.h"

#define CLUSTER 65536u
#define PIECE 4096u
#define DISK_LEN (64ull << 20)

static struct mem_env env;
static struct mem_disk disk;
static struct mem_disk base;
static struct block *block;
static struct block_stats before;
static uint8_t data[CLUSTER];

static void setup(void)
{
    mem_env_init(&env);
    mem_disk_init(&disk, "disk");
    mem_disk_init(&base, "base");
    mem_env_add(&env, &disk);
    mem_env_add(&env, &base);
    memset(data, 0x77, sizeof(data));
}

static void teardown(void)
{
    mem_disk_done(&disk);
    mem_disk_done(&base);
}

static void open_new(const char *backing)
{
    qcow2_image_make(&disk, &(struct qcow2_image_options){.refcount_order = 4,
                                                          .size = DISK_LEN,
                                                          .backing = backing,
                                                          .backing_format = "raw"});
    block = mem_env_open(&env, "disk", BLOCK_FORMAT_QCOW2, false);
}

static void close_clean(void)
{
    struct qcow2_image_check check;

    ck_assert_int_eq(block_close(block), 0);
    qcow2_image_check(&disk, &check);
    ck_assert_msg(check.errors == 0 && check.leaks == 0, "%s, %u leaks", check.first, check.leaks);
}

static void start_counting(void)
{
    before = *block_get_stats(block);
}

#define COST(field) (block_get_stats(block)->field - before.field)

static void write_piece(uint64_t off)
{
    ck_assert_int_eq(mem_block_write(block, off, data, PIECE), 0);
}

static void flush(void)
{
    ck_assert_int_eq(mem_block_op(block, BLOCK_FLUSH, 0, 0, 0), 0);
}

START_TEST(rest_of_a_new_cluster_costs_nothing)
{
    open_new(NULL);
    write_piece(0); /* makes the L2 table */
    start_counting();
    write_piece(CLUSTER + 8 * PIECE);
    ck_assert_uint_eq(COST(data_reads), 0);
    ck_assert_uint_eq(COST(data_writes), 1);
    ck_assert_uint_eq(COST(data_write_bytes), PIECE);
    ck_assert_uint_eq(COST(fallocates), 0);
    ck_assert_uint_eq(COST(cow_saved_bytes), CLUSTER - PIECE);
    close_clean();
}
END_TEST

START_TEST(rest_of_a_used_cluster_is_zeroed_without_a_buffer)
{
    open_new(NULL);
    ck_assert_int_eq(mem_block_write(block, 0, data, CLUSTER), 0);
    ck_assert_int_eq(mem_block_op(block, BLOCK_WRITE_ZEROES, 0, 0, CLUSTER), 0);
    start_counting();
    write_piece(8ull * PIECE);
    ck_assert_uint_eq(COST(data_reads), 0);
    ck_assert_uint_eq(COST(data_write_bytes), PIECE);
    ck_assert_uint_eq(COST(fallocates), 1);
    close_clean();
}
END_TEST

START_TEST(hole_is_not_zeroed_again)
{
    open_new(NULL);
    ck_assert_int_eq(mem_block_write(block, 0, data, CLUSTER), 0);
    ck_assert_int_eq(mem_block_op(block, BLOCK_DISCARD, 0, 0, CLUSTER), 0);
    flush(); /* punches the hole and frees the cluster */
    start_counting();
    write_piece(8ull * PIECE);
    ck_assert_uint_eq(COST(data_write_bytes), PIECE);
    ck_assert_uint_eq(COST(fallocates), 0);
    ck_assert_uint_eq(COST(cow_saved_bytes), CLUSTER - PIECE);
    close_clean();
}
END_TEST

START_TEST(copy_is_one_read_and_one_write)
{
    base.len = DISK_LEN;
    memset(base.data, 0x33, base.len);
    open_new("base");
    write_piece(0);
    start_counting();
    write_piece(CLUSTER + 8 * PIECE);
    ck_assert_uint_eq(base.counts[FILE_READ], 2);
    ck_assert_uint_eq(COST(data_writes), 1);
    ck_assert_uint_eq(COST(data_write_bytes), CLUSTER);
    close_clean();
}
END_TEST

/* The first read of a row is for one cluster, the others for four. */
START_TEST(copies_in_a_row_share_their_reads)
{
    uint8_t buf[2 * PIECE];

    base.len = DISK_LEN;
    for (uint64_t at = 0; at < base.len; at += PIECE)
        memset(base.data + at, (int)(1 + at / PIECE % 255), PIECE);
    open_new("base");
    ck_assert_int_eq(mem_block_write(block, 7ull * CLUSTER, data, CLUSTER), 0);
    for (unsigned i = 0; i < 9; i++)
        write_piece((uint64_t)i * CLUSTER + 8ull * PIECE);
    ck_assert_uint_eq(base.counts[FILE_READ], 1 + 2 + 1);
    for (unsigned i = 0; i < 9; i++) {
        uint64_t off = (uint64_t)i * CLUSTER + 8ull * PIECE;

        ck_assert_int_eq(mem_block_read(block, off, buf, sizeof(buf)), 0);
        ck_assert_mem_eq(buf, data, PIECE);
        ck_assert_mem_eq(buf + PIECE, i == 7 ? data : base.data + off + PIECE, PIECE);
    }
    close_clean();
}
END_TEST

START_TEST(behind_a_shorter_backing_file_nothing_is_copied)
{
    base.len = 4ull * CLUSTER;
    memset(base.data, 1, base.len);
    open_new("base");
    write_piece(8ull * CLUSTER); /* makes the L2 table */
    start_counting();
    write_piece(9ull * CLUSTER + 8ull * PIECE);
    ck_assert_uint_eq(COST(cow_copied_bytes), 0);
    ck_assert_uint_eq(COST(cow_saved_bytes), CLUSTER - PIECE);
    ck_assert_uint_eq(COST(data_write_bytes), PIECE);
    close_clean();
}
END_TEST

static struct loop *loop;

static void request_done(struct block_req *req, int r)
{
    ck_assert_int_eq(r, 0);
    loop_stop(loop);
}

/* On a loop, where coroutines run beside each other. */
static void write_piece_attached(uint64_t off)
{
    struct iovec iov = {data, PIECE};
    struct block_req req = {
        .op = BLOCK_WRITE, .off = off, .len = PIECE, .iov = &iov, .niov = 1, .done = request_done};

    block_submit(block, &req);
    ck_assert_int_eq(loop_run(loop), 0);
}

/* With the last cluster of what was read ahead, the next clusters are read. */
START_TEST(next_copies_are_read_beside_a_write)
{
    struct err err = {0};
    uint8_t buf[2 * PIECE];

    ck_assert_int_eq(loop_new(&loop), 0);
    base.len = DISK_LEN;
    for (uint64_t at = 0; at < base.len; at += PIECE)
        memset(base.data + at, (int)(1 + at / PIECE % 255), PIECE);
    open_new("base");
    ck_assert_int_eq(block_attach(block, loop, &err), 0);
    for (unsigned i = 0; i < 9; i++) {
        static const unsigned reads[] = {1, 2, 2, 2, 3, 3, 3, 3, 4};

        write_piece_attached((uint64_t)i * CLUSTER + 8ull * PIECE);
        ck_assert_uint_eq(base.counts[FILE_READ], reads[i]);
    }
    ck_assert_int_eq(block_detach(block), 0);
    for (unsigned i = 0; i < 9; i++) {
        uint64_t off = (uint64_t)i * CLUSTER + 8ull * PIECE;

        ck_assert_int_eq(mem_block_read(block, off, buf, sizeof(buf)), 0);
        ck_assert_mem_eq(buf, data, PIECE);
        ck_assert_mem_eq(buf + PIECE, base.data + off + PIECE, PIECE);
    }
    close_clean();
    loop_free(loop);
}
END_TEST

/* Whole clusters in a row, with direct I/O; what is not used goes with the end of the file. */
START_TEST(space_is_found_ahead_of_whole_clusters)
{
    unsigned n;

    disk.align = 512;
    open_new(NULL);
    for (unsigned i = 0; i < 130; i++)
        ck_assert_int_eq(mem_block_write(block, (uint64_t)i * CLUSTER, data, CLUSTER), 0);
    n = disk.counts[FILE_RESERVE]; /* as far as the file was made longer each time */
    ck_assert(n > 0 && n <= 5);
    for (unsigned i = 500; i > 490; i--)
        ck_assert_int_eq(mem_block_write(block, (uint64_t)i * CLUSTER, data, PIECE), 0);
    ck_assert_uint_eq(disk.counts[FILE_RESERVE], n);
    close_clean();
}
END_TEST

START_TEST(host_that_cannot_find_space_ahead_is_asked_once)
{
    struct mem_fault fault = {.kinds = 1u << FILE_RESERVE, .result = -EOPNOTSUPP};

    disk.align = 512;
    disk.fault = &fault;
    open_new(NULL);
    for (unsigned i = 0; i < 300; i++)
        ck_assert_int_eq(mem_block_write(block, (uint64_t)i * CLUSTER, data, CLUSTER), 0);
    ck_assert(fault.happened);
    ck_assert_uint_eq(disk.counts[FILE_RESERVE], 1);
    close_clean();
}
END_TEST

/* A guest that flushes after each write. */
static void write_and_flush(uint64_t off, uint64_t barriers, uint64_t meta_writes)
{
    start_counting();
    write_piece(off);
    flush();
    ck_assert_uint_eq(COST(barriers), barriers);
    ck_assert_uint_eq(COST(meta_writes), meta_writes);
    ck_assert_uint_eq(COST(meta_write_bytes), meta_writes * PIECE);
}

/* Counts and tables first, then tables alone: a stock of 64 clusters. */
START_TEST(flushed_writes_cost_one_table_and_one_barrier)
{
    struct qcow2_image_check check;

    open_new(NULL);
    write_piece(0);
    flush();
    for (unsigned i = 1; i < 4; i++)
        write_and_flush((uint64_t)i * CLUSTER, 2, 2);
    write_and_flush(4ull * CLUSTER, 2, 2);
    for (unsigned i = 5; i < 69; i++)
        write_and_flush((uint64_t)i * CLUSTER, 1, 1);
    write_and_flush(69ull * CLUSTER, 2, 2);
    qcow2_image_check(&disk, &check); /* as a crash would leave it */
    ck_assert_uint_eq(check.errors, 0);
    ck_assert(check.leaks > 0 && check.leaks <= 64);
    close_clean();
}
END_TEST

static uint64_t host_of(uint64_t off)
{
    struct block_status status;

    ck_assert_int_eq(block_get_host_status(block, off, PIECE, false, &status), 0);
    ck_assert(status.flags & BLOCK_STATUS_OFFSET);
    return status.host;
}

/* Killed while it is idle, a disk leaves nothing behind; what comes next goes on where it was. */
START_TEST(idle_disk_is_flushed_and_takes_back_its_counts)
{
    struct qcow2_image_check check;
    struct err err = {0};
    uint64_t host;

    ck_assert_int_eq(loop_new(&loop), 0);
    open_new(NULL);
    for (unsigned i = 0; i < 8; i++) {
        write_piece((uint64_t)i * CLUSTER);
        flush();
    }
    ck_assert_int_eq(block_attach(block, loop, &err), 0);
    write_piece_attached(8ull * CLUSTER);
    qcow2_image_check(&disk, &check);
    ck_assert(check.errors == 0 && check.leaks > 0);
    for (unsigned i = 0; i < 2; i++)
        block->idle.expired(&block->idle);
    while (block_in_flight(block) > 0)
        aio_wait(block->aio);
    qcow2_image_check(&disk, &check);
    ck_assert_msg(check.errors == 0 && check.leaks == 0, "%s, %u leaks", check.first, check.leaks);

    start_counting();
    for (unsigned i = 0; i < 2; i++)
        block->idle.expired(&block->idle);
    ck_assert_uint_eq(block_in_flight(block), 0); /* nothing is left to be done */
    host = host_of(8ull * CLUSTER);
    write_piece_attached(9ull * CLUSTER);
    ck_assert_uint_eq(host_of(9ull * CLUSTER), host + CLUSTER);
    ck_assert_int_eq(block_detach(block), 0);
    close_clean();
    loop_free(loop);
}
END_TEST

/* A guest that writes a lot between flushes needs no counts ahead, and a crash leaves no leaks. */
START_TEST(nothing_is_counted_ahead_of_long_rounds)
{
    struct qcow2_image_check check;

    open_new(NULL);
    for (unsigned i = 0; i < 8; i++) {
        for (unsigned k = 0; k < 16; k++)
            write_piece((16ull * i + k) * CLUSTER);
        flush();
    }
    qcow2_image_check(&disk, &check);
    ck_assert(check.errors == 0 && check.leaks == 0);
    close_clean();
}
END_TEST

/*
 * What a new cluster replaces is the backing file's: the tables may not show it without its data.
 */
START_TEST(copied_clusters_are_in_place_before_the_tables)
{
    base.len = DISK_LEN;
    open_new("base");
    for (unsigned i = 0; i < 5; i++) {
        write_piece((uint64_t)i * CLUSTER);
        flush();
    }
    for (unsigned i = 5; i < 20; i++)
        write_and_flush((uint64_t)i * CLUSTER, 2, 1);
    close_clean();
}
END_TEST

START_TEST(zeroed_space_in_a_row_is_zeroed_at_once)
{
    open_new(NULL);
    for (unsigned i = 0; i < 32; i++)
        ck_assert_int_eq(mem_block_write(block, (uint64_t)i * CLUSTER, data, CLUSTER), 0);
    ck_assert_int_eq(mem_block_op(block, BLOCK_WRITE_ZEROES, 0, 0, 32ull * CLUSTER), 0);
    start_counting();
    for (unsigned i = 0; i < 32; i++)
        write_piece((uint64_t)i * CLUSTER + 8ull * PIECE);
    ck_assert_uint_eq(COST(fallocates), 2);
    ck_assert_uint_eq(COST(data_write_bytes), 32ull * PIECE);
    close_clean();
}
END_TEST

START_TEST(flushed_allocating_write_costs_little_metadata)
{
    open_new(NULL);
    write_piece(0);
    flush();
    start_counting();
    write_piece(CLUSTER);
    flush();
    ck_assert_uint_le(COST(meta_write_bytes), 12u << 10);
    ck_assert_uint_le(COST(barriers), 2);
    start_counting();
    write_piece(CLUSTER);
    flush();
    ck_assert_uint_eq(COST(meta_write_bytes), 0);
    ck_assert_uint_eq(COST(barriers), 1);
    close_clean();
}
END_TEST

START_TEST(lazy_counts_wait_until_the_image_is_closed)
{
    qcow2_image_make(&disk, &(struct qcow2_image_options){
                                .refcount_order = 4, .size = DISK_LEN, .lazy_refcounts = true});
    block = mem_env_open(&env, "disk", BLOCK_FORMAT_QCOW2, false);
    write_piece(0);
    flush();
    ck_assert_uint_eq(load_be64(disk.data + 72), 1); /* dirty */
    start_counting();
    write_piece(CLUSTER);
    flush();
    ck_assert_uint_eq(COST(meta_writes), 1); /* of the L2 table */
    ck_assert_uint_eq(COST(meta_write_bytes), 4096);
    close_clean();
    ck_assert_uint_eq(load_be64(disk.data + 72), 0);
}
END_TEST

START_TEST(file_grows_ahead_and_is_cut_when_closed)
{
    uint64_t len;

    open_new(NULL);
    for (unsigned i = 0; i < 8; i++)
        write_piece(i * (uint64_t)CLUSTER);
    ck_assert_uint_eq(disk.counts[MEM_TRUNCATE], 1);
    len = disk.len;
    close_clean();
    ck_assert_uint_lt(disk.len, len);
    ck_assert(is_aligned(disk.len, CLUSTER));

    block = mem_env_open(&env, "disk", BLOCK_FORMAT_QCOW2, false);
    len = disk.len;
    memset(data, 0, sizeof(data));
    ck_assert_int_eq(mem_block_read(block, 7ull * CLUSTER, data, PIECE), 0);
    ck_assert_uint_eq(data[PIECE - 1], 0x77);
    close_clean();
    ck_assert_uint_eq(disk.len, len);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(
        suite, "cost", setup, teardown, rest_of_a_new_cluster_costs_nothing,
        rest_of_a_used_cluster_is_zeroed_without_a_buffer, hole_is_not_zeroed_again,
        copy_is_one_read_and_one_write, copies_in_a_row_share_their_reads,
        behind_a_shorter_backing_file_nothing_is_copied, next_copies_are_read_beside_a_write,
        space_is_found_ahead_of_whole_clusters, host_that_cannot_find_space_ahead_is_asked_once,
        zeroed_space_in_a_row_is_zeroed_at_once, flushed_allocating_write_costs_little_metadata,
        flushed_writes_cost_one_table_and_one_barrier,
        idle_disk_is_flushed_and_takes_back_its_counts, nothing_is_counted_ahead_of_long_rounds,
        copied_clusters_are_in_place_before_the_tables, lazy_counts_wait_until_the_image_is_closed,
        file_grows_ahead_and_is_cut_when_closed);
}

UNIT_MAIN("qcow2_cost", add_tests)
