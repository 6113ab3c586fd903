/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is on the disks after a power cut, made from a record of operations.
 *
 * Of what was handed to the host before the cut, an operation is certain to be there if a sync of
 * its file began after it was done and ended before the cut; of the folder, if a file got its name
 * or lost it. Any other may be there, be lost, or, a write, be there in part (by sectors). Those
 * that are there took effect in their order. What was lost shows what was there before: nothing in
 * a file that was not as long, something old on a device.
 */
#ifndef MINIVMM_TESTS_POWER_CUT_H
#define MINIVMM_TESTS_POWER_CUT_H

#include "tests/lib/block/mem_disk.h"

#define POWER_CUT_DISKS 4u

enum power_cut_fate {
    POWER_CUT_IN_ORDER,   /* everything done before the cut is there */
    POWER_CUT_RANDOM,     /* of what is not certain, some */
    POWER_CUT_ONE_LOST,   /* all but one */
    POWER_CUT_ONE_THERE,  /* only one */
    POWER_CUT_NONE_THERE, /* only what is certain */
    POWER_CUT_FATES,
};

struct power_cut {
    const struct mem_record *record;
    unsigned ndisks;
    const struct mem_disk *disks[POWER_CUT_DISKS];
    struct mem_disk certain[POWER_CUT_DISKS]; /* with the first `napplied` operations */
    struct mem_disk state[POWER_CUT_DISKS];   /* the result, under the disks' names */
    size_t napplied;
    size_t synced[POWER_CUT_DISKS]; /* operations up to here are certain */
    size_t names_synced;            /* the same for names */
    uint64_t seed;
};

/* Before anything is recorded. The disks and the record outlive this. */
void power_cut_init(struct power_cut *cut, const struct mem_record *record,
                    struct mem_disk *const *disks, unsigned ndisks, unsigned seed);
void power_cut_done(struct power_cut *cut);

/* Make cut->state for a cut after `at` operations; `at` never less than the time before. */
void power_cut_make(struct power_cut *cut, size_t at, enum power_cut_fate fate);

/*
 * Can this fate leave what no other at this moment leaves? Nothing is uncertain most of the time,
 * or one operation.
 */
bool power_cut_differs(struct power_cut *cut, size_t at, enum power_cut_fate fate);

/*
 * Call fn(opaque) with cut->state for every moment of the record, every fate, and every operation
 * that can be the one lost or the one there: for short records.
 */
void power_cut_all(struct power_cut *cut, void (*fn)(size_t at, void *opaque), void *opaque);

#endif
