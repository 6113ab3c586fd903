/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/request/own.h"

#include <errno.h>
#include <stdlib.h>

#include "block/qcow2/format/entry.h"
#include "block/qcow2/format/set.h"
#include "block/qcow2/meta/cache.h"
#include "block/qcow2/meta/clusters.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/meta/refcount.h"
#include "block/qcow2/meta/table.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/request/l2.h"
#include "block/qcow2/request/map.h"
#include "block/qcow2/request/packed_read.h"

/* Write a new L2 table at `host`: a copy of the one at `old`, or zeroes if `old` is 0. */
static int fill_l2(struct qcow2 *q, uint64_t host, uint64_t old, bool fresh)
{
    uint8_t *data;
    int r;

    if (old == 0)
        return qcow2_table_zero(q, host, fresh);
    data = malloc(q->cluster_size);
    if (!data)
        return -ENOMEM;
    /* A table with more than one owner is never changed, so the file has all of it. */
    r = qcow2_meta_read(q, old, data, q->cluster_size);
    if (r == 0)
        r = qcow2_meta_write(q, host, data, q->cluster_size);
    free(data);
    return r;
}

/*
 * Give an L1 entry a table of its own: a new one, or a copy if a snapshot uses the present one too.
 * The entry is written back after the table's contents and count.
 */
static int own_l2(struct qcow2 *q, uint32_t index)
{
    uint64_t old = q->l1.entries[index] & QCOW2_OFF_MASK;
    uint64_t cluster;
    uint64_t n;
    bool fresh;
    int r = qcow2_take_clusters(q, 1, &cluster, &n, &fresh);

    if (r < 0)
        return r;
    r = fill_l2(q, cluster << q->cluster_bits, old, fresh);
    if (r == 0)
        r = qcow2_set_add(&q->metadata, cluster);
    if (r < 0) {
        qcow2_untake_clusters(q, cluster, 1);
        return r;
    }
    qcow2_table_set(&q->l1, index, (cluster << q->cluster_bits) | QCOW2_COPIED);
    if (old) {
        qcow2_set_remove(&q->metadata, qcow2_cluster_of(q, old));
        qcow2_freed_add(&q->freed, qcow2_cluster_of(q, old), 1, false);
    }
    return 0;
}

int qcow2_own_slice(struct qcow2 *q, uint64_t off, struct qcow2_slice **ret_slice)
{
    uint32_t index = qcow2_l1_index(q, off);
    uint64_t table;
    int r = qcow2_l2_table(q, off, &table);

    if (r == 0 && !(table && (q->l1.entries[index] & QCOW2_COPIED)))
        r = own_l2(q, index);
    if (r == 0)
        r = qcow2_l2_table(q, off, &table);
    return r < 0 ? r : qcow2_slice_get(q, QCOW2_L2, qcow2_slice_host(q, table, off), ret_slice);
}

/* Clusters of an external data file are not counted. */
void qcow2_free_entry(struct qcow2 *q, uint64_t off, const struct qcow2_entry *entry, bool punch)
{
    uint64_t first = qcow2_cluster_of(q, entry->host);

    if (qcow2_has_data_file(q))
        return;
    if (entry->kind == QCOW2_PACKED) {
        /* Compressed clusters share host clusters; each holds a reference to all it touches. */
        uint64_t n = qcow2_cluster_of(q, entry->host + entry->len - 1) - first + 1;

        qcow2_freed_add(&q->freed, first, n, punch);
        qcow2_packed_changed(q, off);
        /* Nothing more is packed into a host cluster that may soon be free. */
        if (q->packed_end && qcow2_cluster_of(q, q->packed_end) - first < n)
            q->packed_end = 0;
    } else if (entry->has_space) {
        qcow2_freed_add(&q->freed, first, 1, punch);
    }
}
