/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/meta/places.h"

#include "base/bytes.h"
#include "block/qcow2/format/set.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/meta/table.h"
#include "block/qcow2/qcow2.h"

bool qcow2_in_tables(const struct qcow2 *q, uint64_t host, uint64_t len)
{
    return host < q->cluster_size ||
           ranges_overlap(host, len, q->l1.host, qcow2_table_len(q, &q->l1)) ||
           ranges_overlap(host, len, q->reftable.host, qcow2_table_len(q, &q->reftable));
}

bool qcow2_is_metadata(const struct qcow2 *q, uint64_t host, uint64_t len)
{
    uint64_t first = qcow2_cluster_of(q, host);
    uint64_t last = qcow2_cluster_of(q, host + len - 1);

    return qcow2_in_tables(q, host, len) || qcow2_set_has_any(&q->metadata, first, last) ||
           qcow2_set_has_any(&q->snapshot_tables, first, last) ||
           qcow2_set_has_any(&q->other_metadata, first, last);
}

bool qcow2_may_write_table(const struct qcow2 *q, uint64_t host)
{
    uint64_t cluster = qcow2_cluster_of(q, host);

    return !qcow2_in_tables(q, host, 1) && qcow2_set_has(&q->metadata, cluster) &&
           !qcow2_set_has(&q->snapshot_tables, cluster) &&
           !qcow2_set_has(&q->other_metadata, cluster);
}

void qcow2_forget_places(struct qcow2 *q)
{
    qcow2_set_done(&q->metadata);
    qcow2_set_done(&q->snapshot_tables);
    qcow2_set_done(&q->other_metadata);
}

int qcow2_check_data_range(struct qcow2 *q, uint64_t host, uint64_t len)
{
    if (qcow2_has_data_file(q))
        return 0;
    if (qcow2_is_metadata(q, host, len))
        return qcow2_mark_corrupt(q, "metadata is used as data", host);
    q->file_end = max_u64(q->file_end, align_up(host + len, q->cluster_size));
    return 0;
}
