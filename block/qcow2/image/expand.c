/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A zero cluster becomes unallocated if the image has no backing file, which would be seen then;
 * else it becomes a cluster of data that is zero.
 *
 * L2 tables that change are written anew, L1 tables and the snapshot table with them, and the image
 * is switched to them (switch/ledger.h): after a power cut all of this is done, or nothing.
 */
#include "block/qcow2/image/expand.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2/format/entry.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/meta/places.h"
#include "block/qcow2/meta/snaptable.h"
#include "block/qcow2/meta/table.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/request/prepare.h"
#include "block/qcow2/switch/ledger.h"
#include "block/qcow2/switch/put.h"
#include "block/qcow2/switch/switch.h"
#include "block/qcow2/switch/tree.h"
#include "block/qcow2/switch/walk.h"

/* An L2 table that was written anew. */
struct moved {
    uint64_t from;
    uint64_t to; /* the L1 entry for it: with COPIED if only one points at it */
};

struct expansion {
    struct qcow2_walk walk;
    struct qcow2_ledger *ledger;
    struct qcow2_switch next;
    struct moved *moved; /* ascending, as tables are walked */
    size_t n;
    size_t max;
};

/* ---- clusters -------------------------------------------------------------------------------- */

/*
 * Take a cluster that reads as zero, and set *ret_entry to the entry of the `refs` that share it.
 */
static int new_zeroes(struct expansion *x, uint64_t refs, uint64_t *ret_entry)
{
    struct qcow2 *q = x->ledger->q;
    uint64_t host;
    int r = qcow2_ledger_alloc(x->ledger, q->cluster_size, &host);

    if (r == 0)
        r = qcow2_ledger_add(x->ledger, host, q->cluster_size, (int64_t)refs - 1);
    if (r == 0)
        r = qcow2_data_zero(q, host, q->cluster_size, false);
    *ret_entry = host | (refs == 1 ? QCOW2_COPIED : 0);
    return r;
}

/* Replace a zero cluster without space: by zeroes if there is a backing file, else by nothing. */
static int without_space(struct expansion *x, uint64_t refs, uint64_t *ret_entry)
{
    *ret_entry = 0;
    return x->ledger->q->block.backing_name ? new_zeroes(x, refs, ret_entry) : 0;
}

/*
 * Replace a zero cluster with space. If nothing else uses the space, it is zeroed already before
 * the switch, since the disk does not show it. Else it may be a snapshot's data, and is not
 * touched.
 */
static int with_space(struct expansion *x, uint64_t host, uint64_t refs, uint64_t *ret_entry)
{
    struct qcow2 *q = x->ledger->q;
    int r;

    if (!is_aligned(host, q->cluster_size) || host >= q->file_end)
        return -EIO;
    if (qcow2_ledger_get(x->ledger, host) != refs) {
        r = qcow2_ledger_add(x->ledger, host, q->cluster_size, -(int64_t)refs);
        return r < 0 ? r : without_space(x, refs, ret_entry);
    }
    r = qcow2_check_data_range(q, host, q->cluster_size);
    *ret_entry = host | (refs == 1 ? QCOW2_COPIED : 0);
    return r < 0 ? r : qcow2_data_zero(q, host, q->cluster_size, false);
}

/* ---- L2 tables ------------------------------------------------------------------------------- */

static int expand_entries(struct expansion *x, uint64_t refs, uint8_t *table, bool *ret_changed)
{
    struct qcow2 *q = x->ledger->q;
    int r = 0;

    *ret_changed = false;
    for (unsigned i = 0; i < qcow2_l2_entries(q) && r == 0; i++) {
        struct qcow2_entry old = qcow2_entry_decode(q, table, i);
        uint64_t entry = 0;

        if (old.kind != QCOW2_ZEROES)
            continue;
        r = old.has_space ? with_space(x, old.host, refs, &entry) : without_space(x, refs, &entry);
        store_be64(table + ((size_t)i << q->l2_entry_bits), entry);
        *ret_changed = true;
    }
    return r;
}

static int add_moved(struct expansion *x, uint64_t from, uint64_t to)
{
    if (x->n == x->max) {
        size_t max = x->max ? x->max * 2 : 16;
        struct moved *moved = realloc(x->moved, max * sizeof(*moved));

        if (!moved)
            return -ENOMEM;
        x->moved = moved;
        x->max = max;
    }
    x->moved[x->n++] = (struct moved){from, to};
    return 0;
}

/* Write the new table, and move all references from the old one to it. */
static int replace_table(struct expansion *x, const struct qcow2_tabref *ref, const uint8_t *table)
{
    uint64_t len = x->ledger->q->cluster_size;
    int64_t refs = (int64_t)ref->refs;
    uint64_t host;
    int r = qcow2_put(x->ledger, table, len, &host);

    if (r == 0)
        r = qcow2_ledger_add(x->ledger, host, len, refs - 1);
    if (r == 0)
        r = qcow2_ledger_add(x->ledger, ref->host, len, -refs);
    return r < 0 ? r : add_moved(x, ref->host, host | (refs == 1 ? QCOW2_COPIED : 0));
}

static int visit_table(struct qcow2_walk *walk, const struct qcow2_tabref *ref, const uint8_t *data)
{
    struct expansion *x = container_of(walk, struct expansion, walk);
    uint64_t len = x->ledger->q->cluster_size;
    uint8_t *table = data ? malloc(len) : NULL;
    bool changed;
    int r;

    if (!table)
        return data ? -ENOMEM : 0;
    memcpy(table, data, len);
    r = expand_entries(x, ref->refs, table, &changed);
    if (r == 0 && changed)
        r = replace_table(x, ref, table);
    free(table);
    return r;
}

/* ---- L1 tables ------------------------------------------------------------------------------- */

static int compare_moved(const void *a, const void *b)
{
    const struct moved *x = a;
    const struct moved *y = b;

    return x->from < y->from ? -1 : x->from > y->from;
}

/* Let an L1 table point at new L2 tables; if that changes it, write it to a new place. */
static int move_l1(struct expansion *x, uint64_t *entries, uint32_t n, uint64_t *host)
{
    bool changed = false;
    int r;

    for (uint32_t i = 0; i < n && x->n > 0; i++) {
        struct moved key = {.from = entries[i] & QCOW2_OFF_MASK};
        const struct moved *moved = bsearch(&key, x->moved, x->n, sizeof(*x->moved), compare_moved);

        if (moved)
            entries[i] = moved->to;
        changed = changed || moved;
    }
    if (!changed)
        return 0;
    r = qcow2_ledger_add(x->ledger, *host, n * sizeof(*entries), -1);
    return r < 0 ? r : qcow2_put_l1(x->ledger, entries, n, host);
}

/* ---- the image ------------------------------------------------------------------------------- */

/* All L1 tables in memory: the disk's, then those of snapshots. */
struct trees {
    uint64_t **entries;
    uint32_t n;
};

static void trees_done(struct trees *trees)
{
    for (uint32_t i = 0; trees->entries && i < trees->n; i++)
        free(trees->entries[i]);
    free(trees->entries);
}

static int trees_read(struct qcow2 *q, const struct qcow2_snaptable *snapshots,
                      struct trees *ret_trees)
{
    struct trees trees = {.n = snapshots->n + 1};
    int r;

    trees.entries = calloc(trees.n, sizeof(uint64_t *));
    r = trees.entries ? qcow2_l1_read(q, q->l1.host, q->l1.n, &trees.entries[0]) : -ENOMEM;
    for (uint32_t i = 1; i < trees.n && r == 0; i++) {
        const struct qcow2_snapshot *snapshot = &snapshots->snapshots[i - 1];

        r = qcow2_l1_read(q, snapshot->l1_host, snapshot->l1_n, &trees.entries[i]);
    }
    *ret_trees = trees;
    return r;
}

static int expand_tables(struct expansion *x, const struct trees *trees,
                         const struct qcow2_snaptable *snapshots)
{
    struct qcow2 *q = x->ledger->q;
    struct qcow2_tablist list;
    int r;

    qcow2_tablist_init(&list, true);
    r = qcow2_tree_list_tables(q, trees->entries[0], q->l1.n, &list);
    for (uint32_t i = 0; i < snapshots->n && r == 0; i++)
        r = qcow2_tree_list_tables(q, trees->entries[i + 1], snapshots->snapshots[i].l1_n, &list);
    if (r == 0)
        r = qcow2_walk_tables(q, &list, &x->walk);
    qcow2_tablist_done(&list);
    return r;
}

static int move_trees(struct expansion *x, const struct trees *trees,
                      struct qcow2_snaptable *snapshots)
{
    bool changed = false;
    int r = move_l1(x, trees->entries[0], x->next.l1_n, &x->next.l1_host);

    for (uint32_t i = 0; i < snapshots->n && r == 0; i++) {
        struct qcow2_snapshot *snapshot = &snapshots->snapshots[i];
        uint64_t old = snapshot->l1_host;

        r = move_l1(x, trees->entries[i + 1], snapshot->l1_n, &snapshot->l1_host);
        changed = changed || snapshot->l1_host != old;
    }
    return r < 0 || !changed ? r : qcow2_put_snaptable(x->ledger, snapshots, &x->next);
}

static int expand(struct expansion *x, struct qcow2_snaptable *snapshots)
{
    struct qcow2 *q = x->ledger->q;
    struct trees trees = {0};
    int r = qcow2_ledger_load(x->ledger);

    if (r == 0)
        r = qcow2_switch_init(q, &x->next);
    if (r == 0)
        r = trees_read(q, snapshots, &trees);
    if (r == 0)
        r = expand_tables(x, &trees, snapshots);
    if (r == 0)
        r = move_trees(x, &trees, snapshots);
    if (r == 0 && x->n > 0)
        r = qcow2_switch_over(x->ledger, &x->next);
    trees_done(&trees);
    return r;
}

int qcow2_expand_zeroes(struct qcow2 *q, struct qcow2_snaptable *snapshots)
{
    struct expansion x = {.walk = {.visit = visit_table}};
    int r = qcow2_prepare_write(q);

    if (r == 0)
        r = qcow2_ledger_new(q, &x.ledger);
    if (r == 0)
        r = expand(&x, snapshots);
    free(x.moved);
    qcow2_ledger_free(x.ledger);
    return r;
}
