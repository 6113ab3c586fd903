/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests under a debugger: packet by packet, and beside a real gdb where there is one.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <x86intrin.h>

#include "base/bytes.h"
#include "memory/layout_x86.h"
#include "tests/lib/guest/gdb_client.h"
#include "tests/lib/guest/guest_test.h"
#include "tests/lib/guest/qmp_client.h"
#include "tests/lib/guest/random.h"
#include "vmm/arch.h"
#include "vmm/config/config.h"
#include "vmm/gdb/breakpoints.h"
#include "vmm/gdb/registers_x86.h"
#include "vmm/process/ending_rules.h"

/* Code that the tests' guests jump to: a loop that counts up to 3, prints, and starts over. */
#define CODE GUEST_DATA
#define COUNT (GUEST_DATA + 0x1000u)
#define LOOP (CODE + 10) /* the first instruction of the loop */
#define LOOP_INC (CODE + 11)
#define LOOP_JUMP (CODE + 19)

static const uint8_t loop_code[] = {
    0xbb, 0x00, 0x10, 0x20, 0x00, /* movl $COUNT, %ebx */
    0xba, 0xf8, 0x03, 0x00, 0x00, /* movl $0x3f8, %edx */
    0x90,                         /* LOOP: nop */
    0x48, 0xff, 0x03,             /* LOOP_INC: incq (%rbx) */
    0x48, 0x83, 0x3b, 0x03,       /* cmpq $3, (%rbx) */
    0x90,                         /* nop */
    0x75, 0xf5,                   /* LOOP_JUMP: jne LOOP */
    0xb0, '.',                    /* movb $'.', %al */
    0xee,                         /* outb %al, %dx */
    0xeb, 0xf0,                   /* jmp LOOP */
};

static struct guest guest;
static struct gdb_client client;
static struct vm vm;

static void set_up(void)
{
    guest_init(&guest);
    client.fd = -1;
}

static void tear_down(void)
{
    gdb_client_close(&client);
    vm_done(&vm);
}

static void start_vm(const char *const more[])
{
    const char *kernel = scratch_path("kernel");
    char socket[256];
    const char *args[VM_ARGS_MAX] = {"--kernel", kernel, "--memory", GUEST_MEMORY, "--gdb", socket};
    size_t n = 6;

    snprintf(socket, sizeof(socket), "unix:%s", scratch_path("gdb"));
    for (size_t i = 0; more[i]; i++)
        args[n++] = more[i];
    args[n] = NULL;
    guest_write_kernel(&guest, kernel);
    guest_done(&guest);
    vm_start(&vm, args);
}

/* The guest waits for gdb, which is connected. */
static void start_waiting(void)
{
    start_vm((const char *const[]){"--wait-gdb", NULL});
    gdb_client_open(&client, scratch_path("gdb"));
}

static void put_loop(void)
{
    for (size_t at = 0; at < sizeof(loop_code); at += 8) {
        uint8_t word[8] = {0};

        memcpy(word, loop_code + at, min_u64(sizeof(loop_code) - at, sizeof(word)));
        guest_op(&guest, GUEST_ST64, CODE + at, load_le64(word), 0);
    }
    gdb_client_meet(&guest);
    guest_op(&guest, GUEST_JUMP, CODE, 0, 0);
}

/* A packet with a number in it, and its answer. */
#define expectf(fmt, number, answer)                                                               \
    do {                                                                                           \
        char packet_[128];                                                                         \
                                                                                                   \
        snprintf(packet_, sizeof(packet_), fmt, (unsigned long long)(number));                     \
        gdb_client_expect(&client, packet_, answer);                                               \
    } while (0)

/* Stopped in front of the loop's first instruction. */
static void start_in_loop(void)
{
    put_loop();
    start_waiting();
    gdb_client_reach(&client, CODE);
    gdb_client_expect(&client, "vCont;s:1", "T05thread:1;");
    gdb_client_expect(&client, "vCont;s:1", "T05thread:1;");
    ck_assert_uint_eq(gdb_client_register(&client, GDB_CLIENT_RIP), LOOP);
}

static void end_by_signal(void)
{
    kill(vm.pid, SIGTERM);
    ck_assert(vm_wait_error(&vm, "power button pressed"));
    usleep(ENDING_PAUSE_NS / 1000);
    kill(vm.pid, SIGTERM);
    assert_exit_code(&vm, vm_wait(&vm), EXIT_KILLED);
}

static void kill_by_gdb(void)
{
    gdb_client_send(&client, "k");
    ck_assert_ptr_null(gdb_client_receive(&client));
    assert_exit_code(&vm, vm_wait(&vm), EXIT_KILLED);
}

/* False: it does not, and the VM was ended. */
static bool can(enum gdb_breakpoint_type type)
{
    if (gdb_client_supports(&client, type))
        return true;
    kill_by_gdb();
    return false;
}

/* ---- breakpoints ----------------------------------------------------------------------------- */

/* As gdb does it: take the breakpoint away, step, put it back. */
static void go_on_from(uint64_t va)
{
    expectf("z0,%llx,1", va, "OK");
    gdb_client_expect(&client, "vCont;s:1", "T05thread:1;");
    expectf("Z0,%llx,1", va, "OK");
    gdb_client_expect(&client, "vCont;c", "T05thread:1;swbreak:;");
}

START_TEST(software_breakpoint_stops_each_time)
{
    start_in_loop();
    if (!can(GDB_BREAK_SOFTWARE))
        return;
    for (uint64_t i = 1; i < 3; i++) {
        go_on_from(LOOP);
        ck_assert_uint_eq(gdb_client_register(&client, GDB_CLIENT_RIP), LOOP);
        ck_assert_uint_eq(gdb_client_memory(&client, COUNT), i);
    }
    expectf("m%llx,4", LOOP, "9048ff03"); /* nobody sees it */
    kill_by_gdb();
}
END_TEST

START_TEST(hardware_breakpoint_stops_in_front_of_its_instruction)
{
    start_in_loop();
    if (!can(GDB_BREAK_HARDWARE))
        return;
    expectf("Z1,%llx,1", LOOP_JUMP, "OK");
    gdb_client_expect(&client, "vCont;c", "T05thread:1;hwbreak:;");
    ck_assert_uint_eq(gdb_client_register(&client, GDB_CLIENT_RIP), LOOP_JUMP);
    ck_assert_uint_eq(gdb_client_memory(&client, COUNT), 1);
    kill_by_gdb();
}
END_TEST

START_TEST(watchpoint_stops_behind_the_access)
{
    char stop[64];

    start_in_loop();
    if (!can(GDB_WATCH_WRITE))
        return;
    expectf("Z2,%llx,8", COUNT, "OK");
    snprintf(stop, sizeof(stop), "T05thread:1;watch:%x;", COUNT);
    for (uint64_t i = 1; i < 3; i++) {
        gdb_client_expect(&client, "vCont;c", stop);
        ck_assert_uint_eq(gdb_client_register(&client, GDB_CLIENT_RIP), LOOP_INC + 3);
        ck_assert_uint_eq(gdb_client_memory(&client, COUNT), i);
    }
    expectf("z2,%llx,8", COUNT, "OK");
    expectf("Z4,%llx,8", COUNT, "OK");
    snprintf(stop, sizeof(stop), "T05thread:1;awatch:%x;", COUNT);
    gdb_client_expect(&client, "vCont;c", stop); /* the comparison reads */
    kill_by_gdb();
}
END_TEST

/*
 * The handler of the interpreter counts what comes through a gate; its end of interrupt does no
 * harm.
 */
START_TEST(breakpoint_instruction_of_the_guest_is_its_own)
{
    if (!arch_has_virtualization()) {
        puts("a guest's own int3 is not tested: this KVM does not know it");
        return;
    }
    guest_op(&guest, GUEST_LD64, GUEST_VECTOR_FIRST * 16 + 0x102000, 0, 0); /* its gate… */
    guest_op(&guest, GUEST_ST64_ACC, 3 * 16 + 0x102000, 0, 0);              /* …for vector 3 */
    guest_op(&guest, GUEST_LD64, GUEST_VECTOR_FIRST * 16 + 0x102008, 0, 0);
    guest_op(&guest, GUEST_ST64_ACC, 3 * 16 + 0x102008, 0, 0);
    /* int3; lea a text, print it: movl $0x3f8, %edx; movb '!', %al; outb; jmp . */
    guest_op(&guest, GUEST_ST64, CODE, 0xb0000003f8bacc90, 0);
    guest_op(&guest, GUEST_ST64, CODE + 8, 0xfeebee21, 0);
    gdb_client_meet(&guest);
    guest_op(&guest, GUEST_JUMP, CODE, 0, 0);
    start_waiting();
    gdb_client_reach(&client, CODE);
    if (!can(GDB_BREAK_SOFTWARE))
        return;
    expectf("Z0,%llx,1", CODE + 9, "OK"); /* so that KVM shows us every int3 */
    gdb_client_expect(&client, "vCont;c", "T05thread:1;swbreak:;");
    ck_assert_uint_eq(gdb_client_memory(&client, GUEST_IRQ_COUNT), 1);
    kill_by_gdb();
}
END_TEST

START_TEST(detach_lets_the_guest_run_without_breakpoints)
{
    start_in_loop();
    if (gdb_client_supports(&client, GDB_BREAK_SOFTWARE))
        expectf("Z0,%llx,1", LOOP_INC, "OK");
    gdb_client_expect(&client, "D", "OK");
    ck_assert_ptr_null(gdb_client_receive(&client));
    ck_assert(vm_wait_output_len(&vm, 1));
    end_by_signal();
}
END_TEST

START_TEST(gdb_that_vanishes_leaves_no_breakpoint)
{
    start_in_loop();
    if (!can(GDB_BREAK_SOFTWARE))
        return;
    expectf("Z0,%llx,1", CODE, "OK"); /* is not reached */
    gdb_client_send(&client, "vCont;c");
    ck_assert(vm_wait_output_len(&vm, 1));
    gdb_client_close(&client);
    gdb_client_open(&client, scratch_path("gdb"));
    expectf("m%llx,1", CODE, "bb");
    ck_assert_int_eq(strncmp(gdb_client_ask(&client, "?"), "T02", 3), 0);
    kill_by_gdb();
}
END_TEST

/* The guest has to stop once more before the next one can have it. */
START_TEST(gdb_that_vanishes_makes_room_for_the_next)
{
    guest_op(&guest, GUEST_SPIN, 0, 0, 0);
    start_waiting();
    for (unsigned i = 0; i < 50; i++) {
        gdb_client_send(&client, i % 2 ? "vCont;c" : "?");
        gdb_client_close(&client);
        gdb_client_open(&client, scratch_path("gdb"));
    }
    kill_by_gdb();
}
END_TEST

/* ---- running and stopping -------------------------------------------------------------------- */

START_TEST(guest_that_waits_for_gdb_has_not_begun)
{
    guest_put_text(&guest, "begun");
    guest_power_off(&guest);
    start_waiting();
    usleep(50000);
    gdb_client_expect(&client, "?", "T02thread:1;");
    ck_assert_uint_eq(vm.out.len, 0);
    gdb_client_expect(&client, "vCont;c", "W00");
    assert_exit_code(&vm, vm_wait(&vm), EXIT_POWER_OFF);
    ck_assert_str_eq(vm.out.data, "begun");
}
END_TEST

/* Somebody who tries ports, a web page, and then a gdb. */
START_TEST(guest_goes_on_waiting_for_a_gdb_after_who_is_none)
{
    static const char post[] = "POST / HTTP/1.1\r\n\r\n$k#6b";
    struct gdb_client other = {.fd = -1};

    guest_power_off(&guest);
    start_vm((const char *const[]){"--wait-gdb", NULL});
    other.fd = gdb_client_connect(scratch_path("gdb"));
    gdb_client_close(&other);
    other.fd = gdb_client_connect(scratch_path("gdb"));
    ck_assert_int_eq(send(other.fd, post, sizeof(post) - 1, MSG_NOSIGNAL), sizeof(post) - 1);
    ck_assert_ptr_null(gdb_client_receive(&other));
    gdb_client_close(&other);
    gdb_client_open(&client, scratch_path("gdb"));
    ck_assert_uint_eq(gdb_client_register(&client, GDB_CLIENT_RIP), 0x100000);
    gdb_client_expect(&client, "vCont;c", "W00");
    assert_exit_code(&vm, vm_wait(&vm), EXIT_POWER_OFF);
}
END_TEST

START_TEST(signal_ends_a_guest_that_waits_for_gdb_at_once)
{
    guest_power_off(&guest);
    start_vm((const char *const[]){"--wait-gdb", NULL});
    while (access(scratch_path("gdb"), F_OK) < 0)
        usleep(1000);
    kill(vm.pid, SIGTERM);
    assert_exit_code(&vm, vm_wait(&vm), EXIT_KILLED);
    ck_assert_ptr_nonnull(strstr(vm_errors(&vm), "ended before the guest ran"));
}
END_TEST

START_TEST(signal_ends_a_guest_that_gdb_has_not_let_begin)
{
    guest_power_off(&guest);
    start_waiting();
    kill(vm.pid, SIGTERM);
    ck_assert_str_eq(gdb_client_receive(&client), "W04");
    assert_exit_code(&vm, vm_wait(&vm), EXIT_KILLED);
    ck_assert_ptr_nonnull(strstr(vm_errors(&vm), "ended before the guest ran"));
}
END_TEST

/* A guest that waits for its power button, held by gdb in that. */
static void hold_guest_with_button(const char *const more[])
{
    guest_route_irq(&guest, X86_GSI_GED, GUEST_VECTOR_FIRST);
    guest_put_text(&guest, "ready");
    guest_op(&guest, GUEST_WAIT_IRQ, 1, 0, 0);
    guest_power_off(&guest);
    start_vm(more);
    ck_assert(vm_wait_output(&vm, "ready"));
    gdb_client_open(&client, scratch_path("gdb"));
}

START_TEST(guest_that_gdb_holds_powers_off_when_it_goes_on)
{
    hold_guest_with_button((const char *const[]){NULL});
    kill(vm.pid, SIGTERM);
    ck_assert(vm_wait_error(&vm, "gdb holds the guest: `continue` lets it power off"));
    gdb_client_expect(&client, "vCont;c", "W00");
    assert_exit_code(&vm, vm_wait(&vm), EXIT_POWER_OFF);
}
END_TEST

START_TEST(guest_that_gdb_holds_is_ended_in_time)
{
    hold_guest_with_button((const char *const[]){"--shutdown-timeout", "1", NULL});
    kill(vm.pid, SIGTERM);
    ck_assert_str_eq(gdb_client_receive(&client), "W04");
    assert_exit_code(&vm, vm_wait(&vm), EXIT_KILLED);
}
END_TEST

START_TEST(connecting_stops_and_interrupt_stops_again)
{
    guest_put_text(&guest, "on");
    guest_op(&guest, GUEST_SPIN, 0, 0, 0);
    start_vm((const char *const[]){NULL});
    ck_assert(vm_wait_output(&vm, "on"));
    gdb_client_open(&client, scratch_path("gdb"));
    for (unsigned i = 0; i < 20; i++) {
        gdb_client_send(&client, "vCont;c");
        gdb_client_interrupt(&client);
        ck_assert_str_eq(gdb_client_receive(&client), "T02thread:1;");
    }
    kill_by_gdb();
}
END_TEST

/* Let the guest, which keeps its TSC in memory, run for a moment. */
static uint64_t next_tsc(void)
{
    uint64_t before = gdb_client_memory(&client, COUNT);
    useconds_t moment_us = 0;

    do {
        gdb_client_send(&client, "vCont;c");
        usleep(moment_us);
        moment_us = 2 * moment_us + 100;
        gdb_client_interrupt(&client);
        ck_assert_str_eq(gdb_client_receive(&client), "T02thread:1;");
    } while (gdb_client_memory(&client, COUNT) == before);
    return gdb_client_memory(&client, COUNT);
}

START_TEST(time_stands_still_with_the_guest)
{
    const unsigned nstops = 10, stop_us = 50000;
    uint64_t start, begin, still = 0, before, after;

    /* movl $COUNT, %ebx; 1: rdtsc; shlq $32, %rdx; orq %rdx, %rax; movq %rax, (%rbx); jmp 1b */
    guest_op(&guest, GUEST_ST64, CODE, 0x48310f00201000bb, 0);
    guest_op(&guest, GUEST_ST64, CODE + 8, 0x8948d0094820e2c1, 0);
    guest_op(&guest, GUEST_ST64, CODE + 16, 0xf2eb03, 0);
    guest_op(&guest, GUEST_JUMP, CODE, 0, 0);
    start = __rdtsc();
    start_waiting();
    begin = __rdtsc();
    before = next_tsc();
    if (before > start) {
        puts("time in stops is not tested: the guest reads the host's TSC");
        kill_by_gdb();
        return;
    }
    for (unsigned i = 0; i < nstops; i++) {
        still -= __rdtsc();
        usleep(stop_us);
        still += __rdtsc();
        gdb_client_expect(&client, "vCont;s:1", "T05thread:1;");
    }
    after = next_tsc();
    ck_assert_uint_gt(after, before);
    ck_assert_uint_lt(after - before, __rdtsc() - begin - still / 2);
    kill_by_gdb();
}
END_TEST

START_TEST(reset_and_failure_are_told_by_exit_code)
{
    guest_op(&guest, GUEST_TRIPLE_FAULT, 0, 0, 0);
    start_waiting();
    gdb_client_expect(&client, "vCont;c", "W03");
    assert_exit_code(&vm, vm_wait(&vm), EXIT_REBOOT);
}
END_TEST

START_TEST(reset_keeps_gdb_and_its_breakpoints)
{
    guest_put_text(&guest, "x");
    guest_reset_acpi(&guest);
    start_vm((const char *const[]){"--wait-gdb", "--on-reboot", "restart", NULL});
    gdb_client_open(&client, scratch_path("gdb"));
    if (!can(GDB_BREAK_SOFTWARE))
        return;
    gdb_client_expect(&client, "Z0,100000,1", "OK"); /* where the kernel begins */
    gdb_client_expect(&client, "vCont;c", "T05thread:1;swbreak:;");
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_uint_eq(gdb_client_register(&client, GDB_CLIENT_RIP), 0x100000);
        go_on_from(0x100000);
    }
    kill_by_gdb();
    ck_assert_str_eq(vm.out.data, "xxx");
}
END_TEST

/* It has set a breakpoint, and no guest has run yet. */
START_TEST(reset_by_a_client_keeps_breakpoints_of_a_gdb_that_holds_the_guest)
{
    struct qmp_client qmp;
    char address[256];

    guest_power_off(&guest);
    snprintf(address, sizeof(address), "unix:%s", scratch_path("qmp"));
    start_vm((const char *const[]){"--wait-gdb", "--qmp", address, NULL});
    gdb_client_open(&client, scratch_path("gdb"));
    if (!can(GDB_BREAK_SOFTWARE))
        return;
    gdb_client_expect(&client, "Z0,100000,1", "OK"); /* where the kernel begins */
    qmp_client_open(&qmp, scratch_path("qmp"));
    qmp_client_do(&qmp, "system_reset", NULL);
    json_decref(qmp_client_event(&qmp, "RESET"));
    qmp_client_close(&qmp);
    gdb_client_expect(&client, "vCont;c", "T02thread:1;"); /* the new guest, where it begins */
    gdb_client_expect(&client, "vCont;c", "T05thread:1;swbreak:;");
    ck_assert_uint_eq(gdb_client_register(&client, GDB_CLIENT_RIP), 0x100000);
    kill_by_gdb();
}
END_TEST

static void expect_status(struct qmp_client *qmp, const char *status)
{
    char *text = qmp_client_text(qmp, "query-status", "status");

    ck_assert_str_eq(text, status);
    free(text);
}

START_TEST(clients_are_told_that_gdb_holds_the_guest)
{
    struct qmp_client qmp;
    char address[256];

    put_loop();
    snprintf(address, sizeof(address), "unix:%s", scratch_path("qmp"));
    start_vm((const char *const[]){"--wait-gdb", "--qmp", address, NULL});
    qmp_client_open(&qmp, scratch_path("qmp"));
    expect_status(&qmp, "debug");
    json_decref(qmp_client_ask_wrong(&qmp, "cont", NULL));
    qmp_client_do(&qmp, "stop", NULL);
    expect_status(&qmp, "paused");
    qmp_client_do(&qmp, "cont", NULL);
    expect_status(&qmp, "debug");
    gdb_client_open(&client, scratch_path("gdb"));
    gdb_client_reach(&client, CODE);
    expect_status(&qmp, "debug");
    gdb_client_send(&client, "vCont;c");
    usleep(100000);
    expect_status(&qmp, "running");
    qmp_client_close(&qmp);
    end_by_signal();
}
END_TEST

/* ---- threads --------------------------------------------------------------------------------- */

START_TEST(other_vcpus_stand_still_while_one_steps)
{
    uint64_t before;

    guest_start_cpus(&guest);
    put_loop();
    start_vm((const char *const[]){"--wait-gdb", "--cpus", "2", NULL});
    gdb_client_open(&client, scratch_path("gdb"));
    gdb_client_expect(&client, "qfThreadInfo", "m1,2");
    gdb_client_expect(&client, "qThreadExtraInfo,2", /* CPU 1, waits for start-up */
                      "43505520312c20776169747320666f722073746172742d7570");
    gdb_client_reach(&client, CODE);
    gdb_client_expect(&client, "vCont;s:1", "T05thread:1;");
    gdb_client_expect(&client, "vCont;s:1", "T05thread:1;");
    before = gdb_client_register(&client, GDB_CLIENT_RIP);
    gdb_client_expect(&client, "Hg2", "OK");
    (void)gdb_client_register(&client, GDB_CLIENT_RIP);
    gdb_client_expect(&client, "Hg1", "OK");
    for (unsigned i = 0; i < 7; i++)
        gdb_client_expect(&client, "vCont;s:1;c", "T05thread:1;");
    ck_assert_uint_ne(gdb_client_register(&client, GDB_CLIENT_RIP), before);
    ck_assert_uint_ge(gdb_client_memory(&client, COUNT), 1);
    /* Only the second one runs, and sleeps: an interrupt still stops the machine. */
    before = gdb_client_memory(&client, COUNT);
    gdb_client_send(&client, "vCont;c:2");
    usleep(20000);
    gdb_client_interrupt(&client);
    ck_assert_str_eq(gdb_client_receive(&client), "T02thread:1;");
    ck_assert_uint_eq(gdb_client_memory(&client, COUNT), before);
    kill_by_gdb();
}
END_TEST

/* ---- registers ------------------------------------------------------------------------------- */

static void set_register(const char *name, const char *value)
{
    char packet[128], answer[64];

    for (unsigned i = 0; i < gdb_register_count(true); i++) {
        if (strcmp(gdb_register_at(i)->name, name) != 0)
            continue;
        snprintf(packet, sizeof(packet), "P%x=%s", i, value);
        gdb_client_expect(&client, packet, "OK");
        snprintf(packet, sizeof(packet), "p%x", i);
        snprintf(answer, sizeof(answer), "%s", gdb_client_ask(&client, packet));
        ck_assert_msg(strcmp(answer, value) == 0, "%s: %s, expected %s", name, answer, value);
    }
}

START_TEST(registers_keep_what_is_written)
{
    static char packet[GDB_CLIENT_MAX];

    guest_op(&guest, GUEST_SPIN, 0, 0, 0);
    start_waiting();
    set_register("rax", "8877665544332211");
    set_register("r15", "0100000000000080");
    set_register("eflags", "46020000");
    set_register("st0", "00000000000000c0ff3f"); /* 1.5 */
    set_register("fctrl", "7f030000");
    set_register("xmm0", "000102030405060708090a0b0c0d0e0f");
    set_register("xmm15", "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff");
    set_register("mxcsr", "801f0000");
    set_register("fs_base", "0010000000000000");
    set_register("gs_base", "0000000080ffffff");
    set_register("k_gs_base", "000000000088ffff");
    set_register("cr2", "efbeadde00000000");
    set_register("orig_rax", "ffffffffffffffff");
    if (__builtin_cpu_supports("avx")) {
        set_register("ymm7h", "101112131415161718191a1b1c1d1e1f");
        set_register("xmm7", "202122232425262728292a2b2c2d2e2f");
        set_register("ymm7h", "00000000000000000000000000000000");
    }
    snprintf(packet, sizeof(packet), "G%s", gdb_client_ask(&client, "g"));
    gdb_client_expect(&client, packet, "OK");
    ck_assert_str_eq(gdb_client_ask(&client, "g"), packet + 1);
    kill_by_gdb();
}
END_TEST

/* ---- clients that do no good ----------------------------------------------------------------- */

START_TEST(second_gdb_is_told_and_sent_away)
{
    struct gdb_client second = {.fd = -1};

    guest_op(&guest, GUEST_SPIN, 0, 0, 0);
    start_waiting();
    second.fd = gdb_client_connect(scratch_path("gdb"));
    ck_assert_str_eq(gdb_client_receive(&second), "E.another gdb debugs this guest");
    ck_assert_ptr_null(gdb_client_receive(&second));
    gdb_client_close(&second);
    gdb_client_expect(&client, "?", "T02thread:1;");
    kill_by_gdb();
}
END_TEST

static void send_all(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);

        if (n < 0)
            return; /* it was sent away: what is meant to happen */
        bytes += n;
        len -= (size_t)n;
    }
}

/* Requests whose answers nobody reads: until the connection is cut, or takes no more. */
static void flood(int fd)
{
    static const char request[] = "$m100000,1000#ba+-+-";

    for (unsigned i = 0; i < 10000; i++)
        if (send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
            return;
}

START_TEST(clients_that_send_nonsense_hurt_nobody)
{
    static char bytes[1 << 20];
    static const char *const texts[] = {
        "",
        "GET / HTTP/1.1\r\n\r\n",
        "$m",
        "+$m0,ffffffffffffffff#",
        "$Z0,ffffffffffffffff,1#4a$vCont;c:ffffffffffffffff#00",
        "$qSupported:a#92$D#44$D#44$k#6b",
        "\003\003\003$vCont;c#a8\003\003\003",
    };
    int fd;

    guest_put_text(&guest, "on");
    guest_op(&guest, GUEST_LD8, X86_PORT_COM1, 0, 0);
    guest_op(&guest, GUEST_WAIT_IN8, X86_PORT_COM1 + 5, 1, 0); /* until a byte comes */
    guest_put_text(&guest, "off");
    guest_power_off(&guest);
    start_vm((const char *const[]){NULL});
    ck_assert(vm_wait_output(&vm, "on"));
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        fd = gdb_client_connect(scratch_path("gdb"));
        send_all(fd, texts[i], strlen(texts[i]));
        usleep(5000);
        close(fd);
    }
    memset(bytes, 'a', sizeof(bytes));
    bytes[0] = '$';
    fd = gdb_client_connect(scratch_path("gdb"));
    send_all(fd, bytes, sizeof(bytes));
    close(fd);
    fd = gdb_client_connect(scratch_path("gdb"));
    flood(fd);
    usleep(20000);
    close(fd);
    vm_send(&vm, "x", 1);
    ck_assert(vm_wait_output(&vm, "off"));
    assert_exit_code(&vm, vm_wait(&vm), EXIT_POWER_OFF);
}
END_TEST

/* ---- anything at any time -------------------------------------------------------------------- */

#define RANDOM_REQUESTS 600u

static void run_for_a_moment(const char *how)
{
    gdb_client_send(&client, how);
    usleep((useconds_t)random_below(3000));
    gdb_client_interrupt(&client); /* one that comes too late means nothing */
    ck_assert_int_eq(*gdb_client_receive(&client), 'T');
}

static void connect_again(void)
{
    gdb_client_close(&client);
    gdb_client_open(&client, scratch_path("gdb"));
}

static void random_request(void)
{
    static const uint64_t places[] = {LOOP, LOOP_INC, LOOP_JUMP};
    char packet[64];

    switch (random_below(8)) {
    case 0:
    case 1:
        run_for_a_moment("vCont;c");
        break;
    case 2:
    case 3:
        snprintf(packet, sizeof(packet), "vCont;s:%x", 1 + (unsigned)random_below(3));
        run_for_a_moment(packet);
        break;
    case 4:
    case 5:
        snprintf(packet, sizeof(packet), "%c0,%" PRIx64 ",1", "zZ"[random_below(2)],
                 places[random_below(ARRAY_SIZE(places))]);
        (void)gdb_client_ask(&client, packet); /* not everywhere are there breakpoints */
        break;
    case 6:
        gdb_client_send(&client, random_below(2) ? "vCont;c" : "?");
        connect_again();
        break;
    default:
        gdb_client_expect(&client, "D", "OK");
        connect_again();
        break;
    }
}

START_TEST(random_requests_leave_the_guest_as_it_was)
{
    random_seed();
    put_loop();
    start_vm((const char *const[]){"--wait-gdb", "--cpus", "3", NULL});
    gdb_client_open(&client, scratch_path("gdb"));
    gdb_client_reach(&client, CODE);
    for (unsigned i = 0; i < RANDOM_REQUESTS; i++)
        random_request();
    connect_again();
    expectf("m%llx,c", LOOP, "9048ff0348833b039075f5b0");
    gdb_client_expect(&client, "D", "OK");
    ck_assert(vm_wait_output_len(&vm, vm.out.len + 1));
    end_by_signal();
}
END_TEST

/* ---- a real gdb ------------------------------------------------------------------------------ */

/* It finds the guest in its loop. */
static const char gdb_script[] = "set pagination off\n"
                                 "set confirm off\n"
                                 "set architecture i386:x86-64\n"
                                 "target remote gdb\n"
                                 "info threads\n"
                                 "break *0x20000a\n"
                                 "continue\n"
                                 "set {long} 0x201000 = 0\n"
                                 "continue\n"
                                 "printf \"count %ld\\n\", *(long *)0x201000\n"
                                 "continue\n"
                                 "printf \"count %ld\\n\", *(long *)0x201000\n"
                                 "stepi\n"
                                 "x/2i $pc\n"
                                 "info registers rip cr0 efer\n"
                                 "print $xmm0\n"
                                 "set $rcx = 0x1234\n"
                                 "print/x $rcx\n"
                                 "monitor v2p 0x200000\n"
                                 "kill\n";

START_TEST(real_gdb_finds_what_it_expects)
{
    static const char *const expected[] = {
        "Thread 1 (CPU 0, running)",
        "Breakpoint 1, 0x000000000020000a",
        "count 1\n",
        "count 2\n",
        "=> 0x20000b:\tincq   (%rbx)",
        "rip            0x20000b",
        "cr0            0x80000033          [ PE MP ET NE PG ]",
        "efer           0x500               [ LME LMA ]",
        "v4_float",
        "$2 = 0x1234",
        "0x200000\n",
        "[Inferior 1 (Remote target) killed]",
    };
    static char output[64 << 10];
    size_t len;

    if (system("command -v gdb >/dev/null") != 0) {
        puts("a real gdb is not tried: there is none; scripts/setup guest installs it");
        return;
    }
    put_loop();
    start_waiting();
    gdb_client_reach(&client, CODE);
    if (!can(GDB_BREAK_SOFTWARE))
        return;
    gdb_client_expect(&client, "D", "OK");
    ck_assert_ptr_null(gdb_client_receive(&client));
    scratch_save("script", gdb_script, sizeof(gdb_script) - 1);
    scratch_ok("timeout 50 gdb -nx -batch -x script >output 2>&1 </dev/null");
    len = scratch_load("output", output, sizeof(output) - 1);
    output[len] = '\0';
    for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
        ck_assert_msg(strstr(output, expected[i]) != NULL, "'%s' is missing in: %s", expected[i],
                      output);
    assert_exit_code(&vm, vm_wait(&vm), EXIT_KILLED);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(
        suite, "breakpoints", set_up, tear_down, software_breakpoint_stops_each_time,
        hardware_breakpoint_stops_in_front_of_its_instruction, watchpoint_stops_behind_the_access,
        breakpoint_instruction_of_the_guest_is_its_own,
        detach_lets_the_guest_run_without_breakpoints, gdb_that_vanishes_leaves_no_breakpoint,
        gdb_that_vanishes_makes_room_for_the_next);
    unit_case_with(
        suite, "running", set_up, tear_down, guest_that_waits_for_gdb_has_not_begun,
        guest_goes_on_waiting_for_a_gdb_after_who_is_none,
        signal_ends_a_guest_that_waits_for_gdb_at_once,
        signal_ends_a_guest_that_gdb_has_not_let_begin,
        guest_that_gdb_holds_powers_off_when_it_goes_on, guest_that_gdb_holds_is_ended_in_time,
        connecting_stops_and_interrupt_stops_again, time_stands_still_with_the_guest,
        reset_and_failure_are_told_by_exit_code, reset_keeps_gdb_and_its_breakpoints,
        reset_by_a_client_keeps_breakpoints_of_a_gdb_that_holds_the_guest,
        clients_are_told_that_gdb_holds_the_guest, other_vcpus_stand_still_while_one_steps);
    unit_case_with(suite, "registers", set_up, tear_down, registers_keep_what_is_written);
    unit_case_with(suite, "clients", set_up, tear_down, second_gdb_is_told_and_sent_away,
                   clients_that_send_nonsense_hurt_nobody,
                   random_requests_leave_the_guest_as_it_was, real_gdb_finds_what_it_expects);
}

GUEST_TEST_MAIN("guest gdb", add_tests)
