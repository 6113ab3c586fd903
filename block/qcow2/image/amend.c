/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each change is one step, which a power cut leaves undone or done. Refcounts of another width are
 * written beside the old ones, and the image is switched to them (switch/ledger.h); the rest is in
 * the header (switch/header_write.c).
 */
#include "block/qcow2/image/amend.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "block/qcow2/format/counts.h"
#include "block/qcow2/format/header.h"
#include "block/qcow2/format/refblock.h"
#include "block/qcow2/image/expand.h"
#include "block/qcow2/meta/bitmap_dir.h"
#include "block/qcow2/meta/snaptable.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/switch/header_write.h"
#include "block/qcow2/switch/ledger.h"
#include "block/qcow2/switch/put.h"
#include "block/qcow2/switch/switch.h"

#define V2_REFCOUNT_BITS 16u

/* ---- counts of another width ----------------------------------------------------------------- */

static void set_order(struct qcow2 *q, unsigned order)
{
    q->refcount_order = order;
    q->refblock_bits = q->cluster_bits + 3 - order;
}

/*
 * Take the old blocks out of the refcount table in memory, and count them down: so the switch
 * writes all blocks anew. The entries are moved to `old`, and put back if the switch fails.
 */
static int drop_blocks(struct qcow2_ledger *ledger, uint64_t *old)
{
    struct qcow2_table *table = &ledger->q->reftable;
    int r = 0;

    for (uint32_t i = 0; i < table->n; i++) {
        old[i] = table->entries[i];
        table->entries[i] = 0;
        if (old[i] && r == 0)
            r = qcow2_ledger_add(ledger, old[i], ledger->q->cluster_size, -1);
    }
    return r;
}

static int check_counts(const struct qcow2_ledger *ledger, unsigned order, struct err *err)
{
    uint64_t max = qcow2_refcount_max(order);

    for (uint64_t c = qcow2_counts_next(&ledger->now, 0, UINT64_MAX); c < UINT64_MAX;
         c = qcow2_counts_next(&ledger->now, c + 1, UINT64_MAX)) {
        uint64_t count = qcow2_counts_get(&ledger->now, c);

        if (count > max)
            return err_set(err, -EINVAL,
                           "Cannot decrease refcount entry width to %u bits: Cluster at offset "
                           "%#" PRIx64 " has a refcount of %" PRIu64,
                           1u << order, c << ledger->q->cluster_bits, count);
    }
    return 0;
}

static int write_counts(struct qcow2_ledger *ledger, unsigned order, uint64_t *old)
{
    struct qcow2 *q = ledger->q;
    struct qcow2_switch next;
    int r = qcow2_switch_init(q, &next);

    if (r == 0)
        r = drop_blocks(ledger, old);
    if (r < 0)
        return r;
    ledger->max = qcow2_refcount_max(order);
    set_order(q, order);
    next.refcount_order = order;
    return qcow2_switch_over(ledger, &next);
}

static int switch_order(struct qcow2_ledger *ledger, unsigned order)
{
    struct qcow2_table *table = &ledger->q->reftable;
    unsigned old_order = ledger->q->refcount_order;
    uint32_t n = table->n;
    uint64_t *old = calloc(n + 1, sizeof(*old));
    int r = old ? write_counts(ledger, order, old) : -ENOMEM;

    /*
     * Put the old blocks back. But after a failure at the last step of the switch, nothing is
     * written any more, whatever the table says.
     */
    if (r < 0 && old && !ledger->q->corrupt) {
        set_order(ledger->q, old_order);
        for (uint32_t i = 0; i < n; i++)
            table->entries[i] = old[i] ? old[i] : table->entries[i];
    }
    free(old);
    return r;
}

static int change_refcounts(struct qcow2 *q, unsigned order, struct err *err)
{
    struct qcow2_ledger *ledger;
    int r = qcow2_ledger_new(q, &ledger);

    if (r < 0)
        return err_set_errno(err, r, "cannot write back the image");
    r = qcow2_ledger_load(ledger);
    if (r < 0)
        err_set_errno(err, r, "cannot read the refcounts");
    else
        r = check_counts(ledger, order, err);
    if (r == 0) {
        r = switch_order(ledger, order);
        if (r < 0)
            err_set_errno(err, r, "cannot write refcounts of %u bits", 1u << order);
    }
    qcow2_ledger_free(ledger);
    return r;
}

/* ---- bits in the header ---------------------------------------------------------------------- */

static int change_bits(struct qcow2 *q, bool lazy, bool raw_data, struct err *err)
{
    struct qcow2_ledger *ledger;
    struct qcow2_switch next;
    int r = qcow2_ledger_new(q, &ledger);

    if (r < 0)
        return err_set_errno(err, r, "cannot write back the image");
    r = qcow2_ledger_load(ledger);
    if (r == 0)
        r = qcow2_switch_init(q, &next);
    if (r == 0) {
        next.compatible &= ~QCOW2_COMPAT_LAZY;
        next.compatible |= lazy ? QCOW2_COMPAT_LAZY : 0;
        next.autoclear &= ~QCOW2_AUTOCLEAR_RAW_DATA;
        next.autoclear |= raw_data ? QCOW2_AUTOCLEAR_RAW_DATA : 0;
        r = qcow2_switch_over(ledger, &next);
    }
    qcow2_ledger_free(ledger);
    if (r < 0)
        return err_set_errno(err, r, "cannot write the header");
    q->lazy = lazy;
    q->raw_data = raw_data;
    return 0;
}

/* ---- version --------------------------------------------------------------------------------- */

static int refuse_snapshots(const struct qcow2 *q, const struct qcow2_snaptable *snapshots,
                            struct err *err)
{
    for (uint32_t i = 0; i < snapshots->n; i++)
        if (snapshots->snapshots[i].disk_len != q->block.len ||
            snapshots->snapshots[i].vm_state_len > UINT32_MAX)
            return err_set(err, -ENOTSUP, "Internal snapshots prevent downgrade of image");
    return 0;
}

static int refuse_features(struct qcow2 *q, struct err *err)
{
    struct qcow2_bitmaps bitmaps;
    int r;

    if (qcow2_has_data_file(q))
        return err_set(err, -ENOTSUP, "Cannot downgrade an image with a data file");
    if (1u << q->refcount_order != V2_REFCOUNT_BITS)
        return err_set(err, -ENOTSUP, "compat=0.10 requires refcount_bits=16");
    if (q->incompatible)
        return err_set(err, -ENOTSUP,
                       "Cannot downgrade an image with incompatible features %#" PRIx64 " set",
                       q->incompatible);
    r = qcow2_bitmaps_find(q, &bitmaps);
    if (r < 0 || bitmaps.n > 0)
        return err_set(err, -ENOTSUP, "Cannot downgrade an image with bitmaps");
    return 0;
}

static int downgrade(struct qcow2 *q, struct err *err)
{
    struct qcow2_snaptable snapshots = {0};
    int r = refuse_features(q, err);

    if (r == 0)
        r = qcow2_snaptable_read(q, &snapshots, err);
    if (r < 0)
        return r;
    r = refuse_snapshots(q, &snapshots, err);
    if (r == 0) {
        r = qcow2_expand_zeroes(q, &snapshots);
        if (r < 0)
            err_set_errno(err, r, "cannot write what clusters marked as zero are to become");
    }
    qcow2_snaptable_done(&snapshots);
    if (r < 0)
        return r;
    r = qcow2_change_version(q, 2);
    return r < 0 ? err_set_errno(err, r, "cannot write the header") : 0;
}

/*
 * Write the snapshot table anew: version 3 demands more in each entry, which qcow2_snaptable_encode
 * adds.
 */
static int rewrite_snapshots(struct qcow2 *q, const struct qcow2_snaptable *table)
{
    struct qcow2_switch next;
    struct qcow2_ledger *ledger;
    int r = qcow2_ledger_new(q, &ledger);

    if (r < 0)
        return r;
    r = qcow2_ledger_load(ledger);
    if (r == 0)
        r = qcow2_switch_init(q, &next);
    if (r == 0)
        r = qcow2_put_snaptable(ledger, table, &next);
    if (r == 0)
        r = qcow2_switch_over(ledger, &next);
    qcow2_ledger_free(ledger);
    return r;
}

static int upgrade(struct qcow2 *q, struct err *err)
{
    struct qcow2_snaptable snapshots = {0};
    int r = qcow2_snaptable_read(q, &snapshots, err);

    if (r < 0)
        return r;
    for (uint32_t i = 0; i < snapshots.n; i++) {
        if (snapshots.snapshots[i].extra_len < QCOW2_SNAPSHOT_EXTRA_V3) {
            r = rewrite_snapshots(q, &snapshots);
            break;
        }
    }
    qcow2_snaptable_done(&snapshots);
    if (r == 0)
        r = qcow2_change_version(q, 3);
    return r < 0 ? err_set_errno(err, r, "cannot write the header") : 0;
}

/* ---- all of it ------------------------------------------------------------------------------- */

/* Refuse options that can be refused without a look into the tables. */
static int check(const struct qcow2 *q, const struct block_amend_options *options, unsigned version,
                 unsigned bits, struct err *err)
{
    if (!is_pow2(bits) || bits > 64)
        return err_set(err, -EINVAL,
                       "Refcount width must be a power of two and may not exceed 64 bits");
    if (version < 3 && options->refcount_bits && bits != V2_REFCOUNT_BITS)
        return err_set(err, -EINVAL,
                       "Refcount widths other than 16 bits require compatibility level 1.1 or "
                       "above (use compat=1.1 or greater)");
    if (version < 3 && options->set_lazy && options->lazy_refcounts)
        return err_set(err, -EINVAL,
                       "Lazy refcounts only supported with compatibility level 1.1 and above (use "
                       "compat=1.1 or greater)");
    if (options->data_file && !qcow2_has_data_file(q))
        return err_set(err, -EINVAL,
                       "data-file can only be set for images that use an external data file");
    if (options->data_file && !*options->data_file)
        return err_set(err, -ENOTSUP,
                       "an image without the name of its data file is not supported");
    if (options->set_data_raw && options->data_file_raw && !q->raw_data)
        return err_set(err, -EINVAL, "data-file-raw cannot be set on existing images");
    return 0;
}

static int amend_bits(struct qcow2 *q, const struct block_amend_options *options, struct err *err)
{
    bool lazy = options->set_lazy ? options->lazy_refcounts : q->lazy;
    bool raw = options->set_data_raw ? options->data_file_raw : q->raw_data;

    return lazy != q->lazy || raw != q->raw_data ? change_bits(q, lazy, raw, err) : 0;
}

static int amend_data_file(struct qcow2 *q, const struct block_amend_options *options,
                           struct err *err)
{
    int r = options->data_file ? qcow2_change_data_file(q, options->data_file) : 0;

    return r < 0 ? err_set_errno(err, r, "cannot write the header") : 0;
}

static int amend_len(struct block *block, const struct block_amend_options *options,
                     struct err *err)
{
    const struct block_resize_options resize = {.len = options->len, .shrink = true};

    return options->set_len ? block_resize(block, &resize, err) : 0;
}

int qcow2_amend(struct block *block, const struct block_amend_options *options, struct err *err)
{
    struct qcow2 *q = qcow2_of(block);
    unsigned version = options->version ? options->version : q->version;
    unsigned bits = options->refcount_bits ? options->refcount_bits : 1u << q->refcount_order;
    int r = check(q, options, version, bits, err);

    if (r == 0 && version > q->version)
        r = upgrade(q, err);
    if (r == 0 && bits != 1u << q->refcount_order)
        r = change_refcounts(q, (unsigned)__builtin_ctz(bits), err);
    if (r == 0)
        r = amend_data_file(q, options, err);
    if (r == 0)
        r = amend_bits(q, options, err);
    if (r == 0)
        r = amend_len(block, options, err);
    return r < 0 || version >= q->version ? r : downgrade(q, err);
}
