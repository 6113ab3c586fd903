/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each write is noted in memory once for all bitmaps, with the finest granularity among them.
 */
#include "block/qcow2/request/bitmap_note.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/log.h"
#include "block/qcow2/format/bits.h"
#include "block/qcow2/meta/bitmap_dir.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/qcow2.h"

void qcow2_bitmaps_forget(struct qcow2 *q)
{
    if (q->tracking) {
        qcow2_bits_done(&q->tracking->written);
        free(q->tracking->marked);
    }
    free(q->tracking);
    q->tracking = NULL;
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

/*
 * Mark the bitmaps that follow the disk. -EINVAL if the directory is damaged; some may be marked.
 */
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

    qcow2_bitmaps_forget(q);
    if (r == 0 && bitmaps.n > 0)
        r = mark_all(&marking, &bitmaps);
    if (r < 0 || !marking.any)
        qcow2_bitmaps_forget(q);
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
    qcow2_bitmaps_forget(q);
}
