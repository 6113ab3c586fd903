/* SPDX-License-Identifier: Apache-2.0 */
/* The threads that carry out file operations: how many there are for what. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/aio.h"
#include "base/loop.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

#define READS 64u

static struct loop *loop;
static struct aio *aio;
static struct file_io reads[READS];
static uint8_t bytes[READS];
static struct iovec iovs[READS];
static unsigned left;
static int fd;

static void setup(void)
{
    struct err err = {0};

    scratch_save("file", "x", 1);
    fd = open(scratch_path("file"), O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(loop_new(&loop), 0);
    ck_assert_int_eq(aio_get(loop, AIO_THREADS, &aio, &err), 0);
}

static void teardown(void)
{
    aio_put(aio);
    loop_free(loop);
    close(fd);
}

/* Those of the pool: sanitizers have threads of their own. A new one has no name at first. */
static bool is_ours(const char *task)
{
    char path[64];
    char name[16] = "";
    ssize_t n;
    int comm;

    snprintf(path, sizeof(path), "/proc/self/task/%.20s/comm", task);
    comm = open(path, O_RDONLY | O_CLOEXEC);
    n = comm < 0 ? 0 : read(comm, name, sizeof(name) - 1);
    if (comm >= 0)
        close(comm);
    return n > 0 && strcmp(name, "aio\n") == 0;
}

static unsigned count_threads(void)
{
    DIR *dir = opendir("/proc/self/task");
    const struct dirent *entry;
    unsigned n = 0;

    ck_assert_ptr_nonnull(dir);
    while ((entry = readdir(dir)))
        n += is_ours(entry->d_name);
    closedir(dir);
    return n;
}

static void read_done(struct file_io *io, int result)
{
    ck_assert_int_eq(result, 1);
    ck_assert_uint_eq(bytes[io - reads], 'x');
    if (--left == 0)
        loop_stop(loop);
}

static void start_reads(unsigned n, bool direct)
{
    for (unsigned i = 0; i < n; i++) {
        bytes[i] = 0;
        iovs[i] = (struct iovec){&bytes[i], 1};
        reads[i] = (struct file_io){
            .op = FILE_READ,
            .fd = fd,
            .iov = &iovs[i],
            .niov = 1,
            .len = 1,
            .direct = direct,
            .done = read_done,
        };
        aio_submit(aio, AIO_THREADS, &reads[i]);
    }
    left += n;
}

/*
 * Threads stay for two seconds after their work, so they can be counted then. One that was started
 * may get its name after others have done all the work.
 */
static unsigned threads_after(unsigned n, bool direct, unsigned expected)
{
    unsigned count = 0;

    start_reads(n, direct);
    ck_assert_int_eq(loop_run(loop), 0);
    for (unsigned i = 0; i < 1000 && (i == 0 || count < expected); i++) {
        count = count_threads();
        usleep(1000);
    }
    return count;
}

START_TEST(one_operation_takes_one_thread)
{
    for (unsigned i = 0; i < 10; i++)
        ck_assert_uint_eq(threads_after(1, true, 1), 1);
}
END_TEST

START_TEST(few_threads_read_the_page_cache_and_more_wait_for_a_disk)
{
    ck_assert_uint_eq(threads_after(READS, false, 8), 8);
    ck_assert_uint_eq(threads_after(READS, true, 32), 32);
}
END_TEST

/* What was asked for together is handed over together: none of it has begun before. */
START_TEST(operations_begin_when_the_loop_sleeps)
{
    start_reads(READS, true);
    ck_assert_uint_eq(count_threads(), 0);
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_uint_eq(left, 0);
}
END_TEST

/* As block_detach does it. */
START_TEST(operations_begin_for_who_waits_without_the_loop)
{
    start_reads(READS, false);
    while (left > 0)
        aio_wait(aio);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("threads");

    tcase_add_checked_fixture(tcase, scratch_set_up, scratch_tear_down);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, one_operation_takes_one_thread);
    tcase_add_test(tcase, few_threads_read_the_page_cache_and_more_wait_for_a_disk);
    tcase_add_test(tcase, operations_begin_when_the_loop_sleeps);
    tcase_add_test(tcase, operations_begin_for_who_waits_without_the_loop);
    suite_add_tcase(suite, tcase);
}

UNIT_USES_THREADS;
UNIT_MAIN("aio_threads", add_tests)
