/*
 * Whoever asks minivmm to end gets an end, whatever the guest, the disks, and the readers of its
 * output do.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/guest_test.h"
#include "vmm/config.h"
#include "vmm/layout_x86.h"

static struct guest guest;
static struct vm vm;

/* Write the guest and start it with `extra` arguments behind the common ones. */
static void start_with(const char *const extra[], const struct vm_setup *setup)
{
    const char *kernel = scratch_path("kernel");
    const char *args[VM_ARGS_MAX] = {"--kernel", kernel, "--memory", GUEST_MEMORY};
    size_t n = 4;

    guest_write_kernel(&guest, kernel);
    while (extra && *extra)
        args[n++] = *extra++;
    vm_start_with(&vm, args, setup);
}

static void expect_end(int code)
{
    assert_exit_code(&vm, vm_wait(&vm), code);
}

static void set_up(void)
{
    guest_init(&guest);
}

static void tear_down(void)
{
    vm_done(&vm);
    guest_done(&guest);
}

/* ---- stderr that nobody reads ---------------------------------------------------------------- */

static void fill_stderr(void)
{
    static const char junk[4096];
    int flags = fcntl(STDERR_FILENO, F_GETFL);

    (void)fcntl(STDERR_FILENO, F_SETFL, flags | O_NONBLOCK);
    while (write(STDERR_FILENO, junk, sizeof(junk)) > 0)
        ;
    (void)fcntl(STDERR_FILENO, F_SETFL, flags);
}

/* From now on the pipe is full and nobody reads it; the descriptor to close it. */
static int leave_stderr(void)
{
    int fd = vm.err.fd;

    vm.err.fd = -1;
    return fd;
}

/* The vCPU logs its registers, the main thread what --log debug tells, and both the end. */
START_TEST(stderr_that_is_not_read_holds_nobody_up)
{
    const char *const log[] = {"--log", "debug", NULL};
    const struct vm_setup full = {.in_child = fill_stderr};
    int fd;

    guest_put_text(&guest, "running");
    if (_i == 0)
        guest_power_off(&guest);
    else if (_i == 1)
        guest_op(&guest, GUEST_TRIPLE_FAULT, 0, 0, 0);
    else
        guest_op(&guest, GUEST_JUMP, 0xc8000000, 0, 0); /* no memory there */
    start_with(log, &full);
    fd = leave_stderr();
    expect_end(_i == 0 ? EXIT_POWER_OFF : _i == 1 ? EXIT_REBOOT : EXIT_VMM);
    ck_assert_str_eq(vm.out.data, "running");
    close(fd);
}
END_TEST

START_TEST(usage_error_ends_although_stderr_is_not_read)
{
    const char *const bad[] = {"--no-such-option", NULL};
    const struct vm_setup full = {.in_child = fill_stderr};
    int fd;

    start_with(bad, &full);
    fd = leave_stderr();
    expect_end(EXIT_USAGE);
    close(fd);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("end");

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_loop_test(tcase, stderr_that_is_not_read_holds_nobody_up, 0, 3);
    tcase_add_test(tcase, usage_error_ends_although_stderr_is_not_read);
    suite_add_tcase(suite, tcase);
}

GUEST_TEST_MAIN("guest end", add_tests)
