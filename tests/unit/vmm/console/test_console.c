/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"
#include "tests/lib/vmm/console/console_rig.h"
#include "vmm/console/console.h"

/* ---- file and null --------------------------------------------------------------------------- */

/* Another thread writes, in time. */
static void wait_for_len(int fd, off_t len)
{
    struct stat st;

    do {
        usleep(1000);
        ck_assert_int_eq(fstat(fd, &st), 0);
    } while (st.st_size != len);
}

START_TEST(file_is_truncated_and_gets_output)
{
    int fd = open(con.path, O_RDWR | O_CREAT, 0600);

    ck_assert_int_eq(write(fd, "old contents", 12), 12);
    con_open(SERIAL_FILE, con.path);
    con_print("hello ");
    con_print("world\r\n");
    con_settle();
    wait_for_len(fd, strlen("hello world\r\n"));
    ck_assert_int_eq(lseek(fd, 0, SEEK_SET), 0);
    con_assert_reads(fd, "hello world\r\n");
    close(fd);
}
END_TEST

START_TEST(output_before_close_reaches_the_file)
{
    int fd;

    con_open(SERIAL_FILE, con.path);
    con_print("last words");
    con_close();
    fd = open(con.path, O_RDONLY);
    con_assert_reads(fd, "last words");
    close(fd);
}
END_TEST

static int open_another(const char *path, struct console **ret_console, struct err *err)
{
    const struct console_options options = {
        .name = "console",
        .kind = SERIAL_FILE,
        .path = path,
        .files = &con.files,
        .loop = con.loop,
    };
    int r = console_new(&options, ret_console, err);

    return r < 0 ? r : console_start(*ret_console, err);
}

START_TEST(two_ports_do_not_print_into_one_file)
{
    const char *alias = scratch_path("alias");
    struct console *other = NULL;
    struct err err = {0};

    con_open(SERIAL_FILE, con.path);
    ck_assert_int_eq(link(con.path, alias), 0);
    ck_assert_int_eq(open_another(alias, &other, &err), -EBUSY);
    ck_assert_ptr_nonnull(strstr(err.msg, "the output of the serial port"));
    console_close(other);
    con_close();
    con_open(SERIAL_FILE, con.path); /* which is free again */
}
END_TEST

START_TEST(two_ports_may_print_into_one_device)
{
    struct console *other;
    struct err err = {0};

    con_open(SERIAL_FILE, "/dev/null");
    ck_assert_int_eq(open_another("/dev/null", &other, &err), 0);
    console_close(other);
}
END_TEST

START_TEST(file_in_missing_folder_is_named)
{
    struct err err = {0};

    ck_assert_int_eq(con_try_open(SERIAL_FILE, "/nowhere/serial", &err), -ENOENT);
    ck_assert_ptr_nonnull(strstr(err.msg, "/nowhere/serial"));
}
END_TEST

START_TEST(full_disk_drops_output_and_the_guest_goes_on)
{
    con_open(SERIAL_FILE, "/dev/full");
    for (unsigned i = 0; i < 100; i++) {
        size_t pos = 0;

        while (pos < CONSOLE_BUFFER_FULL && con_print_pattern(&pos, 256))
            ;
        do {
            con_settle();
        } while (con.chardev->ops->is_full(con.chardev));
        if (i == 3)
            break;
    }
}
END_TEST

START_TEST(null_takes_everything)
{
    con_open(SERIAL_NULL, NULL);
    for (size_t pos = 0; pos < 4 * CONSOLE_BUFFER_MAX;)
        ck_assert(con_print_pattern(&pos, 256));
    ck_assert_uint_le(con_idle_rounds(), CON_IDLE_ROUNDS);
}
END_TEST

/* ---- pty ------------------------------------------------------------------------------------- */

/* Open a pty console; its name, from the line on stderr, into `name`. */
static void open_pty(char *name, size_t len)
{
    static const char prefix[] = "minivmm: serial port: ";
    int saved = dup(STDERR_FILENO);
    int fds[2];
    char line[256];
    size_t n;

    ck_assert_int_eq(pipe(fds), 0);
    dup2(fds[1], STDERR_FILENO);
    con_open(SERIAL_PTY, NULL);
    dup2(saved, STDERR_FILENO);
    n = con_read(fds[0], line, sizeof(line) - 1);
    line[n] = '\0';
    ck_assert_int_eq(strncmp(line, prefix, strlen(prefix)), 0);
    snprintf(name, len, "%.*s", (int)strcspn(line + strlen(prefix), "\n"), line + strlen(prefix));
    close(saved);
    close(fds[0]);
    close(fds[1]);
}

static int open_slave(const char *name)
{
    int fd = open(name, O_RDWR | O_NOCTTY | O_NONBLOCK);

    ck_assert_int_ge(fd, 0);
    con_settle();
    return fd;
}

START_TEST(pty_reader_gets_output_and_sends_input)
{
    char name[64];
    int fd;

    open_pty(name, sizeof(name));
    con_print("before");
    fd = open_slave(name);
    con_assert_reads(fd, "before");
    con_assert_prints(fd, "after\r\n");
    ck_assert_int_eq(write(fd, "in\x01x\x03\r", 6), 6);
    con_settle();
    con_assert_received("in\x01x\x03\r");
    close(fd);
}
END_TEST

START_TEST(pty_has_the_size_that_its_reader_gave_it)
{
    struct winsize winsize = {.ws_col = 120, .ws_row = 50};
    struct chardev_size size;
    char name[64];
    int fd;

    open_pty(name, sizeof(name));
    fd = open_slave(name);
    ck_assert_int_eq(ioctl(fd, TIOCSWINSZ, &winsize), 0);
    ck_assert_int_eq(write(fd, "k", 1), 1); /* it is seen when somebody types */
    con_assert_received("k");
    size = con.chardev->ops->get_size(con.chardev);
    ck_assert_uint_eq(size.columns, 120);
    ck_assert_uint_eq(size.rows, 50);
    ck_assert_uint_eq(con.front.nresized, 1);
    close(fd);
}
END_TEST

START_TEST(pty_without_reader_does_not_wake_the_loop)
{
    char name[64];
    int fd;

    open_pty(name, sizeof(name));
    ck_assert_uint_le(con_idle_rounds(), CON_IDLE_ROUNDS);
    fd = open_slave(name);
    ck_assert_uint_le(con_idle_rounds(), CON_IDLE_ROUNDS);
    close(fd);
    ck_assert_uint_le(con_idle_rounds(), CON_IDLE_ROUNDS);
}
END_TEST

START_TEST(pty_reader_may_come_back)
{
    char name[64];

    open_pty(name, sizeof(name));
    for (unsigned i = 0; i < 3; i++) {
        int fd = open_slave(name);

        con_assert_prints(fd, "hello");
        close(fd);
        con_settle();
    }
}
END_TEST

/* A program that opens it again would see things twice: who wants them asks. */
START_TEST(pty_keeps_what_was_shown_and_does_not_repeat_it)
{
    const struct byte_queue *shown;
    char name[64];
    int fd;

    open_pty(name, sizeof(name));
    shown = console_shown(con.console);
    fd = open_slave(name);
    con_assert_prints(fd, "shown\n");
    close(fd);
    con_settle();
    con_print("not yet\n");
    ck_assert_uint_eq(shown->len, 6);
    fd = open_slave(name);
    con_assert_reads(fd, "not yet\n");
    ck_assert_uint_eq(shown->len, 14);
    ck_assert_mem_eq(byte_queue_front(shown), "shown\nnot yet\n", 14);
    close(fd);
    for (size_t pos = 0; pos < 3 * CONSOLE_SHOWN_MAX;) {
        fd = open_slave(name);
        ck_assert(con_print_pattern(&pos, 256));
        con_settle();
        close(fd);
        con_settle();
        ck_assert_uint_le(shown->len, CONSOLE_SHOWN_MAX);
    }
}
END_TEST

START_TEST(pty_without_reader_never_holds_the_guest_up)
{
    size_t pos = 0;
    char name[64];
    int fd;

    open_pty(name, sizeof(name));
    fd = open_slave(name);
    con_fill(&pos);
    close(fd);
    con_settle();
    for (pos = 0; pos < 4 * CONSOLE_BUFFER_FULL;)
        ck_assert(con_print_pattern(&pos, 256));
    con_settle();
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("console");

    tcase_add_checked_fixture(tcase, con_setup, con_teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, file_is_truncated_and_gets_output);
    tcase_add_test(tcase, output_before_close_reaches_the_file);
    tcase_add_test(tcase, two_ports_do_not_print_into_one_file);
    tcase_add_test(tcase, two_ports_may_print_into_one_device);
    tcase_add_test(tcase, file_in_missing_folder_is_named);
    tcase_add_test(tcase, full_disk_drops_output_and_the_guest_goes_on);
    tcase_add_test(tcase, null_takes_everything);
    tcase_add_test(tcase, pty_reader_gets_output_and_sends_input);
    tcase_add_test(tcase, pty_has_the_size_that_its_reader_gave_it);
    tcase_add_test(tcase, pty_without_reader_does_not_wake_the_loop);
    tcase_add_test(tcase, pty_reader_may_come_back);
    tcase_add_test(tcase, pty_keeps_what_was_shown_and_does_not_repeat_it);
    tcase_add_test(tcase, pty_without_reader_never_holds_the_guest_up);
    suite_add_tcase(suite, tcase);
}

UNIT_USES_THREADS;
UNIT_MAIN("console", add_tests)
