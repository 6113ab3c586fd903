/* SPDX-License-Identifier: Apache-2.0 */
/*
 * To ask the file system about every cluster of an ordinary image would be a waste, so the
 * refcounts are looked at first, by QEMU's rule.
 */
#include "block/qcow2/image/holes.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "block/qcow2/format/refblock.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/meta/table.h"
#include "block/qcow2/qcow2.h"

/*
 * Add to *total how many of the first `n` clusters of a refcount block are in use, up to `enough`.
 */
static int count_block(struct qcow2 *q, uint64_t host, uint8_t *buf, uint64_t n, uint64_t enough,
                       uint64_t *total)
{
    int r = qcow2_meta_read(q, host, buf, q->cluster_size);

    for (uint64_t i = 0; r == 0 && i < n && *total < enough; i++)
        *total += qcow2_refblock_get(q->refcount_order, buf, i) != 0;
    return r;
}

/* Are at least `enough` of the first `n` clusters counted? */
static int many_counted(struct qcow2 *q, uint64_t n, uint64_t enough, bool *ret_many)
{
    uint64_t each = 1ull << q->refblock_bits;
    uint8_t *buf = malloc(q->cluster_size);
    uint64_t total = 0;
    int r = buf ? 0 : -ENOMEM;

    if (r == 0 && !q->reftable.entries)
        r = qcow2_table_load(q, &q->reftable, NULL);
    for (uint64_t i = 0; r == 0 && i < q->reftable.n && i * each < n && total < enough; i++) {
        uint64_t host = q->reftable.entries[i];

        if (host && range_fits(host, q->cluster_size, q->file_end))
            r = count_block(q, host, buf, min_u64(each, n - i * each), enough, &total);
    }
    free(buf);
    *ret_many = total >= enough;
    return r;
}

int qcow2_has_holes(struct block *block, bool *ret_holes)
{
    struct qcow2 *q = qcow2_of(block);
    uint64_t space = 0;
    uint64_t len = 0;
    int r = file_get_space(block->file, &space);

    if (r == 0)
        r = file_get_len(block->file, &len);
    if (r < 0)
        return r;
    space /= q->cluster_size;
    return many_counted(q, div_round_up(len, q->cluster_size),
                        max_u64(space / 9 * 10 + space % 9 * 10 / 9, space + 2), ret_holes);
}
