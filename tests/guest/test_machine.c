/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest does to the machine as a whole: start, print, interrupt, power off, reset, crash,
 * start its other CPUs.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/acpi_pm.h"
#include "memory/layout_x86.h"
#include "tests/lib/boot/kernel_file.h"
#include "tests/lib/guest/guest_test.h"
#include "vmm/arch.h"
#include "vmm/config/config.h"
#include "vmm/process/ending_rules.h"
#include "vmm/process/restarts.h"

#define VECTOR 0x40u

static struct guest guest;
static struct vm vm;

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

static void start(const char *const extra[])
{
    static const struct vm_setup usual;

    start_with(extra, &usual);
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

/* Read a byte from the serial port into 8 bytes at `addr`. */
static void read_serial(uint64_t addr)
{
    guest_op(&guest, GUEST_WAIT_IN8, X86_PORT_COM1 + 5, 1, 0); /* line status: data ready */
    guest_op(&guest, GUEST_IN8, X86_PORT_COM1, 0, 0);
    guest_op(&guest, GUEST_ST64_ACC, addr, 0, 0);
}

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

/* ---- serial port ----------------------------------------------------------------------------- */

START_TEST(string_output_reaches_stdout)
{
    guest_put_text(&guest, "hello from ring 0\n");
    guest_power_off(&guest);
    start(NULL);
    expect_end(EXIT_POWER_OFF);
    ck_assert_str_eq(vm.out.data, "hello from ring 0\n");
}
END_TEST

START_TEST(stdin_reaches_the_guest)
{
    size_t again = guest.nops;

    read_serial(GUEST_DATA);
    guest_op(&guest, GUEST_PUT_ACC, 1, 0, 0);
    guest_op(&guest, GUEST_GOTO_UNLESS, GUEST_DATA, '.', again);
    guest_power_off(&guest);
    start(NULL);
    vm_send(&vm, "echo this.", 10);
    expect_end(EXIT_POWER_OFF);
    ck_assert_str_eq(vm.out.data, "echo this.");
}
END_TEST

/* Descriptors 9 and 10, as a supervisor passes them on; the first one is not meant for us. */
static int not_ours;
static int initrd;

static void pass_descriptors(void)
{
    if (dup2(not_ours, 9) < 0 || dup2(initrd, 10) < 0)
        _exit(EXIT_FAILURE);
}

START_TEST(descriptors_that_no_option_names_are_closed)
{
    const char *const args[] = {"--initrd", "/dev/fd/10", NULL};
    const struct vm_setup setup = {.in_child = pass_descriptors};
    int fds[2];
    char byte;

    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    scratch_save("initrd", "initrd", 6);
    initrd = open(scratch_path("initrd"), O_RDONLY | O_CLOEXEC);
    not_ours = fds[1];
    guest_put_text(&guest, "waiting");
    read_serial(GUEST_DATA);
    guest_power_off(&guest);
    start_with(args, &setup);
    ck_assert_msg(vm_wait_output(&vm, "waiting"), "stderr: %s", vm_errors(&vm));
    close(fds[1]);
    ck_assert_int_eq(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    ck_assert_int_eq(read(fds[0], &byte, 1), 0); /* its end: nobody else has it open */
    vm_send(&vm, ".", 1);
    expect_end(EXIT_POWER_OFF);
    close(fds[0]);
    close(initrd);
}
END_TEST

/* Resident memory of the process, in KiB. */
static unsigned long resident_kib(void)
{
    unsigned long kib = 0;
    char path[64];
    char line[256];
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)vm.pid);
    file = fopen(path, "re");
    ck_assert_ptr_nonnull(file);
    while (kib == 0 && fgets(line, sizeof(line), file)) {
        if (strncmp(line, "VmRSS:", 6) == 0)
            kib = strtoul(line + 6, NULL, 10);
    }
    (void)fclose(file);
    return kib;
}

START_TEST(memory_is_there_beforehand_only_when_told_to)
{
    static const struct {
        const char *prealloc;
        bool all;
    } cases[] = {{"off", false}, {"on", true}};
    const char *const args[] = {"--memory", "128M", "--prealloc", cases[_i].prealloc, NULL};

    guest_put_text(&guest, "waiting");
    read_serial(GUEST_DATA);
    guest_power_off(&guest);
    start(args);
    ck_assert_msg(vm_wait_output(&vm, "waiting"), "stderr: %s", vm_errors(&vm));
    ck_assert_int_eq(resident_kib() >= 128ul * 1024, cases[_i].all);
    vm_send(&vm, ".", 1);
    expect_end(EXIT_POWER_OFF);
}
END_TEST

START_TEST(a_guest_runs_in_pages_of_the_hosts_choice)
{
    const char *const args[] = {"--hugepages", "host", NULL};

    guest_put_text(&guest, "hello");
    guest_power_off(&guest);
    start(args);
    expect_end(EXIT_POWER_OFF);
    ck_assert_str_eq(vm.out.data, "hello");
}
END_TEST

START_TEST(end_of_stdin_does_not_end_the_guest)
{
    const char *const serial[] = {"--serial", "stdio", NULL};

    guest_route_irq(&guest, X86_GSI_GED, VECTOR);
    guest_put_text(&guest, "waiting");
    guest_op(&guest, GUEST_WAIT_IRQ, 1, 0, 0);
    guest_power_off(&guest);
    start(serial);
    vm_close_input(&vm);
    ck_assert(vm_wait_output(&vm, "waiting"));
    usleep(100000);
    signal_vm(SIGTERM);
    expect_end(EXIT_POWER_OFF);
}
END_TEST

START_TEST(serial_input_interrupts)
{
    guest_route_irq(&guest, X86_GSI_COM1, VECTOR);
    guest_op(&guest, GUEST_OUT8, X86_PORT_COM1 + 4, 0x08, 0); /* modem control: OUT2 */
    guest_op(&guest, GUEST_OUT8, X86_PORT_COM1 + 1, 0x01, 0); /* enable: received data */
    guest_put_text(&guest, "ready");
    guest_op(&guest, GUEST_WAIT_IRQ, 1, 0, 0);
    read_serial(GUEST_DATA);
    guest_op(&guest, GUEST_PUT_ACC, 1, 0, 0);
    guest_power_off(&guest);
    start(NULL);
    ck_assert(vm_wait_output(&vm, "ready"));
    vm_send(&vm, "!", 1);
    expect_end(EXIT_POWER_OFF);
    ck_assert_str_eq(vm.out.data, "ready!");
}
END_TEST

START_TEST(transmitter_empty_interrupts)
{
    guest_route_irq(&guest, X86_GSI_COM1, VECTOR);
    guest_op(&guest, GUEST_OUT8, X86_PORT_COM1 + 4, 0x08, 0);
    guest_op(&guest, GUEST_OUT8, X86_PORT_COM1 + 1, 0x02, 0); /* enable: transmitter empty */
    guest_op(&guest, GUEST_WAIT_IRQ, 1, 0, 0);
    guest_op(&guest, GUEST_IN8, X86_PORT_COM1 + 2, 0, 0); /* identifies and acknowledges it */
    guest_op(&guest, GUEST_OUT8, X86_PORT_COM1, 'x', 0);
    guest_op(&guest, GUEST_WAIT_IRQ, 2, 0, 0);
    guest_power_off(&guest);
    start(NULL);
    expect_end(EXIT_POWER_OFF);
    ck_assert_str_eq(vm.out.data, "x");
}
END_TEST

/* A bzImage that halts at its 64-bit entry, which is 512 bytes into the kernel. */
static void start_bzimage(void)
{
    static const uint8_t halt[] = {0xf4, 0xeb, 0xfd}; /* hlt, and back to it */
    const char *const args[] = {"--kernel", scratch_path("bzimage"), "--shutdown-timeout",
                                "0",        "--kernel-cache",        "off",
                                NULL};
    struct test_bzimage image;

    test_bzimage_init(&image);
    memcpy(image.kernel + 0x200, halt, sizeof(halt));
    scratch_save("bzimage", &image, sizeof(image));
    vm_start(&vm, args);
}

START_TEST(linux_on_a_software_kvm_is_warned_of)
{
    start_bzimage();
    if (arch_has_virtualization())
        usleep(300000);
    else
        ck_assert(vm_wait_error(&vm, "KVM works without VT-x or SVM"));
    signal_vm(SIGTERM);
    expect_end(EXIT_KILLED);
    ck_assert_int_eq(strstr(vm_errors(&vm), "VT-x") != NULL, !arch_has_virtualization());
}
END_TEST

/* ---- power off, reset, crash ----------------------------------------------------------------- */

START_TEST(acpi_reset_ends_with_the_reboot_code)
{
    guest_reset_acpi(&guest);
    start(NULL);
    expect_end(EXIT_REBOOT);
}
END_TEST

START_TEST(keyboard_controller_reset_ends_with_the_reboot_code)
{
    const char *const no_acpi[] = {"--no-acpi", NULL};

    guest_reset_i8042(&guest);
    start(no_acpi);
    expect_end(EXIT_REBOOT);
}
END_TEST

START_TEST(triple_fault_is_a_reset)
{
    guest_op(&guest, GUEST_TRIPLE_FAULT, 0, 0, 0);
    start(NULL);
    expect_end(EXIT_REBOOT);
    ck_assert_ptr_nonnull(strstr(vm.err.data, "triple fault"));
}
END_TEST

static size_t count_fds(void)
{
    char path[64];
    size_t n = 0;
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%d/fd", vm.pid);
    dir = opendir(path);
    ck_assert_ptr_nonnull(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/* The guest says how it found its memory, spoils it, and obeys: r resets, anything else is off. */
START_TEST(restart_begins_anew)
{
    const char *const restart[] = {"--on-reboot", "restart", "--cpus", "2", NULL};
    const unsigned resets = RESTARTS_FREE;
    size_t off, fds = 0;

    guest_op(&guest, GUEST_LD64, GUEST_DATA, 0, 0);
    guest_op(&guest, GUEST_PUT_ACC, 1, 0, 0);
    guest_op(&guest, GUEST_ST64, GUEST_DATA, 'D', 0);
    read_serial(GUEST_DATA + 8);
    off = guest_op(&guest, GUEST_GOTO_UNLESS, GUEST_DATA + 8, 'r', 0);
    guest_reset_acpi(&guest);
    guest.ops[off].c = guest.nops;
    guest_power_off(&guest);

    start(restart);
    for (unsigned i = 0; i < resets; i++) {
        ck_assert(vm_wait_output_len(&vm, i + 1));
        if (i == 1)
            fds = count_fds();
        vm_send(&vm, "r", 1);
    }
    ck_assert(vm_wait_output_len(&vm, resets + 1));
    ck_assert_uint_eq(count_fds(), fds);
    vm_send(&vm, "p", 1);
    expect_end(EXIT_POWER_OFF);
    for (unsigned i = 0; i <= resets; i++)
        ck_assert_int_eq(vm.out.data[i], 0);
}
END_TEST

/* Where there is no memory, there is no instruction. */
START_TEST(guest_that_cannot_go_on_is_reported_with_registers)
{
    guest_op(&guest, GUEST_JUMP, 0xc8000000, 0, 0);
    start(NULL);
    expect_end(EXIT_VMM);
    ck_assert_ptr_nonnull(strstr(vm.err.data, "rip 00000000c8000000"));
    ck_assert_ptr_nonnull(strstr(vm.err.data, "instruction bytes"));
    ck_assert_ptr_nonnull(strstr(vm.err.data, "minivmm: vCPU 0: "));
}
END_TEST

/* A processor executes it and then faults thrice; a KVM that emulates guests may not know it. */
START_TEST(host_that_cannot_run_the_guest_is_told_in_words)
{
    const uint64_t lock_cmpxchg16b_rdi_ud2 = 0x0b0f0fc70f48f0; /* little endian */
    int code;

    guest_op(&guest, GUEST_ST64, GUEST_DATA, lock_cmpxchg16b_rdi_ud2, 0);
    guest_op(&guest, GUEST_JUMP, GUEST_DATA, 0, 0);
    start(NULL);
    code = vm_wait(&vm);
    if (code == EXIT_VMM)
        ck_assert_ptr_nonnull(strstr(vm.err.data, "this host's KVM cannot run this guest"));
    else
        ck_assert_int_eq(code, EXIT_REBOOT);
}
END_TEST

/* ---- signals --------------------------------------------------------------------------------- */

START_TEST(signal_presses_the_power_button)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGALRM, SIGPWR};

    guest_route_irq(&guest, X86_GSI_GED, VECTOR);
    guest_put_text(&guest, "ready");
    guest_op(&guest, GUEST_WAIT_IRQ, 1, 0, 0);
    guest_op(&guest, GUEST_IN8, X86_PORT_ACPI_PM + ACPI_PM_GED_EVENTS, 0, 0);
    guest_op(&guest, GUEST_PUT_ACC, 1, 0, 0);
    guest_power_off(&guest);
    start(NULL);
    ck_assert(vm_wait_output(&vm, "ready"));
    signal_vm(signals[_i]);
    expect_end(EXIT_POWER_OFF);
    ck_assert_uint_eq(vm.out.len, 6);
    ck_assert_int_eq(vm.out.data[5], ACPI_PM_EVENT_POWER_BUTTON);
}
END_TEST

/* Asleep for ever, or busy for ever without leaving the guest: neither may delay the stop. */
START_TEST(second_signal_ends_a_guest_that_does_not_listen)
{
    static const enum guest_opcode deaf[] = {GUEST_HALT, GUEST_SPIN};
    const char *const cpus[] = {"--cpus", "2", "--log", "info", NULL};

    guest_put_text(&guest, "ready");
    guest_op(&guest, deaf[_i], 0, 0, 0);
    start(cpus);
    ck_assert(vm_wait_output(&vm, "ready"));
    signal_vm(SIGTERM);
    ck_assert(vm_wait_error(&vm, "power button"));
    insist();
    expect_end(EXIT_KILLED);
}
END_TEST

/* A guest that takes the button for a reboot, or was about to reboot: it is not started again. */
START_TEST(reset_after_the_power_button_does_not_restart)
{
    const char *const restart[] = {"--on-reboot", "restart", NULL};

    guest_route_irq(&guest, X86_GSI_GED, VECTOR);
    guest_put_text(&guest, "ready");
    guest_op(&guest, GUEST_WAIT_IRQ, 1, 0, 0);
    guest_reset_acpi(&guest);
    start(restart);
    ck_assert(vm_wait_output(&vm, "ready"));
    signal_vm(SIGTERM);
    expect_end(EXIT_REBOOT);
    ck_assert_str_eq(vm.out.data, "ready");
}
END_TEST

static void ignore_hangup_and_interrupt(void)
{
    (void)signal(SIGHUP, SIG_IGN);
    (void)signal(SIGINT, SIG_IGN);
}

/*
 * What nohup does, and a shell with a job in the background of a script. A signal that was taken
 * all the same would be the first of the two.
 */
START_TEST(ignored_signals_press_nothing)
{
    static const int signals[] = {SIGHUP, SIGINT};
    const char *const log[] = {"--log", "info", NULL};
    const struct vm_setup nohup = {.in_child = ignore_hangup_and_interrupt};

    guest_put_text(&guest, "ready");
    guest_op(&guest, GUEST_HALT, 0, 0, 0);
    start_with(log, &nohup);
    ck_assert(vm_wait_output(&vm, "ready"));
    signal_vm(signals[_i]);
    signal_vm(SIGTERM);
    ck_assert(vm_wait_error(&vm, "power button"));
    ck_assert_ptr_nonnull(strstr(vm.err.data, "signal 15: power button"));
    insist();
    expect_end(EXIT_KILLED);
}
END_TEST

START_TEST(without_a_power_button_the_first_signal_ends_it)
{
    const char *const no_acpi[] = {"--no-acpi", NULL};

    guest_put_text(&guest, "ready");
    guest_op(&guest, GUEST_HALT, 0, 0, 0);
    start(no_acpi);
    ck_assert(vm_wait_output(&vm, "ready"));
    signal_vm(SIGTERM);
    expect_end(EXIT_KILLED);
}
END_TEST

/* ---- more than one CPU ----------------------------------------------------------------------- */

START_TEST(all_cpus_start)
{
    static const struct {
        const char *text;
        unsigned n;
    } cpus[] = {{"2", 2}, {"4", 4}, {"9", 9}};
    const char *const args[] = {"--cpus", cpus[_i].text, NULL};

    guest_start_cpus(&guest);
    guest_op(&guest, GUEST_WAIT16, GUEST_CPU_COUNT_LOW, cpus[_i].n - 1, 0);
    guest_put_text(&guest, "all here");
    guest_power_off(&guest);
    start(args);
    expect_end(EXIT_POWER_OFF);
    ck_assert_str_eq(vm.out.data, "all here");
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("machine");

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, string_output_reaches_stdout);
    tcase_add_test(tcase, stdin_reaches_the_guest);
    tcase_add_test(tcase, end_of_stdin_does_not_end_the_guest);
    tcase_add_test(tcase, descriptors_that_no_option_names_are_closed);
    tcase_add_loop_test(tcase, memory_is_there_beforehand_only_when_told_to, 0, 2);
    tcase_add_test(tcase, a_guest_runs_in_pages_of_the_hosts_choice);
    tcase_add_test(tcase, serial_input_interrupts);
    tcase_add_test(tcase, transmitter_empty_interrupts);
    tcase_add_test(tcase, acpi_reset_ends_with_the_reboot_code);
    tcase_add_test(tcase, keyboard_controller_reset_ends_with_the_reboot_code);
    tcase_add_test(tcase, triple_fault_is_a_reset);
    tcase_add_test(tcase, restart_begins_anew);
    tcase_add_test(tcase, guest_that_cannot_go_on_is_reported_with_registers);
    tcase_add_test(tcase, host_that_cannot_run_the_guest_is_told_in_words);
    tcase_add_test(tcase, linux_on_a_software_kvm_is_warned_of);
    tcase_add_loop_test(tcase, signal_presses_the_power_button, 0, 5);
    tcase_add_test(tcase, reset_after_the_power_button_does_not_restart);
    tcase_add_loop_test(tcase, ignored_signals_press_nothing, 0, 2);
    tcase_add_loop_test(tcase, second_signal_ends_a_guest_that_does_not_listen, 0, 2);
    tcase_add_test(tcase, without_a_power_button_the_first_signal_ends_it);
    tcase_add_loop_test(tcase, all_cpus_start, 0, 3);
    suite_add_tcase(suite, tcase);
}

GUEST_TEST_MAIN("guest machine", add_tests)
