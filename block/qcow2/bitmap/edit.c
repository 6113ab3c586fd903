/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The edits are those of qemu-img bitmap, and are refused in its words. Each is one switch
 * (switch/ledger.h), so a power cut leaves the old bitmaps or the new ones.
 */
#include "block/qcow2/bitmap/edit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2/bitmap/save.h"
#include "block/qcow2/bitmap/store.h"
#include "block/qcow2/format/bits.h"
#include "block/qcow2/format/entry.h"
#include "block/qcow2/meta/bitmap_dir.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/switch/ledger.h"
#include "block/qcow2/switch/switch.h"

/* The default granularity is QEMU's: the cluster size, but between these two. */
#define DEFAULT_MIN 4096u
#define DEFAULT_MAX 65536u

struct edit {
    struct qcow2 *q;
    const struct block_bitmap_edit *what;
    struct qcow2_bitmap_dir dir;
    struct qcow2_bitmap_entry *entry;
    struct qcow2_bitmap_entry removed; /* the entry that was removed; its name is freed */
    struct qcow2_bits added;           /* the bits that a merge adds */
};

/* ---- what is refused ------------------------------------------------------------------------- */

static int cannot_add(const struct edit *edit, int code, struct err *err, const char *why)
{
    return err_set(err, code, "Can't make bitmap '%s' persistent in '%s': %s", edit->what->name,
                   edit->q->path, why);
}

static int find(const struct qcow2_bitmap_dir *dir, const char *name,
                struct qcow2_bitmap_entry **ret_entry, struct err *err)
{
    *ret_entry = qcow2_bitmap_dir_find(dir, name);
    return *ret_entry ? 0 : err_set(err, -ENOENT, "Dirty bitmap '%s' not found", name);
}

static int check_in_use(const struct qcow2_bitmap_entry *entry, struct err *err)
{
    if (!(entry->flags & QCOW2_BITMAP_IN_USE))
        return 0;
    return err_set(err, -ESTALE, "Bitmap '%s' is inconsistent and cannot be used", entry->name);
}

static int load_dir(struct qcow2 *q, struct qcow2_bitmap_dir *dir, struct err *err)
{
    int r = qcow2_bitmap_dir_load(q, dir);

    return r < 0 ? err_set_errno(err, r, "%s: cannot read the bitmaps", q->path) : 0;
}

/* ---- add ------------------------------------------------------------------------------------- */

static int check_size(const struct edit *edit, unsigned granularity_bits, struct err *err)
{
    const struct qcow2 *q = edit->q;
    uint64_t bits = div_round_up(q->block.len, 1ull << granularity_bits);

    if (bits == 0)
        return cannot_add(edit, -EINVAL, err, "the disk has no bytes");
    if (div_round_up(bits, 8) > QCOW2_BITMAP_BYTES_MAX)
        return cannot_add(edit, -EINVAL, err,
                          "Too much space will be occupied by the bitmap. Use larger granularity");
    return 0;
}

static int add(struct edit *edit, struct err *err)
{
    uint32_t granularity = edit->what->granularity;
    unsigned bits;
    int r;

    if (!*edit->what->name)
        return err_set(err, -EINVAL, "Bitmap name cannot be empty");
    if (!granularity)
        granularity = (uint32_t)min_u64(max_u64(edit->q->cluster_size, DEFAULT_MIN), DEFAULT_MAX);
    bits = (unsigned)__builtin_ctz(granularity);
    if (!is_pow2(granularity) || bits < QCOW2_BITMAP_GRANULARITY_MIN)
        return err_set(err, -EINVAL, "Granularity must be power of 2 and at least 512");
    if (edit->q->version < 3)
        return cannot_add(edit, -ENOTSUP, err, "Cannot store dirty bitmaps in qcow2 v2 files");
    r = check_size(edit, bits, err);
    if (r < 0)
        return r;
    if (strlen(edit->what->name) > QCOW2_BITMAP_NAME_MAX)
        return cannot_add(edit, -EINVAL, err, "Name length exceeds maximum (1023 characters)");
    if (qcow2_bitmap_dir_find(&edit->dir, edit->what->name))
        return err_set(err, -EEXIST, "Bitmap already exists: %s", edit->what->name);
    if (edit->dir.n == QCOW2_BITMAPS_MAX)
        return cannot_add(edit, -ENOSPC, err,
                          "Maximum number of persistent bitmaps is already reached");
    r = qcow2_bitmap_dir_add(&edit->dir, edit->what->name, bits, &edit->entry);
    if (r == -ENOSPC)
        return cannot_add(edit, r, err, "Not enough space in the bitmap directory");
    if (r < 0)
        return err_set_errno(err, r, "%s: cannot add a bitmap", edit->q->path);
    edit->entry->flags = edit->what->disabled ? 0 : QCOW2_BITMAP_AUTO;
    return 0;
}

/* ---- merge ----------------------------------------------------------------------------------- */

/* Add the bits of `source`, a bitmap of image `q`, to edit->added. */
static int add_table(struct edit *edit, struct qcow2 *q, const struct qcow2_bitmap_entry *source)
{
    struct qcow2_bits like = {.cluster_bits = q->cluster_bits,
                              .granularity_bits = source->granularity_bits,
                              .len = q->block.len,
                              .nbits =
                                  div_round_up(q->block.len, 1ull << source->granularity_bits)};
    uint8_t *data = malloc(q->cluster_size);
    uint64_t *entries = NULL;
    int r = data ? qcow2_bitmap_read_table(q, source, q->block.len, &entries) : -ENOMEM;

    for (uint32_t i = 0; i < source->table_n && r == 0; i++) {
        uint64_t host = entries[i] & QCOW2_OFF_MASK;

        if (host) {
            r = qcow2_meta_read(q, host, data, q->cluster_size);
            if (r == 0)
                r = qcow2_bits_add_cluster(&edit->added, &like, i, data);
        } else if (entries[i] & QCOW2_BITMAP_ALL_ONES) {
            r = qcow2_bits_add_cluster(&edit->added, &like, i, QCOW2_BITS_ALL);
        }
    }
    free(entries);
    free(data);
    return r;
}

static int merge_from(struct edit *edit, struct qcow2 *q, const struct qcow2_bitmap_dir *dir,
                      struct err *err)
{
    const char *name = edit->what->source_name;
    struct qcow2_bitmap_entry *source;
    int r = find(dir, name, &source, err);

    if (r == 0)
        r = check_in_use(edit->entry, err);
    if (r == 0)
        r = check_in_use(source, err);
    if (r < 0)
        return r;
    if (q->block.len != edit->q->block.len)
        return err_set(err, -ERANGE,
                       "Bitmaps are of different sizes (destination size is %" PRIu64
                       ", source size is %" PRIu64 ") and can't be merged",
                       edit->q->block.len, q->block.len);
    r = qcow2_bits_init(&edit->added, edit->q->cluster_bits, edit->entry->granularity_bits,
                        q->block.len);
    if (r == 0)
        r = add_table(edit, q, source);
    return r < 0 ? err_set_errno(err, r, "Could not read bitmap '%s' from image", name) : 0;
}

static int merge(struct edit *edit, struct err *err)
{
    struct block *source = edit->what->source;
    struct qcow2_bitmap_dir dir = {0};
    int r;

    if (!source || source == &edit->q->block)
        return merge_from(edit, edit->q, &edit->dir, err);
    if (source->driver != edit->q->block.driver)
        return err_set(err, -ENOENT, "Dirty bitmap '%s' not found", edit->what->source_name);
    r = load_dir(qcow2_of(source), &dir, err);
    if (r < 0)
        return r;
    r = merge_from(edit, qcow2_of(source), &dir, err);
    qcow2_bitmap_dir_done(&dir);
    return r;
}

/* ---- all of them ----------------------------------------------------------------------------- */

/* Change the directory in memory, and collect the bits that are to be added. */
static int plan(struct edit *edit, struct err *err)
{
    int r;

    if (edit->what->op == BLOCK_BITMAP_ADD) {
        r = add(edit, err);
        return r == 0 && edit->what->source_name ? merge(edit, err) : r;
    }
    r = find(&edit->dir, edit->what->name, &edit->entry, err);
    if (r == 0 && edit->what->op == BLOCK_BITMAP_MERGE)
        return merge(edit, err);
    if (r == 0 && edit->what->op != BLOCK_BITMAP_REMOVE)
        r = check_in_use(edit->entry, err);
    if (r < 0)
        return r;
    switch (edit->what->op) {
    case BLOCK_BITMAP_REMOVE:
        edit->removed = *edit->entry;
        qcow2_bitmap_dir_remove(&edit->dir, edit->entry);
        break;
    case BLOCK_BITMAP_ENABLE:
        edit->entry->flags |= QCOW2_BITMAP_AUTO;
        break;
    case BLOCK_BITMAP_DISABLE:
        edit->entry->flags &= ~QCOW2_BITMAP_AUTO;
        break;
    default:
        break;
    }
    return 0;
}

static int put(struct edit *edit, struct qcow2_ledger *ledger)
{
    uint64_t len = edit->q->block.len;
    struct qcow2_bitmap_change change = {.len = len, .old_len = len};

    switch (edit->what->op) {
    case BLOCK_BITMAP_REMOVE:
        return qcow2_bitmap_drop(ledger, &edit->removed);
    case BLOCK_BITMAP_MERGE:
    case BLOCK_BITMAP_ADD:
        change.keep = true;
        change.added = &edit->added; /* nothing, unless there was a source */
        return qcow2_bitmap_put(ledger, edit->entry, &change);
    case BLOCK_BITMAP_CLEAR:
        return qcow2_bitmap_put(ledger, edit->entry, &change);
    default:
        return 0;
    }
}

static int carry_out(struct edit *edit)
{
    struct qcow2_switch next;
    struct qcow2_ledger *ledger;
    int r = qcow2_ledger_new(edit->q, &ledger);

    if (r < 0)
        return r;
    r = qcow2_ledger_load(ledger);
    if (r == 0)
        r = qcow2_switch_init(edit->q, &next);
    if (r == 0)
        r = put(edit, ledger);
    if (r == 0)
        r = qcow2_bitmap_dir_put(ledger, &edit->dir, &next);
    if (r == 0)
        r = qcow2_switch_over(ledger, &next);
    qcow2_ledger_free(ledger);
    if (r == 0)
        qcow2_bitmaps_saved(edit->q); /* so that the next write marks other bitmaps as in use */
    return r;
}

int qcow2_edit_bitmap(struct block *block, const struct block_bitmap_edit *what, struct err *err)
{
    struct edit edit = {.q = qcow2_of(block), .what = what};
    int r = qcow2_bitmaps_settle(edit.q);

    if (r < 0)
        return err_set_errno(err, r, "%s: cannot save the bitmaps", edit.q->path);
    r = load_dir(edit.q, &edit.dir, err);
    if (r < 0)
        return r;
    r = plan(&edit, err);
    if (r == 0) {
        r = carry_out(&edit);
        if (r < 0)
            err_set_errno(err, r, "Failed to update bitmap extension");
    }
    qcow2_bits_done(&edit.added);
    qcow2_bitmap_dir_done(&edit.dir);
    return r;
}
