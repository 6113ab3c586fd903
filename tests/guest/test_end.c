/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whoever asks minivmm to end gets an end, whatever the guest, the disks, and the readers of its
 * output do.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_mmio.h>
#include <pty.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/acpi_pm.h"
#include "memory/layout_x86.h"
#include "tests/lib/guest/guest_disk.h"
#include "tests/lib/guest/guest_test.h"
#include "tests/lib/guest/qmp_client.h"
#include "tests/lib/tty.h"
#include "vmm/config/config.h"
#include "vmm/process/ending_rules.h"
#include "vmm/process/restarts.h"

/* ThreadSanitizer has a lock of its own while a thread is made, which all threads need. */
#if defined(__SANITIZE_THREAD__)
#define CAN_STOP_IN_CLONE false
#else
#define CAN_STOP_IN_CLONE true
#endif

#define VECTOR 0x40u
#define BUTTON "power button pressed"

static struct guest guest;
static struct vm vm;
static struct qmp_client client, second;

/* Write the guest and start it with `extra` arguments after the common ones. */
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
    client.fd = -1;
    second.fd = -1;
    guest_init(&guest);
}

static void tear_down(void)
{
    qmp_client_close(&client);
    qmp_client_close(&second);
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

/* ---- signals --------------------------------------------------------------------------------- */

static void signal_vm(int signo)
{
    ck_assert_int_eq(kill(vm.pid, signo), 0);
}

/* Once what the first signal does was told. */
static void insist(void)
{
    usleep(ENDING_PAUSE_NS / 1000);
    signal_vm(SIGTERM);
}

static void start(const char *const extra[])
{
    static const struct vm_setup usual;

    start_with(extra, &usual);
}

/* The guest waits for a byte on the serial port. */
static void wait_for_serial(void)
{
    guest_op(&guest, GUEST_WAIT_IN8, X86_PORT_COM1 + 5, 1, 0); /* line status: data ready */
    guest_op(&guest, GUEST_IN8, X86_PORT_COM1, 0, 0);
}

/* The guest waits for the power button, reads of it, and says so. */
static void wait_for_button(void)
{
    guest_op(&guest, GUEST_WAIT_IRQ, 1, 0, 0);
    guest_op(&guest, GUEST_IN8, X86_PORT_ACPI_PM + ACPI_PM_GED_EVENTS, 0, 0);
    guest_put_text(&guest, "asked");
}

static unsigned count(const char *text, const char *what)
{
    unsigned n = 0;

    for (text = strstr(text, what); text; text = strstr(text + 1, what))
        n++;
    return n;
}

/* timeout(1) sends to its child and to the group, a terminal that closes sends twice. */
START_TEST(signals_at_once_are_one_request)
{
    guest_route_irq(&guest, X86_GSI_GED, VECTOR);
    guest_put_text(&guest, "ready");
    wait_for_button();
    wait_for_serial();
    guest_power_off(&guest);
    start(NULL);
    ck_assert(vm_wait_output(&vm, "ready"));
    signal_vm(SIGTERM);
    signal_vm(SIGHUP);
    signal_vm(SIGINT);
    signal_vm(SIGTERM);
    ck_assert(vm_wait_output(&vm, "asked"));
    vm_send(&vm, "g", 1); /* only now it ends; it would be dead if one of them insisted */
    expect_end(EXIT_POWER_OFF);
    ck_assert_uint_eq(count(vm_errors(&vm), BUTTON), 1);
}
END_TEST

START_TEST(first_signal_tells_what_the_next_one_does)
{
    const char *const quiet[] = {"--log", "error", "--shutdown-timeout", "77", NULL};

    guest_put_text(&guest, "ready");
    guest_op(&guest, GUEST_HALT, 0, 0, 0);
    start(quiet);
    ck_assert(vm_wait_output(&vm, "ready"));
    signal_vm(SIGTERM);
    ck_assert(vm_wait_error(&vm, "again to end it at once\n"));
    ck_assert_ptr_nonnull(strstr(vm_errors(&vm), "signal 15: " BUTTON ": the guest has 77 s"));
    insist();
    expect_end(EXIT_KILLED);
}
END_TEST

/* As a kernel that boots: the driver comes after the signal. */
START_TEST(guest_learns_of_the_button_when_it_listens)
{
    guest_put_text(&guest, "ready");
    wait_for_serial();
    guest_route_irq(&guest, X86_GSI_GED, VECTOR);
    wait_for_button();
    guest_power_off(&guest);
    start(NULL);
    ck_assert(vm_wait_output(&vm, "ready"));
    signal_vm(SIGTERM);
    ck_assert(vm_wait_error(&vm, BUTTON));
    vm_send(&vm, "g", 1);
    expect_end(EXIT_POWER_OFF);
}
END_TEST

START_TEST(guest_that_does_not_power_off_in_time_is_ended)
{
    const char *const hasty[] = {"--shutdown-timeout", _i == 0 ? "1" : "0", NULL};

    guest_put_text(&guest, "ready");
    guest_op(&guest, GUEST_HALT, 0, 0, 0);
    start(hasty);
    ck_assert(vm_wait_output(&vm, "ready"));
    signal_vm(SIGTERM);
    expect_end(EXIT_KILLED);
    ck_assert_ptr_nonnull(
        strstr(vm_errors(&vm), _i == 0 ? "did not power off in 1 s" : "signal 15: the guest is"));
    ck_assert_uint_eq(count(vm_errors(&vm), BUTTON), _i == 0);
}
END_TEST

/* ---- resets without end ---------------------------------------------------------------------- */

/* 8 lives and pauses of 1, 2 and 4 s, in the last of which the signal comes. */
START_TEST(guest_that_faults_again_and_again_is_slowed_down)
{
    const char *const restart[] = {"--on-reboot", "restart", NULL};

    guest_put_text(&guest, "x");
    guest_op(&guest, GUEST_TRIPLE_FAULT, 0, 0, 0);
    start(restart);
    ck_assert(vm_wait_error(&vm, "starts again in 4 s"));
    signal_vm(SIGTERM);
    expect_end(EXIT_KILLED);
    ck_assert_uint_eq(vm.out.len, RESTARTS_FREE + 3);
    ck_assert_uint_lt(count(vm_errors(&vm), "triple fault"), RESTARTS_FREE + 3);
    ck_assert_ptr_nonnull(strstr(vm_errors(&vm), "the guest is not started again"));
}
END_TEST

/* ---- threads that hang ----------------------------------------------------------------------- */

/*
 * A thread that is stopped as a debugger does it makes no progress, and SIGKILL ends it all the
 * same.
 */

static pid_t find_thread(const char *name)
{
    char path[64], comm[32];
    struct dirent *entry;
    pid_t found = -1;
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%d/task", vm.pid);
    dir = opendir(path);
    ck_assert_ptr_nonnull(dir);
    while (found < 0 && (entry = readdir(dir))) {
        char file[400];
        FILE *in;

        snprintf(file, sizeof(file), "%s/%s/comm", path, entry->d_name);
        in = fopen(file, "r");
        if (!in)
            continue;
        if (fgets(comm, sizeof(comm), in) && strncmp(comm, name, strlen(name)) == 0)
            found = (pid_t)strtol(entry->d_name, NULL, 10);
        fclose(in);
    }
    closedir(dir);
    return found;
}

/* Wait until `maker` makes a thread; both are stopped then. Returns the new one. */
static pid_t wait_for_new_thread(pid_t maker)
{
    unsigned long made;
    int status;

    do {
        ck_assert_int_eq(waitpid(maker, &status, __WALL), maker);
        ck_assert(WIFSTOPPED(status));
        if (status >> 8 != (SIGTRAP | PTRACE_EVENT_CLONE << 8))
            ck_assert_int_eq(ptrace(PTRACE_CONT, maker, NULL, NULL), 0);
    } while (status >> 8 != (SIGTRAP | PTRACE_EVENT_CLONE << 8));
    ck_assert_int_eq(ptrace(PTRACE_GETEVENTMSG, maker, NULL, &made), 0);
    ck_assert_int_eq(waitpid((pid_t)made, &status, __WALL), (pid_t)made);
    return (pid_t)made;
}

/* The first thread that it makes is the one that listens to signals. */
static void stop_at_the_first_thread(void)
{
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
        _exit(UNIT_SKIP);
}

/* A call into the kernel that goes on for minutes, such as one that takes 1 TB of memory. */
START_TEST(set_up_that_hangs_ends_by_a_signal)
{
    const struct vm_setup traced = {.in_child = stop_at_the_first_thread};
    pid_t listener;
    int status;

    guest_put_text(&guest, "must not run");
    guest_power_off(&guest);
    start_with(NULL, &traced);
    ck_assert_int_eq(waitpid(vm.pid, &status, __WALL), vm.pid); /* it has executed minivmm */
    if (WIFEXITED(status)) {
        printf("ptrace: not allowed here: a set-up that hangs is not tested\n");
        vm.pid = -1;
        return;
    }
    ck_assert_int_eq(ptrace(PTRACE_SETOPTIONS, vm.pid, NULL, PTRACE_O_TRACECLONE), 0);
    ck_assert_int_eq(ptrace(PTRACE_CONT, vm.pid, NULL, NULL), 0);
    listener = wait_for_new_thread(vm.pid);
    ck_assert_int_eq(ptrace(PTRACE_DETACH, listener, NULL, NULL), 0);

    signal_vm(SIGTERM);
    expect_end(EXIT_KILLED);
    ck_assert_uint_eq(vm.out.len, 0);
    ck_assert_str_eq(vm_errors(&vm), "minivmm: signal 15: ended before the guest ran\n");
}
END_TEST

static void make_image(const char *path)
{
    int fd = open(path, O_CREAT | O_WRONLY, 0600);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, 1 << 20), 0);
    close(fd);
}

/* With a running disk, the guest waits until it is told to go on. */
static void wait_with_disk(struct guest_disk *disk)
{
    guest_disk_init(disk, &guest, 0);
    guest_put_text(&guest, "ready");
    wait_for_serial();
}

/* A disk that does not hang, to which the guest writes without flushing. */
static void write_to_other_disk(void)
{
    struct guest_disk other;

    scratch_ok("qemu-img create -q -f qcow2 other 1M");
    guest_fill(&guest, GUEST_DISK_BUFFER, 0x5a5a5a5a5a5a5a5a, BLOCK_SECTOR_SIZE);
    guest_disk_init_with(&other, &guest, 1, 1u << VIRTIO_BLK_F_FLUSH, GUEST_DISK_QUEUE_SIZE);
    guest_disk_request(&other, VIRTIO_BLK_T_OUT, 0, GUEST_DISK_BUFFER, BLOCK_SECTOR_SIZE);
}

/*
 * The host's disk hangs: neither the guest nor the tear-down can wait for it to the end. Others are
 * flushed all the same.
 */
START_TEST(disk_that_hangs_does_not_keep_the_process)
{
    bool has_other = scratch_has_qemu();
    const char *image = scratch_path("image");
    char disk[512];
    const char *const args[] = {"--disk", disk, has_other ? "--disk" : NULL, scratch_path("other"),
                                NULL};
    struct guest_disk guest_disk;
    struct vm_setup setup = {0};
    pid_t disk_thread, worker;
    int master, status;

    snprintf(disk, sizeof(disk), "%s,format=raw,aio=threads", image);
    make_image(image);
    wait_with_disk(&guest_disk);
    if (has_other)
        write_to_other_disk();
    guest_disk_request(&guest_disk, VIRTIO_BLK_T_OUT, 0, GUEST_DISK_BUFFER, BLOCK_SECTOR_SIZE);
    guest_power_off(&guest);
    ck_assert_int_eq(openpty(&master, &setup.terminal, NULL, NULL, NULL), 0);
    start_with(args, &setup);
    ck_assert(vm_wait_output(&vm, "ready"));
    ck_assert(tty_is_raw(master));

    disk_thread = find_thread("disk0");
    ck_assert_int_gt(disk_thread, 0);
    if (ptrace(PTRACE_SEIZE, disk_thread, NULL, PTRACE_O_TRACECLONE) < 0) {
        printf("ptrace: %s: a disk that hangs is not tested\n", strerror(errno));
        return;
    }
    ck_assert_int_eq(write(master, "g", 1), 1);
    worker = wait_for_new_thread(disk_thread); /* it was to write the sector */
    ck_assert_int_eq(ptrace(PTRACE_DETACH, disk_thread, NULL, NULL), 0);

    signal_vm(SIGTERM);
    ck_assert(vm_wait_error(&vm, BUTTON));
    insist();
    ck_assert(vm_wait_error(&vm, "ended all the same"));
    ck_assert_int_eq(waitpid(worker, &status, __WALL), worker);
    expect_end(EXIT_VMM);
    ck_assert_ptr_nonnull(strstr(vm_errors(&vm), "disk vda ("));
    ck_assert_ptr_nonnull(strstr(vm_errors(&vm), "1 request in flight"));
    ck_assert_ptr_nonnull(strstr(vm_errors(&vm), image));
    ck_assert(tty_is_cooked(master));
    if (has_other)
        scratch_ok("qemu-io -r -f qcow2 -c 'read -P 0x5a 0 512' other");
}
END_TEST

/* Let a thread stand still; false if that is not allowed here. */
static bool stop_thread(pid_t thread)
{
    int status;

    ck_assert_int_gt(thread, 0);
    if (ptrace(PTRACE_SEIZE, thread, NULL, NULL) < 0) {
        printf("ptrace: %s: a disk that hangs is not tested\n", strerror(errno));
        return false;
    }
    ck_assert_int_eq(ptrace(PTRACE_INTERRUPT, thread, NULL, NULL), 0);
    ck_assert_int_eq(waitpid(thread, &status, __WALL), thread);
    return true;
}

/* The guest powered off by itself, but its disk cannot be stopped: one signal is enough. */
START_TEST(signal_ends_a_tear_down_that_hangs)
{
    const char *image = scratch_path("image");
    const char *const args[] = {"--disk", image, "--shutdown-timeout", "1", NULL};
    struct guest_disk guest_disk;
    pid_t disk_thread;
    int status;

    make_image(image);
    wait_with_disk(&guest_disk);
    guest_power_off(&guest);
    start(args);
    ck_assert(vm_wait_output(&vm, "ready"));
    disk_thread = find_thread("disk0");
    if (!stop_thread(disk_thread))
        return;
    vm_send(&vm, "g", 1);
    while (find_thread("vcpu0") > 0)
        usleep(1000);

    signal_vm(SIGTERM);
    ck_assert(vm_wait_error(&vm, "signal 15: the guest has ended"));
    ck_assert(vm_wait_error(&vm, "ended all the same"));
    ck_assert_int_eq(waitpid(disk_thread, &status, __WALL), disk_thread);
    expect_end(EXIT_VMM);
}
END_TEST

static void expect_status(const char *status)
{
    char *text = qmp_client_text(&second, "query-status", "status");

    ck_assert_str_eq(text, status);
    free(text);
}

/* What a client asks about that CPU waits with it; nobody else does, nor what KVM counts. */
START_TEST(cpu_that_waits_for_its_disk_keeps_no_client)
{
    static const char *const lines[] = {"info registers", "info mem", "x 0x100000"};
    char arguments[100], address[300];
    const char *image = scratch_path("image");
    const char *const args[] = {"--disk", image, "--qmp", address, NULL};
    struct guest_disk guest_disk;
    pid_t disk_thread;

    make_image(image);
    snprintf(address, sizeof(address), "unix:%s", scratch_path("qmp"));
    wait_with_disk(&guest_disk);
    guest_op(&guest, GUEST_ST32, guest_disk.regs + VIRTIO_MMIO_STATUS, 0, 0); /* reset */
    guest_op(&guest, GUEST_HALT, 0, 0, 0);
    start(args);
    qmp_client_open(&client, scratch_path("qmp"));
    qmp_client_open(&second, scratch_path("qmp"));
    ck_assert(vm_wait_output(&vm, "ready"));
    disk_thread = find_thread("disk0");
    if (!stop_thread(disk_thread))
        return;
    vm_send(&vm, "g", 1);
    usleep(100000); /* the vCPU gets there, or else the test sees less */

    snprintf(arguments, sizeof(arguments), "{\"command-line\":\"%s\"}", lines[_i]);
    qmp_client_begin(&client, "human-monitor-command", arguments);
    expect_status("running");
    qmp_client_do(&second, "query-stats", "{\"target\":\"vcpu\"}");
    expect_status("running");
    ck_assert_int_eq(ptrace(PTRACE_DETACH, disk_thread, NULL, NULL), 0);
    json_decref(qmp_client_answer(&client));
    qmp_client_do(&client, "quit", NULL);
    expect_end(EXIT_KILLED);
}
END_TEST

/* The guest's log lies on a disk that hangs: the button is pressed all the same. */
START_TEST(serial_file_that_hangs_does_not_keep_the_button)
{
    char serial[512];
    const char *const args[] = {"--serial", serial, NULL};
    pid_t writer;
    int status;

    snprintf(serial, sizeof(serial), "file:%s", scratch_path("serial"));
    guest_route_irq(&guest, X86_GSI_GED, VECTOR);
    guest_put_text(&guest, "ready");
    wait_for_button();
    guest_power_off(&guest);
    start(args);
    while (scratch_shell("grep -qs ready serial") != 0)
        usleep(1000);
    writer = find_thread("console");
    if (!stop_thread(writer))
        return;
    signal_vm(SIGTERM);
    ck_assert(vm_wait_error(&vm, BUTTON));
    ck_assert(vm_wait_error(&vm, "last output is lost"));
    ck_assert_int_eq(waitpid(writer, &status, __WALL), writer);
    expect_end(EXIT_POWER_OFF);
}
END_TEST

/* The host may be writing to the guest's memory; clients are answered all the same. */
START_TEST(reset_that_waits_for_a_disk_keeps_no_client)
{
    const bool ends = _i == 1;
    const char *image = scratch_path("image");
    char address[300];
    const char *const args[] = {"--disk", image, "--qmp", address, NULL};
    struct guest_disk guest_disk;
    pid_t disk_thread;
    int status;

    make_image(image);
    snprintf(address, sizeof(address), "unix:%s", scratch_path("qmp"));
    wait_with_disk(&guest_disk);
    guest_op(&guest, GUEST_HALT, 0, 0, 0);
    start(args);
    qmp_client_open(&client, scratch_path("qmp"));
    qmp_client_open(&second, scratch_path("qmp"));
    ck_assert(vm_wait_output(&vm, "ready"));
    disk_thread = find_thread("disk0");
    if (!stop_thread(disk_thread))
        return;
    qmp_client_do(&client, "system_reset", NULL);
    while (find_thread("vcpu0") > 0)
        usleep(1000);
    expect_status("shutdown");
    qmp_client_do(&client, "human-monitor-command", "{\"command-line\":\"info registers\"}");
    qmp_client_begin(&client, "stop", NULL); /* the next guest */
    expect_status("shutdown");
    if (ends) {
        qmp_client_do(&second, "quit", NULL);
        ck_assert(vm_wait_error(&vm, "ended all the same"));
        ck_assert_int_eq(waitpid(disk_thread, &status, __WALL), disk_thread);
        expect_end(EXIT_VMM);
        return;
    }
    ck_assert_int_eq(ptrace(PTRACE_DETACH, disk_thread, NULL, NULL), 0);
    json_decref(qmp_client_answer(&client));
    expect_status("paused");
    qmp_client_do(&client, "quit", NULL);
    expect_end(EXIT_KILLED);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("end");

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_loop_test(tcase, stderr_that_is_not_read_holds_nobody_up, 0, 3);
    tcase_add_test(tcase, usage_error_ends_although_stderr_is_not_read);
    tcase_add_test(tcase, signals_at_once_are_one_request);
    tcase_add_test(tcase, first_signal_tells_what_the_next_one_does);
    tcase_add_test(tcase, guest_learns_of_the_button_when_it_listens);
    tcase_add_loop_test(tcase, guest_that_does_not_power_off_in_time_is_ended, 0, 2);
    tcase_add_test(tcase, guest_that_faults_again_and_again_is_slowed_down);
    if (CAN_STOP_IN_CLONE)
        tcase_add_test(tcase, set_up_that_hangs_ends_by_a_signal);
    tcase_add_test(tcase, disk_that_hangs_does_not_keep_the_process);
    tcase_add_test(tcase, signal_ends_a_tear_down_that_hangs);
    tcase_add_loop_test(tcase, cpu_that_waits_for_its_disk_keeps_no_client, 0, 3);
    tcase_add_loop_test(tcase, reset_that_waits_for_a_disk_keeps_no_client, 0, 2);
    tcase_add_test(tcase, serial_file_that_hangs_does_not_keep_the_button);
    suite_add_tcase(suite, tcase);
}

GUEST_TEST_MAIN("guest end", add_tests)
