/*
 * Checking a qcow2 image: every reference is counted and compared with what the refcount blocks
 * say. Private to check/check.c, which finds problems, and check/repair.c, which makes new tables
 * with the entries of check/entry.c.
 */
#ifndef MINIVMM_BLOCK_QCOW2_CHECK_CHECK_H
#define MINIVMM_BLOCK_QCOW2_CHECK_CHECK_H

#include "block/image.h"
#include "block/qcow2/meta/bitmap_dir.h"
#include "block/qcow2/meta/snaptable.h"
#include "block/qcow2/switch/ledger.h"
#include "block/qcow2/switch/walk.h"

/*
 * The half of a subcluster bitmap that tells which of them have data; the other one: which are
 * zero.
 */
#define QCOW2_CHECK_ALLOCATED 0xffffffffull

struct qcow2_check {
    struct qcow2_walk walk;
    struct qcow2 *q;
    struct err *err;
    struct block_check_report *report; /* NULL: nobody wants to know */
    struct block_check_result result;

    unsigned fix; /* BLOCK_FIX_…: what will be repaired */

    /* Take entries as a repair would leave them, instead of reporting what is wrong with them. */
    bool repaired;

    /* Take what can be had of a snapshot table that breaks limits. */
    bool salvage;

    uint64_t file_len;
    uint64_t nclusters;          /* of the file, and of what reaches past its end */
    uint64_t l1_budget;          /* bytes of L1 and bitmap tables that may still be read */
    struct qcow2_refs *refs;     /* was: in the file; now: found */
    struct qcow2_set bad_blocks; /* indices + 1 of refcount blocks that cannot be read */
    struct qcow2_tablist tables; /* L2 tables */
    struct qcow2_snaptable snapshots;
    struct qcow2_bitmaps bitmaps;
    bool drop_bitmaps; /* they are broken beyond repair */
    bool rebuild;      /* refcount blocks are missing, or do not know clusters that are in use */

    /*
     * Wrong COPIED flags are no part of the result yet: which of them a repair changes depends on
     * the counts that it writes.
     */
    uint64_t wrong_flags;
    char *late; /* lines that are to be said of them, each with its end */
    size_t late_len;
};

int qcow2_check_init(struct qcow2_check *check, struct qcow2 *q, struct block_check_report *report,
                     struct err *err) MUST_CHECK;
void qcow2_check_done(struct qcow2_check *check);

/* Count all references. */
int qcow2_check_count(struct qcow2_check *check) MUST_CHECK;

/* The wrong COPIED flags are errors: say so. */
void qcow2_check_report_flags(struct qcow2_check *check);

/* All of it; without the flags if there is anything to fix. */
int qcow2_check_run(struct qcow2_check *check) MUST_CHECK;

/* Say something in the report. */
void qcow2_check_say(struct qcow2_check *check, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Keep a line until qcow2_check_say_rest is called. */
void qcow2_check_say_late(struct qcow2_check *check, const char *fmt, ...) PRINTF_LIKE(2, 3);
void qcow2_check_say_rest(struct qcow2_check *check);

/* Say which of the clusters [first, end) are counted wrongly. */
void qcow2_check_say_counts(struct qcow2_check *check, uint64_t first, uint64_t end);

/* Say which clusters' counts a repair makes right, or that it makes all of them anew. */
void qcow2_check_say_repair(struct qcow2_check *check);

/*
 * What a repair does about an L1 entry or an L2 entry, but for COPIED. Bits that must not be set
 * go, entries that cannot point at anything read as zero.
 */
uint64_t qcow2_repair_l1_entry(const struct qcow2_check *check, uint64_t entry);
void qcow2_repair_l2_entry(const struct qcow2_check *check, struct qcow2_l2_entry *entry);

/* Can the L1 table of a snapshot be there? */
bool qcow2_check_l1_ok(const struct qcow2_check *check, const struct qcow2_snapshot *snapshot);

/* Does a range reach past the end of the file by a cluster or more? The last one may be short. */
bool qcow2_check_outside(const struct qcow2_check *check, uint64_t host, uint64_t len);

/* Make all that `check` found and is to fix right, as one change; check again. */
int qcow2_repair(struct qcow2_check *check) MUST_CHECK;

#endif
