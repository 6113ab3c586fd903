/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "tests/lib/dice.h"
#include "tests/lib/unit.h"
#include "tests/lib/vmm/gdb/fake_target.h"
#include "vmm/gdb/packet.h"
#include "vmm/gdb/session.h"

#define INT3 0xcc

static struct fake_target fake;
static struct gdb_session *session;

/* What the session sent since the last look, all of it. */
static char sent[8 * GDB_PACKET_MAX];
static size_t nsent;
static bool listens, over;

static void on_send(struct gdb_session_user *user, const char *bytes, size_t len)
{
    ck_assert_uint_lt(len, sizeof(sent) - nsent);
    memcpy(sent + nsent, bytes, len);
    nsent += len;
    sent[nsent] = '\0';
}

static void on_listen(struct gdb_session_user *user, bool listen)
{
    listens = listen;
}

static void on_over(struct gdb_session_user *user)
{
    ck_assert(!over);
    over = true;
}

static struct gdb_session_user user = {.send = on_send, .listen = on_listen, .over = on_over};

static void forget_sent(void)
{
    nsent = 0;
    sent[0] = '\0';
}

static void stop(enum gdb_stop_kind kind, unsigned cpu)
{
    const struct gdb_stop reason = {.kind = kind, .cpu = cpu};

    gdb_session_stopped(session, &reason);
}

static void set_up(void)
{
    fake_target_init(&fake);
    for (unsigned i = 0; i < FAKE_MEM; i++)
        fake.mem[i] = (uint8_t)i;
    over = false;
    forget_sent();
    ck_assert_int_eq(gdb_session_new(&fake.target, &user, &session), 0);
    ck_assert(!listens);
    ck_assert_uint_eq(fake.nstops, 1);
    stop(GDB_STOP_ASKED, 0);
    ck_assert(listens);
    ck_assert_uint_eq(nsent, 0);
}

static void tear_down(void)
{
    gdb_session_free(session);
}

static void send_packet(const char *data, size_t len)
{
    char frame[GDB_PACKET_MAX + 8];
    uint8_t sum = 0;

    for (size_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + (uint8_t)data[i]);
    frame[0] = '$';
    memcpy(frame + 1, data, len);
    snprintf(frame + 1 + len, 4, "#%02x", sum);
    gdb_session_input(session, frame, len + 4);
}

/* Send a packet; the data of the one that answers it, acknowledged. */
static const char *ask(const char *data)
{
    static char answer[GDB_PACKET_MAX + 8];
    char *end;

    forget_sent();
    send_packet(data, strlen(data));
    ck_assert_msg(sent[0] == '+' && sent[1] == '$', "%s: '%s'", data, sent);
    memcpy(answer, sent + 2, nsent - 2);
    answer[nsent - 2] = '\0';
    end = strrchr(answer, '#');
    ck_assert_ptr_nonnull(end);
    *end = '\0';
    return answer;
}

static void expect(const char *question, const char *answer)
{
    ck_assert_str_eq(ask(question), answer);
}

/* A packet that lets the machine run has no answer until it stops. */
static void let_run(const char *packet)
{
    unsigned before = fake.nresumes;

    forget_sent();
    send_packet(packet, strlen(packet));
    ck_assert_str_eq(sent, "+");
    ck_assert_uint_eq(fake.nresumes, before + 1);
    forget_sent();
}

static void expect_stop(const char *data)
{
    const char *hash = strchr(sent, '#');

    ck_assert_ptr_nonnull(hash);
    ck_assert_uint_eq((size_t)(hash - sent), strlen(data) + 1);
    ck_assert_mem_eq(sent + 1, data, strlen(data));
}

/* ---- registers and memory -------------------------------------------------------------------- */

START_TEST(registers_are_in_the_order_of_the_description)
{
    const char *all;

    fake.registers[0].gpr[GDB_RAX] = 0x1122334455667788;
    fake.registers[0].rip = 0xffffffff81000000;
    fake.registers[0].segment[GDB_CS] = 0x10;
    all = ask("g");
    ck_assert_int_eq(strncmp(all, "8877665544332211", 16), 0);
    ck_assert_int_eq(strncmp(all + (size_t)2 * 16 * 8, "00000081ffffffff", 16), 0);
    ck_assert_int_eq(strncmp(all + (size_t)2 * (17 * 8 + 4), "10000000", 8), 0);
    expect("p0", "8877665544332211");
    expect("p10", "00000081ffffffff");
}
END_TEST

START_TEST(registers_are_written_one_by_one_and_all_at_once)
{
    static char all[GDB_PACKET_MAX];

    expect("P1=efbeadde00000000", "OK");
    ck_assert_uint_eq(fake.registers[0].gpr[GDB_RBX], 0xdeadbeef);
    snprintf(all, sizeof(all), "G%s", ask("g"));
    for (unsigned i = 0; i < 16; i++)
        all[1 + i] = "0102030405060708"[i];
    expect(all, "OK");
    ck_assert_uint_eq(fake.registers[0].gpr[GDB_RAX], 0x0807060504030201);
    ck_assert_uint_eq(fake.registers[0].gpr[GDB_RBX], 0xdeadbeef);
}
END_TEST

START_TEST(wrong_numbers_and_lengths_of_registers_are_errors)
{
    static const char *const wrong[] = {"p",
                                        "p1000",
                                        "pffffffffffffffff",
                                        "P",
                                        "P0",
                                        "P0=",
                                        "P0=00",
                                        "P1000=00",
                                        "Gx",
                                        "G0",
                                        "pzzzz",
                                        "P0=00000000",
                                        "P0=000000000000000000"};

    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        ck_assert_msg(ask(wrong[i])[0] == 'E', "%s", wrong[i]);
}
END_TEST

START_TEST(threads_have_registers_of_their_own)
{
    fake.registers[2].gpr[GDB_RAX] = 7;
    expect("Hg3", "OK");
    expect("p0", "0700000000000000");
    expect("qC", "QC3");
    expect("Hg0", "OK");
    expect("qC", "QC3");
    expect("Hg4", "E16");
    expect("Hx1", "E16");
}
END_TEST

START_TEST(memory_is_read_up_to_where_it_ends)
{
    expect("m100,4", "00010203");
    expect("mffff800000000100,2", "0001");
    expect("m1ffe,4", "feff"); /* then the hole */
    expect("m2000,4", "E0e");
    expect("mffffffffffffffff,8", "E0e");
    expect("m100,0", "");
    expect("m100", "E16");
    expect("m100,4x", "E16");
    ck_assert_uint_eq(strlen(ask("m0,ffffffffffffffff")), (size_t)2 * FAKE_HOLE);
}
END_TEST

START_TEST(memory_is_written_in_both_ways)
{
    expect("M100,2:abcd", "OK");
    ck_assert_mem_eq(fake.mem + 0x100, "\xab\xcd\x02", 3);
    forget_sent();
    send_packet("X100,3:a\0}]", 11); /* a, NUL, } */
    ck_assert_str_eq(sent, "+$OK#9a");
    ck_assert_mem_eq(fake.mem + 0x100, "a\0}\x03", 4);
    expect("X0,0:", "OK");
    expect("X0,2:a", "E16");
    expect("M100,2:ab", "E16");
    expect("M100,1:abcd", "E16");
    expect("M2000,1:00", "E0e");
    expect("M0,ffffffffffffffff:00", "E16");
}
END_TEST

START_TEST(physical_addresses_on_request)
{
    expect("qqemu.PhyMemMode", "0");
    expect("m2000,1", "E0e");
    expect("Qqemu.PhyMemMode:1", "OK");
    expect("qqemu.PhyMemMode", "1");
    expect("m2001,2", "0102");
    expect("M2001,1:ff", "OK");
    ck_assert_uint_eq(fake.mem[0x2001], 0xff);
}
END_TEST

/* ---- breakpoints ----------------------------------------------------------------------------- */

START_TEST(breakpoints_are_set_and_nobody_sees_them)
{
    expect("Z0,101,1", "OK");
    ck_assert_uint_eq(fake.mem[0x101], INT3);
    expect("m100,3", "000102");
    expect("M100,3:777777", "OK");
    ck_assert_uint_eq(fake.mem[0x101], INT3);
    expect("m100,3", "777777");
    expect("z0,101,1", "OK");
    ck_assert_uint_eq(fake.mem[0x101], 0x77);
    expect("Z0,2000,1", "E0e");
}
END_TEST

START_TEST(hardware_breakpoints_and_watchpoints_reach_the_target)
{
    expect("Z1,1000,1", "OK");
    expect("Z2,1008,8", "OK");
    expect("Z4,1010,4", "OK");
    expect("Z3,1020,4", ""); /* x86 watches no reads alone */
    expect("Z5,1020,4", "");
    expect("Z2,1020,20", "E1c");
    expect("Z2,1020", "E16");
    let_run("c");
    ck_assert_uint_eq(fake.breakpoints->nhardware, 3);
    ck_assert_int_eq(fake.breakpoints->hardware[1].type, GDB_WATCH_WRITE);
    ck_assert_uint_eq(fake.breakpoints->hardware[1].va, 0x1008);
}
END_TEST

START_TEST(breakpoints_that_would_not_work_are_refused)
{
    fake.supports_nothing = true;
    expect("Z1,1008,1", "");
    expect("Z2,1008,8", "");
    expect("Z4,1008,8", "");
    expect("Z0,1008,1", "E5f"); /* an empty answer would make gdb write the int3 */
    ck_assert_uint_eq(fake.mem[0x1008], 0x08);
}
END_TEST

/* ---- running --------------------------------------------------------------------------------- */

START_TEST(stop_says_why_and_which_thread)
{
    const struct gdb_stop watched = {.kind = GDB_STOP_WATCHED, .cpu = 2, .watch = 0};

    expect("?", "T02thread:1;");
    ask("qSupported:multiprocess+;swbreak+;hwbreak+;xmlRegisters=i386");
    let_run("c");
    stop(GDB_STOP_BREAKPOINT, 1);
    expect_stop("T05thread:2;swbreak:;");
    expect("?", "T05thread:2;swbreak:;");
    expect("qC", "QC2");
    let_run("c");
    stop(GDB_STOP_HARDWARE, 0);
    expect_stop("T05thread:1;hwbreak:;");
    expect("Z4,1008,4", "OK");
    let_run("c");
    gdb_session_stopped(session, &watched);
    expect_stop("T05thread:3;awatch:1008;");
}
END_TEST

START_TEST(gdb_without_breakpoint_reasons_gets_none)
{
    ask("qSupported:xmlRegisters=i386");
    let_run("c");
    stop(GDB_STOP_BREAKPOINT, 1);
    expect_stop("T05thread:2;");
}
END_TEST

static void expect_actions(enum gdb_action a, enum gdb_action b, enum gdb_action c)
{
    ck_assert_int_eq(fake.actions[0], a);
    ck_assert_int_eq(fake.actions[1], b);
    ck_assert_int_eq(fake.actions[2], c);
    stop(GDB_STOP_STEPPED, 0);
}

START_TEST(first_action_for_a_thread_counts)
{
    let_run("vCont;s:1;c");
    expect_actions(GDB_STEP, GDB_CONTINUE, GDB_CONTINUE);
    let_run("vCont;c:2;s:3");
    expect_actions(GDB_STAY, GDB_CONTINUE, GDB_STEP);
    let_run("vCont;C05:1;S05:-1");
    expect_actions(GDB_CONTINUE, GDB_STEP, GDB_STEP);
    let_run("vCont;c");
    expect_actions(GDB_CONTINUE, GDB_CONTINUE, GDB_CONTINUE);
    let_run("s");
    expect_actions(GDB_STEP, GDB_STAY, GDB_STAY);
    expect("Hc2", "OK");
    let_run("s");
    expect_actions(GDB_STAY, GDB_STEP, GDB_STAY);
}
END_TEST

START_TEST(wrong_lists_of_actions_are_errors)
{
    static const char *const wrong[] = {
        "vCont",   "vCont;",   "vCont;x",   "vCont;c:",   "vCont;c:9", "vCont;c:1:2",
        "vCont;S", "vCont;cc", "vCont;t:1", "vCont;c:zz", "cxyz",      "s100x"};

    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        ck_assert_msg(ask(wrong[i])[0] == 'E', "%s", wrong[i]);
    ck_assert_uint_eq(fake.nresumes, 0);
}
END_TEST

START_TEST(address_to_go_on_at_is_set)
{
    let_run("c1234");
    ck_assert_uint_eq(fake.registers[0].rip, 0x1234);
}
END_TEST

START_TEST(interrupt_stops_a_machine_that_runs)
{
    gdb_session_input(session, "\003", 1);
    ck_assert_uint_eq(fake.nstops, 1);
    let_run("c");
    gdb_session_input(session, "\003", 1);
    ck_assert_uint_eq(fake.nstops, 2);
    ck_assert_uint_eq(nsent, 0);
    stop(GDB_STOP_ASKED, 0);
    expect_stop("T02thread:1;");
}
END_TEST

START_TEST(machine_that_runs_is_not_looked_at)
{
    let_run("c");
    expect("m0,4", "E10");
    expect("vCont;c", "E10");
    expect("k", "E10");
    ck_assert_uint_eq(fake.nresumes, 1);
    ck_assert_uint_eq(fake.nkills, 0);
}
END_TEST

START_TEST(steps_mask_interrupts_unless_told_otherwise)
{
    let_run("s");
    ck_assert(fake.masks_interrupts);
    stop(GDB_STOP_STEPPED, 0);
    expect("qqemu.sstepbits", "ENABLE=1,NOIRQ=2");
    expect("qqemu.sstep", "0x3");
    expect("Qqemu.sstep=0x1", "OK");
    expect("qqemu.sstep", "0x1");
    let_run("s");
    ck_assert(!fake.masks_interrupts);
    stop(GDB_STOP_STEPPED, 0);
    expect("Qqemu.sstep=2", "OK");
    let_run("s");
    ck_assert(fake.masks_interrupts);
}
END_TEST

/* ---- the rest of the protocol ---------------------------------------------------------------- */

START_TEST(what_is_unknown_has_an_empty_answer)
{
    static const char *const unknown[] = {"!",       "vMustReplyEmpty", "qFoo",     "Qfoo", "R00",
                                          "vRun;ls", "vFile:open:",     "qTStatus", "j",    ""};

    for (size_t i = 0; i < ARRAY_SIZE(unknown); i++)
        expect(unknown[i], "");
}
END_TEST

START_TEST(threads_are_listed_and_described)
{
    expect("qfThreadInfo", "m1,2,3");
    expect("qsThreadInfo", "l");
    expect("qThreadExtraInfo,2", "43505520312c2068616c746564"); /* CPU 1, halted */
    expect("qThreadExtraInfo,0", "E03");
    expect("qThreadExtraInfo,4", "E03");
    expect("T3", "OK");
    expect("T4", "E03");
    expect("qAttached", "1");
    expect("vCont?", "vCont;c;C;s;S");
}
END_TEST

START_TEST(description_comes_in_pieces_and_names_all_registers)
{
    char *whole = gdb_describe_registers(true), question[64];
    size_t at = 0;

    ck_assert_ptr_nonnull(whole);
    for (const char *answer = "m"; *answer == 'm'; at += strlen(answer) - 1) {
        snprintf(question, sizeof(question), "qXfer:features:read:target.xml:%zx,fff", at);
        answer = ask(question);
        ck_assert_int_eq(strncmp(whole + at, answer + 1, strlen(answer) - 1), 0);
    }
    ck_assert_uint_eq(at, strlen(whole));
    for (size_t i = 0; i < gdb_register_count(true); i++) {
        char line[128];

        snprintf(line, sizeof(line), "<reg name=\"%s\" bitsize=\"%u\"", gdb_register_at(i)->name,
                 gdb_register_at(i)->bits);
        ck_assert_ptr_nonnull(strstr(whole, line));
    }
    free(whole);
    expect("qXfer:features:read:target.xml:ffffffff,fff", "l");
    expect("qXfer:features:read:target.xml:0", "E16");
    expect("qXfer:features:read:other.xml:0,fff", "");
}
END_TEST

START_TEST(no_gap_is_between_registers)
{
    struct gdb_registers *registers = NULL;
    size_t end = 0;

    /* AVX is the last, and may be missing; before it, orig_rax is aligned. */
    ck_assert_uint_eq(gdb_register_count(true), gdb_register_count(false) + 16);
    for (size_t i = 0; i < gdb_register_count(true); i++) {
        ck_assert_uint_ge(gdb_register_at(i)->offset, end);
        end = gdb_register_at(i)->offset + gdb_register_at(i)->bits / 8;
    }
    ck_assert_uint_le(end, sizeof(*registers));
    ck_assert_ptr_null(gdb_register_find("ymm0h", false));
    ck_assert_str_eq(gdb_register_find("ymm0h", true)->name, "ymm0h");
}
END_TEST

/* A command of `monitor`; what it says. */
static const char *monitor(const char *command)
{
    static char text[GDB_PACKET_MAX];
    char question[256] = "qRcmd,";
    const char *answer;
    size_t len;

    for (const char *c = command; *c; c++)
        snprintf(question + strlen(question), 3, "%02x", (uint8_t)*c);
    answer = ask(question);
    len = strlen(answer) / 2;
    ck_assert(gdb_take_bytes(&answer, text, len));
    text[len] = '\0';
    return text;
}

START_TEST(monitor_shows_what_gdb_cannot)
{
    fake.registers[0].cr3 = 0x9000;
    ck_assert_str_eq(monitor("reg cr3"), "cr3        0x0000000000009000\n");
    ck_assert_ptr_nonnull(strstr(monitor("reg"), "ymm15h     0x0000"));
    ck_assert_str_eq(monitor("reg foo"), "foo: no such register\n");
    ck_assert_ptr_nonnull(strstr(monitor("help"), "xp "));
    ck_assert_str_eq(monitor(""), monitor("help"));
    ck_assert_str_eq(monitor("frob"), "frob: no such command; `monitor help` lists them\n");
    ck_assert_str_eq(monitor("v2p 0xffff800000000123"), "0x123\n");
    ck_assert_str_eq(monitor("v2p 0x2000"), "not mapped\n");
    ck_assert_str_eq(monitor("v2p"), "expected: v2p ADDRESS\n");
}
END_TEST

START_TEST(monitor_dumps_physical_memory)
{
    ck_assert_str_eq(monitor("xp 0x2041 4"),
                     "0000000000002041  41 42 43 44                                    "
                     "  ABCD\n");
    ck_assert_ptr_nonnull(strstr(monitor("xp 0x3ff0 32"), "0000000000004000: not RAM\n"));
    ck_assert_ptr_nonnull(strstr(monitor("xp"), "expected: xp"));
    ck_assert_ptr_nonnull(strstr(monitor("xp 0 1025"), "expected: xp"));
    ck_assert_uint_gt(strlen(monitor("xp 0 1024")), 4000);
}
END_TEST

START_TEST(monitor_has_switches)
{
    ck_assert_str_eq(monitor("phys"), "phys is off\n");
    ck_assert_str_eq(monitor("phys on"), "phys is on\n");
    expect("qqemu.PhyMemMode", "1");
    ck_assert_str_eq(monitor("step-irqs"), "step-irqs is off\n");
    ck_assert_str_eq(monitor("step-irqs on"), "step-irqs is on\n");
    expect("qqemu.sstep", "0x1");
    ck_assert_str_eq(monitor("step-irqs maybe"), "expected: on or off\nstep-irqs is on\n");
}
END_TEST

START_TEST(acknowledgements_end_on_request)
{
    gdb_session_input(session, "$qC#00", 6);
    ck_assert_str_eq(sent, "-");
    expect("qC", "QC1");
    forget_sent();
    gdb_session_input(session, "-", 1);
    ck_assert_str_eq(sent, "$QC1#c5");
    expect("QStartNoAckMode", "OK");
    forget_sent();
    gdb_session_input(session, "+-$qC#b4$qC#00", 14);
    ck_assert_str_eq(sent, "$QC1#c5");
}
END_TEST

/* ---- the end --------------------------------------------------------------------------------- */

START_TEST(detach_removes_breakpoints_and_lets_the_guest_run)
{
    expect("Z0,101,1", "OK");
    expect("D", "OK");
    ck_assert_uint_eq(fake.mem[0x101], 1);
    ck_assert_uint_eq(fake.ndetaches, 1);
    ck_assert_uint_eq(fake.nwithdrawals, 0);
    ck_assert(over && gdb_session_is_over(session));
    gdb_session_hang_up(session);
}
END_TEST

START_TEST(gdb_that_vanishes_while_stopped_is_a_detach)
{
    expect("Z0,101,1", "OK");
    gdb_session_hang_up(session);
    ck_assert_uint_eq(fake.mem[0x101], 1);
    ck_assert_uint_eq(fake.ndetaches, 1);
    ck_assert(over);
}
END_TEST

START_TEST(gdb_that_vanishes_while_running_first_stops_the_machine)
{
    expect("Z0,101,1", "OK");
    let_run("c");
    gdb_session_hang_up(session);
    ck_assert_uint_eq(fake.mem[0x101], INT3);
    ck_assert_uint_eq(fake.nstops, 2);
    ck_assert(!over);
    stop(GDB_STOP_ASKED, 0);
    ck_assert_uint_eq(fake.mem[0x101], 1);
    ck_assert_uint_eq(fake.ndetaches, 1);
    ck_assert(over);
}
END_TEST

START_TEST(kill_ends_the_machine)
{
    forget_sent();
    send_packet("k", 1);
    ck_assert_str_eq(sent, "+");
    ck_assert_uint_eq(fake.nkills, 1);
    ck_assert(over);
}
END_TEST

START_TEST(vkill_is_answered)
{
    expect("vKill;1", "OK");
    ck_assert_uint_eq(fake.nkills, 1);
    ck_assert(over);
}
END_TEST

START_TEST(exit_of_the_guest_is_told_to_who_waits)
{
    let_run("c");
    gdb_session_exited(session, 3);
    ck_assert_str_eq(sent, "$W03#ba");
    ck_assert(over);
}
END_TEST

/* No packet asks for it; gdb finds it when it sends the next one. */
START_TEST(exit_of_the_guest_is_told_to_who_holds_it)
{
    gdb_session_exited(session, 4);
    ck_assert_str_eq(sent, "$W04#bb");
    ck_assert(over);
}
END_TEST

START_TEST(breakpoints_survive_a_reset)
{
    expect("Z0,101,1", "OK");
    let_run("c");
    fake.mem[0x101] = 1;
    gdb_session_restarted(session);
    ck_assert_uint_eq(fake.mem[0x101], INT3);
    stop(GDB_STOP_BREAKPOINT, 0);
    expect("m101,1", "01");
}
END_TEST

START_TEST(gdb_that_holds_the_guest_over_a_reset_sees_its_beginning)
{
    let_run("c");
    stop(GDB_STOP_BREAKPOINT, 2);
    expect("Z0,101,1", "OK");
    fake.mem[0x101] = 1;
    gdb_session_restarted(session);
    ck_assert_uint_eq(fake.mem[0x101], INT3);
    expect("qC", "QC1");
    expect("vCont;s:3", "T02thread:1;"); /* where it is */
    ck_assert_uint_eq(fake.nresumes, 1);
    let_run("vCont;c");
}
END_TEST

/* ---- who is no gdb --------------------------------------------------------------------------- */

/* As a web browser would: packets are in the body. */
START_TEST(post_is_no_gdb)
{
    static const char post[] = "POST / HTTP/1.1\r\nHost: 127.0.0.1:1234\r\n\r\n"
                               "$M101,1:ff#42$k#6b";

    gdb_session_input(session, post, sizeof(post) - 1);
    ck_assert(over);
    ck_assert_uint_eq(nsent, 0);
    ck_assert_uint_eq(fake.mem[0x101], 1);
    ck_assert_uint_eq(fake.nkills, 0);
    ck_assert_uint_eq(fake.ndetaches, 0);
    ck_assert_uint_eq(fake.nwithdrawals, 1);
}
END_TEST

START_TEST(nonsense_ends_no_gdb_that_sent_a_packet)
{
    gdb_session_input(session, "+-\003$qC#00", 9); /* no packet yet, and nothing else either */
    ck_assert(!over);
    expect("qC", "QC1");
    gdb_session_input(session, "\r\nabc", 5);
    expect("qC", "QC1");
}
END_TEST

/* ---- anything -------------------------------------------------------------------------------- */

START_TEST(random_bytes_do_no_harm)
{
    static const char letters[] = "?gGpPmMXzZ0123cCsSvVqQHT,;:#$}+-\003\xffkD=";
    uint64_t dice = unit_seed();

    expect("qC", "QC1");
    for (unsigned i = 0; i < 200000 && !over; i++) {
        char bytes[4];

        for (unsigned j = 0; j < sizeof(bytes); j++)
            bytes[j] = letters[dice_roll(&dice, sizeof(letters) - 1)];
        gdb_session_input(session, bytes, sizeof(bytes));
        if (dice_roll(&dice, 4) == 0)
            stop(GDB_STOP_STEPPED, dice_roll(&dice, FAKE_NCPUS));
        forget_sent();
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "data", set_up, tear_down, registers_are_in_the_order_of_the_description,
                   registers_are_written_one_by_one_and_all_at_once,
                   wrong_numbers_and_lengths_of_registers_are_errors,
                   threads_have_registers_of_their_own, memory_is_read_up_to_where_it_ends,
                   memory_is_written_in_both_ways, physical_addresses_on_request,
                   breakpoints_are_set_and_nobody_sees_them,
                   hardware_breakpoints_and_watchpoints_reach_the_target,
                   breakpoints_that_would_not_work_are_refused);
    unit_case_with(suite, "run", set_up, tear_down, stop_says_why_and_which_thread,
                   gdb_without_breakpoint_reasons_gets_none, first_action_for_a_thread_counts,
                   wrong_lists_of_actions_are_errors, address_to_go_on_at_is_set,
                   interrupt_stops_a_machine_that_runs, machine_that_runs_is_not_looked_at,
                   steps_mask_interrupts_unless_told_otherwise);
    unit_case_with(suite, "protocol", set_up, tear_down, what_is_unknown_has_an_empty_answer,
                   threads_are_listed_and_described,
                   description_comes_in_pieces_and_names_all_registers, no_gap_is_between_registers,
                   monitor_shows_what_gdb_cannot, monitor_dumps_physical_memory,
                   monitor_has_switches, acknowledgements_end_on_request);
    unit_case_with(suite, "end", set_up, tear_down,
                   detach_removes_breakpoints_and_lets_the_guest_run,
                   gdb_that_vanishes_while_stopped_is_a_detach,
                   gdb_that_vanishes_while_running_first_stops_the_machine, kill_ends_the_machine,
                   vkill_is_answered, exit_of_the_guest_is_told_to_who_waits,
                   exit_of_the_guest_is_told_to_who_holds_it, breakpoints_survive_a_reset,
                   gdb_that_holds_the_guest_over_a_reset_sees_its_beginning);
    unit_case_with(suite, "others", set_up, tear_down, post_is_no_gdb,
                   nonsense_ends_no_gdb_that_sent_a_packet);
    unit_case_with(suite, "random", set_up, tear_down, random_bytes_do_no_harm);
}

UNIT_MAIN("gdb_session", add_tests)
