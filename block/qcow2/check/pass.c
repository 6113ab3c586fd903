/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/check/pass.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "block/qcow2/check/check_state.h"
#include "block/qcow2/check/count.h"
#include "block/qcow2/check/report.h"
#include "block/qcow2/format/counts.h"
#include "block/qcow2/format/set.h"
#include "block/qcow2/meta/snaptable.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/switch/ledger.h"
#include "block/qcow2/switch/walk.h"

/*
 * The most bytes of L1 and bitmap tables that are read. Those of a real image do not overlap, so
 * they are never longer than its file; and 65536 snapshots of a disk of 8 TiB have 8 GiB of them.
 */
#define L1_BUDGET (16 * GIB)

int qcow2_check_init(struct qcow2_check *check, struct qcow2 *q, struct block_check_report *report,
                     struct err *err)
{
    int r;

    *check = (struct qcow2_check){.q = q, .report = report, .err = err};
    qcow2_tablist_init(&check->tables, true);
    r = qcow2_ledger_new(q, &check->ledger);
    if (r == 0)
        r = file_get_len(q->block.file, &check->file_len);
    if (r < 0)
        return err_set_errno(err, r, "%s: cannot begin to check", q->path);
    check->file_len = align_up(check->file_len, BLOCK_SECTOR_SIZE); /* as QEMU counts */
    check->nclusters = div_round_up(check->file_len, q->cluster_size);
    check->l1_budget = min_u64(check->file_len, L1_BUDGET);
    if (check->nclusters >= QCOW2_COUNTS_CLUSTERS_MAX)
        return err_set(err, -EFBIG, "%s: too many clusters to check: %" PRIu64, q->path,
                       check->nclusters);
    return 0;
}

void qcow2_check_done(struct qcow2_check *check)
{
    qcow2_ledger_free(check->ledger);
    qcow2_tablist_done(&check->tables);
    qcow2_snaptable_done(&check->snapshots);
    qcow2_set_done(&check->bad_blocks);
    free(check->late);
}

/* Compare the counts of the clusters [first, end), all in one refcount block. */
static void compare_block(struct qcow2_check *check, uint64_t first, uint64_t end)
{
    const struct qcow2_ledger *ledger = check->ledger;

    for (uint64_t c = qcow2_counts_differ(&ledger->was, &ledger->now, first, end); c < end;
         c = qcow2_counts_differ(&ledger->was, &ledger->now, c + 1, end)) {
        uint64_t was = qcow2_counts_get(&ledger->was, c);

        if (was > qcow2_counts_get(&ledger->now, c))
            check->result.leaks++;
        else
            check->result.corruptions++;
        check->rebuild = check->rebuild || was == 0;
    }
    qcow2_check_say_counts(check, first, end);
}

static uint64_t last_in_use(const struct qcow2_check *check)
{
    const struct qcow2_ledger *ledger = check->ledger;
    uint64_t c = min_u64(check->nclusters, max_u64(ledger->was.end, ledger->now.end));

    for (; c > 0; c--)
        if (!qcow2_check_bad_block(check, c - 1) && (qcow2_counts_get(&ledger->was, c - 1) > 0 ||
                                                     qcow2_counts_get(&ledger->now, c - 1) > 0))
            return c - 1;
    return 0;
}

/* Compare what was counted with the counts in the file. */
static int compare(struct qcow2_check *check)
{
    unsigned bits = check->q->refblock_bits;

    for (uint64_t first = 0; first < check->nclusters; first += 1ull << bits) {
        uint64_t end = min_u64(first + (1ull << bits), check->nclusters);

        if (qcow2_check_bad_block(check, first)) {
            check->result.check_errors += end - first;
            check->rebuild = true;
            qcow2_check_say(check,
                            "ERROR %" PRIu64 " clusters at %" PRIu64
                            ": their refcount block cannot be read",
                            end - first, first);
        } else {
            compare_block(check, first, end);
        }
    }
    check->result.image_end = (last_in_use(check) + 1) << check->q->cluster_bits;
    return 0;
}

void qcow2_check_report_flags(struct qcow2_check *check)
{
    check->result.corruptions += check->wrong_flags;
    check->wrong_flags = 0;
    qcow2_check_say_rest(check);
}

int qcow2_check_run(struct qcow2_check *check)
{
    int r = qcow2_check_load(check);

    if (r == 0)
        r = qcow2_check_count(check);
    if (r == 0)
        r = compare(check);
    if (r == 0 && !check->fix)
        qcow2_check_report_flags(check);
    return r;
}

bool qcow2_check_is_right(const struct block_check_result *result)
{
    return result->corruptions == 0 && result->leaks == 0 && result->check_errors == 0;
}
