/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Without reading ahead, a guest that writes a file from front to back would wait for a read of the
 * backing file at the beginning of each cluster. Backing files do not change while an image is
 * open, so what was read stays right; whether a cluster still shows the backing file is looked up
 * when what was read is used.
 */
#include "block/qcow2/request/ahead.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2/format/entry.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/request/extents.h"
#include "block/qcow2/request/map.h"

/* The most that is read ahead at a time. For clusters of this length or more, nothing is. */
#define AHEAD_LEN (256u << 10)

/* Memory for direct I/O. */
#define AHEAD_ALIGN 4096u

/* What was read ahead of the backing file. */
struct qcow2_ahead {
    uint64_t next; /* where the last copy ended */
    uint64_t off;  /* of what is in the buffer */
    uint64_t len;
    bool busy; /* the buffer is being filled */
    uint8_t *buf;
};

/* How many bytes from `off` on, at most `max`, show the backing file? */
static int find_backing(struct qcow2 *q, uint64_t off, uint64_t max, uint64_t *ret_len)
{
    struct qcow2_extent extent;
    int r = qcow2_map(q, off, max, &extent);

    *ret_len = r == 0 && extent.kind == QCOW2_UNALLOCATED ? extent.len : 0;
    return r;
}

/* Read [off, off + len) of the backing file into q->ahead. Returns whether that is done. */
static bool fetch(struct qcow2 *q, uint64_t off, uint64_t len)
{
    struct qcow2_ahead *ahead = q->ahead;
    struct iovec iov;

    if (!ahead->buf)
        ahead->buf = aligned_alloc(AHEAD_ALIGN, AHEAD_LEN);
    if (!ahead->buf)
        return false;
    iov = (struct iovec){ahead->buf, len};
    ahead->busy = true;
    ahead->len = 0;
    ahead->off = off;
    if (qcow2_read_backing(q, off, len, &iov, 1) == 0)
        ahead->len = len;
    ahead->busy = false;
    return ahead->len > 0;
}

static bool holds(const struct qcow2_ahead *ahead, uint64_t off, uint64_t len)
{
    return ahead->buf && off >= ahead->off && range_fits(off - ahead->off, len, ahead->len);
}

/* Is reading ahead worth while? Reads of several requests in flight overlap without it. */
static bool may_fetch(const struct qcow2 *q)
{
    return q->block.in_flight <= 1 && q->cluster_size < AHEAD_LEN;
}

bool qcow2_ahead_read(struct qcow2 *q, uint64_t off, uint64_t len, void *buf)
{
    bool goes_on = q->ahead && off > 0 && off == q->ahead->next;
    struct qcow2_ahead *ahead;
    uint64_t have;

    if (!q->block.backing || find_backing(q, off, AHEAD_LEN, &have) < 0 || have < len)
        return false;
    if (!q->ahead)
        q->ahead = calloc(1, sizeof(*q->ahead));
    ahead = q->ahead;
    if (!ahead)
        return false;
    ahead->next = off + len;
    if (ahead->busy)
        return false;
    if (!holds(ahead, off, len) && !(goes_on && may_fetch(q) && fetch(q, off, have)))
        return false;
    memcpy(buf, ahead->buf + (off - ahead->off), len);
    return true;
}

static void fetch_main(void *opaque)
{
    struct qcow2_prefetch *prefetch = opaque;

    (void)fetch(prefetch->q, prefetch->off, prefetch->len); /* else it is read when it is needed */
    co_group_done(&prefetch->group, 0);
}

void qcow2_ahead_begin(struct qcow2 *q, struct qcow2_prefetch *ret_prefetch)
{
    struct qcow2_ahead *ahead = q->ahead;
    uint64_t have;

    /* find_backing may wait, and somebody else change `next` meanwhile */
    *ret_prefetch = (struct qcow2_prefetch){.q = q, .off = ahead ? ahead->next : 0};
    co_group_init(&ret_prefetch->group);
    if (!ahead || ahead->len == 0 || ahead->busy || ahead->next != ahead->off + ahead->len ||
        !may_fetch(q) || ahead->next >= q->block.len ||
        find_backing(q, ahead->next, AHEAD_LEN, &have) < 0 || have == 0)
        return;
    ret_prefetch->len = have;
    ahead->busy = true;
    if (co_group_start(&ret_prefetch->group, fetch_main, ret_prefetch) < 0)
        ahead->busy = false;
}

void qcow2_ahead_end(struct qcow2_prefetch *prefetch)
{
    (void)co_group_wait(&prefetch->group); /* fetch_main never reports a failure */
}

void qcow2_ahead_forget(struct qcow2 *q)
{
    if (q->ahead)
        free(q->ahead->buf);
    free(q->ahead);
    q->ahead = NULL;
}
