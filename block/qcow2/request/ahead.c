/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading ahead for copy-on-write. A guest that writes a file from front to back, one request at a
 * time, waits for a read of the backing file at the beginning of each cluster; here one read
 * fetches what the next clusters will need as well. Backing files do not change while an image is
 * open, so what was read stays right; whether a cluster still shows the backing file is looked up
 * when it is used.
 */
#include "block/qcow2/request/ahead.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2/format/entry.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/request/extents.h"
#include "block/qcow2/request/map.h"

/* Read at a time, at most; as far as clusters are that long, nothing is read ahead. */
#define AHEAD_LEN (256u << 10)

/* Memory for direct I/O. */
#define AHEAD_ALIGN 4096u

/* What copy-on-write will need next of the backing file. */
struct qcow2_ahead {
    uint64_t next; /* where the last copy ended */
    uint64_t off;  /* of what is in the buffer */
    uint64_t len;
    bool busy; /* it is being filled */
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

/* Fetch [off, off + len) into q->ahead. */
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

/* Is it worth while? With others in flight their reads overlap, and each is wanted now. */
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

    (void)fetch(prefetch->q, prefetch->off, prefetch->len); /* or it is read when it is needed */
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
    (void)co_group_wait(&prefetch->group); /* it does not fail */
}

void qcow2_ahead_forget(struct qcow2 *q)
{
    if (q->ahead)
        free(q->ahead->buf);
    free(q->ahead);
    q->ahead = NULL;
}
