/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/driver.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "block/qcow2/bitmap/edit.h"
#include "block/qcow2/bitmap/save.h"
#include "block/qcow2/check/check.h"
#include "block/qcow2/format/entry.h"
#include "block/qcow2/format/header.h"
#include "block/qcow2/format/header_read.h"
#include "block/qcow2/image/amend.h"
#include "block/qcow2/image/holes.h"
#include "block/qcow2/image/resize.h"
#include "block/qcow2/image/snapshot.h"
#include "block/qcow2/meta/bitmap_dir.h"
#include "block/qcow2/meta/cache.h"
#include "block/qcow2/meta/flush.h"
#include "block/qcow2/meta/table.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/request/clear.h"
#include "block/qcow2/request/copy.h"
#include "block/qcow2/request/extents.h"
#include "block/qcow2/request/forget.h"
#include "block/qcow2/request/map.h"
#include "block/qcow2/request/packed_write.h"
#include "block/qcow2/request/write.h"
#include "block/qcow2/switch/header_write.h"

/* ---- opening --------------------------------------------------------------------------------- */

static void qcow2_free(struct block *block)
{
    struct qcow2 *q = qcow2_of(block);

    qcow2_forget(q, QCOW2_FORGET_ALL);
    qcow2_table_done(&q->l1);
    qcow2_table_done(&q->reftable);
    block_snapshot_list_free(q->noted, q->nnoted);
    free(q->freed.runs);
    free(q->unreferenced.runs);
    free(q->reserve);
    free(q->packing);
    free(q->path);
    free(q);
}

static int open_tables(struct qcow2 *q, const struct block_source *source, struct err *err)
{
    int r = qcow2_cache_init(q);

    if (r == 0)
        r = qcow2_table_load(q, &q->l1, source->tables_left);
    if (r == -EDQUOT)
        return err_set(err, -EFBIG,
                       "%s: the L1 tables of all images on top of each other: expected at most %u "
                       "MiB of entries",
                       q->path, BLOCK_CHAIN_TABLES_MAX >> 20);
    return r < 0 ? err_set_errno(err, r, "%s: cannot read the L1 table", q->path) : 0;
}

static struct qcow2 *qcow2_new(const struct block_source *source)
{
    struct qcow2 *q = calloc(1, sizeof(*q));

    if (!q)
        return NULL;
    q->path = strdup(source->path);
    if (!q->path) {
        free(q);
        return NULL;
    }
    block_init(&q->block, &qcow2_driver, source);
    q->data = source->file;
    q->checking = source->flags & BLOCK_OPEN_CHECK;
    q->only_tell = (source->flags & BLOCK_OPEN_ENCRYPTED) && (source->flags & BLOCK_OPEN_ALONE) &&
                   !source->writable;
    q->cut_short = (source->flags & BLOCK_OPEN_CUT_SHORT) && !source->writable;
    range_lock_init(&q->ranges);
    co_mutex_init(&q->lock);
    co_mutex_init(&q->writing_back);
    return q;
}

void qcow2_set_data_file(struct block *block, struct file *file)
{
    struct qcow2 *q = qcow2_of(block);

    block->data_file = file;
    q->data = file;
    q->raw_data = q->autoclear & QCOW2_AUTOCLEAR_RAW_DATA;
}

int qcow2_open(const struct block_source *source, struct block **ret_block, struct err *err)
{
    struct qcow2 *q = qcow2_new(source);
    int r;

    if (!q)
        return err_set(err, -ENOMEM, "%s: out of memory", source->path);
    r = qcow2_header_read(q, err);
    if (r == 0)
        r = open_tables(q, source, err);
    if (r < 0) {
        free(q->block.backing_name);
        free(q->block.backing_format);
        free(q->block.data_name);
        qcow2_free(&q->block);
        return r;
    }
    *ret_block = &q->block;
    return 0;
}

/* ---- closing --------------------------------------------------------------------------------- */

static int qcow2_close(struct block *block)
{
    struct qcow2 *q = qcow2_of(block);
    int r = qcow2_bitmaps_settle(q);
    int r2 = qcow2_finish(q);

    if (r < 0)
        log_error("%s: the dirty bitmaps could not be saved: they are out of date", q->path);
    return r < 0 ? r : r2;
}

/* ---- what the image says --------------------------------------------------------------------- */

static void qcow2_get_info(const struct block *block, struct block_info *info)
{
    const struct qcow2 *q = qcow2_of(block);

    info->opt_io = (uint32_t)q->cluster_size;
    info->discard_align = (uint32_t)q->cluster_size;
    info->alloc_unit = (uint32_t)qcow2_unit_size(q);
}

static void qcow2_get_details(const struct block *block, struct block_details *details)
{
    static const char *const encryptions[] = {
        [QCOW2_NOT_ENCRYPTED] = NULL, [QCOW2_AES] = "aes", [QCOW2_LUKS] = "luks"};
    const struct qcow2 *q = qcow2_of(block);

    details->encryption = encryptions[q->encryption];
    details->luks_off = q->luks_off;
    details->version = q->version;
    details->cluster_size = (uint32_t)q->cluster_size;
    details->refcount_bits = 1u << q->refcount_order;
    details->lazy_refcounts = q->lazy;
    details->extended_l2 = q->incompatible & QCOW2_INCOMPAT_EXTL2;
    details->zstd = q->compression == QCOW2_ZSTD;
    details->dirty = q->incompatible & QCOW2_INCOMPAT_DIRTY;
    details->corrupt = q->incompatible & QCOW2_INCOMPAT_CORRUPT;
    details->snapshots = q->noted;
    details->nsnapshots = q->nnoted;
    details->data_file_raw = q->autoclear & QCOW2_AUTOCLEAR_RAW_DATA;
}

static int qcow2_get_status(struct block *block, uint64_t off, uint64_t len,
                            struct block_status *ret_status)
{
    static const unsigned flags[] = {
        [QCOW2_UNALLOCATED] = 0,
        [QCOW2_ZEROES] = BLOCK_STATUS_ALLOCATED | BLOCK_STATUS_ZERO,
        [QCOW2_NORMAL] = BLOCK_STATUS_ALLOCATED | BLOCK_STATUS_DATA | BLOCK_STATUS_OFFSET,
        [QCOW2_PACKED] = BLOCK_STATUS_ALLOCATED | BLOCK_STATUS_DATA | BLOCK_STATUS_COMPRESSED,
    };
    struct qcow2_extent extent;
    int r = qcow2_map(qcow2_of(block), off, len, &extent);

    if (r < 0)
        return r;
    ret_status->flags = flags[extent.kind];
    if (extent.has_space)
        ret_status->flags |= BLOCK_STATUS_OFFSET;
    ret_status->len = extent.len;
    ret_status->host = extent.host;
    return 0;
}

static bool qcow2_is_zero(struct block *block, uint64_t off, uint64_t len)
{
    return qcow2_reads_zero(qcow2_of(block), off, len);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void qcow2_share_memory(struct block *block, unsigned n)
{
    struct qcow2 *q = qcow2_of(block);

    q->layers = n;
    qcow2_cache_share(q);
}

static void qcow2_trim(struct block *block)
{
    struct qcow2 *q = qcow2_of(block);

    qcow2_cache_trim(q);
    qcow2_forget(q, QCOW2_FORGET_READ);
    if (q->stock.n > 0) {
        q->stock.give_back = true;
        block->written = true;
    }
}

/* ---- operations ------------------------------------------------------------------------------ */

static int qcow2_flush_request(struct block *block)
{
    return qcow2_flush(qcow2_of(block));
}

const struct block_driver qcow2_driver = {
    .name = "qcow2",
    .read = qcow2_read,
    .write = qcow2_write,
    .write_compressed = qcow2_packed_write,
    .copy = qcow2_copy,
    .copy_up = qcow2_copy_up,
    .write_zeroes = qcow2_write_zeroes,
    .discard = qcow2_discard,
    .flush = qcow2_flush_request,
    .is_zero = qcow2_is_zero,
    .get_status = qcow2_get_status,
    .get_info = qcow2_get_info,
    .has_holes = qcow2_has_holes,
    .get_details = qcow2_get_details,
    .list_bitmaps = qcow2_list_bitmaps,
    .edit_bitmap = qcow2_edit_bitmap,
    .list_snapshots = qcow2_list_snapshots,
    .note_snapshots = qcow2_note_snapshots,
    .create_snapshot = qcow2_create_snapshot,
    .apply_snapshot = qcow2_apply_snapshot,
    .delete_snapshot = qcow2_delete_snapshot,
    .show_snapshot = qcow2_show_snapshot,
    .write_vmstate = qcow2_write_vmstate,
    .read_vmstate = qcow2_read_vmstate,
    .trim = qcow2_trim,
    .share_memory = qcow2_share_memory,
    .recover = qcow2_recover,
    .resize = qcow2_resize,
    .check = qcow2_check,
    .make_empty = qcow2_make_empty,
    .change_backing = qcow2_change_backing,
    .amend = qcow2_amend,
    .close = qcow2_close,
    .free = qcow2_free,
};
