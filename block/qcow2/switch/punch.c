/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/switch/punch.h"

#include <errno.h>

#include "block/qcow2/format/counts.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/request/forget.h"
#include "block/qcow2/switch/ledger.h"

/* The first cluster in [from, end) that only the old state used; `end` if there is none. */
static uint64_t next_unused(const struct qcow2_ledger *ledger, uint64_t from, uint64_t end)
{
    while ((from = qcow2_counts_next(&ledger->was, from, end)) < end)
        if (qcow2_counts_get(&ledger->now, from) == 0)
            break;
        else
            from++;
    return from;
}

static bool is_unused(const struct qcow2_ledger *ledger, uint64_t cluster)
{
    return qcow2_counts_get(&ledger->was, cluster) != 0 &&
           qcow2_counts_get(&ledger->now, cluster) == 0;
}

void qcow2_punch_unused(struct qcow2_ledger *ledger)
{
    struct qcow2 *q = ledger->q;
    uint64_t end = qcow2_cluster_of(q, q->file_end);
    uint64_t first = 0;

    while ((first = next_unused(ledger, first, end)) < end) {
        uint64_t n = 1;

        while (first + n < end && is_unused(ledger, first + n))
            n++;
        q->block.stats.fallocates++;
        if (file_zero_fast(q->block.file, first << q->cluster_bits, n << q->cluster_bits, true) < 0)
            return;
        first += n;
    }
}

/* The cluster after the last one in use. */
static uint64_t used_end(const struct qcow2_ledger *ledger)
{
    return qcow2_counts_used_end(&ledger->now, qcow2_cluster_of(ledger->q, ledger->q->file_end));
}

int qcow2_cut_file(struct qcow2_ledger *ledger)
{
    struct qcow2 *q = ledger->q;
    uint64_t end = used_end(ledger) << q->cluster_bits;
    int r;

    if (end == q->file_end)
        return 0;
    r = qcow2_file_set_len(q, end);
    if (r == -ENOTSUP)
        return 0;
    if (r < 0)
        return r;
    q->file_end = end;
    qcow2_forget(q, QCOW2_FORGET_SPACE);
    return qcow2_barrier(q);
}

uint64_t qcow2_new_end(const struct qcow2_ledger *ledger)
{
    uint64_t end = used_end(ledger);

    while (end > 0 && qcow2_counts_get(&ledger->now, end - 1) != 0) {
        if (qcow2_counts_get(&ledger->was, end - 1) != 0)
            return UINT64_MAX;
        end--;
    }
    return end > 0 ? end << ledger->q->cluster_bits : UINT64_MAX;
}
