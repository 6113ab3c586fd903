/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that go on where another one ends: carried out as one, answered one by one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/loop.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/unit.h"

#define SECTORS 64u
#define N 8u

static struct mem_env env;
static struct mem_disk disk;
static struct block *block;
static struct loop *loop;

static struct block_req reqs[N];
static struct iovec iovs[N];
static uint8_t data[N][BLOCK_SECTOR_SIZE];
static int results[N];
static unsigned ndone;

static void setup(void)
{
    mem_env_init(&env);
    mem_disk_init(&disk, "disk");
    mem_env_add(&env, &disk);
    disk.len = (uint64_t)SECTORS * BLOCK_SECTOR_SIZE;
    for (unsigned i = 0; i < SECTORS; i++)
        memset(disk.data + (size_t)i * BLOCK_SECTOR_SIZE, (int)i, BLOCK_SECTOR_SIZE);
    for (unsigned i = 0; i < N; i++)
        memset(data[i], 0x80 + (int)i, BLOCK_SECTOR_SIZE);
    ck_assert_int_eq(loop_new(&loop), 0);
    ndone = 0;
}

static void teardown(void)
{
    mem_disk_done(&disk);
    loop_free(loop);
}

static void open_disk(enum block_format format, unsigned without)
{
    struct block_options options = {.path = "disk", .format = format, .without = without};
    struct err err = {0};

    ck_assert_msg(block_open_in(&env.env, &options, &block, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(block_attach(block, loop, &err), 0);
    memset(disk.counts, 0, sizeof(disk.counts));
}

static void close_disk(void)
{
    ck_assert_int_eq(block_detach(block), 0);
    ck_assert_uint_eq(ndone, N);
    ck_assert_int_eq(block_close(block), 0);
}

static void note_result(struct block_req *req, int result)
{
    results[req - reqs] = result;
    ndone++;
}

/* One sector per request, the first at `sector`, then every `step`. */
static void submit_all(enum block_op op, unsigned sector, unsigned step)
{
    for (unsigned i = 0; i < N; i++) {
        iovs[i] = (struct iovec){data[i], BLOCK_SECTOR_SIZE};
        reqs[i] = (struct block_req){.op = op,
                                     .off = (sector + i * step) * (uint64_t)BLOCK_SECTOR_SIZE,
                                     .len = BLOCK_SECTOR_SIZE,
                                     .iov = &iovs[i],
                                     .niov = 1,
                                     .done = note_result};
        results[i] = 1;
        block_submit(block, &reqs[i]);
    }
}

START_TEST(neighbours_are_one_request_of_the_host)
{
    open_disk(BLOCK_FORMAT_RAW, 0);
    submit_all(BLOCK_READ, 3, 1);
    close_disk();
    ck_assert_uint_eq(disk.counts[FILE_READ], 1);
    for (unsigned i = 0; i < N; i++) {
        ck_assert_int_eq(results[i], 0);
        ck_assert_uint_eq(data[i][0], 3 + i);
        ck_assert_uint_eq(data[i][BLOCK_SECTOR_SIZE - 1], 3 + i);
    }
}
END_TEST

START_TEST(merged_writes_land_where_they_belong)
{
    open_disk(BLOCK_FORMAT_RAW, 0);
    submit_all(BLOCK_WRITE, 3, 1);
    ck_assert_int_eq(block_detach(block), 0);
    ck_assert_uint_eq(disk.counts[FILE_WRITE], 1);
    ck_assert_uint_eq(block_get_stats(block)->merged_reqs, N - 1);
    ck_assert_int_eq(block_close(block), 0);
    for (unsigned i = 0; i < SECTORS; i++)
        ck_assert_uint_eq(disk.data[(size_t)i * BLOCK_SECTOR_SIZE],
                          i >= 3 && i < 3 + N ? 0x80 + i - 3 : i);
}
END_TEST

START_TEST(others_stay_apart)
{
    open_disk(BLOCK_FORMAT_RAW, 0);
    submit_all(BLOCK_READ, 0, 2);
    close_disk();
    ck_assert_uint_eq(disk.counts[FILE_READ], N);
}
END_TEST

/* Of 64 KiB each, four make the longest request that is worth waiting for. */
START_TEST(long_requests_are_not_merged_without_end)
{
    static uint8_t buf[64 << 10];

    disk.len = (uint64_t)N * sizeof(buf);
    open_disk(BLOCK_FORMAT_RAW, 0);
    for (unsigned i = 0; i < N; i++) {
        iovs[i] = (struct iovec){buf, sizeof(buf)};
        reqs[i] = (struct block_req){.op = BLOCK_READ,
                                     .off = i * sizeof(buf),
                                     .len = sizeof(buf),
                                     .iov = &iovs[i],
                                     .niov = 1,
                                     .done = note_result};
        block_submit(block, &reqs[i]);
    }
    close_disk();
    ck_assert_uint_eq(disk.counts[FILE_READ], N / 4);
}
END_TEST

START_TEST(merging_can_be_switched_off)
{
    open_disk(BLOCK_FORMAT_RAW, BLOCK_WITHOUT_MERGE_REQS);
    submit_all(BLOCK_WRITE, 0, 1);
    close_disk();
    ck_assert_uint_eq(disk.counts[FILE_WRITE], N);
}
END_TEST

START_TEST(request_of_another_kind_ends_a_run)
{
    open_disk(BLOCK_FORMAT_RAW, 0);
    submit_all(BLOCK_WRITE, 0, 1);
    reqs[N / 2].flags = BLOCK_REQ_FUA; /* looked at when the coroutine runs */
    close_disk();
    ck_assert_uint_eq(disk.counts[FILE_WRITE], 3);
}
END_TEST

START_TEST(failure_is_the_error_of_one_request_only)
{
    /* Nobody called this disk raw, so its guest must not make it look like something else. */
    open_disk(BLOCK_FORMAT_PROBE, 0);
    memcpy(data[0], "QED", 4);
    submit_all(BLOCK_WRITE, 0, 1);
    close_disk();
    ck_assert_int_eq(results[0], -EPERM);
    ck_assert_uint_eq(disk.data[1], 0);
    for (unsigned i = 1; i < N; i++) {
        ck_assert_int_eq(results[i], 0);
        ck_assert_uint_eq(disk.data[(size_t)i * BLOCK_SECTOR_SIZE], 0x80 + i);
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "merge", setup, teardown, neighbours_are_one_request_of_the_host,
                   merged_writes_land_where_they_belong, others_stay_apart,
                   long_requests_are_not_merged_without_end, merging_can_be_switched_off,
                   request_of_another_kind_ends_a_run, failure_is_the_error_of_one_request_only);
}

UNIT_MAIN("block_merge", add_tests)
