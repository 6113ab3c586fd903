/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a loop sleeps while file operations are in flight: in the ring, where the kernel lets it, and
 * in epoll_wait elsewhere. Whatever wakes a loop has to wake it there.
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/aio.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/loop.h"
#include "tests/lib/host_calls.h"
#include "tests/lib/unit.h"

static struct loop *loop;
static struct aio *aio;

static void setup(void)
{
    host_calls_reset();
    ck_assert_int_eq(loop_new(&loop), 0);
}

static void teardown(void)
{
    loop_free(loop);
}

/*
 * With a ring in which the loop sleeps, and with one of an older kernel. False: this host has no
 * io_uring.
 */
enum { RING_OLD, RING_NEW, RING_KINDS };

static bool start(int kind)
{
    struct err err = {0};

    if (kind == RING_OLD)
        host_calls[HOST_RING] = (struct host_call){.fail = 1, .error = EINVAL};
    if (aio_get(loop, AIO_URING, &aio, &err) == 0)
        return true;
    printf("not run: %s\n", err.msg);
    return false;
}

static void stop_loop(struct loop_timer *timer)
{
    loop_stop(loop);
}

/* A read of a pipe, which is in flight until the test writes to it. */
static int pipe_fds[2];
static struct file_io pipe_io;
static uint8_t pipe_byte;
static const struct iovec pipe_iov = {&pipe_byte, 1};
static bool pipe_read;

static void pipe_done(struct file_io *io, int result)
{
    ck_assert_int_eq(result, 1);
    pipe_read = true;
    loop_stop(loop);
}

static void start_pipe_read(void)
{
    ck_assert_int_eq(pipe(pipe_fds), 0);
    pipe_read = false;
    pipe_io = (struct file_io){
        .op = FILE_READ,
        .fd = pipe_fds[0],
        .iov = &pipe_iov,
        .niov = 1,
        .len = 1,
        .done = pipe_done,
    };
    aio_submit(aio, AIO_URING, &pipe_io);
}

static void end_pipe_read(void)
{
    ck_assert_int_eq(write(pipe_fds[1], "", 1), 1);
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert(pipe_read);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static unsigned nrun;

static void count_run(struct loop_work *work)
{
    nrun++;
}

static void called(void *opaque)
{
    nrun++;
}

#define POSTS 500u

/* Each post meets a loop that sleeps again, mostly. */
static void *post_from_outside(void *opaque)
{
    for (unsigned i = 0; i < POSTS; i++)
        loop_call(loop, called, NULL);
    loop_stop(loop);
    return NULL;
}

START_TEST(loop_is_woken_from_outside_while_something_is_in_flight)
{
    pthread_t thread;

    if (!start(_i))
        return;
    start_pipe_read();
    nrun = 0;
    ck_assert_int_eq(pthread_create(&thread, NULL, post_from_outside, NULL), 0);
    ck_assert_int_eq(loop_run(loop), 0);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(nrun, POSTS);
    end_pipe_read();
    aio_put(aio);
}
END_TEST

/* More than the loop serves in a round. */
#define WATCHES 40u

static struct loop_fd watches[WATCHES];
static unsigned nserved;

/* Each is called twice before it loses interest: a descriptor that stays ready is told again. */
static void serve_watch(struct loop_fd *watch, uint32_t events)
{
    if (++nserved > WATCHES)
        loop_remove_fd(watch);
    if (nserved == 2 * WATCHES)
        loop_stop(loop);
}

START_TEST(all_that_is_ready_is_served_while_something_is_in_flight)
{
    if (!start(_i))
        return;
    start_pipe_read();
    nserved = 0;
    for (unsigned i = 0; i < WATCHES; i++) {
        watches[i] = (struct loop_fd){
            .fd = eventfd(1, EFD_CLOEXEC),
            .events = EPOLLIN,
            .ready = serve_watch,
        };
        ck_assert_int_eq(loop_add_fd(loop, &watches[i]), 0);
    }
    ck_assert_int_eq(loop_run(loop), 0);
    for (unsigned i = 0; i < WATCHES; i++)
        close(watches[i].fd);
    end_pipe_read();
    aio_put(aio);
}
END_TEST

/* What is in flight for long keeps no processor busy, and timers expire when they should. */
START_TEST(loop_sleeps_while_something_is_in_flight)
{
    struct loop_timer timer = {.expired = stop_loop};
    uint64_t begin = monotonic_ns();

    if (!start(_i))
        return;
    start_pipe_read();
    host_calls_reset();
    loop_arm(loop, &timer, 50 * NS_PER_MS);
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert(!pipe_read);
    ck_assert_uint_ge(monotonic_ns() - begin, 50 * NS_PER_MS);
    ck_assert_uint_le(monotonic_ns() - begin, 2000 * NS_PER_MS);
    ck_assert_uint_le(host_calls[HOST_SUBMIT].count + host_calls[HOST_WAIT].count, 4);
    end_pipe_read();
    aio_put(aio);
}
END_TEST

static void drain(struct loop_fd *watch, uint32_t events)
{
    eventfd_t count;

    ck_assert_int_eq(eventfd_read(watch->fd, &count), 0);
    nserved++;
    loop_stop(loop);
}

/* Also if the kernel cannot watch the loop's descriptors for want of memory. */
START_TEST(loop_gets_on_while_the_ring_takes_nothing)
{
    struct loop_timer timer = {.expired = stop_loop};
    struct loop_fd watch = {.events = EPOLLIN, .ready = drain};

    if (!start(_i))
        return;
    watch.fd = eventfd(0, EFD_CLOEXEC);
    ck_assert_int_eq(loop_add_fd(loop, &watch), 0);
    start_pipe_read();
    loop_arm(loop, &timer, 0);
    ck_assert_int_eq(loop_run(loop), 0); /* the read gets into the kernel */
    host_calls_reset();
    host_calls[HOST_SUBMIT] = (struct host_call){.fail = UINT_MAX, .error = EAGAIN};
    nserved = 0;
    for (unsigned i = 1; i <= WATCHES; i++) {
        ck_assert_int_eq(eventfd_write(watch.fd, 1), 0);
        ck_assert_int_eq(loop_run(loop), 0);
        ck_assert_uint_eq(nserved, i);
        loop_arm(loop, &timer, 5 * NS_PER_MS);
        ck_assert_int_eq(loop_run(loop), 0);
    }
    ck_assert_uint_le(host_calls[HOST_SUBMIT].count + host_calls[HOST_WAIT].count, 8ull * WATCHES);
    host_calls[HOST_SUBMIT].fail = 0;
    loop_remove_fd(&watch);
    close(watch.fd);
    end_pipe_read();
    aio_put(aio);
}
END_TEST

/* The ring is entered for disk I/O only: kicks of a guest cost no more than without one. */
START_TEST(idle_ring_is_not_entered)
{
    struct loop_work work = {.run = count_run};
    struct loop_timer timer = {.expired = stop_loop};

    if (!start(_i))
        return;
    host_calls_reset();
    loop_post(loop, &work);
    loop_arm(loop, &timer, 10 * NS_PER_MS);
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_uint_eq(host_calls[HOST_SUBMIT].count + host_calls[HOST_WAIT].count, 0);
    aio_put(aio);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("sleep");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, loop_is_woken_from_outside_while_something_is_in_flight, 0,
                        RING_KINDS);
    tcase_add_loop_test(tcase, all_that_is_ready_is_served_while_something_is_in_flight, 0,
                        RING_KINDS);
    tcase_add_loop_test(tcase, loop_sleeps_while_something_is_in_flight, 0, RING_KINDS);
    tcase_add_loop_test(tcase, loop_gets_on_while_the_ring_takes_nothing, 0, RING_KINDS);
    tcase_add_loop_test(tcase, idle_ring_is_not_entered, 0, RING_KINDS);
    suite_add_tcase(suite, tcase);
}

UNIT_USES_THREADS;
UNIT_MAIN("aio_sleep", add_tests)
