/*
 * Bitmaps that follow the disk.
 *
 *   before the first write   they are marked "in use" in the file, durably: if nothing comes after
 *                            that, everybody takes them for out of date
 *   each write               is noted in memory, once for all of them, with the finest granularity
 *   when the image is closed what was noted is added to what they said, and the header is switched
 *                            over (switch/ledger.h) to a directory in which they are not in use
 *
 * What cannot be noted or saved leaves them in use.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "block/qcow2/bitmap/store.h"
#include "block/qcow2/format/bits.h"
#include "block/qcow2/meta/bitmap_dir.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/switch/ledger.h"

struct qcow2_tracking {
    struct qcow2_bits written;
    bool *marked; /* bitmaps, in the order of the directory, that we marked */
    uint32_t n;
};

static void stop(struct qcow2 *q)
{
    if (q->tracking) {
        qcow2_bits_done(&q->tracking->written);
        free(q->tracking->marked);
    }
    free(q->tracking);
    q->tracking = NULL;
}

void qcow2_bitmaps_forget(struct qcow2 *q)
{
    stop(q);
}

/* ---- before the first write ------------------------------------------------------------------ */

struct marking {
    struct qcow2 *q;
    struct qcow2_tracking *tracking;
    unsigned finest; /* granularity of those that were marked */
    bool any;
};

static int mark_in_use(void *opaque, const struct qcow2_bitmap *bitmap)
{
    struct marking *marking = opaque;
    uint32_t i = marking->tracking->n++;
    uint8_t flags[4];

    if ((bitmap->flags & QCOW2_BITMAP_IN_USE) || !(bitmap->flags & QCOW2_BITMAP_AUTO))
        return 0;
    store_be32(flags, bitmap->flags | QCOW2_BITMAP_IN_USE);
    marking->tracking->marked[i] = true;
    marking->finest = (unsigned)min_u64(marking->finest, bitmap->granularity_bits);
    marking->any = true;
    return qcow2_meta_write(marking->q, bitmap->flags_host, flags, sizeof(flags));
}

/* -EINVAL: the directory is damaged. Some may be marked then. */
static int mark_all(struct marking *marking, const struct qcow2_bitmaps *bitmaps)
{
    struct qcow2 *q = marking->q;
    int r;

    q->tracking = calloc(1, sizeof(*q->tracking));
    if (!q->tracking)
        return -ENOMEM;
    marking->tracking = q->tracking;
    q->tracking->marked = calloc(bitmaps->n, sizeof(*q->tracking->marked));
    if (!q->tracking->marked)
        return -ENOMEM;
    r = qcow2_bitmaps_walk(q, bitmaps, mark_in_use, marking);
    if (r == 0 && marking->any)
        r = qcow2_bits_init(&q->tracking->written, q->cluster_bits, marking->finest, q->block.len);
    return r;
}

int qcow2_bitmaps_begin(struct qcow2 *q, bool *ret_known)
{
    struct marking marking = {.q = q, .finest = QCOW2_BITMAP_GRANULARITY_MAX};
    struct qcow2_bitmaps bitmaps;
    int r = qcow2_bitmaps_find(q, &bitmaps);

    stop(q);
    if (r == 0 && bitmaps.n > 0)
        r = mark_all(&marking, &bitmaps);
    if (r < 0 || !marking.any)
        stop(q);
    if (r < 0 && r != -EINVAL)
        return r;
    *ret_known = r == 0 && bitmaps.n > 0;
    return marking.any ? qcow2_barrier(q) : 0;
}

/* ---- each write ------------------------------------------------------------------------------ */

void qcow2_bitmaps_note(struct qcow2 *q, uint64_t off, uint64_t len)
{
    if (!q->tracking || qcow2_bits_set(&q->tracking->written, off, len) == 0)
        return;
    log_warn("%s: no memory to note what is written: the dirty bitmaps are out of date", q->path);
    stop(q);
}

/* ---- saving ---------------------------------------------------------------------------------- */

/* A bitmap as it is to be: with what was noted, if it was marked, for a disk of `len` bytes. */
static int put_entry(struct qcow2_refs *refs, struct qcow2_bitmap_entry *entry, bool marked,
                     uint64_t len)
{
    struct qcow2 *q = refs->q;
    struct qcow2_bitmap_change change = {.keep = true, .len = len, .old_len = q->block.len};
    struct qcow2_bits bits = {0};
    int r = 0;

    if (marked) {
        r = qcow2_bits_init(&bits, q->cluster_bits, entry->granularity_bits, q->block.len);
        if (r == 0)
            r = qcow2_bits_add(&bits, &q->tracking->written);
        change.added = &bits;
    }
    if (r == 0)
        r = qcow2_bitmap_put(refs, entry, &change);
    qcow2_bits_done(&bits);
    return r;
}

int qcow2_bitmaps_put_all(struct qcow2_refs *refs, struct qcow2_switch *next)
{
    struct qcow2 *q = refs->q;
    uint64_t len = align_up(next->size, BLOCK_SECTOR_SIZE);
    struct qcow2_bitmap_dir dir;
    int r = qcow2_bitmap_dir_load(q, &dir);

    if (r < 0)
        return r;
    for (uint32_t i = 0; i < dir.n && r == 0; i++) {
        struct qcow2_bitmap_entry *entry = &dir.list[i];
        bool marked = q->tracking && i < q->tracking->n && q->tracking->marked[i];

        if (!marked && (len == q->block.len || (entry->flags & QCOW2_BITMAP_IN_USE)))
            continue;
        r = put_entry(refs, entry, marked, len);
        if (r == 0)
            entry->flags &= ~QCOW2_BITMAP_IN_USE;
        if (r != -EINVAL)
            continue;
        entry->flags |= QCOW2_BITMAP_IN_USE; /* its table is damaged */
        r = 0;
    }
    if (r == 0 && dir.n > 0)
        r = qcow2_bitmap_dir_put(refs, &dir, next);
    qcow2_bitmap_dir_done(&dir);
    return r;
}

static int save(struct qcow2 *q, struct qcow2_refs *refs, uint64_t len)
{
    struct qcow2_switch next;
    int r = qcow2_refs_load(refs);

    if (r == 0)
        r = qcow2_switch_init(q, &next);
    if (r < 0)
        return r;
    next.size = len;
    r = qcow2_bitmaps_put_all(refs, &next);
    return r < 0 ? r : qcow2_refs_commit(refs, &next);
}

void qcow2_bitmaps_saved(struct qcow2 *q)
{
    stop(q);
    q->write_ready = false;
    qcow2_forget_metadata(q);
}

int qcow2_bitmaps_save(struct qcow2 *q, uint64_t len)
{
    struct qcow2_refs *refs;
    int r = qcow2_refs_new(q, &refs);

    if (r < 0)
        return r;
    r = save(q, refs, len);
    qcow2_refs_free(refs);
    if (r == 0)
        qcow2_bitmaps_saved(q);
    return r;
}

int qcow2_bitmaps_settle(struct qcow2 *q)
{
    if (!q->tracking || q->corrupt)
        return 0;
    return qcow2_bitmaps_save(q, q->block.len);
}

int qcow2_close_image(struct block *block)
{
    struct qcow2 *q = qcow2_of(block);
    int r = qcow2_bitmaps_settle(q);
    int r2 = qcow2_close(block);

    if (r < 0)
        log_error("%s: the dirty bitmaps could not be saved: they are out of date", q->path);
    return r < 0 ? r : r2;
}

/* ---- another length -------------------------------------------------------------------------- */

static int check_entry(const struct qcow2 *q, const struct qcow2_bitmap_entry *entry, uint64_t len,
                       struct err *err)
{
    uint64_t n = qcow2_bits_clusters(q->cluster_bits, entry->granularity_bits, len);

    if (entry->flags & QCOW2_BITMAP_IN_USE)
        return err_set(err, -ESTALE, "Bitmap '%s' is inconsistent and cannot be used", entry->name);
    if (n == 0)
        return err_set(err, -ENOTSUP, "Bitmap '%s': a disk without bytes cannot have bitmaps",
                       entry->name);
    if (n > QCOW2_BITMAP_BYTES_MAX >> q->cluster_bits)
        return err_set(err, -EFBIG,
                       "Bitmap '%s' doesn't satisfy the constraints: Too much space will be "
                       "occupied by the bitmap. Use larger granularity",
                       entry->name);
    return 0;
}

int qcow2_bitmaps_check_resize(struct qcow2 *q, uint64_t len, bool *ret_any, struct err *err)
{
    struct qcow2_bitmap_dir dir = {0};
    int r = qcow2_bitmaps_settle(q);

    if (r == 0)
        r = qcow2_bitmap_dir_load(q, &dir);
    *ret_any = r == 0 && dir.n > 0;
    if (r == -EINVAL)
        return 0; /* damaged: they are given up by the first write */
    if (r < 0)
        return err_set_errno(err, r, "%s: cannot read the bitmaps", q->path);
    for (uint32_t i = 0; i < dir.n && r == 0; i++)
        r = check_entry(q, &dir.list[i], len, err);
    qcow2_bitmap_dir_done(&dir);
    return r;
}
