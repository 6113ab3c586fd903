/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations on a loop when the host is short of something: what io_uring does not take, what it
 * answers with EAGAIN, and who else gets on meanwhile.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/aio.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/file_host.h"
#include "base/loop.h"
#include "tests/lib/block/mem_file.h"
#include "tests/lib/host_calls.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

/* More than the ring has entries. */
#define READERS 200u
#define PIECE 512u

static struct loop *loop;
static struct aio *aio;
static struct file *file;
static unsigned left;

static void setup(void)
{
    host_calls_reset();
    ck_assert_int_eq(loop_new(&loop), 0);
}

static void teardown(void)
{
    file_free(file);
    loop_free(loop);
}

/*
 * With a ring in which the loop sleeps, and with one of an older kernel. False: this host has no
 * io_uring.
 */
enum { RING_OLD, RING_NEW, RING_KINDS };

static bool open_in_ring(int kind)
{
    struct file_host_options options = {.writable = true, .aio = AIO_URING};
    struct err err = {0};
    uint8_t data[READERS * PIECE];

    if (kind == RING_OLD)
        host_calls[HOST_RING] = (struct host_call){.fail = 1, .error = EINVAL};
    if (aio_get(loop, AIO_URING, &aio, &err) < 0) {
        printf("not run: %s\n", err.msg);
        return false;
    }
    scratch_save("file", "", 0);
    ck_assert_int_eq(file_host_open(scratch_path("file"), &options, &file, &err), 0);
    for (unsigned i = 0; i < READERS; i++)
        memset(data + (size_t)i * PIECE, (int)i, PIECE);
    ck_assert_int_eq(file_write(file, 0, data, sizeof(data)), 0);
    file_set_aio(file, aio);
    return true;
}

static void reader(void *opaque)
{
    unsigned i = *(unsigned *)opaque;
    uint8_t data[PIECE];

    ck_assert_int_eq(file_read(file, (uint64_t)i * PIECE, data, PIECE), 0);
    ck_assert_uint_eq(data[0], (uint8_t)i);
    ck_assert_uint_eq(data[PIECE - 1], (uint8_t)i);
    if (--left == 0)
        loop_stop(loop);
}

static void start_readers(unsigned n)
{
    static unsigned numbers[READERS];

    left = n;
    for (unsigned i = 0; i < n; i++) {
        numbers[i] = i;
        ck_assert_int_eq(co_start(aio_sched(aio), reader, &numbers[i]), 0);
    }
}

static void leave(void)
{
    file_set_aio(file, NULL);
    aio_put(aio);
}

/* Of a disk's usual queue. */
#define QUEUE 64u

static unsigned first_reads;
static unsigned calls_early; /* of io_uring_submit, when the second of the first reads was taken */
static unsigned calls_then;  /* when the last of them was */

static void reader_of_two(void *opaque)
{
    uint8_t data[PIECE];

    ck_assert_int_eq(file_read(file, 0, data, PIECE), 0);
    if (++first_reads == 2)
        calls_early = host_calls[HOST_SUBMIT].count;
    if (first_reads == QUEUE)
        calls_then = host_calls[HOST_SUBMIT].count;
    reader(opaque);
}

/*
 * All of a queue finishes at once: what follows from the first of it is under way before the second
 * is looked at, and what follows from the others before the last.
 */
START_TEST(queue_is_filled_while_completions_are_taken)
{
    static unsigned number;

    if (!open_in_ring(_i))
        return;
    host_calls_reset();
    left = QUEUE;
    for (unsigned i = 0; i < QUEUE; i++)
        ck_assert_int_eq(co_start(aio_sched(aio), reader_of_two, &number), 0);
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_uint_eq(left, 0);
    ck_assert_uint_ge(calls_early, 2);
    ck_assert_uint_ge(calls_then, 4);
    ck_assert_uint_le(calls_then, QUEUE / 4); /* many share a call all the same */
    leave();
}
END_TEST

static const int refusals[] = {EAGAIN, EBUSY, EINTR};

/* Nothing is in flight then that could wake the loop. */
START_TEST(what_the_ring_refuses_is_asked_again)
{
    for (unsigned n = 1; n <= READERS; n = n < 20 ? n * 4 : n + 136)
        for (unsigned fail = 1; fail < 5; fail++) {
            if (!file && !open_in_ring(_i % RING_KINDS))
                return;
            host_calls[HOST_SUBMIT] =
                (struct host_call){.fail = fail, .error = refusals[_i / RING_KINDS]};
            start_readers(n);
            ck_assert_int_eq(loop_run(loop), 0);
            ck_assert_uint_eq(left, 0);
            ck_assert_uint_eq(host_calls[HOST_SUBMIT].fail, 0);
        }
    leave();
}
END_TEST

static void stop_loop(struct loop_timer *timer)
{
    loop_stop(loop);
}

/* The processor is not kept busy while the kernel does not want to. */
START_TEST(refused_ring_is_not_asked_all_the_time)
{
    struct loop_timer timer = {.expired = stop_loop};

    if (!open_in_ring(_i))
        return;
    host_calls[HOST_SUBMIT] = (struct host_call){.fail = UINT_MAX, .error = EAGAIN};
    start_readers(1);
    loop_arm(loop, &timer, 300 * NS_PER_MS);
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_uint_eq(left, 1);
    ck_assert_uint_ge(host_calls[HOST_SUBMIT].count, 3);
    ck_assert_uint_le(host_calls[HOST_SUBMIT].count, 30);
    host_calls[HOST_SUBMIT].fail = 0;
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_uint_eq(left, 0);
    leave();
}
END_TEST

/* As block_detach does it. */
START_TEST(who_waits_without_the_loop_asks_again)
{
    unsigned rounds = 0;

    if (!open_in_ring(_i))
        return;
    host_calls[HOST_SUBMIT] = (struct host_call){.fail = 4, .error = EAGAIN};
    start_readers(READERS);
    for (; left > 0; rounds++)
        aio_wait(aio);
    ck_assert_uint_eq(host_calls[HOST_SUBMIT].fail, 0);
    ck_assert_uint_le(rounds, 10ull * READERS);
    leave();
}
END_TEST

/* ---- pauses ---------------------------------------------------------------------------------- */

static struct mem_disk disks[2];
static struct mem_fault fault;
static struct file *files[2];
static unsigned order[2];
static unsigned nordered;

static void open_in_memory(void)
{
    struct err err = {0};

    ck_assert_int_eq(aio_get(loop, AIO_THREADS, &aio, &err), 0);
    for (unsigned i = 0; i < 2; i++) {
        mem_disk_init(&disks[i], "disk");
        files[i] = mem_file_new(&disks[i], true);
        file_set_aio(files[i], aio);
    }
    disks[0].fault = &fault;
    nordered = 0;
}

static void mem_reader(void *opaque)
{
    unsigned i = *(unsigned *)opaque;
    uint8_t data[PIECE];

    ck_assert_int_eq(file_read(files[i], 0, data, PIECE), 0);
    order[nordered++] = i;
    if (nordered == 2)
        loop_stop(loop);
}

static void close_in_memory(void)
{
    for (unsigned i = 0; i < 2; i++) {
        file_free(files[i]);
        mem_disk_done(&disks[i]);
    }
    aio_put(aio);
}

/* With the loop, and without it. */
START_TEST(pause_of_one_is_not_one_of_others)
{
    static unsigned numbers[2] = {0, 1};
    uint64_t begin = monotonic_ns();
    unsigned rounds = 0;

    open_in_memory();
    fault = (struct mem_fault){.result = -EAGAIN, .more = 4};
    for (unsigned i = 0; i < 2; i++)
        ck_assert_int_eq(co_start(aio_sched(aio), mem_reader, &numbers[i]), 0);
    if (_i == 0)
        ck_assert_int_eq(loop_run(loop), 0);
    else
        for (; nordered < 2; rounds++)
            aio_wait(aio);
    ck_assert_uint_le(rounds, 20); /* it sleeps */
    ck_assert_uint_eq(order[0], 1);
    ck_assert_uint_eq(disks[0].counts[FILE_READ], 6);
    ck_assert_uint_ge(monotonic_ns() - begin, 31 * NS_PER_MS); /* 1 + 2 + 4 + 8 + 16 */
    if (_i == 0)
        ck_assert_uint_eq(host_calls[HOST_NANOSLEEP].count, 0);
    close_in_memory();
}
END_TEST

static bool gone = true;

static void read_for_nobody(void *opaque)
{
    uint8_t data[PIECE];

    co_set_cancel(&gone);
    ck_assert_int_eq(file_read(files[0], 0, data, PIECE), -EAGAIN);
    fault = (struct mem_fault){.result = -EAGAIN, .more = 4};
    ck_assert_int_eq(file_sync(files[0]), 0);
    loop_stop(loop);
}

/* A sync is not, whose failure would stay. */
START_TEST(what_nobody_wants_any_more_is_not_tried_again)
{
    open_in_memory();
    fault = (struct mem_fault){.result = -EAGAIN, .more = UINT_MAX};
    ck_assert_int_eq(co_start(aio_sched(aio), read_for_nobody, NULL), 0);
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_uint_eq(disks[0].counts[FILE_READ], 1);
    ck_assert_uint_eq(disks[0].counts[FILE_SYNC], 6);
    close_in_memory();
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *ring = tcase_create("ring");
    TCase *pauses = tcase_create("pauses");

    tcase_add_checked_fixture(ring, scratch_set_up, scratch_tear_down);
    tcase_add_checked_fixture(ring, setup, teardown);
    tcase_add_loop_test(ring, what_the_ring_refuses_is_asked_again, 0,
                        ARRAY_SIZE(refusals) * RING_KINDS);
    tcase_add_loop_test(ring, queue_is_filled_while_completions_are_taken, 0, RING_KINDS);
    tcase_add_loop_test(ring, refused_ring_is_not_asked_all_the_time, 0, RING_KINDS);
    tcase_add_loop_test(ring, who_waits_without_the_loop_asks_again, 0, RING_KINDS);
    suite_add_tcase(suite, ring);

    tcase_add_checked_fixture(pauses, setup, teardown);
    tcase_add_loop_test(pauses, pause_of_one_is_not_one_of_others, 0, 2);
    tcase_add_test(pauses, what_nobody_wants_any_more_is_not_tried_again);
    suite_add_tcase(suite, pauses);
}

UNIT_MAIN("aio", add_tests)
