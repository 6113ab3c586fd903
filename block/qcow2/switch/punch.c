/*
 * Host space after a change of a whole image: what the old tables used and the new ones do not.
 */
#include <errno.h>

#include "base/bytes.h"
#include "block/qcow2/switch/ledger.h"

/* The first cluster in [from, end) that only the old state used; `end` if there is none. */
static uint64_t next_unused(const struct qcow2_refs *refs, uint64_t from, uint64_t end)
{
    while ((from = qcow2_counts_next(&refs->was, from, end)) < end)
        if (qcow2_counts_get(&refs->now, from) == 0)
            break;
        else
            from++;
    return from;
}

static bool is_unused(const struct qcow2_refs *refs, uint64_t cluster)
{
    return qcow2_counts_get(&refs->was, cluster) != 0 && qcow2_counts_get(&refs->now, cluster) == 0;
}

void qcow2_refs_punch(struct qcow2_refs *refs)
{
    struct qcow2 *q = refs->q;
    uint64_t end = qcow2_cluster_of(q, q->file_end);
    uint64_t first = 0;

    while ((first = next_unused(refs, first, end)) < end) {
        uint64_t n = 1;

        while (first + n < end && is_unused(refs, first + n))
            n++;
        q->block.stats.fallocates++;
        if (file_zero_fast(q->block.file, first << q->cluster_bits, n << q->cluster_bits, true) < 0)
            return;
        first += n;
    }
}

/* The cluster behind the last one in use. */
static uint64_t used_end(const struct qcow2_refs *refs)
{
    return qcow2_counts_used_end(&refs->now, qcow2_cluster_of(refs->q, refs->q->file_end));
}

int qcow2_refs_cut_file(struct qcow2_refs *refs)
{
    struct qcow2 *q = refs->q;
    uint64_t end = used_end(refs) << q->cluster_bits;
    int r;

    if (end == q->file_end)
        return 0;
    r = qcow2_file_set_len(q, end);
    if (r == -ENOTSUP)
        return 0;
    if (r < 0)
        return r;
    q->file_end = end;
    qcow2_space_reset(q);
    return qcow2_barrier(q);
}

uint64_t qcow2_refs_new_end(const struct qcow2_refs *refs)
{
    uint64_t end = used_end(refs);

    while (end > 0 && qcow2_counts_get(&refs->now, end - 1) != 0) {
        if (qcow2_counts_get(&refs->was, end - 1) != 0)
            return UINT64_MAX;
        end--;
    }
    return end > 0 ? end << refs->q->cluster_bits : UINT64_MAX;
}
