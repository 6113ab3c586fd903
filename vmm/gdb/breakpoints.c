/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/gdb/breakpoints.h"

#include <errno.h>

#include "base/bytes.h"

#define INT3 0xccu
#define DEBUG_REGISTER_LEN_MAX 8u

/* ---- software -------------------------------------------------------------------------------- */

static struct gdb_software *find_va(struct gdb_breakpoints *breakpoints, uint64_t va)
{
    for (size_t i = 0; i < breakpoints->nsoftware; i++)
        if (breakpoints->software[i].va == va)
            return &breakpoints->software[i];
    return NULL;
}

/* Another virtual address may lead to the same byte. */
static const struct gdb_software *find_gpa(const struct gdb_breakpoints *breakpoints, uint64_t gpa)
{
    for (size_t i = 0; i < breakpoints->nsoftware; i++)
        if (breakpoints->software[i].gpa == gpa)
            return &breakpoints->software[i];
    return NULL;
}

int gdb_software_set(struct gdb_breakpoints *breakpoints, struct gdb_target *target, unsigned cpu,
                     uint64_t va)
{
    struct gdb_software *set = &breakpoints->software[breakpoints->nsoftware];
    const uint8_t int3 = INT3;
    const struct gdb_software *alias;
    uint64_t gpa, len;
    uint8_t original;
    int r;

    if (find_va(breakpoints, va))
        return 0;
    if (breakpoints->nsoftware == GDB_SOFTWARE_MAX)
        return -ENOSPC;
    r = target->ops->translate(target, cpu, va, &gpa, &len);
    if (r < 0)
        return r;
    alias = find_gpa(breakpoints, gpa);
    if (alias) {
        original = alias->original;
    } else {
        r = target->ops->read(target, gpa, &original, sizeof(original));
        if (r == 0)
            r = target->ops->write(target, gpa, &int3, sizeof(int3));
        if (r < 0)
            return r;
    }
    *set = (struct gdb_software){.va = va, .gpa = gpa, .original = original};
    breakpoints->nsoftware++;
    return 0;
}

/* What the guest wrote there meanwhile stays. */
static void restore_byte(struct gdb_target *target, const struct gdb_software *software)
{
    uint8_t now;

    if (target->ops->read(target, software->gpa, &now, sizeof(now)) == 0 && now == INT3)
        (void)target->ops->write(target, software->gpa, &software->original, 1); /* RAM stays RAM */
}

static void forget(struct gdb_breakpoints *breakpoints, struct gdb_software *software)
{
    *software = breakpoints->software[--breakpoints->nsoftware];
}

void gdb_software_remove(struct gdb_breakpoints *breakpoints, struct gdb_target *target,
                         uint64_t va)
{
    struct gdb_software *found = find_va(breakpoints, va);
    struct gdb_software removed;

    if (!found)
        return;
    removed = *found;
    forget(breakpoints, found);
    if (!find_gpa(breakpoints, removed.gpa))
        restore_byte(target, &removed);
}

bool gdb_breakpoints_has(const struct gdb_breakpoints *breakpoints, uint64_t va)
{
    for (size_t i = 0; i < breakpoints->nsoftware; i++)
        if (breakpoints->software[i].va == va)
            return true;
    return false;
}

void gdb_breakpoints_hide(const struct gdb_breakpoints *breakpoints, uint64_t gpa, uint8_t *buf,
                          size_t len)
{
    for (size_t i = 0; i < breakpoints->nsoftware; i++) {
        const struct gdb_software *software = &breakpoints->software[i];

        /* Where the guest wrote something else, that is what is there. */
        if (software->gpa - gpa < len && buf[software->gpa - gpa] == INT3)
            buf[software->gpa - gpa] = software->original;
    }
}

void gdb_breakpoints_keep(struct gdb_breakpoints *breakpoints, uint64_t gpa, uint8_t *buf,
                          size_t len)
{
    for (size_t i = 0; i < breakpoints->nsoftware; i++)
        if (breakpoints->software[i].gpa - gpa < len)
            breakpoints->software[i].original = buf[breakpoints->software[i].gpa - gpa];
    for (size_t i = 0; i < breakpoints->nsoftware; i++)
        if (breakpoints->software[i].gpa - gpa < len)
            buf[breakpoints->software[i].gpa - gpa] = INT3;
}

size_t gdb_breakpoints_restore(struct gdb_breakpoints *breakpoints, struct gdb_target *target)
{
    const uint8_t int3 = INT3;
    size_t nforgotten = 0;

    for (size_t i = breakpoints->nsoftware; i-- > 0;) {
        struct gdb_software *software = &breakpoints->software[i];
        uint8_t now;

        if (target->ops->read(target, software->gpa, &now, sizeof(now)) < 0 ||
            (now != software->original && now != INT3) ||
            target->ops->write(target, software->gpa, &int3, sizeof(int3)) < 0) {
            forget(breakpoints, software);
            nforgotten++;
        }
    }
    return nforgotten;
}

/* ---- hardware -------------------------------------------------------------------------------- */

static bool is_same(const struct gdb_hardware *a, const struct gdb_hardware *b)
{
    return a->type == b->type && a->va == b->va && a->len == b->len;
}

/* The largest piece that one register can cover at va. */
static unsigned piece_len(uint64_t va, uint64_t len)
{
    unsigned piece = DEBUG_REGISTER_LEN_MAX;

    while (piece > len || !is_aligned(va, piece))
        piece /= 2;
    return piece;
}

/* How many registers it takes; more than there are counts as one too many. */
static unsigned count_pieces(const struct gdb_hardware *hardware)
{
    uint64_t va = hardware->va, left = hardware->len;
    unsigned n = 0;

    while (left > 0 && n <= GDB_HARDWARE_MAX) {
        unsigned piece = piece_len(va, left);

        va += piece;
        left -= piece;
        n++;
    }
    return n;
}

int gdb_hardware_set(struct gdb_breakpoints *breakpoints, const struct gdb_hardware *hardware)
{
    unsigned n = count_pieces(hardware);
    uint64_t end;

    if (hardware->len == 0 || !add_u64(hardware->va, hardware->len - 1, &end))
        return -EINVAL;
    for (unsigned i = 0; i < breakpoints->nhardware; i++) {
        if (is_same(&breakpoints->hardware[i], hardware))
            return 0;
        n += count_pieces(&breakpoints->hardware[i]);
    }
    if (n > GDB_HARDWARE_MAX)
        return -ENOSPC;
    breakpoints->hardware[breakpoints->nhardware++] = *hardware;
    return 0;
}

void gdb_hardware_remove(struct gdb_breakpoints *breakpoints, const struct gdb_hardware *hardware)
{
    for (unsigned i = 0; i < breakpoints->nhardware; i++) {
        if (!is_same(&breakpoints->hardware[i], hardware))
            continue;
        breakpoints->hardware[i] = breakpoints->hardware[--breakpoints->nhardware];
        return;
    }
}

unsigned gdb_debug_registers(const struct gdb_breakpoints *breakpoints,
                             struct gdb_debug_register registers[GDB_HARDWARE_MAX])
{
    unsigned n = 0;

    for (unsigned i = 0; i < breakpoints->nhardware; i++) {
        uint64_t va = breakpoints->hardware[i].va, left = breakpoints->hardware[i].len;

        while (left > 0 && n < GDB_HARDWARE_MAX) {
            unsigned piece = piece_len(va, left);

            registers[n++] = (struct gdb_debug_register){.hardware = i, .va = va, .len = piece};
            va += piece;
            left -= piece;
        }
    }
    return n;
}

void gdb_breakpoints_remove_all(struct gdb_breakpoints *breakpoints, struct gdb_target *target)
{
    while (breakpoints->nsoftware > 0)
        gdb_software_remove(breakpoints, target, breakpoints->software[0].va);
    breakpoints->nhardware = 0;
}
