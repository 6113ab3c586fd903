/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/debug_step_x86.h"

#include "base/bytes.h"
#include "memory/bits_x86.h"

#define INT3 0xccu
#define INSN_MAX 15u

/* Gates (Intel SDM 3A, 6.11 and 6.14.1): bytes 5: present, and the type. */
#define GATE_TYPE_BYTE 5u
#define GATE_PRESENT 0x80u
#define GATE_TYPE 0x0fu
#define GATE_TASK 0x05u

#define OPCODE_PUSHF 0x9cu
#define OPCODE_IRET 0xcfu
#define OPCODE_STI 0xfbu
#define OPCODE_TWO_BYTES 0x0fu
#define OPCODE_SYSCALL 0x05u
#define PREFIX_OPERAND 0x66u
#define PREFIX_REX 0x40u
#define PREFIX_REX_W 0x48u
#define PREFIX_REX_MASK 0xf0u

static const size_t gate_len[] = {[STEP_REAL] = 4, [STEP_PROTECTED] = 8, [STEP_LONG] = 16};

/* ---- places that the processor enters by itself ---------------------------------------------- */

static bool gate_leads_to(const struct step_tables *tables, const uint8_t *gate, uint64_t *ret_va)
{
    if (tables->mode == STEP_REAL) {
        *ret_va = (uint64_t)load_le16(gate + 2) * 16 + load_le16(gate);
        return true;
    }
    if ((gate[GATE_TYPE_BYTE] & GATE_PRESENT) == 0 ||
        (gate[GATE_TYPE_BYTE] & GATE_TYPE) == GATE_TASK)
        return false;
    *ret_va = load_le16(gate) | (uint64_t)load_le16(gate + 6) << 16;
    if (tables->mode == STEP_LONG)
        *ret_va |= (uint64_t)load_le32(gate + 8) << 32;
    return true;
}

static void put_byte(const struct debug_step *step, uint64_t gpa, uint8_t byte)
{
    void *at;

    if (guest_mem_at(step->mem, gpa, 1, &at) == 0)
        *(volatile uint8_t *)at = byte;
}

static const struct step_place *find_gpa(const struct debug_step *step, uint64_t gpa)
{
    for (size_t i = 0; i < step->nplaces; i++)
        if (step->places[i].gpa == gpa)
            return &step->places[i];
    return NULL;
}

bool step_has(const struct debug_step *step, uint64_t va)
{
    for (size_t i = 0; i < step->nplaces; i++)
        if (step->places[i].va == va)
            return true;
    return false;
}

static void set_trap(struct debug_step *step, uint64_t va)
{
    struct step_place place = {.va = va};
    const struct step_place *alias;
    uint64_t len;

    if (va == step->linear_rip || step_has(step, va) ||
        page_walk_x86(step->mem, &step->paging, va, &place.gpa, &len) < 0)
        return;
    alias = find_gpa(step, place.gpa);
    if (alias)
        place.original = alias->original;
    else if (guest_mem_read(step->mem, place.gpa, &place.original, 1) < 0)
        return;
    put_byte(step, place.gpa, INT3);
    step->places[step->nplaces++] = place;
}

static void read_code(struct debug_step *step)
{
    memset(step->code, 0, sizeof(step->code));
    for (size_t i = 0; i < sizeof(step->code); i++)
        if (page_walk_x86_read(step->mem, &step->paging, step->linear_rip + i, &step->code[i], 1) <
            0)
            break;
}

/*
 * Where a step might not end by itself: a KVM that emulates the guest's kernel stops one
 * instruction behind its IRET, and an emulated processor one behind its STI.
 */
static void trap_next(struct debug_step *step)
{
    bool wide = step->tables.mode == STEP_LONG && step->code[0] == PREFIX_REX_W;
    uint8_t bytes[8] = {0};

    if (step->code[0] == OPCODE_STI)
        set_trap(step, step->linear_rip + 1);
    else if (step->tables.mode != STEP_REAL && step->code[wide ? 1 : 0] == OPCODE_IRET &&
             page_walk_x86_read(step->mem, &step->paging, step->before.gpr[GDB_RSP], bytes,
                                wide ? 8 : 4) == 0)
        set_trap(step, load_le64(bytes));
}

void step_begin(struct debug_step *step, bool traps)
{
    const struct step_tables *tables = &step->tables;
    const size_t len = gate_len[tables->mode];

    step->nplaces = 0;
    read_code(step);
    if (!traps)
        return;
    trap_next(step);
    for (unsigned i = 0; i < STEP_VECTORS && (i + 1) * len - 1 <= tables->idt_limit; i++) {
        uint8_t gate[16];
        uint64_t va;

        if (page_walk_x86_read(step->mem, &step->paging, tables->idt_base + i * len, gate, len) ==
                0 &&
            gate_leads_to(tables, gate, &va))
            set_trap(step, va);
    }
    for (unsigned i = 0; i < STEP_SYSCALLS_MAX; i++)
        if (tables->syscalls[i] != 0)
            set_trap(step, tables->syscalls[i]);
}

/* What the step or a disk wrote there meanwhile stays. */
static void remove_trap(const struct debug_step *step, const struct step_place *place)
{
    uint8_t int3 = INT3;
    void *at;

    if (guest_mem_at(step->mem, place->gpa, 1, &at) == 0)
        (void)__atomic_compare_exchange_n((uint8_t *)at, &int3, place->original, false,
                                          __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

void step_end(struct debug_step *step)
{
    for (size_t i = 0; i < step->nplaces; i++)
        remove_trap(step, &step->places[i]);
    step->nplaces = 0;
}

/* ---- the trap flag --------------------------------------------------------------------------- */

/* What an interrupt pushes at once. */
static size_t slot_len(const struct debug_step *step)
{
    static const size_t len[] = {[STEP_REAL] = 2, [STEP_PROTECTED] = 4, [STEP_LONG] = 8};

    return len[step->tables.mode];
}

/* Outside real mode, segments are taken to begin at 0. */
static uint64_t linear(const struct debug_step *step, uint32_t segment, uint64_t offset)
{
    return step->tables.mode == STEP_REAL ? (uint64_t)segment * 16 + (uint16_t)offset : offset;
}

static int read_slot(const struct debug_step *step, uint64_t va, uint64_t *ret_value)
{
    uint8_t bytes[8] = {0};
    int r = page_walk_x86_read(step->mem, &step->paging, va, bytes, slot_len(step));

    *ret_value = load_le64(bytes);
    return r;
}

/* In flags on the stack; bit 0 of the second byte. */
static void clear_in_memory(const struct debug_step *step, uint64_t va)
{
    uint64_t gpa, len;
    uint8_t byte;

    if (page_walk_x86(step->mem, &step->paging, va + 1, &gpa, &len) == 0 &&
        guest_mem_read(step->mem, gpa, &byte, 1) == 0)
        put_byte(step, gpa, byte & (uint8_t) ~(RFLAGS_TF >> 8));
}

/*
 * What an interrupt or exception pushed: the instruction that was stepped or the one behind it, its
 * code segment, the flags. Some exceptions push an error code on top.
 */
static void tidy_frame(const struct debug_step *step, uint64_t top)
{
    const size_t len = slot_len(step);

    for (unsigned i = 0; i < 2; i++) {
        uint64_t frame = top + i * len, rip, cs;

        if (read_slot(step, frame, &rip) < 0 || read_slot(step, frame + len, &cs) < 0)
            return;
        if (rip - step->before.rip <= INSN_MAX && (cs & 0xffff) == step->before.segment[GDB_CS]) {
            clear_in_memory(step, frame + 2 * len);
            return;
        }
    }
}

static bool is_prefix(const struct debug_step *step, uint8_t byte)
{
    return byte == PREFIX_OPERAND ||
           (step->tables.mode == STEP_LONG && (byte & PREFIX_REX_MASK) == PREFIX_REX);
}

bool step_tidy(const struct debug_step *step, struct gdb_registers *now)
{
    const uint64_t top = linear(step, now->segment[GDB_SS], now->gpr[GDB_RSP]);
    const uint8_t *code = step->code;

    if ((step->before.rflags & RFLAGS_TF) != 0)
        return false;
    if (is_prefix(step, *code))
        code++;
    if (now->gpr[GDB_RSP] != step->before.gpr[GDB_RSP]) {
        /* Only there has it pushed a frame: a call may have pushed what looks like one. */
        if (step_has(step, linear(step, now->segment[GDB_CS], now->rip)))
            tidy_frame(step, top);
        else if (code[0] == OPCODE_PUSHF)
            clear_in_memory(step, top);
    }
    if (code[0] == OPCODE_TWO_BYTES && code[1] == OPCODE_SYSCALL &&
        now->gpr[GDB_R8 + 3] & RFLAGS_TF) {
        now->gpr[GDB_R8 + 3] &= ~RFLAGS_TF;
        return true;
    }
    return false;
}
