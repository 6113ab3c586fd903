/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/block/power_cut.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "tests/lib/dice.h"

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
    return op->op != MEM_MARK && op->op != FILE_SYNC && op->op != MEM_SYNC_FOLDER;
}

static bool is_certain(const struct power_cut *cut, size_t i)
{
    const struct mem_op *op = &cut->record->ops[i];

    if (op->op == MEM_LINK || op->op == MEM_UNLINK)
        return i < cut->names_synced;
    return !is_change(op) || i < cut->synced[disk_of(cut, op)];
}

/* Syncs that ended before `at`; `from`: those before it are known. */
static void find_syncs(struct power_cut *cut, size_t from, size_t at)
{
    for (size_t i = from; i < at; i++) {
        const struct mem_op *op = &cut->record->ops[i];
        size_t *synced = &cut->names_synced;

        if (op->op != FILE_SYNC && op->op != MEM_SYNC_FOLDER)
            continue;
        if (op->op == FILE_SYNC)
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
    else if (fate == POWER_CUT_RANDOM && dice == 1 && op->len > 0)
        apply_torn(cut, disk, op);
}

/* What was submitted at the very moment of the cut may have arrived as well. */
static size_t end_of_rest(const struct power_cut *cut, size_t at, enum power_cut_fate fate)
{
    return fate == POWER_CUT_RANDOM ? min_u64(cut->record->n, at + IN_FLIGHT_MAX) : at;
}

/* Operations that are not certain to be there. */
static size_t count_uncertain(const struct power_cut *cut, size_t at, enum power_cut_fate fate)
{
    size_t end = end_of_rest(cut, at, fate);
    size_t n = 0;

    for (size_t i = cut->napplied; i < end; i++)
        n += cut->record->ops[i].begin <= at && !is_certain(cut, i);
    return n;
}

/*
 * Operations that were handed over before `at`, done or not; `chosen`: the one, of those that are
 * not certain to be there, to be lost or there.
 */
static void apply_rest(struct power_cut *cut, size_t at, enum power_cut_fate fate, size_t chosen)
{
    const struct mem_record *record = cut->record;
    size_t end = end_of_rest(cut, at, fate);

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

/* All that is certain at `at` and comes before what is not. */
static void apply_certain(struct power_cut *cut, size_t at)
{
    find_syncs(cut, cut->napplied, at);
    while (cut->napplied < at && is_certain(cut, cut->napplied)) {
        const struct mem_op *op = &cut->record->ops[cut->napplied++];

        if (is_change(op))
            mem_disk_apply(&cut->certain[disk_of(cut, op)], op);
    }
}

static void make(struct power_cut *cut, size_t at, enum power_cut_fate fate, size_t chosen)
{
    for (unsigned i = 0; i < cut->ndisks; i++)
        mem_disk_restore(&cut->state[i], &cut->certain[i]);
    apply_rest(cut, at, fate, chosen);
}

void power_cut_make(struct power_cut *cut, size_t at, enum power_cut_fate fate)
{
    size_t n;

    apply_certain(cut, at);
    n = count_uncertain(cut, at, fate);
    make(cut, at, fate, n ? dice_next(&cut->seed) % n : 0);
}

bool power_cut_differs(struct power_cut *cut, size_t at, enum power_cut_fate fate)
{
    size_t n;

    apply_certain(cut, at);
    n = count_uncertain(cut, at, fate);
    switch (fate) {
    case POWER_CUT_IN_ORDER:
        return true;
    case POWER_CUT_RANDOM: /* in part, and what was about to be done */
    case POWER_CUT_NONE_THERE:
        return n > 0;
    default:
        return n > 1;
    }
}

void power_cut_all(struct power_cut *cut, void (*fn)(size_t at, void *opaque), void *opaque)
{
    for (size_t at = 0; at <= cut->record->n; at++) {
        for (int i = 0; i < POWER_CUT_FATES; i++) {
            enum power_cut_fate fate = (enum power_cut_fate)i;
            bool any = fate == POWER_CUT_ONE_LOST || fate == POWER_CUT_ONE_THERE;
            size_t n;

            apply_certain(cut, at);
            n = any ? count_uncertain(cut, at, fate) : 1;
            for (size_t chosen = 0; chosen < n; chosen++) {
                make(cut, at, fate, chosen);
                fn(at, opaque);
            }
        }
    }
}
