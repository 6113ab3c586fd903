/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/switch/walk.h"

#include <errno.h>
#include <stdlib.h>

#include "block/qcow2/meta/file.h"
#include "block/qcow2/qcow2.h"

/* The most that is read with one request, unless a table is longer. */
#define READ_LEN (1u << 20)

/* ---- lists ----------------------------------------------------------------------------------- */

void qcow2_tablist_init(struct qcow2_tablist *list, bool merged)
{
    *list = (struct qcow2_tablist){.merged = merged};
}

void qcow2_tablist_done(struct qcow2_tablist *list)
{
    free(list->refs);
    qcow2_tablist_init(list, false);
}

static int compare_refs(const void *a, const void *b)
{
    const struct qcow2_tabref *x = a;
    const struct qcow2_tabref *y = b;

    if (x->host != y->host)
        return x->host < y->host ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static void sort(struct qcow2_tablist *list)
{
    size_t n = 0;

    if (list->n == 0)
        return;
    qsort(list->refs, list->n, sizeof(*list->refs), compare_refs);
    for (size_t i = 1; i < list->n; i++) {
        struct qcow2_tabref *last = &list->refs[n];

        if (list->merged && list->refs[i].host == last->host) {
            last->refs += list->refs[i].refs;
            last->active += list->refs[i].active;
        } else {
            list->refs[++n] = list->refs[i];
        }
    }
    list->n = n + 1;
}

/* Make room for one more reference. Snapshots share tables, so merging references may suffice. */
static int make_room(struct qcow2_tablist *list)
{
    size_t max = list->max ? list->max * 2 : 64;
    struct qcow2_tabref *refs;

    if (list->merged)
        sort(list);
    if (list->n <= list->max / 2 && list->max > 0)
        return 0;
    if (max > QCOW2_TABLIST_MAX)
        return -EFBIG;
    refs = realloc(list->refs, max * sizeof(*refs));
    if (!refs)
        return -ENOMEM;
    list->refs = refs;
    list->max = max;
    return 0;
}

int qcow2_tablist_add(struct qcow2_tablist *list, const struct qcow2_tabref *ref)
{
    if (list->n == list->max) {
        int r = make_room(list);

        if (r < 0)
            return r;
    }
    list->refs[list->n++] = *ref;
    return 0;
}

/* ---- reading --------------------------------------------------------------------------------- */

struct reader {
    struct qcow2 *q;
    struct qcow2_walk *walk;
    uint8_t *buf;
    size_t max; /* tables that fit */
};

/* The number of references from the first on whose tables one request can read. */
static size_t batch_len(const struct reader *reader, const struct qcow2_tabref *refs, size_t n)
{
    uint64_t size = reader->q->cluster_size;
    size_t i = 1;

    while (i < n && refs[i].host - refs[0].host + size <= reader->max * size &&
           refs[i].host - refs[i - 1].host <= size)
        i++;
    return i;
}

static int visit_unreadable(struct reader *reader, const struct qcow2_tabref *ref, int error)
{
    struct qcow2_walk *walk = reader->walk;

    return walk->unreadable ? walk->unreadable(walk, ref, error) : error;
}

/* Read adjacent tables at once and visit their references; if that fails, read them one by one. */
static int visit_batch(struct reader *reader, const struct qcow2_tabref *refs, size_t n)
{
    struct qcow2 *q = reader->q;
    uint64_t first = refs[0].host;
    uint64_t len = refs[n - 1].host - first + q->cluster_size;
    uint64_t end;
    bool hole = file_hole_at(q->block.file, first, &end) && end - first >= len;
    int r = 0;

    if (!hole)
        r = qcow2_meta_read(q, first, reader->buf, len);
    if (r < 0 && n == 1)
        return visit_unreadable(reader, refs, r);
    if (r < 0) {
        r = 0;
        for (size_t i = 0; i < n && r == 0; i++)
            r = visit_batch(reader, refs + i, 1);
        return r;
    }
    for (size_t i = 0; i < n && r == 0; i++)
        r = reader->walk->visit(reader->walk, &refs[i],
                                hole ? NULL : reader->buf + (refs[i].host - first));
    return r;
}

int qcow2_walk_tables(struct qcow2 *q, struct qcow2_tablist *list, struct qcow2_walk *walk)
{
    struct reader reader = {.q = q, .walk = walk, .max = READ_LEN >> q->cluster_bits};
    int r = 0;

    sort(list);
    if (list->n == 0)
        return 0;
    if (reader.max == 0)
        reader.max = 1;
    reader.buf = malloc(reader.max << q->cluster_bits);
    if (!reader.buf)
        return -ENOMEM;
    for (size_t i = 0; i < list->n && r == 0;) {
        size_t n = batch_len(&reader, list->refs + i, list->n - i);

        r = visit_batch(&reader, list->refs + i, n);
        i += n;
    }
    free(reader.buf);
    return r;
}
