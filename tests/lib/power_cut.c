#include "tests/lib/power_cut.h"

#include <stdlib.h>
#include <string.h>

#include "tests/lib/dice.h"
#include "vmm/base/bytes.h"

#define SECTOR 512u

/* Entries of the record to look through for operations that were in flight. */
#define IN_FLIGHT_MAX 256u

void power_cut_init(struct power_cut *cut, const struct mem_record *record,
                    struct mem_disk *const *disks, unsigned ndisks, unsigned seed)
{
    *cut = (struct power_cut){.record = record, .ndisks = ndisks, .seed = seed};
    if (ndisks > POWER_CUT_DISKS)
        abort();
    for (unsigned i = 0; i < ndisks; i++) {
        cut->disks[i] = disks[i];
        mem_disk_init(&cut->certain[i], disks[i]->name);
        mem_disk_init(&cut->state[i], disks[i]->name);
        mem_disk_copy(&cut->certain[i], disks[i]);
        mem_disk_copy(&cut->state[i], disks[i]);
    }
}

void power_cut_done(struct power_cut *cut)
{
    for (unsigned i = 0; i < cut->ndisks; i++) {
        mem_disk_done(&cut->certain[i]);
        mem_disk_done(&cut->state[i]);
    }
}

static unsigned disk_of(const struct power_cut *cut, const struct mem_op *op)
{
    unsigned i = 0;

    while (cut->disks[i] != op->disk)
        i++;
    return i;
}

static bool is_change(const struct mem_op *op)
{
    return op->op != MEM_MARK && op->op != FILE_SYNC;
}

static bool is_certain(const struct power_cut *cut, size_t i)
{
    const struct mem_op *op = &cut->record->ops[i];

    return !is_change(op) || i < cut->synced[disk_of(cut, op)];
}

/* Syncs that ended before `at`; `from`: those before it are known. */
static void find_syncs(struct power_cut *cut, size_t from, size_t at)
{
    for (size_t i = from; i < at; i++) {
        const struct mem_op *op = &cut->record->ops[i];
        size_t *synced;

        if (op->op != FILE_SYNC)
            continue;
        synced = &cut->synced[disk_of(cut, op)];
        *synced = max_u64(*synced, op->begin);
    }
}

/* Some sectors of an operation. */
static void apply_torn(struct power_cut *cut, struct mem_disk *disk, const struct mem_op *op)
{
    for (uint64_t at = 0; at < op->len; at += SECTOR) {
        struct mem_op part = {.op = op->op,
                              .off = op->off + at,
                              .len = min_u64(SECTOR, op->len - at),
                              .data = op->data ? op->data + at : NULL};

        if (dice_roll(&cut->seed, 2))
            mem_disk_apply(disk, &part);
    }
}

static void apply_uncertain(struct power_cut *cut, struct mem_disk *disk, const struct mem_op *op,
                            enum power_cut_fate fate, bool chosen)
{
    bool there = fate == POWER_CUT_IN_ORDER;
    unsigned dice = dice_roll(&cut->seed, 4);

    if (fate == POWER_CUT_ONE_LOST)
        there = !chosen;
    if (fate == POWER_CUT_ONE_THERE)
        there = chosen;
    if (fate == POWER_CUT_RANDOM)
        there = dice > 1;
    if (there)
        mem_disk_apply(disk, op);
    else if (fate == POWER_CUT_RANDOM && dice == 1 && op->op != MEM_TRUNCATE)
        apply_torn(cut, disk, op);
}

/* Operations that were handed over before `at`, done or not, and are not certain to be there. */
static void apply_rest(struct power_cut *cut, size_t at, enum power_cut_fate fate)
{
    const struct mem_record *record = cut->record;
    /* What was submitted at the very moment of the cut may have arrived as well. */
    size_t end = fate == POWER_CUT_RANDOM ? min_u64(record->n, at + IN_FLIGHT_MAX) : at;
    size_t chosen;
    size_t n = 0;

    for (size_t i = cut->napplied; i < end; i++)
        n += record->ops[i].begin <= at && !is_certain(cut, i);
    chosen = n ? dice_next(&cut->seed) % n : 0;
    for (size_t i = cut->napplied; i < end; i++) {
        const struct mem_op *op = &record->ops[i];
        struct mem_disk *disk;

        if (!is_change(op) || op->begin > at)
            continue;
        disk = &cut->state[disk_of(cut, op)];
        if (is_certain(cut, i))
            mem_disk_apply(disk, op);
        else
            apply_uncertain(cut, disk, op, fate, chosen-- == 0);
    }
}

void power_cut_make(struct power_cut *cut, size_t at, enum power_cut_fate fate)
{
    find_syncs(cut, cut->napplied, at);
    while (cut->napplied < at && is_certain(cut, cut->napplied)) {
        const struct mem_op *op = &cut->record->ops[cut->napplied++];

        if (is_change(op))
            mem_disk_apply(&cut->certain[disk_of(cut, op)], op);
    }
    for (unsigned i = 0; i < cut->ndisks; i++)
        mem_disk_restore(&cut->state[i], &cut->certain[i]);
    apply_rest(cut, at, fate);
}
