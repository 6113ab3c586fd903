/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole transfers over operations that are not: short, interrupted, unaligned; and the two engines.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/aio.h"
#include "base/bytes.h"
#include "base/co.h"
#include "base/file_host.h"
#include "base/loop.h"
#include "tests/lib/block/mem_file.h"
#include "tests/lib/host_calls.h"
#include "tests/lib/unit.h"

#define LEN (256u << 10)

static struct mem_disk disk;
static struct mem_fault fault;
static struct file *file;
static uint8_t expected[LEN];
static uint8_t buf[LEN] __attribute__((aligned(4096)));

static void open_file(uint32_t align)
{
    disk.align = align;
    fault = (struct mem_fault){.after = -1};
    disk.fault = &fault;
    file = mem_file_new(&disk, true);
}

static void setup(void)
{
    mem_disk_init(&disk, "file");
    disk.len = LEN;
    for (unsigned i = 0; i < LEN; i++)
        disk.data[i] = expected[i] = (uint8_t)(i * 7 + i / 512);
}

static void teardown(void)
{
    file_free(file);
    mem_disk_done(&disk);
}

/* ---- transfers ------------------------------------------------------------------------------- */

START_TEST(short_transfers_are_continued)
{
    open_file(1);
    fault.is_short = true;
    fault.after = 0;
    ck_assert_int_eq(file_read(file, 100, buf, 5000), 0);
    ck_assert_mem_eq(buf, expected + 100, 5000);
    ck_assert_uint_eq(disk.counts[FILE_READ], 2);
    memset(buf, 3, 5000);
    fault.after = 0;
    ck_assert_int_eq(file_write(file, 100, buf, 5000), 0);
    ck_assert_mem_eq(disk.data + 100, buf, 5000);
    ck_assert_uint_eq(disk.counts[FILE_WRITE], 2);
}
END_TEST

START_TEST(interrupted_operations_are_repeated_and_failed_ones_are_not)
{
    static const struct {
        int error;
        int result;
    } cases[] = {{-EINTR, 0}, {-EAGAIN, 0}, {-EIO, -EIO}, {-ENOSPC, -ENOSPC}};

    open_file(1);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        fault.result = cases[i].error;
        fault.after = 0;
        ck_assert_int_eq(file_read(file, 0, buf, 512), cases[i].result);
        fault.after = 0;
        ck_assert_int_eq(file_write(file, 0, buf, 512), cases[i].result);
    }
}
END_TEST

/* A host that is short of something for longer than a few tries take. */
START_TEST(busy_host_is_asked_again_after_pauses)
{
    open_file(1);
    host_calls_reset();
    host_calls[HOST_NANOSLEEP].fail = UINT_MAX;
    fault = (struct mem_fault){.result = -EAGAIN, .more = 40};
    ck_assert_int_eq(file_read(file, 0, buf, 512), 0);
    ck_assert_uint_eq(disk.counts[FILE_READ], 42);
    ck_assert_uint_eq(host_calls[HOST_NANOSLEEP].count, 41);
    ck_assert_uint_ge(host_slept_ns, 1000000000u);
    fault = (struct mem_fault){.result = -EAGAIN, .more = 40};
    ck_assert_int_eq(file_truncate(file, LEN), 0);
}
END_TEST

START_TEST(host_that_stays_busy_is_an_error_after_ten_seconds)
{
    open_file(1);
    for (int i = 0; i < 2; i++) {
        host_calls_reset();
        host_calls[HOST_NANOSLEEP].fail = UINT_MAX;
        fault = (struct mem_fault){.result = i ? -EINTR : -EAGAIN, .more = UINT_MAX};
        ck_assert_int_eq(file_write(file, 0, buf, 512), fault.result);
        ck_assert_uint_ge(host_slept_ns, 9900000000u);
        ck_assert_uint_le(host_slept_ns, 10200000000u);
        ck_assert_uint_le(host_calls[HOST_NANOSLEEP].count, 200);
    }
}
END_TEST

START_TEST(reads_past_the_end_are_zero)
{
    open_file(1);
    memset(buf, 1, 2000);
    ck_assert_int_eq(file_read(file, LEN - 500, buf, 1000), 0);
    ck_assert_mem_eq(buf, expected + LEN - 500, 500);
    ck_assert_uint_eq(buf[500], 0);
    ck_assert_uint_eq(buf[999], 0);
    ck_assert_int_eq(file_read(file, 1ull << 40, buf, 1000), 0);
    ck_assert_uint_eq(buf[0], 0);
}
END_TEST

START_TEST(write_that_makes_no_progress_fails)
{
    open_file(1);
    fault.result = 0;
    fault.after = 0;
    ck_assert_int_eq(file_write(file, 0, buf, 512), -EIO);
}
END_TEST

START_TEST(vectors_longer_than_the_kernel_takes_are_split)
{
    static struct iovec iov[3000];
    const size_t n = ARRAY_SIZE(iov);

    open_file(1);
    for (size_t i = 0; i < n; i++)
        iov[i] = (struct iovec){buf + i * 32, 32};
    ck_assert_int_eq(file_readv(file, 64, iov, (unsigned)n), 0);
    ck_assert_mem_eq(buf, expected + 64, n * 32);
    ck_assert_uint_eq(disk.counts[FILE_READ], 3);
}
END_TEST

START_TEST(unaligned_requests_are_bounced_and_neighbours_kept)
{
    static const struct {
        uint64_t off;
        size_t len;
    } cases[] = {{0, 1},       {4095, 2},    {1, 4094},        {512, 512},     {4096, 4096},
                 {4097, 4096}, {100, 12288}, {LEN - 700, 700}, {LEN - 1, 5000}};

    open_file(4096);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint64_t off = cases[i].off;
        size_t len = cases[i].len;
        size_t kept = (size_t)min_u64(len, LEN - off);

        ck_assert_int_eq(file_read(file, off, buf + 1, len), 0);
        ck_assert_mem_eq(buf + 1, expected + off, kept);
        memset(buf + 1, (int)(i + 100), len);
        memset(expected + off, (int)(i + 100), kept);
        ck_assert_int_eq(file_write(file, off, buf + 1, len), 0);
        ck_assert_mem_eq(disk.data, expected, LEN);
    }
}
END_TEST

START_TEST(aligned_requests_are_not_bounced)
{
    open_file(4096);
    ck_assert_int_eq(file_write(file, 8192, buf, 4096), 0);
    ck_assert_uint_eq(disk.counts[FILE_READ], 0);
    ck_assert_uint_eq(disk.counts[FILE_WRITE], 1);
}
END_TEST

/* ---- parts ----------------------------------------------------------------------------------- */

static const struct file_part parts[] = {
    {4096, 8192}, {512, 1024}, {1000, 5120}, {LEN - 1024, 1024}, {0, 512}, {LEN - 700, 512},
};
static const uint32_t part_aligns[] = {1, 512, 4096};

static struct file_part open_part(int i)
{
    struct file_part part = parts[i % (int)ARRAY_SIZE(parts)];
    struct err err = {0};

    open_file(part_aligns[i / (int)ARRAY_SIZE(parts)]);
    ck_assert_int_eq(file_set_part(file, &part, "file", &err), 0);
    return part;
}

START_TEST(part_is_read_and_behind_it_are_zeroes)
{
    struct file_part part = open_part(_i);
    uint64_t len = 0;

    ck_assert_int_eq(file_get_len(file, &len), 0);
    ck_assert_uint_eq(len, part.len);
    ck_assert_int_eq(file_read(file, 0, buf, part.len), 0);
    ck_assert_mem_eq(buf, expected + part.off, part.len);
    memset(buf, 1, 1024);
    ck_assert_int_eq(file_read(file, part.len - 100, buf, 1024), 0);
    ck_assert_mem_eq(buf, expected + part.off + part.len - 100, 100);
    for (unsigned i = 100; i < 1024; i++)
        ck_assert_uint_eq(buf[i], 0);
    memset(buf, 1, 512);
    ck_assert_int_eq(file_read(file, part.len + 512, buf, 512), 0);
    ck_assert_uint_eq(buf[0] | buf[511], 0);
}
END_TEST

START_TEST(what_is_beside_a_part_stays)
{
    struct file_part part = open_part(_i);
    uint8_t data[8192];

    memset(data, 0xee, sizeof(data));
    ck_assert_int_eq(file_write(file, 0, data, part.len), 0);
    memset(expected + part.off, 0xee, part.len);
    ck_assert_int_eq(file_write(file, part.len - 10, data, 20), -ENOSPC);
    ck_assert_int_eq(file_write(file, part.len, data, 1), -ENOSPC);
    ck_assert_int_eq(file_write(file, UINT64_MAX - 511, data, 512), -ENOSPC);
    ck_assert_int_eq(file_reserve(file, 0, part.len + 1), -ENOSPC);
    ck_assert_int_eq(file_truncate(file, part.len), -ENOTSUP);
    ck_assert_int_eq(file_zero(file, part.len - 256, 100000, true), 0); /* as past a file's end */
    memset(expected + part.off + part.len - 256, 0, 256);
    ck_assert_uint_eq(disk.len, LEN);
    ck_assert_mem_eq(disk.data, expected, LEN);
}
END_TEST

START_TEST(part_without_a_length_grows_with_the_file)
{
    const struct file_part part = {4096, FILE_PART_REST};
    struct err err = {0};
    uint64_t len = 0;

    open_file(1);
    ck_assert_int_eq(file_set_part(file, &part, "file", &err), 0);
    ck_assert_int_eq(file_get_len(file, &len), 0);
    ck_assert_uint_eq(len, LEN - 4096);
    ck_assert_int_eq(file_write(file, len, expected, 100), 0);
    ck_assert_uint_eq(disk.len, LEN + 100);
    ck_assert_int_eq(file_truncate(file, 4096), 0);
    ck_assert_uint_eq(disk.len, 8192);
    ck_assert_int_eq(file_get_len(file, &len), 0);
    ck_assert_uint_eq(len, 4096);
}
END_TEST

START_TEST(holes_of_a_part_end_with_it)
{
    const struct file_part part = {8192, 16384};
    struct err err = {0};
    uint64_t end = 0;

    open_file(1);
    memset(disk.data + 12288, 0, 4096);
    ck_assert_int_eq(file_set_part(file, &part, "file", &err), 0);
    ck_assert(!file_hole_at(file, 0, &end));
    ck_assert_uint_eq(end, 4096);
    ck_assert(file_hole_at(file, 4096, &end));
    ck_assert_uint_eq(end, 8192);
    ck_assert(!file_hole_at(file, 8192, &end));
    ck_assert_uint_eq(end, 16384);
    ck_assert(file_hole_at(file, 16384, &end));
    ck_assert_uint_eq(end, UINT64_MAX);
}
END_TEST

START_TEST(part_has_to_lie_in_the_file)
{
    static const struct file_part bad[] = {
        {LEN + 1, 0},          {LEN, 512},        {0, LEN + 1},
        {512, UINT64_MAX - 1}, {UINT64_MAX, 512}, {UINT64_MAX, FILE_PART_REST},
    };

    open_file(1);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct err err = {0};

        ck_assert_int_eq(file_set_part(file, &bad[i], "file", &err), -EINVAL);
        ck_assert_ptr_nonnull(strstr(err.msg, "containing file"));
    }
}
END_TEST

START_TEST(failed_sync_stays_failed)
{
    open_file(1);
    ck_assert_int_eq(file_sync(file), 0);
    fault.result = -EIO;
    fault.after = 0;
    ck_assert_int_eq(file_sync(file), -EIO);
    ck_assert_int_eq(file_sync(file), -EIO);
}
END_TEST

START_TEST(read_only_file_refuses_changes)
{
    file = mem_file_new(&disk, false);
    ck_assert_int_eq(file_write(file, 0, buf, 512), -EROFS);
    ck_assert_int_eq(file_zero(file, 0, 512, false), -EROFS);
    ck_assert_int_eq(file_truncate(file, 0), -EROFS);
}
END_TEST

/* ---- syncs ----------------------------------------------------------------------------------- */

/* A file whose operations are finished by the test. */
static struct file held_file;
static struct file_io *held[4];
static unsigned nheld;
static struct co_sched sched;
static int results[4];

static void held_submit(struct file *f, struct file_io *io)
{
    ck_assert_uint_lt(nheld, ARRAY_SIZE(held));
    held[nheld++] = io;
}

static const struct file_ops held_ops = {.submit = held_submit};

static void sync_main(void *opaque)
{
    *(int *)opaque = file_sync(&held_file);
}

static void start_sync(unsigned i)
{
    results[i] = 1;
    ck_assert_int_eq(co_start(&sched, sync_main, &results[i]), 0);
    (void)co_sched_run(&sched);
}

static void finish_held(unsigned i, int result)
{
    held[i]->done(held[i], result);
    (void)co_sched_run(&sched);
}

static void hold_file(void)
{
    file_init(&held_file, &held_ops);
    co_sched_init(&sched);
    nheld = 0;
}

/* Of two fdatasync in flight the kernel tells one of the error, and the other that all is well. */
START_TEST(one_sync_at_a_time_and_its_error_reaches_all_who_wait)
{
    hold_file();
    for (unsigned i = 0; i < 3; i++)
        start_sync(i);
    ck_assert_uint_eq(nheld, 1);
    finish_held(0, -EIO);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(results[i], -EIO);
    start_sync(3);
    ck_assert_int_eq(results[3], -EIO);
    ck_assert_uint_eq(nheld, 1);
    co_sched_done(&sched);
}
END_TEST

/* The one under way may have passed what was written before they came. */
START_TEST(who_comes_during_a_sync_shares_the_next_one)
{
    hold_file();
    for (unsigned i = 0; i < 3; i++)
        start_sync(i);
    finish_held(0, 0);
    ck_assert_int_eq(results[0], 0);
    ck_assert_int_eq(results[1], 1);
    ck_assert_int_eq(results[2], 1);
    ck_assert_uint_eq(nheld, 2);
    start_sync(3); /* and this one the one after that */
    finish_held(1, 0);
    ck_assert_int_eq(results[1], 0);
    ck_assert_int_eq(results[2], 0);
    ck_assert_int_eq(results[3], 1);
    ck_assert_uint_eq(nheld, 3);
    finish_held(2, -ENOSPC);
    ck_assert_int_eq(results[3], -ENOSPC);
    co_sched_done(&sched);
}
END_TEST

/* ---- files of the host, both engines --------------------------------------------------------- */

enum { WRITERS = 64, PIECE = 4000 };

struct job {
    struct file *file;
    struct loop *loop;
    unsigned *left;
    unsigned i;
};

/* Write a piece at an odd place, read it back, zero a part, read that back. */
static void job_run(void *opaque)
{
    struct job *job = opaque;
    uint64_t off = (uint64_t)job->i * PIECE;
    uint8_t data[PIECE];
    uint8_t back[PIECE];

    memset(data, (int)job->i + 1, sizeof(data));
    ck_assert_int_eq(file_write(job->file, off, data, sizeof(data)), 0);
    ck_assert_int_eq(file_sync(job->file), 0);
    ck_assert_int_eq(file_read(job->file, off, back, sizeof(back)), 0);
    ck_assert_mem_eq(back, data, sizeof(data));
    ck_assert_int_eq(file_zero(job->file, off + 100, 500, job->i % 2), 0);
    memset(data + 100, 0, 500);
    ck_assert_int_eq(file_read(job->file, off, back, sizeof(back)), 0);
    ck_assert_mem_eq(back, data, sizeof(data));
    if (--*job->left == 0)
        loop_stop(job->loop);
}

static const struct engine {
    enum aio_kind kind;
    bool direct;
} engines[] = {{AIO_AUTO, false}, {AIO_AUTO, true}, {AIO_THREADS, false}, {AIO_THREADS, true}};

START_TEST(coroutines_write_and_read_through_the_engine)
{
    const struct engine *engine = &engines[_i];
    char path[] = "test_file-XXXXXX"; /* here rather than in /tmp, which may have no direct I/O */
    struct file_host_options options = {
        .writable = true, .direct = engine->direct, .aio = engine->kind};
    struct job jobs[WRITERS];
    unsigned left = WRITERS;
    struct err err = {0};
    struct loop *loop;
    struct aio *aio;
    int fd = mkstemp(path);

    ck_assert_int_ge(fd, 0);
    close(fd);
    if (file_host_open(path, &options, &file, &err) < 0) {
        unlink(path);
        ck_assert_msg(engine->direct, "%s", err.msg);
        printf("not run: %s\n", err.msg);
        return;
    }
    unlink(path);
    ck_assert_int_eq(loop_new(&loop), 0);
    ck_assert_int_eq(aio_get(loop, engine->kind, &aio, &err), 0);
    file_set_aio(file, aio);
    for (unsigned i = 0; i < WRITERS; i++) {
        jobs[i] = (struct job){file, loop, &left, i};
        ck_assert_int_eq(co_start(aio_sched(aio), job_run, &jobs[i]), 0);
    }
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_uint_eq(left, 0);
    file_set_aio(file, NULL);
    aio_put(aio);
    loop_free(loop);
}
END_TEST

START_TEST(holes_are_known_without_reading)
{
    char path[] = "test_file-XXXXXX";
    struct file_host_options options = {.writable = true};
    struct err err = {0};
    uint64_t len;
    uint64_t end;
    int fd = mkstemp(path);

    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_assert_int_eq(file_host_open(path, &options, &file, &err), 0);
    unlink(path);
    ck_assert_int_eq(file_truncate(file, 1 << 20), 0);
    ck_assert_int_eq(file_get_len(file, &len), 0);
    ck_assert_uint_eq(len, 1 << 20);
    ck_assert(file_hole_at(file, 0, &end));
    ck_assert_uint_eq(end, UINT64_MAX);
    ck_assert(file_hole_at(file, 2 << 20, &end)); /* past the end */
    ck_assert_int_eq(file_write(file, 512 << 10, buf, 4096), 0);
    ck_assert(file_hole_at(file, 512, &end));
    ck_assert_uint_eq(end, 512 << 10);
    ck_assert(!file_hole_at(file, 512 << 10, &end));
    ck_assert_uint_eq(end, (512 << 10) + 4096);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *transfers = tcase_create("transfers");
    TCase *parts_of_files = tcase_create("parts");
    TCase *syncs = tcase_create("syncs");
    TCase *host = tcase_create("host");

    tcase_add_checked_fixture(transfers, setup, teardown);
    tcase_add_test(transfers, short_transfers_are_continued);
    tcase_add_test(transfers, interrupted_operations_are_repeated_and_failed_ones_are_not);
    tcase_add_test(transfers, busy_host_is_asked_again_after_pauses);
    tcase_add_test(transfers, host_that_stays_busy_is_an_error_after_ten_seconds);
    tcase_add_test(transfers, reads_past_the_end_are_zero);
    tcase_add_test(transfers, write_that_makes_no_progress_fails);
    tcase_add_test(transfers, vectors_longer_than_the_kernel_takes_are_split);
    tcase_add_test(transfers, unaligned_requests_are_bounced_and_neighbours_kept);
    tcase_add_test(transfers, aligned_requests_are_not_bounced);
    tcase_add_test(transfers, failed_sync_stays_failed);
    tcase_add_test(transfers, read_only_file_refuses_changes);
    suite_add_tcase(suite, transfers);

    tcase_add_checked_fixture(parts_of_files, setup, teardown);
    tcase_add_loop_test(parts_of_files, part_is_read_and_behind_it_are_zeroes, 0,
                        ARRAY_SIZE(parts) * ARRAY_SIZE(part_aligns));
    tcase_add_loop_test(parts_of_files, what_is_beside_a_part_stays, 0,
                        ARRAY_SIZE(parts) * ARRAY_SIZE(part_aligns));
    tcase_add_test(parts_of_files, part_without_a_length_grows_with_the_file);
    tcase_add_test(parts_of_files, holes_of_a_part_end_with_it);
    tcase_add_test(parts_of_files, part_has_to_lie_in_the_file);
    suite_add_tcase(suite, parts_of_files);

    tcase_add_test(syncs, one_sync_at_a_time_and_its_error_reaches_all_who_wait);
    tcase_add_test(syncs, who_comes_during_a_sync_shares_the_next_one);
    suite_add_tcase(suite, syncs);

    tcase_add_checked_fixture(host, setup, teardown);
    tcase_add_loop_test(host, coroutines_write_and_read_through_the_engine, 0, ARRAY_SIZE(engines));
    tcase_add_test(host, holes_are_known_without_reading);
    suite_add_tcase(suite, host);
}

UNIT_USES_THREADS;
UNIT_MAIN("file", add_tests)
