/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/vmm/gdb/fake_target.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"

#define PAGE 0x1000u

static struct fake_target *fake_of(struct gdb_target *target)
{
    return container_of(target, struct fake_target, target);
}

static unsigned fake_ncpus(struct gdb_target *target)
{
    return FAKE_NCPUS;
}

static bool fake_has_avx(struct gdb_target *target)
{
    return true;
}

static bool fake_supports(struct gdb_target *target, enum gdb_breakpoint_type type)
{
    return type != GDB_WATCH_READ && !fake_of(target)->supports_nothing;
}

static const char *fake_describe(struct gdb_target *target, unsigned cpu)
{
    return cpu == 0 ? "running" : "halted";
}

static int fake_get_registers(struct gdb_target *target, unsigned cpu,
                              struct gdb_registers *registers)
{
    *registers = fake_of(target)->registers[cpu];
    return 0;
}

static int fake_set_registers(struct gdb_target *target, unsigned cpu,
                              const struct gdb_registers *registers)
{
    fake_of(target)->registers[cpu] = *registers;
    return 0;
}

static int fake_translate(struct gdb_target *target, unsigned cpu, uint64_t va, uint64_t *ret_gpa,
                          uint64_t *ret_len)
{
    uint64_t gpa = va >= FAKE_ALIAS ? va - FAKE_ALIAS : va;

    if (gpa >= FAKE_MEM || align_down(gpa, PAGE) == FAKE_HOLE)
        return -EFAULT;
    *ret_gpa = gpa;
    *ret_len = PAGE - gpa % PAGE;
    return 0;
}

static int fake_read(struct gdb_target *target, uint64_t gpa, void *buf, size_t len)
{
    if (!range_fits(gpa, len, FAKE_MEM))
        return -EFAULT;
    memcpy(buf, fake_of(target)->mem + gpa, len);
    return 0;
}

static int fake_write(struct gdb_target *target, uint64_t gpa, const void *buf, size_t len)
{
    if (!range_fits(gpa, len, FAKE_MEM))
        return -EFAULT;
    memcpy(fake_of(target)->mem + gpa, buf, len);
    return 0;
}

static void fake_stop(struct gdb_target *target)
{
    fake_of(target)->nstops++;
}

static void fake_resume(struct gdb_target *target, const struct gdb_run *run)
{
    struct fake_target *fake = fake_of(target);

    fake->nresumes++;
    memcpy(fake->actions, run->actions, sizeof(fake->actions));
    fake->masks_interrupts = run->masks_interrupts;
    fake->breakpoints = run->breakpoints;
}

static void fake_detach(struct gdb_target *target)
{
    fake_of(target)->ndetaches++;
}

static void fake_withdraw(struct gdb_target *target)
{
    fake_of(target)->nwithdrawals++;
}

static void fake_kill(struct gdb_target *target)
{
    fake_of(target)->nkills++;
}

static const struct gdb_target_ops fake_ops = {
    .ncpus = fake_ncpus,
    .has_avx = fake_has_avx,
    .supports = fake_supports,
    .describe = fake_describe,
    .get_registers = fake_get_registers,
    .set_registers = fake_set_registers,
    .translate = fake_translate,
    .read = fake_read,
    .write = fake_write,
    .stop = fake_stop,
    .resume = fake_resume,
    .detach = fake_detach,
    .withdraw = fake_withdraw,
    .kill = fake_kill,
};

void fake_target_init(struct fake_target *fake)
{
    *fake = (struct fake_target){.target.ops = &fake_ops};
}
