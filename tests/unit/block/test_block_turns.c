/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that go on for long: the loop of their image does other things meanwhile, and they end
 * early when nobody wants them any more.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/idle_memory.h"
#include "base/loop.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/block/qcow2/qcow2_image.h"
#include "tests/lib/host_calls.h"
#include "tests/lib/unit.h"

#define DISK_SIZE (1u << 20)

static struct mem_env env;
static struct mem_disk disks[2];

static void setup(void)
{
    mem_env_init(&env);
}

static void teardown(void)
{
    for (unsigned i = 0; i < env.ndisks; i++)
        mem_disk_done(env.disks[i]);
}

/* Disk `i` is an image. */
static void add_image(unsigned i, const struct qcow2_image_options *options)
{
    static const char *const names[] = {"i0", "i1"};

    mem_disk_init(&disks[i], names[i]);
    mem_env_add(&env, &disks[i]);
    if (options)
        qcow2_image_make(&disks[i], options);
}

/* ---- requests that nobody wants any more ----------------------------------------------------- */

#define HOG_SIZE (64u << 20)
#define HOG_REQS 4u
#define HOG_REQS_MAX 32u

static unsigned ndone;
static unsigned ncancelled;

static void count_cancelled(struct block_req *req, int result)
{
    ck_assert(result == 0 || result == -ECANCELED);
    ndone++;
    ncancelled += result == -ECANCELED;
}

START_TEST(cancelled_requests_end_and_what_was_written_is_flushed)
{
    enum { N = 300 }; /* more than are carried out at a time */
    static struct block_req reqs[N];
    uint8_t data[512] = {1};
    struct iovec iov = {data, sizeof(data)};
    struct block *block;
    struct loop *loop;
    struct err err = {0};

    add_image(0, &(struct qcow2_image_options){.refcount_order = 4, .size = DISK_SIZE});
    disks[0].shuffle = true;
    block = mem_env_open(&env, "i0", BLOCK_FORMAT_QCOW2, false);
    ck_assert_int_eq(loop_new(&loop), 0);
    ck_assert_int_eq(block_attach(block, loop, &err), 0);
    for (unsigned i = 0; i < N; i++) {
        reqs[i] = (struct block_req){.op = i % 8 ? BLOCK_WRITE : BLOCK_FLUSH,
                                     .off = i * 1024ull, /* none goes on where another ends */
                                     .len = i % 8 ? 512 : 0,
                                     .iov = &iov,
                                     .niov = i % 8 ? 1 : 0,
                                     .done = count_cancelled};
        block_submit(block, &reqs[i]);
    }
    while (ndone == 0)
        aio_wait(block->aio);
    block_set_cancel(block, true);
    disks[0].counts[FILE_SYNC] = 0;
    ck_assert_int_eq(block_detach(block), 0);
    ck_assert_uint_eq(ndone, N);
    ck_assert_uint_gt(ncancelled, 0);
    ck_assert_uint_lt(ncancelled, N);
    ck_assert_uint_gt(disks[0].counts[FILE_SYNC], 0);
    ck_assert_int_eq(block_close(block), 0);
    loop_free(loop);

    block = mem_env_open(&env, "i0", BLOCK_FORMAT_QCOW2, true);
    for (unsigned i = 0; i < N; i++) {
        if (reqs[i].op == BLOCK_FLUSH || reqs[i].result < 0)
            continue;
        ck_assert_int_eq(mem_block_read(block, i * 1024ull, data, sizeof(data)), 0);
        ck_assert_uint_eq(data[0], 1);
    }
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

/* More than the time after which a disk without requests is flushed. */
#define LONG_IDLE_NS 5000000000ull

static struct loop *idle_loop;

static void stop_idle_loop(struct loop_timer *timer)
{
    loop_stop(idle_loop);
}

/* A machine that ends has cancelled all its disks, and is held up by another one that hangs. */
START_TEST(cancelled_disk_is_flushed_without_being_closed)
{
    struct loop_timer timer = {.expired = stop_idle_loop};
    uint8_t data[512] = {1};
    struct iovec iov = {data, sizeof(data)};
    struct block_req req = {
        .op = BLOCK_WRITE, .len = sizeof(data), .iov = &iov, .niov = 1, .done = count_cancelled};
    struct block *block;
    struct err err = {0};

    add_image(0, &(struct qcow2_image_options){.refcount_order = 4, .size = DISK_SIZE});
    block = mem_env_open(&env, "i0", BLOCK_FORMAT_QCOW2, false);
    host_calls_reset();
    idle_memory_work_begins();
    ck_assert_int_eq(loop_new(&idle_loop), 0);
    ck_assert_int_eq(block_attach(block, idle_loop, &err), 0);
    block_submit(block, &req);
    while (block_in_flight(block) > 0)
        aio_wait(block->aio);
    ck_assert_int_eq(req.result, 0);
    block_set_cancel(block, true);
    disks[0].counts[FILE_SYNC] = 0;
    loop_arm(idle_loop, &timer, LONG_IDLE_NS);
    ck_assert_int_eq(loop_run(idle_loop), 0);
    ck_assert_uint_gt(disks[0].counts[FILE_SYNC], 0);
    ck_assert(!block->written);

    /* Another part of the process works. When that ends, nobody does: the disk went away. */
    ck_assert_uint_eq(host_calls[HOST_TRIM].count, 0);
    ck_assert_int_eq(block_detach(block), 0);
    idle_memory_work_ends();
    ck_assert_uint_eq(host_calls[HOST_TRIM].count, 1);
    ck_assert_int_eq(block_close(block), 0);
    loop_free(idle_loop);
}
END_TEST

/* A job may go on for days, or be paused: what the guest wrote is not left to its end. */
START_TEST(idle_disk_is_flushed_while_it_has_a_job)
{
    struct loop_timer timer = {.expired = stop_idle_loop};
    struct block_live job = {0};
    uint8_t data[512] = {1};
    struct iovec iov = {data, sizeof(data)};
    struct block_req req = {
        .op = BLOCK_WRITE, .len = sizeof(data), .iov = &iov, .niov = 1, .done = count_cancelled};
    struct block *block;
    struct err err = {0};

    add_image(0, &(struct qcow2_image_options){.refcount_order = 4, .size = DISK_SIZE});
    block = mem_env_open(&env, "i0", BLOCK_FORMAT_QCOW2, false);
    host_calls_reset();
    ck_assert_int_eq(loop_new(&idle_loop), 0);
    ck_assert_int_eq(block_attach(block, idle_loop, &err), 0);
    job.block = block;
    block->live = &job;
    block_submit(block, &req);
    while (block_in_flight(block) > 0)
        aio_wait(block->aio);
    loop_arm(idle_loop, &timer, LONG_IDLE_NS);
    ck_assert_int_eq(loop_run(idle_loop), 0);
    ck_assert(!block->written);
    ck_assert_uint_eq(host_calls[HOST_TRIM].count, 0); /* the job uses its memory */
    block->live = NULL;
    loop_arm(idle_loop, &timer, LONG_IDLE_NS);
    ck_assert_int_eq(loop_run(idle_loop), 0);
    ck_assert_uint_eq(host_calls[HOST_TRIM].count, 1);
    ck_assert_int_eq(block_detach(block), 0);
    ck_assert_int_eq(block_close(block), 0);
    loop_free(idle_loop);
}
END_TEST

static struct block *hog_block;
static struct loop *hog_loop;
static unsigned hog_rounds;
static unsigned hog_cancel_after; /* rounds; 0: never */

/* Each time the loop comes round: what else it has to do could be done now. */
static void count_hog_round(struct loop_work *work)
{
    if (block_in_flight(hog_block) == 0) {
        loop_stop(hog_loop);
        return;
    }
    if (++hog_rounds == hog_cancel_after)
        block_set_cancel(hog_block, true);
    loop_post(hog_loop, work);
}

/* `n` requests, one every `stride` bytes, whose host never makes anybody wait. */
static void run_hogs(enum block_format format, enum block_op op, uint64_t len, unsigned n,
                     uint64_t stride)
{
    static uint8_t data[1u << 20];
    static struct iovec iov[HOG_SIZE / sizeof(data)];
    static struct block_req reqs[HOG_REQS_MAX];
    struct loop_work work = {.run = count_hog_round};
    bool transfers = op == BLOCK_READ || op == BLOCK_WRITE;
    struct err err = {0};

    for (size_t i = 0; i < ARRAY_SIZE(iov); i++)
        iov[i] = (struct iovec){data, min_u64(len, sizeof(data))};
    hog_rounds = 0;
    hog_block = mem_env_open(&env, "i0", format, false);
    ck_assert_int_eq(loop_new(&hog_loop), 0);
    ck_assert_int_eq(block_attach(hog_block, hog_loop, &err), 0);
    for (unsigned i = 0; i < n; i++) {
        reqs[i] = (struct block_req){.op = op,
                                     .off = i * stride,
                                     .len = len,
                                     .iov = iov,
                                     .niov = transfers ? div_round_up(len, sizeof(data)) : 0,
                                     .done = count_cancelled};
        block_submit(hog_block, &reqs[i]);
    }
    loop_post(hog_loop, &work);
    ck_assert_int_eq(loop_run(hog_loop), 0);
    ck_assert_uint_eq(ndone, n);
    ck_assert_int_eq(block_detach(hog_block), 0);
    ck_assert_int_eq(block_close(hog_block), 0);
    loop_free(hog_loop);
}

/* Requests as long as they can be. */
static void run_hog(enum block_format format, enum block_op op, uint64_t len)
{
    run_hogs(format, op, len, HOG_REQS, 0);
}

static void add_hog_image(enum block_format format, unsigned cluster_bits)
{
    const struct qcow2_image_options options = {
        .refcount_order = 4, .size = HOG_SIZE, .cluster_bits = cluster_bits};

    add_image(0, format == BLOCK_FORMAT_RAW ? NULL : &options);
    if (format == BLOCK_FORMAT_RAW)
        disks[0].len = HOG_SIZE;
}

static const struct {
    enum block_format format;
    enum block_op op;
    unsigned cluster_bits;
    bool no_zero;
    unsigned rounds; /* in which the loop can do something else, at least */
} hogs[] = {
    {BLOCK_FORMAT_RAW, BLOCK_READ, 0, false, HOG_REQS *HOG_SIZE / CO_ROUND_MAX - 1},
    {BLOCK_FORMAT_RAW, BLOCK_WRITE, 0, false, HOG_REQS *HOG_SIZE / CO_ROUND_MAX - 1},
    {BLOCK_FORMAT_RAW, BLOCK_WRITE_ZEROES, 0, true, HOG_REQS *HOG_SIZE / CO_ROUND_MAX - 1},
    {BLOCK_FORMAT_QCOW2, BLOCK_READ, 16, false, HOG_REQS *HOG_SIZE / CO_ROUND_MAX - 1},
    {BLOCK_FORMAT_QCOW2, BLOCK_WRITE, 16, false, HOG_REQS *HOG_SIZE / CO_ROUND_MAX - 1},
    {BLOCK_FORMAT_QCOW2, BLOCK_WRITE_ZEROES, 9, false, 1}, /* 128 Ki clusters each */
    {BLOCK_FORMAT_QCOW2, BLOCK_DISCARD, 9, false, 1},
};

START_TEST(endless_requests_leave_the_loop_to_others_and_can_be_cancelled)
{
    add_hog_image(hogs[_i].format, hogs[_i].cluster_bits);
    disks[0].no_zero = hogs[_i].no_zero;
    hog_cancel_after = 0;
    ndone = 0;
    run_hog(hogs[_i].format, hogs[_i].op, HOG_SIZE);
    ck_assert_uint_ge(hog_rounds, hogs[_i].rounds);
    ck_assert_uint_eq(ncancelled, 0);

    hog_cancel_after = 1;
    ndone = 0;
    run_hog(hogs[_i].format, hogs[_i].op, HOG_SIZE);
    ck_assert_uint_le(hog_rounds, 3);
    ck_assert_uint_gt(ncancelled, 0);
}
END_TEST

/* Requests of one sector, each of which means work for a whole cluster, and those are large. */
#define LARGE_CLUSTER_BITS 21u
#define LARGE_CLUSTERS (HOG_SIZE >> LARGE_CLUSTER_BITS)

static void run_small_requests(enum block_op op)
{
    ndone = 0;
    run_hogs(BLOCK_FORMAT_QCOW2, op, 512, LARGE_CLUSTERS, 1u << LARGE_CLUSTER_BITS);
    ck_assert_uint_eq(ncancelled, 0);
}

START_TEST(copying_of_large_clusters_leaves_the_loop_to_others)
{
    const struct qcow2_image_options options = {.refcount_order = 4,
                                                .size = HOG_SIZE,
                                                .cluster_bits = LARGE_CLUSTER_BITS,
                                                .backing = "i1",
                                                .backing_format = "raw"};

    add_image(0, &options);
    add_image(1, NULL);
    disks[1].len = HOG_SIZE;
    memset(disks[1].data, 1, HOG_SIZE);
    run_small_requests(BLOCK_WRITE);
    ck_assert_uint_ge(hog_rounds, HOG_SIZE / CO_ROUND_MAX - 1);
}
END_TEST

START_TEST(inflating_of_large_clusters_leaves_the_loop_to_others)
{
    struct block *block;
    uint8_t *data = calloc(1, HOG_SIZE);
    struct iovec iov = {data, HOG_SIZE};
    struct block_req req = {
        .op = BLOCK_WRITE, .flags = BLOCK_REQ_COMPRESSED, .len = HOG_SIZE, .iov = &iov, .niov = 1};

    ck_assert_ptr_nonnull(data);
    data[0] = 1;
    add_hog_image(BLOCK_FORMAT_QCOW2, LARGE_CLUSTER_BITS);
    block = mem_env_open(&env, "i0", BLOCK_FORMAT_QCOW2, false);
    for (size_t i = 0; i < HOG_SIZE; i += 1u << LARGE_CLUSTER_BITS)
        memset(data + i, (int)(i >> LARGE_CLUSTER_BITS) + 1, 512);
    ck_assert_int_eq(block_execute(block, &req), 0);
    ck_assert_int_eq(block_close(block), 0);
    free(data);
    run_small_requests(BLOCK_READ);
    ck_assert_uint_ge(hog_rounds, 4 * HOG_SIZE / CO_ROUND_MAX - 1);
}
END_TEST

/* An image whose many counts say that everything is in use: a search is long, and finds nothing. */
static void add_full_image(void)
{
    enum { CLUSTER = 1 << 16, TABLE = 16 * CLUSTER, BLOCKS = TABLE + CLUSTER, NBLOCKS = 200 };

    add_image(0, &(struct qcow2_image_options){.refcount_order = 0, .size = DISK_SIZE});
    store_be64(disks[0].data + 48, TABLE);
    store_be32(disks[0].data + 56, 1); /* its clusters */
    for (uint64_t i = 0; i < NBLOCKS; i++)
        store_be64(disks[0].data + TABLE + 8 * i, BLOCKS + i * CLUSTER);
    memset(disks[0].data + BLOCKS, 0xff, (size_t)NBLOCKS * CLUSTER);
    disks[0].len = BLOCKS + NBLOCKS * CLUSTER;
}

START_TEST(search_in_a_full_image_leaves_the_loop_to_others_and_can_be_cancelled)
{
    add_full_image();
    hog_cancel_after = 3;
    run_hog(BLOCK_FORMAT_QCOW2, BLOCK_WRITE, DISK_SIZE);
    ck_assert_uint_ge(hog_rounds, 3);
    ck_assert_uint_le(hog_rounds, 8);
    ck_assert_uint_eq(ncancelled, HOG_REQS);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("turns");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, cancelled_requests_end_and_what_was_written_is_flushed);
    tcase_add_test(tcase, cancelled_disk_is_flushed_without_being_closed);
    tcase_add_loop_test(tcase, endless_requests_leave_the_loop_to_others_and_can_be_cancelled, 0,
                        ARRAY_SIZE(hogs));
    tcase_add_test(tcase, idle_disk_is_flushed_while_it_has_a_job);
    tcase_add_test(tcase, copying_of_large_clusters_leaves_the_loop_to_others);
    tcase_add_test(tcase, inflating_of_large_clusters_leaves_the_loop_to_others);
    tcase_add_test(tcase, search_in_a_full_image_leaves_the_loop_to_others_and_can_be_cancelled);
    tcase_set_timeout(tcase, (double)LONG_IDLE_NS * 3e-9);
    suite_add_tcase(suite, tcase);
}

UNIT_MAIN("block_turns", add_tests)
