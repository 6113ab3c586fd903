/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tests/lib/tty.h"
#include "tests/lib/unit.h"
#include "tests/lib/vmm/console/console_rig.h"

/* Each test runs in a process of its own, so it may do as it likes with standard input. */

static int feed_fd = -1; /* what the test writes here is standard input */
static int sink_fd = -1; /* what comes out here went to standard output */

static void stdin_from(int fd)
{
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(dup2(fd, STDIN_FILENO), STDIN_FILENO);
    close(fd);
}

static void stdin_is_a_pipe(void)
{
    int fds[2];

    ck_assert_int_eq(pipe(fds), 0);
    stdin_from(fds[0]);
    feed_fd = fds[1];
}

static void stdout_is_a_pipe(void)
{
    int fds[2];

    ck_assert_int_eq(pipe(fds), 0);
    ck_assert_int_eq(dup2(fds[1], STDOUT_FILENO), STDOUT_FILENO);
    close(fds[1]);
    sink_fd = fds[0];
    ck_assert_int_eq(fcntl(sink_fd, F_SETFL, O_NONBLOCK), 0);
}

/* The pump is another thread: wait for what it writes. */
static void read_sink(char *buf, size_t len)
{
    size_t n = 0;

    for (unsigned i = 0; i < 5000 && n < len; i++) {
        n += con_read(sink_fd, buf + n, len - n);
        con_settle();
    }
    buf[n] = '\0';
}

#define assert_sink(text)                                                                          \
    do {                                                                                           \
        char sink_buf_[sizeof(text)];                                                              \
                                                                                                   \
        read_sink(sink_buf_, sizeof(text) - 1);                                                    \
        ck_assert_str_eq(sink_buf_, text);                                                         \
    } while (0)

static void open_on_pipes(void)
{
    stdin_is_a_pipe();
    stdout_is_a_pipe();
    con_open(SERIAL_STDIO, NULL);
}

/* ---- input that is no terminal --------------------------------------------------------------- */

START_TEST(pipe_passes_escape_keys_through)
{
    open_on_pipes();
    ck_assert_int_eq(write(feed_fd, "\x01x\x01h\x03\x04", 6), 6);
    con_settle();
    con_assert_received("\x01x\x01h\x03\x04");
    ck_assert(!con.front.quit);
}
END_TEST

START_TEST(end_of_input_is_quiet_and_output_goes_on)
{
    open_on_pipes();
    ck_assert_int_eq(write(feed_fd, "last", 4), 4);
    close(feed_fd);
    con_settle();
    con_assert_received("last");
    ck_assert_uint_le(con_idle_rounds(), CON_IDLE_ROUNDS);
    con_print("still here");
    assert_sink("still here");
}
END_TEST

START_TEST(closed_pipe_is_read_to_its_end_as_the_guest_takes_it)
{
    con.front.room = 1;
    stdin_is_a_pipe();
    stdout_is_a_pipe();
    ck_assert_int_eq(write(feed_fd, "abcdef", 6), 6);
    close(feed_fd);
    con_open(SERIAL_STDIO, NULL);
    con_settle();
    con_assert_received("a");
    ck_assert_uint_le(con_idle_rounds(), CON_IDLE_ROUNDS);
    con_give_room(2);
    con_assert_received("abc");
    con_give_room(10);
    con_assert_received("abcdef");
    ck_assert_uint_le(con_idle_rounds(), CON_IDLE_ROUNDS);
}
END_TEST

START_TEST(regular_file_is_read_as_the_guest_takes_it)
{
    size_t total = 100000;
    int fd = open(con.path, O_RDWR | O_CREAT, 0600);
    bool same = true;

    for (size_t i = 0; i < total; i++) {
        uint8_t byte = con_pattern(i);

        ck_assert_int_eq(write(fd, &byte, 1), 1);
    }
    ck_assert_int_eq(lseek(fd, 0, SEEK_SET), 0);
    stdin_from(fd);
    stdout_is_a_pipe();
    con.front.room = 16;
    con_open(SERIAL_STDIO, NULL);
    con_settle();
    ck_assert_uint_eq(con.front.len, 16);
    ck_assert_uint_le(con_idle_rounds(), CON_IDLE_ROUNDS);
    while (con.front.len < total) {
        size_t before = con.front.len;

        con_give_room(9999);
        ck_assert_uint_gt(con.front.len, before);
    }
    for (size_t i = 0; i < total; i++)
        same = same && con.front.data[i] == con_pattern(i);
    ck_assert(same);
    ck_assert_uint_le(con_idle_rounds(), CON_IDLE_ROUNDS);
}
END_TEST

START_TEST(dev_null_as_input_is_quiet)
{
    stdout_is_a_pipe();
    stdin_from(open("/dev/null", O_RDONLY));
    con_open(SERIAL_STDIO, NULL);
    ck_assert_uint_le(con_idle_rounds(), CON_IDLE_ROUNDS);
    con_print("hello");
    assert_sink("hello");
}
END_TEST

/* ---- output ---------------------------------------------------------------------------------- */

START_TEST(blocked_output_loses_nothing_and_blocks_nobody)
{
    size_t written = 0;
    size_t seen = 0;

    open_on_pipes();
    con_fill(&written);
    ck_assert_uint_ge(written, CONSOLE_BUFFER_FULL);
    ck_assert_uint_le(con_idle_rounds(), CON_IDLE_ROUNDS);

    for (unsigned i = 0; i < 5000 && seen < written; i++) {
        con_check_pattern(sink_fd, &seen);
        con_settle();
    }
    ck_assert_uint_eq(seen, written);
    ck_assert(!con.chardev->ops->is_full(con.chardev));
    ck_assert_uint_ge(con.front.nwritable, 1);
}
END_TEST

START_TEST(output_is_not_made_non_blocking)
{
    open_on_pipes();
    con_print("hello");
    assert_sink("hello");
    ck_assert_int_eq(fcntl(STDOUT_FILENO, F_GETFL) & O_NONBLOCK, 0);
    ck_assert_int_eq(fcntl(STDIN_FILENO, F_GETFL) & O_NONBLOCK, 0);
}
END_TEST

START_TEST(non_blocking_output_of_others_loses_nothing)
{
    size_t written = 0;
    size_t seen = 0;

    stdin_is_a_pipe();
    stdout_is_a_pipe();
    ck_assert_int_eq(fcntl(STDOUT_FILENO, F_SETFL, O_NONBLOCK), 0);
    con_open(SERIAL_STDIO, NULL);
    while (written < 200u << 10) {
        if (!con_print_pattern(&written, 256))
            con_check_pattern(sink_fd, &seen);
        con_settle();
    }
    con_wait_for((con_check_pattern(sink_fd, &seen), seen == written));
}
END_TEST

START_TEST(output_without_reader_is_dropped_and_the_guest_goes_on)
{
    stdin_is_a_pipe();
    stdout_is_a_pipe();
    close(sink_fd);
    con_open(SERIAL_STDIO, NULL);
    for (size_t pos = 0; pos < 4 * CONSOLE_BUFFER_FULL;) {
        if (!con_print_pattern(&pos, 256))
            con_settle();
    }
    con_wait_for(!con.chardev->ops->is_full(con.chardev));
}
END_TEST

static void *read_late(void *arg)
{
    size_t *seen = arg;

    usleep(100000);
    ck_assert_int_eq(fcntl(sink_fd, F_SETFL, 0), 0);
    con_check_pattern(sink_fd, seen);
    return NULL;
}

static void on_alarm(int signo)
{
}

/* Signals with handlers come all the time, as those of job control may. */
static void interrupt_often(void)
{
    const struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};

    ck_assert_int_eq(sigaction(SIGALRM, &action, NULL), 0);
    (void)ualarm(10000, 10000); /* no other alarm is set */
}

START_TEST(close_waits_for_a_slow_reader)
{
    size_t written = 0;
    size_t seen = 0;
    pthread_t reader;

    open_on_pipes();
    con_fill(&written);
    ck_assert_int_eq(pthread_create(&reader, NULL, read_late, &seen), 0);
    if (_i > 0)
        interrupt_often();
    con_close();
    (void)ualarm(0, 0);
    close(STDOUT_FILENO);
    pthread_join(reader, NULL);
    ck_assert_uint_eq(seen, written);
}
END_TEST

#define PIPE_LEN ((size_t)64 << 10)

static atomic_bool closed;

/* So little that all would take more than half a minute, and never nothing for seconds. */
static void *read_slowly(void *arg)
{
    size_t *seen = arg;
    char bytes[1024];

    while (!atomic_load(&closed)) {
        *seen += con_read(sink_fd, bytes, sizeof(bytes));
        usleep(200000);
    }
    return NULL;
}

/* The disks come after it. In the first case the console has more, in the second only the pump. */
START_TEST(hurried_close_leaves_a_slow_reader)
{
    size_t written = 0;
    size_t seen = 0;
    pthread_t reader;

    open_on_pipes();
    if (_i == 0)
        con_fill(&written);
    while (written < 3 * PIPE_LEN / 2) {
        ck_assert(con_print_pattern(&written, 256));
        con_settle();
    }
    con.front.hurried = true;
    ck_assert_int_eq(pthread_create(&reader, NULL, read_slowly, &seen), 0);
    con_close();
    atomic_store(&closed, true);
    pthread_join(reader, NULL);
    ck_assert_uint_gt(seen, 0);
    ck_assert_uint_lt(seen, PIPE_LEN / 4 * 3); /* at that pace, 10 s, instead of 3 */
}
END_TEST

START_TEST(close_gives_up_on_a_reader_that_takes_nothing)
{
    size_t written = 0;

    open_on_pipes();
    con_fill(&written);
    con_close(); /* returns: the test's time-out says so if not */
}
END_TEST

/* ---- a terminal ------------------------------------------------------------------------------ */

/* The user's terminal: standard input is the slave, the test types at the master. */
static void stdin_is_a_terminal(void)
{
    int slave;

    ck_assert_int_eq(openpty(&feed_fd, &slave, NULL, NULL, NULL), 0);
    ck_assert_int_eq(fcntl(feed_fd, F_SETFL, O_NONBLOCK), 0);
    stdin_from(slave);
}

/* The kernel may take a part only, until it gets round to passing on what it has. */
static void type(const char *keys, size_t len)
{
    while (len > 0) {
        ssize_t n = write(feed_fd, keys, len);

        ck_assert(n >= 0 || errno == EAGAIN);
        keys += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
        con_settle();
    }
}

static void open_on_terminal(void)
{
    stdin_is_a_terminal();
    stdout_is_a_pipe();
    con_open(SERIAL_STDIO, NULL);
}

START_TEST(terminal_is_raw_while_open)
{
    stdin_is_a_terminal();
    stdout_is_a_pipe();
    ck_assert(tty_is_cooked(STDIN_FILENO));
    con_open(SERIAL_STDIO, NULL);
    ck_assert(tty_is_raw(STDIN_FILENO));
    type("\x03\x1a\r\x7f", 4); /* Ctrl-C, Ctrl-Z, Enter, Backspace */
    con_assert_received("\x03\x1a\r\x7f");
    con_close();
    ck_assert(tty_is_cooked(STDIN_FILENO));
}
END_TEST

static void resize_terminal(int fd, unsigned short columns, unsigned short rows)
{
    const struct winsize size = {.ws_col = columns, .ws_row = rows};

    ck_assert_int_eq(ioctl(fd, TIOCSWINSZ, &size), 0);
}

static void assert_size(unsigned columns, unsigned rows)
{
    struct chardev_size size = con.chardev->ops->get_size(con.chardev);

    ck_assert_uint_eq(size.columns, columns);
    ck_assert_uint_eq(size.rows, rows);
}

START_TEST(the_guest_is_told_when_the_terminal_has_another_size)
{
    stdin_is_a_terminal();
    stdout_is_a_pipe();
    resize_terminal(feed_fd, 80, 24);
    con_open(SERIAL_STDIO, NULL);
    assert_size(80, 24);
    ck_assert_uint_eq(con.front.nresized, 0); /* nobody was there yet */

    resize_terminal(feed_fd, 132, 43);
    ck_assert_int_eq(raise(SIGWINCH), 0);
    con_settle();
    assert_size(132, 43);
    ck_assert_uint_eq(con.front.nresized, 1);
    ck_assert_int_eq(raise(SIGWINCH), 0); /* for nothing */
    con_settle();
    ck_assert_uint_eq(con.front.nresized, 1);

    /* While a process is stopped, the terminal is another one's: nobody tells it. */
    resize_terminal(feed_fd, 90, 30);
    ck_assert_int_eq(raise(SIGCONT), 0);
    con_settle();
    assert_size(90, 30);
    ck_assert_uint_eq(con.front.nresized, 2);
    ck_assert_uint_le(con_idle_rounds(), CON_IDLE_ROUNDS);

    con_close();
    ck_assert_int_eq(raise(SIGWINCH), 0);
}
END_TEST

START_TEST(what_is_no_terminal_has_no_size)
{
    open_on_pipes();
    ck_assert_int_eq(raise(SIGWINCH), 0);
    con_settle();
    assert_size(0, 0);
}
END_TEST

START_TEST(ctrl_a_x_quits)
{
    open_on_terminal();
    type("a\x01", 2);
    ck_assert(!con.front.quit);
    type("x", 1);
    con_wait_for(con.front.quit);
    con_assert_received("a");
}
END_TEST

START_TEST(ctrl_a_twice_or_a_sends_ctrl_a)
{
    open_on_terminal();
    type("\x01\x01x\x01"
         "ax",
         6);
    con_assert_received("\x01x\x01x");
    ck_assert(!con.front.quit);
}
END_TEST

START_TEST(ctrl_a_b_sends_a_break)
{
    open_on_terminal();
    type("\x01"
         "bh",
         3);
    con_assert_received("h");
    ck_assert_uint_eq(con.front.nbreaks, 1);
}
END_TEST

START_TEST(ctrl_a_h_prints_help)
{
    open_on_terminal();
    type("\x01h", 2);
    assert_sink("\r\nCtrl-A h       this help\r\n");
    ck_assert_uint_eq(con.front.len, 0);
}
END_TEST

/* As a virtio console: a break is neither sent nor offered. */
START_TEST(front_end_without_breaks)
{
    open_on_terminal();
    con.front.ops.break_received = NULL;
    type("\x01"
         "b\x01h",
         4);
    assert_sink("\r\nCtrl-A h       this help\r\nCtrl-A x       end the VM\r\nCtrl-A Ctrl-A ");
    ck_assert_uint_eq(con.front.len, 0);
}
END_TEST

START_TEST(unknown_escape_key_does_nothing)
{
    open_on_terminal();
    type("\x01qz", 3);
    con_assert_received("z");
}
END_TEST

START_TEST(guest_that_hangs_can_be_quit)
{
    char keys[1000];

    con.front.room = 0;
    open_on_terminal();
    memset(keys, 'k', sizeof(keys));
    for (unsigned i = 0; i < 100; i++)
        type(keys, sizeof(keys));
    type("\x01x", 2);
    con_wait_for(con.front.quit);
}
END_TEST

START_TEST(pasted_text_waits_for_the_guest)
{
    char keys[1000];

    con.front.room = 16;
    open_on_terminal();
    memset(keys, 'k', sizeof(keys));
    for (unsigned i = 0; i < 60; i++)
        type(keys, sizeof(keys));
    con_give_room(100000);
    con_wait_for(con.front.len == 60000);
}
END_TEST

START_TEST(hang_up_of_the_terminal_is_quiet)
{
    open_on_terminal();
    close(feed_fd);
    con_settle();
    ck_assert_uint_le(con_idle_rounds(), CON_IDLE_ROUNDS);
}
END_TEST

static void add_tests(Suite *suite)
{
    const TTest *const with_rig[] = {
        pipe_passes_escape_keys_through,
        end_of_input_is_quiet_and_output_goes_on,
        closed_pipe_is_read_to_its_end_as_the_guest_takes_it,
        regular_file_is_read_as_the_guest_takes_it,
        dev_null_as_input_is_quiet,
        blocked_output_loses_nothing_and_blocks_nobody,
        output_is_not_made_non_blocking,
        non_blocking_output_of_others_loses_nothing,
        output_without_reader_is_dropped_and_the_guest_goes_on,
        close_gives_up_on_a_reader_that_takes_nothing,
        terminal_is_raw_while_open,
        the_guest_is_told_when_the_terminal_has_another_size,
        what_is_no_terminal_has_no_size,
        ctrl_a_x_quits,
        ctrl_a_twice_or_a_sends_ctrl_a,
        ctrl_a_b_sends_a_break,
        ctrl_a_h_prints_help,
        front_end_without_breaks,
        unknown_escape_key_does_nothing,
        guest_that_hangs_can_be_quit,
        pasted_text_waits_for_the_guest,
        hang_up_of_the_terminal_is_quiet,
    };
    TCase *tcase = tcase_create("stdio");

    tcase_add_checked_fixture(tcase, con_setup, con_teardown);
    tcase_set_timeout(tcase, 60);
    for (size_t i = 0; i < ARRAY_SIZE(with_rig); i++)
        tcase_add_test(tcase, with_rig[i]);
    tcase_add_loop_test(tcase, close_waits_for_a_slow_reader, 0, 2); /* undisturbed; with signals */
    tcase_add_loop_test(tcase, hurried_close_leaves_a_slow_reader, 0, 2);
    suite_add_tcase(suite, tcase);
}

UNIT_USES_THREADS;
UNIT_MAIN("console_stdio", add_tests)
