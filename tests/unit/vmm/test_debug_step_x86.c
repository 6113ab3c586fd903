/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/debug_step_x86.h"

#include <string.h>

#include "base/bytes.h"
#include "tests/lib/unit.h"

#define MEM_LEN (1 * MIB)
#define IDT 0x1000u
#define HANDLERS 0x2000u /* of vector i: 16 * i further on */
#define SYSCALL 0x5000u
#define CODE 0x6000u
#define STACK 0x8000u
#define NOP 0x90u
#define INT3 0xccu
#define TF 0x100u
#define CS 0x10u

static struct guest_mem *mem;
static struct debug_step step;

static void put(uint64_t gpa, const void *bytes, size_t len)
{
    ck_assert_int_eq(guest_mem_write(mem, gpa, bytes, len), 0);
}

static void put64(uint64_t gpa, uint64_t value)
{
    put(gpa, &value, sizeof(value));
}

static uint64_t get64(uint64_t gpa)
{
    uint64_t value;

    ck_assert_int_eq(guest_mem_read(mem, gpa, &value, sizeof(value)), 0);
    return value;
}

static uint8_t byte_at(uint64_t gpa)
{
    return (uint8_t)get64(gpa);
}

static void put_gate(unsigned vector, uint64_t handler, uint64_t type)
{
    put64(IDT + 16 * vector,
          (handler & 0xffff) | (uint64_t)CS << 16 | type << 40 | (handler >> 16 & 0xffff) << 48);
    put64(IDT + 16 * vector + 8, handler >> 32);
}

/* A guest in 64-bit mode whose virtual addresses are physical. */
static void set_up(void)
{
    static const struct mem_range range = {.gpa = 0, .len = MEM_LEN};
    struct err err = {0};
    void *all;

    ck_assert_msg(guest_mem_new(&range, 1, &mem, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(guest_mem_at(mem, 0, MEM_LEN, &all), 0);
    memset(all, NOP, MEM_LEN);
    for (unsigned i = 0; i < STEP_VECTORS; i++)
        put_gate(i, HANDLERS + 16 * i, 0x8e);
    step = (struct debug_step){
        .mem = mem,
        .tables = {.mode = STEP_LONG, .idt_base = IDT, .idt_limit = 0xfff, .syscalls = {SYSCALL}},
        .before = {.rip = CODE, .rflags = 0x202, .segment = {[GDB_CS] = CS}},
        .linear_rip = CODE,
    };
    step.before.gpr[GDB_RSP] = STACK;
}

static void tear_down(void)
{
    guest_mem_free(mem);
}

START_TEST(traps_are_at_all_handlers_until_the_end)
{
    step_begin(&step, true);
    for (unsigned i = 0; i < STEP_VECTORS; i++) {
        ck_assert(step_has(&step, HANDLERS + 16 * i));
        ck_assert_uint_eq(byte_at(HANDLERS + 16 * i), INT3);
    }
    ck_assert_uint_eq(byte_at(SYSCALL), INT3);
    ck_assert(!step_has(&step, CODE));
    ck_assert(!step_has(&step, HANDLERS + 1));
    step_end(&step);
    for (unsigned i = 0; i < STEP_VECTORS; i++)
        ck_assert_uint_eq(byte_at(HANDLERS + 16 * i), NOP);
    ck_assert_uint_eq(byte_at(SYSCALL), NOP);
    ck_assert(!step_has(&step, SYSCALL));
}
END_TEST

START_TEST(without_kvms_help_there_are_no_traps)
{
    put(CODE, "\x9c", 1);
    step_begin(&step, false);
    ck_assert_uint_eq(step.nplaces, 0);
    ck_assert_uint_eq(step.code[0], 0x9c);
    ck_assert_uint_eq(byte_at(HANDLERS), NOP);
}
END_TEST

START_TEST(instruction_that_is_stepped_stays)
{
    step.linear_rip = HANDLERS;
    step_begin(&step, true);
    ck_assert_uint_eq(byte_at(HANDLERS), NOP);
    ck_assert_uint_eq(byte_at(HANDLERS + 16), INT3);
    step_end(&step);
}
END_TEST

START_TEST(vectors_may_share_a_handler_and_a_handler_may_be_an_int3)
{
    const uint8_t int3 = INT3;

    for (unsigned i = 32; i < STEP_VECTORS; i++)
        put_gate(i, HANDLERS, 0x8e);
    put(HANDLERS + 16, &int3, 1);
    step_begin(&step, true);
    ck_assert_uint_eq(step.nplaces, 32 + 1);
    ck_assert(step_has(&step, HANDLERS + 16));
    step_end(&step);
    ck_assert_uint_eq(byte_at(HANDLERS), NOP);
    ck_assert_uint_eq(byte_at(HANDLERS + 16), INT3);
}
END_TEST

/* The guest's own code is put there, or a disk reads into it. */
START_TEST(what_is_written_over_a_trap_stays)
{
    step_begin(&step, true);
    put(HANDLERS + 16, "\x55", 1);
    step_end(&step);
    ck_assert_uint_eq(byte_at(HANDLERS + 16), 0x55);
    ck_assert_uint_eq(byte_at(HANDLERS), NOP);
}
END_TEST

START_TEST(gates_that_lead_nowhere_are_left_alone)
{
    put_gate(0, HANDLERS, 0x0e);      /* not present */
    put_gate(1, HANDLERS + 16, 0x85); /* a task gate */
    put_gate(2, MEM_LEN, 0x8e);       /* no memory */
    put_gate(3, UINT64_MAX, 0x8e);
    step_begin(&step, true);
    ck_assert_uint_eq(step.nplaces, STEP_VECTORS - 4 + 1);
    step_end(&step);
    step.tables.idt_limit = 16 * 10 - 2; /* the tenth is cut off */
    step.tables.syscalls[0] = 0;
    step_begin(&step, true);
    ck_assert_uint_eq(step.nplaces, 9 - 4);
    step_end(&step);
    step.tables.idt_base = MEM_LEN;
    step_begin(&step, true);
    ck_assert_uint_eq(step.nplaces, 0);
}
END_TEST

START_TEST(gates_of_other_modes_are_shorter)
{
    uint8_t gate[8] = {0x34, 0x12, CS, 0, 0, 0x8e, 0x01, 0};

    put(IDT, gate, sizeof(gate));
    step.tables.mode = STEP_PROTECTED;
    step.tables.idt_limit = 7;
    step_begin(&step, true);
    ck_assert(step_has(&step, 0x11234));
    step_end(&step);

    step.tables.mode = STEP_REAL;
    step.tables.idt_limit = 3;
    put(IDT, "\x10\x00\x00\x20", 4);
    step_begin(&step, true);
    ck_assert(step_has(&step, 0x20010));
    step_end(&step);
}
END_TEST

START_TEST(return_address_of_iret_is_a_place)
{
    put(CODE, "\x48\xcf", 2);
    put64(STACK, 0x7000);
    step_begin(&step, true);
    ck_assert(step_has(&step, 0x7000));
    step_end(&step);
    put(CODE, "\xc3\xcf", 2);
    step_begin(&step, true);
    ck_assert(!step_has(&step, 0x7000));
    step_end(&step);
}
END_TEST

START_TEST(what_follows_sti_is_a_place)
{
    put(CODE, "\xfb\x90", 2);
    step_begin(&step, true);
    ck_assert(step_has(&step, CODE + 1));
    step_end(&step);
    ck_assert_uint_eq(byte_at(CODE + 1), NOP);
}
END_TEST

/* Where the step ended. */
static struct gdb_registers after(uint64_t rip, uint64_t rsp)
{
    struct gdb_registers now = step.before;

    now.rip = rip;
    now.gpr[GDB_RSP] = rsp;
    return now;
}

/* A frame as the processor pushes it in 64-bit mode. */
static void push_frame(uint64_t at, uint64_t rip, uint64_t flags)
{
    put64(at, rip);
    put64(at + 8, CS);
    put64(at + 16, flags);
    put64(at + 24, STACK);
}

START_TEST(trap_flag_is_taken_out_of_frames)
{
    struct gdb_registers now = after(HANDLERS, STACK - 40);

    step_begin(&step, true);
    push_frame(STACK - 40, CODE, 0x202 | TF);
    ck_assert(!step_tidy(&step, &now));
    ck_assert_uint_eq(get64(STACK - 24), 0x202);

    now = after(HANDLERS + 14 * 16, STACK - 48);
    put64(STACK - 48, 2); /* an error code */
    push_frame(STACK - 40, CODE, 0x202 | TF);
    ck_assert(!step_tidy(&step, &now));
    ck_assert_uint_eq(get64(STACK - 24), 0x202);
    step_end(&step);
}
END_TEST

START_TEST(what_only_looks_like_a_frame_is_left_alone)
{
    struct gdb_registers now = after(0x7000, STACK - 40);

    step_begin(&step, true);
    push_frame(STACK - 40, CODE + 5, 0x202 | TF); /* a call pushed this, and the rest was there */
    ck_assert(!step_tidy(&step, &now));
    ck_assert_uint_eq(get64(STACK - 24), 0x202 | TF);

    now = after(HANDLERS, STACK - 40);
    push_frame(STACK - 40, CODE + 16, 0x202 | TF);
    ck_assert(!step_tidy(&step, &now));
    ck_assert_uint_eq(get64(STACK - 24), 0x202 | TF);
    step_end(&step);
}
END_TEST

START_TEST(trap_flag_is_taken_out_of_what_pushf_pushed)
{
    static const char *const codes[] = {"\x9c\x90\x90", "\x66\x9c\x90", "\x48\x9c\x90"};

    for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
        struct gdb_registers now = after(CODE + 1, STACK - 8);

        put(CODE, codes[i], 3);
        put64(STACK - 8, 0x246 | TF);
        step_begin(&step, true);
        ck_assert(!step_tidy(&step, &now));
        step_end(&step);
        ck_assert_uint_eq(get64(STACK - 8), 0x246);
    }
}
END_TEST

/* As a processor is when Linux starts it: its segments do not begin at 0. */
START_TEST(trap_flag_is_taken_out_of_the_stack_of_real_mode)
{
    static const uint8_t frame[] = {0x00, 0x10, 0x00, 0x05, 0x02, 0x03}; /* ip, cs, flags */
    struct gdb_registers now;

    step.tables.mode = STEP_REAL;
    step.tables.idt_limit = 3;
    put(IDT, "\x10\x00\x00\x20", 4); /* 2000:0010 */
    step.before.rip = 0x1000;
    step.before.segment[GDB_CS] = 0x500;
    step.before.segment[GDB_SS] = 0x700;
    step.before.gpr[GDB_RSP] = 0x1008;
    now = after(0x10, 0x1002);
    now.segment[GDB_CS] = 0x2000;
    step_begin(&step, true);
    put(0x7000 + 0x1002, frame, sizeof(frame));
    ck_assert(!step_tidy(&step, &now));
    step_end(&step);
    ck_assert_uint_eq(get64(0x7000 + 0x1002) >> 32 & 0xffff, 0x0202);

    now = after(0x1001, 0x1006);
    put(CODE, "\x9c", 1);
    put(0x1006, frame + 4, 2);
    put(0x7000 + 0x1006, frame + 4, 2);
    step_begin(&step, true);
    ck_assert(!step_tidy(&step, &now));
    step_end(&step);
    ck_assert_uint_eq(get64(0x7000 + 0x1006) & 0xffff, 0x0202);
    ck_assert_uint_eq(get64(0x1006) & 0xffff, 0x0302);
}
END_TEST

START_TEST(trap_flag_is_taken_out_of_what_syscall_keeps)
{
    struct gdb_registers now = after(SYSCALL, STACK);

    now.gpr[GDB_R8 + 3] = 0x246 | TF;
    step_begin(&step, true);
    ck_assert(!step_tidy(&step, &now));
    put(CODE, "\x0f\x05", 2);
    step_end(&step);
    step_begin(&step, true);
    ck_assert(step_tidy(&step, &now));
    ck_assert_uint_eq(now.gpr[GDB_R8 + 3], 0x246);
    step_end(&step);
}
END_TEST

START_TEST(trap_flag_of_the_guest_stays)
{
    struct gdb_registers now = after(HANDLERS, STACK - 40);

    step.before.rflags |= TF;
    step_begin(&step, true);
    push_frame(STACK - 40, CODE, 0x202 | TF);
    ck_assert(!step_tidy(&step, &now));
    ck_assert_uint_eq(get64(STACK - 24), 0x202 | TF);
    step_end(&step);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "places", set_up, tear_down, traps_are_at_all_handlers_until_the_end,
                   without_kvms_help_there_are_no_traps, instruction_that_is_stepped_stays,
                   vectors_may_share_a_handler_and_a_handler_may_be_an_int3,
                   what_is_written_over_a_trap_stays, gates_that_lead_nowhere_are_left_alone,
                   gates_of_other_modes_are_shorter, return_address_of_iret_is_a_place,
                   what_follows_sti_is_a_place);
    unit_case_with(suite, "trap flag", set_up, tear_down, trap_flag_is_taken_out_of_frames,
                   what_only_looks_like_a_frame_is_left_alone,
                   trap_flag_is_taken_out_of_what_pushf_pushed,
                   trap_flag_is_taken_out_of_the_stack_of_real_mode,
                   trap_flag_is_taken_out_of_what_syscall_keeps, trap_flag_of_the_guest_stays);
}

UNIT_MAIN("debug_step_x86", add_tests)
