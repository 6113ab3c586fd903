/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minivmm-ctl with VMs that run.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/acpi_pm.h"
#include "memory/layout_x86.h"
#include "tests/lib/guest/guest_test.h"
#include "vmm/config/config.h"

#define VECTOR 0x40u

/* minivmm-ctl of the same build as this program, in a shell. */
#define CTL "\"$(dirname \"$(readlink /proc/%d/exe)\")\"/../../minivmm-ctl "

static struct guest guest;
static struct vm vm;
static char output[65536];

/* Run minivmm-ctl with these arguments, and what a shell makes of them; what it prints. */
static const char *ctl(const char *arguments)
{
    size_t len;

    scratch_ok(CTL "%s >output", getpid(), arguments);
    len = scratch_load("output", output, sizeof(output) - 1);
    output[len] = '\0';
    return output;
}

/* The same for what fails: its one line on stderr. */
static const char *ctl_error(int status, const char *arguments)
{
    size_t len;

    ck_assert_int_eq(scratch_shell(CTL "%s 2>output", getpid(), arguments), status);
    len = scratch_load("output", output, sizeof(output) - 1);
    output[len] = '\0';
    return output;
}

/* A program for jq's purposes: is `text` in what it prints? */
#define assert_prints(arguments, text)                                                             \
    do {                                                                                           \
        const char *printed_ = ctl(arguments);                                                     \
                                                                                                   \
        ck_assert_msg(strstr(printed_, text) != NULL, "%s: no '%s' in: %s", arguments, text,       \
                      printed_);                                                                   \
    } while (0)

static void start(const char *const extra[])
{
    const char *kernel = scratch_path("kernel");
    const char *args[VM_ARGS_MAX] = {"--kernel", kernel, "--memory", GUEST_MEMORY, "--name", "web"};
    size_t n = 6;

    guest_write_kernel(&guest, kernel);
    while (extra && *extra)
        args[n++] = *extra++;
    vm_start(&vm, args);
}

static void expect_end(int code)
{
    assert_exit_code(&vm, vm_wait(&vm), code);
}

static void set_up(void)
{
    scratch_set_up();
    ck_assert_int_eq(mkdir(scratch_path("run"), 0700), 0);
    ck_assert_int_eq(setenv("XDG_RUNTIME_DIR", scratch_path("run"), 1), 0);
    guest_init(&guest);
}

static void tear_down(void)
{
    vm_done(&vm);
    guest_done(&guest);
    scratch_tear_down();
}

static void wait_for_serial(void)
{
    guest_op(&guest, GUEST_WAIT_IN8, X86_PORT_COM1 + 5, 1, 0); /* line status: data ready */
    guest_op(&guest, GUEST_IN8, X86_PORT_COM1, 0, 0);
}

/* A guest that powers off when its button is pressed. */
static void make_obedient(void)
{
    guest_route_irq(&guest, X86_GSI_GED, VECTOR);
    guest_put_text(&guest, "ready");
    guest_op(&guest, GUEST_WAIT_IRQ, 1, 0, 0);
    guest_op(&guest, GUEST_IN8, X86_PORT_ACPI_PM + ACPI_PM_GED_EVENTS, 0, 0);
    guest_power_off(&guest);
}

/* A guest that answers each byte with the same, until it is told to quit. */
static void make_echo(void)
{
    size_t again;

    guest_put_text(&guest, "ready\n");
    again = guest.nops;
    wait_for_serial();
    guest_op(&guest, GUEST_PUT_ACC, 1, 0, 0);
    guest_op(&guest, GUEST_GOTO, again, 0, 0);
}

START_TEST(vms_are_listed_while_they_run)
{
    char pid[32];
    const char *const extra[] = {"--cpus", "2", "--disk", scratch_path("disk"), NULL};

    make_obedient();
    scratch_ok("truncate -s 3M disk");
    start(extra);
    ck_assert(vm_wait_output(&vm, "ready"));
    snprintf(pid, sizeof(pid), " %d ", vm.pid);
    assert_prints("list", "web   running ");
    assert_prints("list", pid);
    assert_prints("list", "  64 MiB     2      1      ");
    assert_prints("web status", "vda   raw     3 MiB");
    assert_prints("--json list", "\"state\": \"running\"");
    assert_prints("\"$XDG_RUNTIME_DIR\"/minivmm/web.qmp status", "state        running");

    ck_assert_str_eq(ctl("web power-off"), "");
    expect_end(EXIT_POWER_OFF);
    ck_assert_ptr_null(strstr(ctl("list"), "web"));
    ck_assert_str_eq(ctl_error(3, "web status"), "minivmm-ctl: web: no VM of this name runs\n");
}
END_TEST

START_TEST(paused_guest_powers_off)
{
    make_obedient();
    start(NULL);
    ck_assert(vm_wait_output(&vm, "ready"));
    ctl("web pause");
    ctl("web power-off 2>notes");
    expect_end(EXIT_POWER_OFF);
    scratch_ok("grep -q 'stood still (paused): it goes on' notes");
}
END_TEST

START_TEST(paused_guest_that_gdb_holds_does_not_power_off)
{
    const char *const extra[] = {"--gdb", "unix:gdb", "--wait-gdb", NULL};

    make_obedient();
    start(extra);
    while (!strstr(ctl("list"), "debug"))
        usleep(1000);
    ctl("web pause");
    ck_assert_str_eq(ctl_error(1, "web power-off"),
                     "minivmm-ctl: web: the button is pressed, but the guest does not go on "
                     "(debug)\n");
    ctl("web power-off --force");
    expect_end(EXIT_KILLED);
}
END_TEST

START_TEST(guest_without_a_button_is_ended_by_force)
{
    const char *const extra[] = {"--no-acpi", NULL};

    make_echo();
    start(extra);
    ck_assert(vm_wait_output(&vm, "ready"));
    ck_assert_ptr_nonnull(strstr(ctl_error(1, "web power-off"), "no power button"));
    assert_prints("web power-off --force --json", "\"closed\": true");
    expect_end(EXIT_KILLED);
}
END_TEST

START_TEST(guest_is_paused_and_reset)
{
    make_echo();
    start(NULL);
    ck_assert(vm_wait_output(&vm, "ready"));
    ctl("web pause");
    assert_prints("list", "paused");
    ctl("web resume");
    assert_prints("list", "running");
    vm_send(&vm, "x", 1);
    ck_assert(vm_wait_output(&vm, "ready\nx"));
    ctl("web reset");
    ck_assert(vm_wait_output(&vm, "ready\nxready\n"));
    ctl("web power-off --force");
    expect_end(EXIT_KILLED);
}
END_TEST

/* Attach, type `keys`, and be ended when the last line, after `first`, has this text. */
static void attach_until(const char *first, const char *keys, const char *text)
{
    scratch_ok("mkfifo keys; exec 4<>keys; printf %s >keys; >seen; " CTL
               "web console <keys >seen & "
               "for i in $(seq 1000); do tail -n 1 seen | grep -q '%s' && break; sleep 0.01; done; "
               "kill $!; wait $!; tail -n 1 seen | grep -q '%s' && grep -q '%s' seen",
               keys, getpid(), text, text, first);
}

/* The path is one of the VM's folder, and who comes second sees what the first one saw. */
START_TEST(console_attaches_early_and_late)
{
    const char *const extra[] = {"--serial", "unix:serial", NULL};
    char here[4096];

    guest_put_text(&guest, "login: ");
    wait_for_serial();
    guest_put_text(&guest, "hello\n");
    wait_for_serial();
    guest_put_text(&guest, "bye\n");
    guest_power_off(&guest);
    ck_assert_ptr_nonnull(getcwd(here, sizeof(here)));
    ck_assert_int_eq(chdir(scratch_path(".")), 0);
    start(extra);
    ck_assert_int_eq(chdir(here), 0);

    scratch_ok("while ! test -S serial; do sleep 0.01; done");
    scratch_save("y", "y", 1);
    attach_until("login: ", "x", "hello");
    ck_assert_str_eq(ctl("web console <y"), "login: hello\nbye\n");
    expect_end(EXIT_POWER_OFF);
}
END_TEST

/* What a pseudo-terminal has not been read of is lost with it: so the VM goes on. */
START_TEST(console_attaches_to_a_pseudo_terminal)
{
    const char *const extra[] = {"--serial", "pty", NULL};

    make_echo();
    start(extra);
    ck_assert(vm_wait_error(&vm, "serial port: /dev/pts/"));
    attach_until("ready", "x", "x");
    attach_until("ready", "y", "xy"); /* it begins with what the first one saw */
    ctl("web power-off --force");
    expect_end(EXIT_KILLED);
}
END_TEST

/* What each command does to the disks is tested where it is carried out. */
START_TEST(disks_are_changed)
{
    char disk[300];
    const char *const extra[] = {"--disk", disk, NULL};

    if (!scratch_has_qemu())
        return;
    snprintf(disk, sizeof(disk), "%s,iops=500", scratch_path("disk.qcow2"));
    scratch_ok("qemu-img create -q -f qcow2 disk.qcow2 1M");
    make_echo();
    start(extra);
    ck_assert(vm_wait_output(&vm, "ready"));
    ck_assert_str_eq(ctl("web resize vda +2M"), "");
    assert_prints("web status", "vda   qcow2   3 MiB");
    ck_assert_str_eq(ctl("web throttle vda"), "iops  500\n");
    ck_assert_str_eq(ctl("web throttle vda bps=10M bps_max=20M"), "");
    assert_prints("web throttle vda", "bps             10 MiB\niops            500\n");
    assert_prints("web throttle vda", "bps_max         20 MiB\n");
    ck_assert_str_eq(ctl("web throttle vda off"), "");
    ck_assert_str_eq(ctl("web throttle vda"), "no limits\n");
    ck_assert_str_eq(ctl("web snapshot vda --internal before"), "");
    scratch_ok("qemu-img snapshot -l -U disk.qcow2 | grep -q before");
    ck_assert_str_eq(ctl("web snapshot vda"), "ID  NAME\n 1  before\n");
    ck_assert_str_eq(ctl("web snapshot vda --delete before"), "");
    ck_assert_str_eq(ctl("web snapshot vda"), "no snapshots\n");
    scratch_ok("! qemu-img snapshot -l -U disk.qcow2 | grep before");
    ck_assert_str_eq(ctl("web snapshot vda overlay.qcow2"),
                     "vda is in the new image: name that at the next start\n");
    assert_prints("web status", "overlay.qcow2");
    ck_assert_ptr_nonnull(strstr(ctl_error(1, "web resize vda 1M"), "minivmm-ctl: web: "));
    ctl("web power-off --force");
    expect_end(EXIT_KILLED);
    scratch_ok("qemu-img info overlay.qcow2 | grep -q 'backing file:.*disk.qcow2'");
}
END_TEST

START_TEST(console_on_stdio_says_what_to_do)
{
    make_echo();
    start(NULL);
    ck_assert(vm_wait_output(&vm, "ready"));
    ck_assert_ptr_nonnull(strstr(ctl_error(1, "web console"), "--serial unix:PATH"));
    ctl("web power-off --force");
    expect_end(EXIT_KILLED);
}
END_TEST

/* A guest that exits all the time. */
START_TEST(top_counts_exits)
{
    size_t again = 0;

    guest_put_text(&guest, "ready");
    again = guest.nops;
    guest_op(&guest, GUEST_IN8, X86_PORT_COM1 + 5, 0, 0);
    guest_op(&guest, GUEST_GOTO, again, 0, 0);
    start(NULL);
    ck_assert(vm_wait_output(&vm, "ready"));
    ctl("web top --interval 0.3");
    ck_assert_ptr_nonnull(strstr(output, "port-read"));
    ck_assert_msg(strstr(output, "\n  0        0 ") == NULL, "%s", output);
    ctl("web power-off --force");
    expect_end(EXIT_KILLED);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "ctl", set_up, tear_down, vms_are_listed_while_they_run,
                   paused_guest_powers_off, paused_guest_that_gdb_holds_does_not_power_off,
                   guest_without_a_button_is_ended_by_force, guest_is_paused_and_reset,
                   console_attaches_early_and_late, console_attaches_to_a_pseudo_terminal,
                   disks_are_changed, console_on_stdio_says_what_to_do, top_counts_exits);
}

GUEST_TEST_MAIN("ctl", add_tests)
