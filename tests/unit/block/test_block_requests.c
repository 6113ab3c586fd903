/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests on an image: what is refused, what is synced, and the ends of many.
 */
#include <errno.h>

#include "base/bytes.h"
#include "base/loop.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/block/qcow2/qcow2_image.h"
#include "tests/lib/unit.h"

#define DISK_SIZE (1u << 20)

static const char *const names[] = {"i0", "i1"};
static struct mem_disk disks[ARRAY_SIZE(names)];
static struct mem_env env;

static void setup(void)
{
    mem_env_init(&env);
}

static void teardown(void)
{
    for (unsigned i = 0; i < env.ndisks; i++)
        mem_disk_done(env.disks[i]);
}

static void add_image(unsigned i)
{
    mem_disk_init(&disks[i], names[i]);
    qcow2_image_make(&disks[i],
                     &(struct qcow2_image_options){.refcount_order = 4, .size = DISK_SIZE});
    mem_env_add(&env, &disks[i]);
}

START_TEST(requests_outside_the_disk_or_between_sectors_are_refused)
{
    static const struct {
        uint64_t off;
        uint64_t len;
        int result;
    } cases[] = {
        {0, 0, 0},
        {DISK_SIZE, 0, 0},
        {DISK_SIZE - 512, 512, 0},
        {DISK_SIZE, 512, -EINVAL},
        {DISK_SIZE - 512, 1024, -EINVAL},
        {UINT64_MAX - 511, 512, -EINVAL},
        {UINT64_MAX - 511, 1024, -EINVAL},
        {1, 512, -EINVAL},
        {0, 511, -EINVAL},
    };
    struct block *block;
    uint8_t data[1024] = {0};

    add_image(0);
    block = mem_env_open(&env, "i0", BLOCK_FORMAT_QCOW2, false);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        ck_assert_int_eq(mem_block_read(block, cases[i].off, data, cases[i].len), cases[i].result);
        ck_assert_int_eq(mem_block_write(block, cases[i].off, data, cases[i].len), cases[i].result);
        ck_assert_int_eq(mem_block_op(block, BLOCK_DISCARD, 0, cases[i].off, cases[i].len),
                         cases[i].result);
        ck_assert_int_eq(mem_block_op(block, BLOCK_WRITE_ZEROES, 0, cases[i].off, cases[i].len),
                         cases[i].result);
    }
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

START_TEST(read_only_image_refuses_changes_and_accepts_flushes)
{
    struct mem_record record = {0};
    struct block *block;
    uint8_t data[512] = {0};

    add_image(0);
    disks[0].record = &record;
    block = mem_env_open(&env, "i0", BLOCK_FORMAT_QCOW2, true);
    ck_assert_int_eq(mem_block_write(block, 0, data, sizeof(data)), -EROFS);
    ck_assert_int_eq(mem_block_op(block, BLOCK_DISCARD, 0, 0, 512), -EROFS);
    ck_assert_int_eq(mem_block_op(block, BLOCK_WRITE_ZEROES, 0, 0, 512), -EROFS);
    ck_assert_int_eq(mem_block_op(block, BLOCK_FLUSH, 0, 0, 0), 0);
    ck_assert_int_eq(block_close(block), 0);
    ck_assert_uint_eq(record.n, 0);
    disks[0].record = NULL;
}
END_TEST

START_TEST(writes_are_synced_with_fua_and_without_writeback_only)
{
    struct block *block;
    uint8_t data[512] = {1};
    struct iovec iov = {data, sizeof(data)};
    struct block_req req = {.op = BLOCK_WRITE, .len = 512, .iov = &iov, .niov = 1};

    add_image(0);
    block = mem_env_open(&env, "i0", BLOCK_FORMAT_QCOW2, false);
    ck_assert_int_eq(block_execute(block, &req), 0); /* the first one brings a barrier */
    disks[0].counts[FILE_SYNC] = 0;
    ck_assert_int_eq(block_execute(block, &req), 0);
    ck_assert_uint_eq(disks[0].counts[FILE_SYNC], 0);
    req.flags = BLOCK_REQ_FUA;
    ck_assert_int_eq(block_execute(block, &req), 0);
    ck_assert_uint_gt(disks[0].counts[FILE_SYNC], 0);
    disks[0].counts[FILE_SYNC] = 0;
    req.flags = 0;
    block_set_writeback(block, false);
    ck_assert_int_eq(block_execute(block, &req), 0);
    ck_assert_uint_eq(disks[0].counts[FILE_SYNC], 1);
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

static unsigned ndone;
static bool in_submit;

static void count_done(struct block_req *req, int result)
{
    ck_assert(!in_submit);
    ck_assert_int_eq(result, req->off >= DISK_SIZE ? -EINVAL : 0);
    ndone++;
}

START_TEST(detach_waits_for_every_request_and_flushes)
{
    enum { N = 300 }; /* more than are carried out at a time */
    static struct block_req reqs[N];
    uint8_t data[512] = {1};
    struct iovec iov = {data, sizeof(data)};
    struct block *block;
    struct loop *loop;
    struct err err = {0};

    add_image(0);
    disks[0].shuffle = true;
    block = mem_env_open(&env, "i0", BLOCK_FORMAT_QCOW2, false);
    ck_assert_int_eq(loop_new(&loop), 0);
    ck_assert_int_eq(block_attach(block, loop, &err), 0);
    in_submit = true;
    for (unsigned i = 0; i < N; i++) {
        reqs[i] = (struct block_req){.op = BLOCK_WRITE,
                                     .off = (i % 16 ? i : DISK_SIZE / 512) * 512ull,
                                     .len = 512,
                                     .iov = &iov,
                                     .niov = 1,
                                     .done = count_done};
        block_submit(block, &reqs[i]);
    }
    in_submit = false;
    ck_assert_uint_eq(block_in_flight(block), N);
    ck_assert_int_eq(block_detach(block), 0);
    ck_assert_uint_eq(ndone, N);
    ck_assert_uint_eq(block_in_flight(block), 0);
    ck_assert_uint_gt(disks[0].counts[FILE_SYNC], 0);
    ck_assert_int_eq(block_close(block), 0);
    loop_free(loop);
}
END_TEST

START_TEST(two_images_share_a_loop)
{
    static struct block_req reqs[2];
    uint8_t data[512] = {1};
    struct iovec iov = {data, sizeof(data)};
    struct block *blocks[2];
    struct loop *loop;
    struct err err = {0};

    ndone = 0;
    ck_assert_int_eq(loop_new(&loop), 0);
    for (unsigned i = 0; i < 2; i++) {
        add_image(i);
        blocks[i] = mem_env_open(&env, names[i], BLOCK_FORMAT_QCOW2, false);
        ck_assert_int_eq(block_attach(blocks[i], loop, &err), 0);
        reqs[i] = (struct block_req){
            .op = BLOCK_WRITE, .len = 512, .iov = &iov, .niov = 1, .done = count_done};
        block_submit(blocks[i], &reqs[i]);
    }
    ck_assert_int_eq(block_detach(blocks[0]), 0);
    ck_assert_int_eq(block_detach(blocks[1]), 0);
    ck_assert_uint_eq(ndone, 2);
    ck_assert_int_eq(block_close(blocks[0]), 0);
    ck_assert_int_eq(block_close(blocks[1]), 0);
    loop_free(loop);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "requests", setup, teardown,
                   requests_outside_the_disk_or_between_sectors_are_refused,
                   read_only_image_refuses_changes_and_accepts_flushes,
                   writes_are_synced_with_fua_and_without_writeback_only,
                   detach_waits_for_every_request_and_flushes, two_images_share_a_loop);
}

UNIT_MAIN("block_requests", add_tests)
