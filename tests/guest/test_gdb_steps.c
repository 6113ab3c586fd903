/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single steps are exact: a guest is stepped through instructions of all kinds, while a timer fires
 * and is masked during steps, or not. Each reported address must be the one that follows; what the
 * guest counted must be what was reported.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "memory/layout_x86.h"
#include "tests/lib/guest/gdb_client.h"
#include "tests/lib/guest/guest_test.h"
#include "vmm/arch.h"
#include "vmm/config/config.h"
#include "vmm/gdb/breakpoints.h"
#include "vmm/gdb/registers_x86.h"

/* The guest's code, its tables and what it counts. Its stack is that of the interpreter. */
#define CODE GUEST_DATA
#define IDT (GUEST_DATA + 0x10000u)
#define COUNTS (GUEST_DATA + 0x20000u)
#define ROUNDS_COUNT COUNTS
#define TIMER_COUNT (COUNTS + 8)
#define FLAGS_SEEN (COUNTS + 16) /* all bits that pushf showed */
#define DELAY (COUNTS + 24)      /* of the timer, in its ticks */
#define IDT_POINTER (COUNTS + 32)
#define BUFFER (COUNTS + 64)

#define NROUNDS 25u
#define REP_COUNT 3u

#define VECTOR_PAGE_FAULT 14u
#define VECTOR_SOFTWARE 0x40u
#define BOOT_CS 0x10u
#define RFLAGS_TF (1u << 8)

/*
 * How many steps shall lie between two interrupts: more than the handler has. The timer is made
 * slower when there are less, and faster when there are more, so that the guest gets on however
 * slow a step is. It begins with what passes before the next step.
 */
#define STEPS_BETWEEN_MIN 20u
#define STEPS_BETWEEN_MAX 40u
#define DELAY_FIRST 1000u

extern const uint8_t steps_code[], steps_code_end[];
extern const uint32_t steps_offsets[], steps_offsets_end[];

/* What follows an instruction. */
enum kind {
    PLAIN,
    STI,
    CLI,
    REP,
    LOOP,   /* back to where the round began, until the rounds are over */
    FAULT,  /* the page fault's handler, which goes on behind it */
    INT,    /* the software interrupt's handler */
    RETURN, /* from a handler */
    END,
};

/* `I INSTRUCTION` in assembly: an instruction, whose place is noted. */
__asm__(".macro I text:vararg\n"
        "7:\n"
        ".pushsection .rodata.steps, \"a\"\n"
        ".long 7b - steps_code\n"
        ".popsection\n"
        "    \\text\n"
        ".endm\n"
        ".pushsection .rodata.steps, \"a\"\n"
        "steps_offsets:\n"
        ".popsection\n"
        ".pushsection .rodata\n"
        ".code64\n"
        "steps_code:\n"
        /* Switch the APIC and its timer on. */
        "    I cli\n"
        "    I lidt 0x220020\n" /* IDT_POINTER */
        "    I movl $0xfee000f0, %eax\n"
        "    I movl $0x1ff, (%rax)\n"
        "    I movl $0xfee003e0, %eax\n"
        "    I movl $0xb, (%rax)\n" /* divide by 1 */
        "    I movl $0xfee00320, %eax\n"
        "    I movl $0x50, (%rax)\n"  /* fires once, vector 0x50 */
        "    I movl 0x220018, %ecx\n" /* DELAY */
        "    I movl $0xfee00380, %eax\n"
        "    I movl %ecx, (%rax)\n"
        "    I movl $25, %r12d\n" /* NROUNDS */
        "    I xorl %ebp, %ebp\n"
        /* A round. */
        "2:\n"
        "    I incq 0x220000\n"        /* ROUNDS_COUNT */
        "    I movl $0x220040, %edi\n" /* BUFFER */
        "    I movl $3, %ecx\n"        /* REP_COUNT */
        "    I rep stosb\n"
        "    I outb %al, $0x80\n"
        "    I inb $0x80, %al\n"
        "    I movl $0xd00f0000, %ebx\n" /* no device, but an exit */
        "    I movl %eax, (%rbx)\n"
        "    I movl (%rbx), %eax\n"
        "    I sti\n"
        "    I nop\n"
        "    I addl $1, %eax\n"
        "    I nop\n"
        "    I cli\n"
        "    I nop\n"
        "    I sti\n"
        "    I hlt\n"
        "    I nop\n"
        "    I cli\n"
        "    I pushfq\n"
        "    I popq %rax\n"
        "    I orq %rax, 0x220010\n"         /* FLAGS_SEEN */
        "    I movabsq $0x140000000, %rbx\n" /* behind the page tables */
        "    I movq (%rbx), %rax\n"
        "    I int $0x40\n"
        "    I sti\n"
        "    I pushq %rax\n"
        "    I popq %rax\n"
        "    I cli\n"
        "    I decl %r12d\n"
        "    I jnz 2b\n"
        "    I jmp .\n"
        /* The timer, which is set again. */
        "    I pushq %rax\n"
        "    I pushq %rcx\n"
        "    I incq 0x220008\n" /* TIMER_COUNT */
        "    I movl $0xfee000b0, %eax\n"
        "    I movl $0, (%rax)\n"
        "    I movl 0x220018, %ecx\n" /* DELAY */
        "    I movl %ecx, 0x2d0(%rax)\n"
        "    I popq %rcx\n"
        "    I popq %rax\n"
        "    I iretq\n"
        /* A page fault, at an instruction of 3 bytes. */
        "    I addq $8, %rsp\n"
        "    I addq $3, (%rsp)\n"
        "    I iretq\n"
        /* The software interrupt. */
        "    I nop\n"
        "    I iretq\n"
        "steps_code_end:\n"
        ".popsection\n"
        ".pushsection .rodata.steps, \"a\"\n"
        "steps_offsets_end:\n"
        ".popsection\n"
        ".purgem I\n");

/* In the order of the code; those that are not named are plain. */
enum {
    SET_UP_LEN = 13,
    ROUND_BEGIN = SET_UP_LEN,
    ROUND_REP = ROUND_BEGIN + 3,
    ROUND_STI_1 = ROUND_BEGIN + 9,
    ROUND_CLI_1 = ROUND_STI_1 + 4,
    ROUND_STI_2 = ROUND_CLI_1 + 2,
    ROUND_CLI_2 = ROUND_STI_2 + 3,
    ROUND_FAULT = ROUND_CLI_2 + 5,
    ROUND_INT,
    ROUND_STI_3,
    ROUND_CLI_3 = ROUND_STI_3 + 3,
    ROUND_LOOP = ROUND_CLI_3 + 2,
    THE_END,
    TIMER,
    TIMER_RETURN = TIMER + 9,
    PAGE_FAULT,
    PAGE_FAULT_RETURN = PAGE_FAULT + 2,
    SOFTWARE,
    SOFTWARE_RETURN,
    NINSNS,
};

static uint8_t kinds[NINSNS] = {
    [0] = CLI,
    [ROUND_REP] = REP,
    [ROUND_STI_1] = STI,
    [ROUND_CLI_1] = CLI,
    [ROUND_STI_2] = STI,
    [ROUND_CLI_2] = CLI,
    [ROUND_FAULT] = FAULT,
    [ROUND_INT] = INT,
    [ROUND_STI_3] = STI,
    [ROUND_CLI_3] = CLI,
    [ROUND_LOOP] = LOOP,
    [THE_END] = END,
    [TIMER_RETURN] = RETURN,
    [PAGE_FAULT_RETURN] = RETURN,
    [SOFTWARE_RETURN] = RETURN,
};

static struct guest guest;
static struct gdb_client client = {.fd = -1};
static struct vm vm;

/* ---- the guest ------------------------------------------------------------------------------- */

static void put_gate(unsigned vector, unsigned insn)
{
    uint64_t handler = CODE + steps_offsets[insn];
    uint64_t low = (handler & 0xffff) | BOOT_CS << 16 | 0x8e00ull << 32 | (handler >> 16) << 48;

    guest_op(&guest, GUEST_ST64, IDT + 16 * vector, low, 0);
    guest_op(&guest, GUEST_ST64, IDT + 16 * vector + 8, handler >> 32, 0);
}

static void put_bytes(uint64_t gpa, const uint8_t *bytes, size_t len)
{
    for (size_t at = 0; at < len; at += 8) {
        uint8_t word[8] = {0};

        memcpy(word, bytes + at, min_u64(len - at, sizeof(word)));
        guest_op(&guest, GUEST_ST64, gpa + at, load_le64(word), 0);
    }
}

static void write_guest(const char *kernel)
{
    guest_init(&guest);
    put_bytes(CODE, steps_code, (size_t)(steps_code_end - steps_code));
    for (unsigned i = 0; i < 256; i++)
        put_gate(i, TIMER);
    put_gate(VECTOR_PAGE_FAULT, PAGE_FAULT);
    put_gate(VECTOR_SOFTWARE, SOFTWARE);
    guest_op(&guest, GUEST_ST16, IDT_POINTER, 256 * 16 - 1, 0);
    guest_op(&guest, GUEST_ST64, IDT_POINTER + 2, IDT, 0);
    gdb_client_meet(&guest);
    guest_op(&guest, GUEST_JUMP, CODE, 0, 0);
    guest_write_kernel(&guest, kernel);
    guest_done(&guest);
}

static void start(void)
{
    const char *kernel = scratch_path("kernel");
    char socket[256];
    const char *const args[] = {"--kernel", kernel,  "--memory", GUEST_MEMORY, "--serial",
                                "null",     "--gdb", socket,     "--wait-gdb", NULL};

    snprintf(socket, sizeof(socket), "unix:%s", scratch_path("gdb"));
    write_guest(kernel);
    vm_start(&vm, args);
    gdb_client_open(&client, scratch_path("gdb"));
    gdb_client_reach(&client, CODE);
}

static void finish(void)
{
    gdb_client_send(&client, "k");
    (void)gdb_client_receive(&client);
    gdb_client_close(&client);
    assert_exit_code(&vm, vm_wait(&vm), EXIT_KILLED);
    vm_done(&vm);
}

/* ---- what follows what ----------------------------------------------------------------------- */

/* The processor as it should be. */
struct model {
    bool interrupts_come; /* steps are not masked */
    bool sees_handlers;   /* this KVM stops at int3 */
    bool enabled;
    bool shadow; /* the instruction before was sti */
    unsigned round;
    unsigned depth;
    struct {
        unsigned insn;
        bool enabled;
    } returns[4];
    unsigned executed[NINSNS];
    unsigned ninterrupts;
    uint64_t reps_left; /* of the string instruction, when it was reported last */
};

static unsigned insn_at(uint64_t rip)
{
    for (unsigned i = 0; i < NINSNS; i++)
        if (rip == CODE + steps_offsets[i])
            return i;
    ck_abort_msg("the guest is at %#" PRIx64 ", where no instruction begins", rip);
    return 0;
}

static void enter(struct model *model, unsigned insn_to_return_to)
{
    ck_assert_uint_lt(model->depth, ARRAY_SIZE(model->returns));
    model->returns[model->depth].insn = insn_to_return_to;
    model->returns[model->depth++].enabled = model->enabled;
    model->enabled = false;
    model->shadow = false;
}

/* The instruction that is next when `at` was executed. */
static unsigned execute(struct model *model, unsigned at)
{
    model->executed[at]++;
    model->shadow = false;
    switch (kinds[at]) {
    case STI:
        model->shadow = !model->enabled;
        model->enabled = true;
        return at + 1;
    case CLI:
        model->enabled = false;
        return at + 1;
    case LOOP:
        return ++model->round < NROUNDS ? ROUND_BEGIN : at + 1;
    case FAULT:
        enter(model, at + 1);
        return PAGE_FAULT;
    case INT:
        enter(model, at + 1);
        return SOFTWARE;
    case RETURN:
        ck_assert_uint_gt(model->depth, 0);
        model->enabled = model->returns[--model->depth].enabled;
        return model->returns[model->depth].insn;
    default:
        return at + 1;
    }
}

/* May the timer's interrupt come now? */
static bool is_open(const struct model *model)
{
    return model->interrupts_come && model->enabled && !model->shadow;
}

/*
 * The step ended at the timer's handler, which will return to `back`: where the step began, or
 * behind that instruction.
 */
static void take_interrupt(struct model *model, unsigned at, unsigned back)
{
    if (back != at) {
        unsigned next = execute(model, at);

        ck_assert_msg(back == next, "interrupt at instruction %u, expected %u", back, next);
    }
    ck_assert_msg(is_open(model), "interrupt at instruction %u, where none can be", back);
    enter(model, back);
    model->ninterrupts++;
}

/* A step led from `at` to `now`. */
static void check(struct model *model, unsigned at, unsigned now, unsigned step)
{
    unsigned next;

    /* A repetition, or some of them, are a step: they have to make progress. */
    if (kinds[at] == REP && now == at) {
        uint64_t left = gdb_client_register(&client, GDB_RCX);

        ck_assert_uint_lt(left, model->reps_left);
        model->reps_left = left;
        return;
    }
    model->reps_left = REP_COUNT;
    if (now == TIMER) {
        uint64_t rsp = gdb_client_register(&client, GDB_RSP);

        take_interrupt(model, at, insn_at(gdb_client_memory(&client, rsp)));
        return;
    }
    next = execute(model, at);
    if (!model->sees_handlers && kinds[at] == STI && now != next)
        next = execute(model, next); /* as one step, in QEMU's emulation */
    ck_assert_msg(now == next, "step %u: from instruction %u to %u, expected %u", step, at, now,
                  next);
}

static unsigned step(void)
{
    gdb_client_expect(&client, "vCont;s:1", "T05thread:1;");
    return insn_at(gdb_client_register(&client, GDB_CLIENT_RIP));
}

static void set_delay(uint32_t ticks)
{
    char packet[64];

    snprintf(packet, sizeof(packet), "M%x,4:%08x", DELAY, __builtin_bswap32(ticks));
    gdb_client_expect(&client, packet, "OK");
}

/* The timer has fired after so many steps. */
static uint32_t next_delay(uint32_t ticks, unsigned nsteps)
{
    if (nsteps < STEPS_BETWEEN_MIN && ticks <= UINT32_MAX / 2)
        return ticks * 2;
    return nsteps > STEPS_BETWEEN_MAX && ticks >= 2 * DELAY_FIRST ? ticks / 2 : ticks;
}

/* An instruction that this host cannot carry out, or step: a nop with prefixes takes its place. */
static void leave_out(unsigned insn, const char *why)
{
    uint32_t len = steps_offsets[insn + 1] - steps_offsets[insn];
    char packet[64];

    printf("instruction %u is left out: %s\n", insn, why);
    snprintf(packet, sizeof(packet), "M%" PRIx64 ",%x:%s", (uint64_t)CODE + steps_offsets[insn],
             len, &"66666690"[8 - 2 * len]);
    gdb_client_expect(&client, packet, "OK");
    kinds[insn] = PLAIN;
}

static void run_steps(bool interrupts_come)
{
    struct model model = {.interrupts_come = interrupts_come, .reps_left = REP_COUNT};
    uint32_t ticks = DELAY_FIRST;
    unsigned at, now, fired = 0;

    start();
    model.sees_handlers = gdb_client_supports(&client, GDB_BREAK_SOFTWARE);
    if (!model.sees_handlers && interrupts_come) {
        puts("steps into handlers are not tested: this host's KVM lets them run unseen");
        finish();
        return;
    }
    if (!arch_has_virtualization())
        leave_out(ROUND_INT, "this host's KVM does not know it in 64-bit mode");
    if (!model.sees_handlers) {
        leave_out(ROUND_INT, "its handler would run unseen");
        leave_out(ROUND_FAULT, "its handler would run unseen");
    }
    gdb_client_expect(&client, interrupts_come ? "Qqemu.sstep=1" : "Qqemu.sstep=3", "OK");
    set_delay(ticks);
    at = insn_at(gdb_client_register(&client, GDB_CLIENT_RIP));
    ck_assert_uint_eq(at, 0);
    for (unsigned i = 0; at != THE_END; i++) {
        now = step();
        check(&model, at, now, i);
        at = now;
        if (now != TIMER)
            continue;
        ticks = next_delay(ticks, i - fired);
        set_delay(ticks);
        fired = i;
    }
    ck_assert_uint_eq(model.depth, 0);
    ck_assert_uint_eq(gdb_client_memory(&client, ROUNDS_COUNT), NROUNDS);
    ck_assert_uint_eq(model.executed[ROUND_BEGIN], NROUNDS);
    ck_assert_uint_eq(gdb_client_memory(&client, FLAGS_SEEN) & RFLAGS_TF, 0);
    ck_assert_uint_eq(gdb_client_memory(&client, TIMER_COUNT), model.ninterrupts);
    if (interrupts_come) /* not each hlt waits: see docs/gdb.md */
        ck_assert_uint_ge(gdb_client_memory(&client, TIMER_COUNT), 3);
    printf("%s: %u interrupts\n", interrupts_come ? "not masked" : "masked", model.ninterrupts);
    finish();
}

START_TEST(every_address_is_reported_with_interrupts_masked)
{
    run_steps(false);
}
END_TEST

START_TEST(every_address_is_reported_with_interrupts_between)
{
    run_steps(true);
}
END_TEST

static void add_tests(Suite *suite)
{
    if (steps_offsets_end - steps_offsets != NINSNS) {
        fprintf(stderr, "the code has %td instructions, expected %d\n",
                steps_offsets_end - steps_offsets, NINSNS);
        exit(EXIT_FAILURE);
    }
    unit_case(suite, "steps", every_address_is_reported_with_interrupts_masked,
              every_address_is_reported_with_interrupts_between);
}

GUEST_TEST_MAIN("guest gdb steps", add_tests)
