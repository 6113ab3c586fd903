/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The serial port on a socket: clients that come, are slow, and leave.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/byte_queue.h"
#include "tests/lib/unit.h"
#include "tests/lib/vmm/console/console_rig.h"
#include "vmm/console/console.h"

static struct sockaddr_un address_of(const char *where)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    ck_assert_uint_lt(strlen(where), sizeof(addr.sun_path));
    memcpy(addr.sun_path, where, strlen(where) + 1);
    return addr;
}

static int connect_client(void)
{
    struct sockaddr_un addr = address_of(con.path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

    ck_assert_int_eq(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    con_settle();
    return fd;
}

START_TEST(client_reads_output_and_sends_input)
{
    int fd;

    con_open(SERIAL_UNIX, con.path);
    fd = connect_client();
    con_assert_prints(fd, "login: ");
    ck_assert_int_eq(write(fd, "root\x01x\r", 7), 7);
    con_settle();
    con_assert_received("root\x01x\r");
    ck_assert(!con.front.quit);
    close(fd);
}
END_TEST

START_TEST(client_gets_latest_output_of_before)
{
    size_t pos = 0;
    size_t first;
    int fd;

    con_open(SERIAL_UNIX, con.path);
    while (pos < 3 * CONSOLE_BUFFER_FULL)
        ck_assert(con_print_pattern(&pos, 256));
    first = pos - CONSOLE_BUFFER_FULL;
    fd = connect_client();
    con_check_pattern(fd, &first);
    ck_assert_uint_eq(first, pos);
    close(fd);
}
END_TEST

START_TEST(next_client_is_served_when_the_first_left)
{
    int first;
    int second;

    con_open(SERIAL_UNIX, con.path);
    first = connect_client();
    second = connect_client();
    con_assert_prints(first, "one");
    con_assert_reads(second, "");
    close(first);
    con_settle();
    con_assert_reads(second, "one");
    con_assert_prints(second, "two");
    ck_assert_int_eq(write(second, "in", 2), 2);
    con_settle();
    con_assert_received("in");
    close(second);
}
END_TEST

START_TEST(late_client_sees_what_was_shown_and_then_what_was_not)
{
    int fd;

    con_open(SERIAL_UNIX, con.path);
    fd = connect_client();
    con_assert_prints(fd, "shown\n");
    close(fd);
    con_settle();
    con_print("not shown\n");
    for (unsigned i = 0; i < 2; i++) {
        fd = connect_client();
        con_assert_reads(fd, "shown\nnot shown\n");
        close(fd);
        con_settle();
    }
}
END_TEST

START_TEST(late_client_sees_no_more_than_the_end)
{
    size_t pos = 0;
    size_t first;
    int fd;

    con_open(SERIAL_UNIX, con.path);
    fd = connect_client();
    while (pos < 3 * CONSOLE_SHOWN_MAX) {
        size_t seen = pos;

        ck_assert(con_print_pattern(&pos, 100));
        con_settle();
        con_check_pattern(fd, &seen);
        ck_assert_uint_eq(seen, pos);
    }
    close(fd);
    con_settle();
    fd = connect_client();
    first = pos - CONSOLE_SHOWN_MAX;
    while (con_pattern(first - 1) != '\n')
        first++;
    con_check_pattern(fd, &first);
    ck_assert_uint_eq(first, pos);
    close(fd);
}
END_TEST

/* It is what comes right before the output that waits. */
START_TEST(what_a_client_did_not_read_is_shown_to_the_next)
{
    static char data[CONSOLE_SHOWN_MAX + CONSOLE_BUFFER_FULL + 1];
    size_t pos = 0;
    size_t len = 0;
    size_t n;
    int fd;

    con_open(SERIAL_UNIX, con.path);
    fd = connect_client();
    con_fill(&pos);
    close(fd);
    con_settle();
    fd = connect_client();
    while ((n = con_read(fd, data + len, sizeof(data) - len)) > 0)
        len += n;
    ck_assert_uint_ge(len, CONSOLE_SHOWN_MAX / 2);
    ck_assert_uint_lt(len, sizeof(data));
    for (size_t i = 0; i < len; i++)
        ck_assert_uint_eq((uint8_t)data[i], con_pattern(pos - len + i));
    close(fd);
}
END_TEST

START_TEST(client_that_only_listens_gets_output)
{
    int first;
    int second;

    con_open(SERIAL_UNIX, con.path);
    first = connect_client();
    ck_assert_int_eq(shutdown(first, SHUT_WR), 0);
    ck_assert_uint_le(con_idle_rounds(), CON_IDLE_ROUNDS);
    con_assert_prints(first, "still here");
    close(first);
    con_settle();
    second = connect_client();
    con_assert_reads(second, "still here");
    con_assert_prints(second, "next");
    close(second);
}
END_TEST

START_TEST(slow_client_loses_nothing)
{
    size_t written = 0;
    size_t seen = 0;
    int fd;

    con_open(SERIAL_UNIX, con.path);
    fd = connect_client();
    while (written < 2u << 20) {
        if (con_print_pattern(&written, 256))
            continue;
        con_settle();
        if (con.chardev->ops->is_full(con.chardev)) {
            unsigned nwritable = con.front.nwritable;

            ck_assert_uint_le(con_idle_rounds(), CON_IDLE_ROUNDS);
            while (con.front.nwritable == nwritable) {
                con_check_pattern(fd, &seen);
                con_settle();
            }
            ck_assert(!con.chardev->ops->is_full(con.chardev));
        }
    }
    con_settle();
    while (seen < written) {
        con_check_pattern(fd, &seen);
        con_settle();
    }
    close(fd);
}
END_TEST

START_TEST(guest_that_ignores_busy_is_bounded)
{
    uint8_t data[4096] = {0};
    size_t total = 0;
    char buf[8192];
    size_t n;
    int fd;

    con_open(SERIAL_UNIX, con.path);
    fd = connect_client();
    for (unsigned i = 0; i < 1000; i++)
        con.chardev->ops->write(con.chardev, data, sizeof(data));
    con_settle();
    while ((n = con_read(fd, buf, sizeof(buf))) > 0) {
        total += n;
        con_settle();
    }
    ck_assert_uint_ge(total, CONSOLE_BUFFER_MAX);
    ck_assert_uint_lt(total, 2 * CONSOLE_BUFFER_MAX);
    close(fd);
}
END_TEST

START_TEST(guest_goes_on_when_a_slow_client_leaves)
{
    size_t pos = 0;
    int fd;

    con_open(SERIAL_UNIX, con.path);
    fd = connect_client();
    con_fill(&pos);
    close(fd);
    con_settle();
    ck_assert(!con.chardev->ops->is_full(con.chardev));
    ck_assert_uint_ge(con.front.nwritable, 1);
}
END_TEST

START_TEST(input_waits_for_room)
{
    int fd;

    con.front.room = 2;
    con_open(SERIAL_UNIX, con.path);
    fd = connect_client();
    ck_assert_int_eq(write(fd, "abcdef", 6), 6);
    con_settle();
    con_assert_received("ab");
    ck_assert_uint_le(con_idle_rounds(), CON_IDLE_ROUNDS);
    con_give_room(3);
    con_assert_received("abcde");
    con_give_room(3);
    con_assert_received("abcdef");
    ck_assert_int_eq(write(fd, "gh", 2), 2);
    con_settle();
    con_assert_received("abcdefgh");
    close(fd);
}
END_TEST

START_TEST(client_is_replaced_though_the_guest_takes_no_input)
{
    int first;
    int second;

    con.front.room = 0;
    con_open(SERIAL_UNIX, con.path);
    first = connect_client();
    ck_assert_int_eq(write(first, "abc", 3), 3);
    con_settle();
    close(first);
    con_settle();
    second = connect_client();
    con_assert_prints(second, "hello");
    close(second);
}
END_TEST

START_TEST(stale_socket_is_replaced_and_removed_at_the_end)
{
    struct sockaddr_un addr = address_of(con.path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    close(fd);
    con_open(SERIAL_UNIX, con.path);
    close(connect_client());
    con_close();
    ck_assert_int_eq(access(con.path, F_OK), -1);
}
END_TEST

START_TEST(socket_in_use_is_refused)
{
    struct sockaddr_un addr = address_of(con.path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct err err = {0};

    ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    ck_assert_int_eq(listen(fd, 1), 0);
    ck_assert_int_eq(con_try_open(SERIAL_UNIX, con.path, &err), -EADDRINUSE);
    ck_assert_ptr_nonnull(strstr(err.msg, con.path));
    ck_assert_int_eq(access(con.path, F_OK), 0);
    close(fd);
}
END_TEST

/* The client waits in the queue, the loop sleeps, and later all is well. */
START_TEST(client_waits_while_there_are_no_descriptors)
{
    struct sockaddr_un addr = address_of(con.path);
    struct rlimit limit, low;
    int fd;

    con_open(SERIAL_UNIX, con.path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    low = limit;
    low.rlim_cur = (rlim_t)fd + 1 + (rlim_t)_i; /* a client takes two */
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    ck_assert_uint_le(con_idle_rounds(), CON_IDLE_ROUNDS);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_int_eq(write(fd, "in", 2), 2);
    con_assert_received("in");
    con_assert_prints(fd, "out");
    close(fd);
}
END_TEST

START_TEST(file_in_place_of_the_socket_is_kept)
{
    struct err err = {0};

    close(open(con.path, O_WRONLY | O_CREAT, 0600));
    ck_assert_int_eq(con_try_open(SERIAL_UNIX, con.path, &err), -EADDRINUSE);
    ck_assert_int_eq(access(con.path, F_OK), 0);
}
END_TEST

START_TEST(socket_path_too_long_is_refused)
{
    char name[200];
    struct err err = {0};

    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    ck_assert_int_eq(con_try_open(SERIAL_UNIX, name, &err), -ENAMETOOLONG);
    ck_assert_ptr_nonnull(strstr(err.msg, "at most 107 bytes"));
}
END_TEST

#define WRITERS 4
#define WRITER_BYTES 50000u

static atomic_uint writers_done;
static atomic_bool reader_connected;

static void *write_often(void *arg)
{
    const uint8_t byte = (uint8_t)(uintptr_t)arg;

    for (unsigned i = 0; i < WRITER_BYTES; i++) {
        while (con.chardev->ops->is_full(con.chardev))
            usleep(100);
        con.chardev->ops->write(con.chardev, &byte, 1);
    }
    if (atomic_fetch_add(&writers_done, 1) + 1 == WRITERS)
        loop_stop(con.loop);
    return NULL;
}

static void *count_bytes(void *arg)
{
    unsigned *counts = arg;
    char buf[1024];
    size_t n;
    struct sockaddr_un addr = address_of(con.path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
        return NULL;
    atomic_store(&reader_connected, true);
    while ((n = con_read(fd, buf, sizeof(buf))) > 0) {
        for (size_t i = 0; i < n; i++)
            counts[(uint8_t)buf[i] % WRITERS]++;
    }
    close(fd);
    return NULL;
}

START_TEST(many_threads_write)
{
    unsigned counts[WRITERS] = {0};
    pthread_t writers[WRITERS];
    pthread_t reader;

    atomic_store(&writers_done, 0);
    con_open(SERIAL_UNIX, con.path);
    ck_assert_int_eq(pthread_create(&reader, NULL, count_bytes, counts), 0);
    con_wait_for(atomic_load(&reader_connected));
    con_settle();
    for (size_t i = 0; i < WRITERS; i++)
        ck_assert_int_eq(pthread_create(&writers[i], NULL, write_often, (void *)i), 0);
    ck_assert_int_eq(loop_run(con.loop), 0);
    for (size_t i = 0; i < WRITERS; i++)
        pthread_join(writers[i], NULL);
    con_close();
    pthread_join(reader, NULL);
    for (size_t i = 0; i < WRITERS; i++)
        ck_assert_uint_eq(counts[i], WRITER_BYTES);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("unix socket");

    tcase_add_checked_fixture(tcase, con_setup, con_teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, client_reads_output_and_sends_input);
    tcase_add_test(tcase, client_gets_latest_output_of_before);
    tcase_add_test(tcase, next_client_is_served_when_the_first_left);
    tcase_add_test(tcase, late_client_sees_what_was_shown_and_then_what_was_not);
    tcase_add_test(tcase, late_client_sees_no_more_than_the_end);
    tcase_add_test(tcase, what_a_client_did_not_read_is_shown_to_the_next);
    tcase_add_test(tcase, client_that_only_listens_gets_output);
    tcase_add_test(tcase, slow_client_loses_nothing);
    tcase_add_test(tcase, guest_that_ignores_busy_is_bounded);
    tcase_add_test(tcase, guest_goes_on_when_a_slow_client_leaves);
    tcase_add_test(tcase, input_waits_for_room);
    tcase_add_test(tcase, client_is_replaced_though_the_guest_takes_no_input);
    tcase_add_test(tcase, stale_socket_is_replaced_and_removed_at_the_end);
    tcase_add_test(tcase, socket_in_use_is_refused);
    tcase_add_loop_test(tcase, client_waits_while_there_are_no_descriptors, 0, 2);
    tcase_add_test(tcase, file_in_place_of_the_socket_is_kept);
    tcase_add_test(tcase, socket_path_too_long_is_refused);
    tcase_add_test(tcase, many_threads_write);
    suite_add_tcase(suite, tcase);
}

UNIT_USES_THREADS;
UNIT_MAIN("console_unix", add_tests)
