/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/switch/ledger.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "block/qcow2/format/counts.h"
#include "block/qcow2/format/entry.h"
#include "block/qcow2/format/refblock.h"
#include "block/qcow2/format/set.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/meta/flush.h"
#include "block/qcow2/meta/table.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/switch/walk.h"

/* ---- life ------------------------------------------------------------------------------------ */

int qcow2_ledger_new(struct qcow2 *q, struct qcow2_ledger **ret_ledger)
{
    struct qcow2_ledger *ledger;
    int r = q->block.writable ? qcow2_finish(q) : 0; /* writes everything back */

    if (r == 0 && q->block.writable)
        r = qcow2_barrier_at_first(q);
    if (r < 0)
        return r;
    if (!q->reftable.entries) {
        r = qcow2_table_load(q, &q->reftable, NULL);
        if (r < 0)
            return r;
    }
    ledger = calloc(1, sizeof(*ledger));
    if (!ledger)
        return -ENOMEM;
    ledger->q = q;
    ledger->max = qcow2_refcount_max(q->refcount_order);
    ledger->move_from = UINT64_MAX;
    qcow2_counts_init(&ledger->was);
    qcow2_counts_init(&ledger->now);
    *ret_ledger = ledger;
    return 0;
}

void qcow2_ledger_free(struct qcow2_ledger *ledger)
{
    if (!ledger)
        return;
    qcow2_counts_done(&ledger->was);
    qcow2_counts_done(&ledger->now);
    qcow2_set_done(&ledger->dropped);
    free(ledger);
}

/* ---- counts in the file ---------------------------------------------------------------------- */

struct count_loader {
    struct qcow2_walk walk;
    struct qcow2_ledger *ledger;
};

static int load_block(struct qcow2_walk *walk, const struct qcow2_tabref *ref, const uint8_t *data)
{
    struct qcow2_ledger *ledger = container_of(walk, struct count_loader, walk)->ledger;
    unsigned order = ledger->q->refcount_order;
    uint64_t first = ref->index << ledger->q->refblock_bits;
    int r = 0;

    for (uint64_t i = 0; data && i >> ledger->q->refblock_bits == 0 && r == 0; i++) {
        uint64_t count = qcow2_refblock_get(order, data, i);

        if (count)
            r = qcow2_counts_set(&ledger->was, first + i, count);
        if (count && r == 0)
            r = qcow2_counts_set(&ledger->now, first + i, count);
    }
    return r;
}

bool qcow2_refblock_ok(const struct qcow2 *q, uint64_t entry)
{
    return entry != 0 && (entry & QCOW2_REFTABLE_RESERVED) == 0 &&
           is_aligned(entry, q->cluster_size) && entry < q->file_end;
}

int qcow2_ledger_load(struct qcow2_ledger *ledger)
{
    struct qcow2 *q = ledger->q;
    struct count_loader loader = {.walk = {.visit = load_block}, .ledger = ledger};
    struct qcow2_tablist list;
    int r = qcow2_settle(q);

    if (r < 0)
        return r;
    if (q->incompatible & QCOW2_INCOMPAT_DIRTY)
        return -EUCLEAN;
    qcow2_tablist_init(&list, false);
    for (uint32_t i = 0; i < q->reftable.n && r == 0; i++) {
        struct qcow2_tabref ref = {.host = q->reftable.entries[i], .index = i, .refs = 1};

        if (ref.host == 0)
            continue;
        r = qcow2_refblock_ok(q, ref.host) ? qcow2_tablist_add(&list, &ref) : -EIO;
    }
    if (r == 0)
        r = qcow2_walk_tables(q, &list, &loader.walk);
    qcow2_tablist_done(&list);
    return r;
}

/* ---- counts in memory ------------------------------------------------------------------------ */

uint64_t qcow2_ledger_get(const struct qcow2_ledger *ledger, uint64_t host)
{
    return qcow2_counts_get(&ledger->now, qcow2_cluster_of(ledger->q, host));
}

static int add_one(struct qcow2_ledger *ledger, uint64_t cluster, int64_t delta)
{
    uint64_t count = qcow2_counts_get(&ledger->now, cluster);
    uint64_t by = delta < 0 ? -(uint64_t)delta : (uint64_t)delta;

    if (delta < 0 ? count < by : ledger->max - count < by)
        return -ERANGE;
    count += (uint64_t)delta;

    /* Tables in the file may point at the cluster although its refcount in the file is zero. */
    if (count == 0 && delta < 0 && qcow2_counts_get(&ledger->was, cluster) == 0) {
        int r = qcow2_set_add(&ledger->dropped, cluster);

        if (r < 0 && r != -EEXIST)
            return r;
    }
    return qcow2_counts_set(&ledger->now, cluster, count);
}

int qcow2_ledger_add(struct qcow2_ledger *ledger, uint64_t host, uint64_t len, int64_t delta)
{
    uint64_t last;
    int r = 0;

    if (len == 0)
        return 0;
    if (!add_u64(host, len - 1, &last))
        return -EIO;
    last = qcow2_cluster_of(ledger->q, last);
    for (uint64_t c = qcow2_cluster_of(ledger->q, host); c <= last && r == 0; c++)
        r = add_one(ledger, c, delta);
    return r;
}

/* ---- new clusters ---------------------------------------------------------------------------- */

static bool is_free(const struct qcow2_ledger *ledger, uint64_t cluster)
{
    return qcow2_counts_get(&ledger->now, cluster) == 0 &&
           qcow2_counts_get(&ledger->was, cluster) == 0 &&
           !qcow2_set_has(&ledger->dropped, cluster);
}

int qcow2_ledger_alloc(struct qcow2_ledger *ledger, uint64_t len, uint64_t *ret_host)
{
    struct qcow2 *q = ledger->q;
    uint64_t want = div_round_up(len, q->cluster_size);
    uint64_t first = max_u64(ledger->next, 1); /* cluster 0, with the header, is never free */
    uint64_t n = 0;
    int r;

    while (n < want) {
        if (first + n >= QCOW2_COUNTS_CLUSTERS_MAX)
            return -EFBIG;
        if (is_free(ledger, first + n)) {
            n++;
        } else {
            first += n + 1;
            n = 0;
        }
    }
    r = qcow2_ledger_add(ledger, first << q->cluster_bits, want << q->cluster_bits, 1);
    if (r < 0)
        return r;
    /* The clusters are written to, so they are not fresh any more, even if no switch follows. */
    q->file_end = max_u64(q->file_end, (first + want) << q->cluster_bits);
    if (want == 1)
        ledger->next = first + 1; /* a long run may have passed over single clusters */
    *ret_host = first << q->cluster_bits;
    return 0;
}
