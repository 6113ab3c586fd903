/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A repair counts all references a second time, with entries as they are to be. Tables that have to
 * change are written anew, and the image is switched to them and to the new refcounts at once
 * (switch/switch.c). A power cut leaves the image as it was, or repaired.
 *
 * Metadata that shares its cluster with anything else moves away, so that writing the one does not
 * destroy the other. Data that is shared needs only the right refcount: a write copies it first.
 */
#include "block/qcow2/check/repair.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2/check/check_state.h"
#include "block/qcow2/check/count.h"
#include "block/qcow2/check/pass.h"
#include "block/qcow2/check/repair_entry.h"
#include "block/qcow2/check/report.h"
#include "block/qcow2/format/counts.h"
#include "block/qcow2/format/entry.h"
#include "block/qcow2/format/header.h"
#include "block/qcow2/format/set.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/meta/snaptable.h"
#include "block/qcow2/meta/table.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/switch/ledger.h"
#include "block/qcow2/switch/put.h"
#include "block/qcow2/switch/switch.h"
#include "block/qcow2/switch/walk.h"

/*
 * A repair may take several rounds: a table that moves may leave its old cluster with one
 * reference, whose COPIED flag is wrong then.
 */
#define ROUNDS_MAX 4

struct move {
    uint64_t from;
    uint64_t to;
};

struct repair {
    struct qcow2_walk walk;
    struct qcow2_check *check;
    struct qcow2 *q;
    struct qcow2_ledger *ledger;
    struct move *moves; /* of L2 tables, in ascending order */
    size_t nmoves;
    size_t max_moves;
    uint8_t *table;           /* a cluster to build tables in */
    uint8_t *cluster;         /* a cluster for data */
    uint64_t flags;           /* wrong COPIED flags */
    struct qcow2_counts seen; /* clusters of the active tree that have other users too */
};

/* ---- L2 tables ------------------------------------------------------------------------------- */

/* Let the entry, which counts `weight` times, point at a copy of its cluster. */
static int unshare(struct repair *repair, struct qcow2_entry *entry, int64_t weight)
{
    struct qcow2 *q = repair->q;
    struct iovec iov = {repair->cluster, q->cluster_size};
    uint64_t host = 0;
    int r = qcow2_ledger_alloc(repair->ledger, q->cluster_size, &host);

    if (r == 0)
        r = qcow2_ledger_add(repair->ledger, host, q->cluster_size, weight - 1);
    if (r == 0)
        r = qcow2_ledger_add(repair->ledger, entry->host, q->cluster_size, -weight);
    if (r == 0)
        r = qcow2_data_readv(q, entry->host, &iov, 1);
    if (r == 0)
        r = qcow2_data_writev(q, host, &iov, 1);
    entry->entry = (entry->entry & ~QCOW2_OFF_MASK) | host;
    entry->host = host;
    return r;
}

/*
 * A cluster may belong to the disk and to snapshots, but twice to the disk only by mistake. The
 * right refcount is not enough then: once one of the two entries is written, the other's COPIED
 * flag would be wrong. So the second entry gets a copy.
 */
static int repair_sharing(struct repair *repair, const struct qcow2_tabref *ref,
                          struct qcow2_entry *entry)
{
    uint64_t cluster = qcow2_cluster_of(repair->q, entry->host);
    int r = 0;

    if (qcow2_has_data_file(repair->q) || qcow2_ledger_get(repair->ledger, entry->host) < 2)
        return 0;
    if (qcow2_counts_get(&repair->seen, cluster) > 0)
        r = unshare(repair, entry, (int64_t)ref->refs);
    return r < 0 ? r : qcow2_counts_set(&repair->seen, cluster, 1);
}

/* Is COPIED right for a cluster with `count` references? If not, count `weight` errors. */
static bool flag_is_right(struct repair *repair, uint64_t entry, uint64_t count, uint64_t weight)
{
    bool right = (count == 1) == !!(entry & QCOW2_COPIED);

    repair->flags += right ? 0 : weight;
    return right;
}

static int repair_active_entry(struct repair *repair, const struct qcow2_tabref *ref,
                               struct qcow2_entry *entry)
{
    uint64_t count = 1;
    int r;

    if (entry->kind == QCOW2_PACKED || !entry->has_space)
        return 0;
    if (!qcow2_has_data_file(repair->q))
        count = qcow2_ledger_get(repair->ledger, entry->host);
    if (!flag_is_right(repair, entry->entry, count, ref->active))
        qcow2_check_say(repair->check,
                        "Repairing OFLAG_COPIED data cluster: l2_entry=%" PRIx64
                        " refcount=%" PRIu64,
                        entry->entry, count);
    r = repair_sharing(repair, ref, entry);
    entry->entry &= ~QCOW2_COPIED;
    if (qcow2_has_data_file(repair->q) || qcow2_ledger_get(repair->ledger, entry->host) == 1)
        entry->entry |= QCOW2_COPIED;
    return r;
}

/* Build the L2 table as it should be, in repair->table. */
static int build_table(struct repair *repair, const struct qcow2_tabref *ref, const uint8_t *data)
{
    struct qcow2 *q = repair->q;
    bool extended = q->incompatible & QCOW2_INCOMPAT_EXTL2;
    int r = 0;

    memcpy(repair->table, data, q->cluster_size);
    for (unsigned i = 0; i < qcow2_l2_entries(q) && r == 0; i++) {
        uint8_t *at = repair->table + ((size_t)i << q->l2_entry_bits);
        struct qcow2_entry entry = qcow2_entry_decode(q, data, i);
        if (entry.entry == 0 && entry.bitmap == 0)
            continue;
        qcow2_repair_l2_entry(repair->check, &entry);
        if (ref->active > 0)
            r = repair_active_entry(repair, ref, &entry);
        store_be64(at, entry.entry);
        if (extended)
            store_be64(at + 8, entry.bitmap);
    }
    return r;
}

static int add_move(struct repair *repair, uint64_t from, uint64_t to)
{
    if (repair->nmoves == repair->max_moves) {
        size_t max = repair->max_moves ? repair->max_moves * 2 : 64;
        struct move *moves = realloc(repair->moves, max * sizeof(*moves));

        if (!moves)
            return -ENOMEM;
        repair->moves = moves;
        repair->max_moves = max;
    }
    repair->moves[repair->nmoves++] = (struct move){from, to};
    return 0;
}

static uint64_t moved_to(const struct repair *repair, uint64_t host)
{
    size_t low = 0;
    size_t high = repair->nmoves;

    while (low < high) {
        size_t mid = (low + high) / 2;

        if (repair->moves[mid].from == host)
            return repair->moves[mid].to;
        if (repair->moves[mid].from < host)
            low = mid + 1;
        else
            high = mid;
    }
    return host;
}

static int visit_table(struct qcow2_walk *walk, const struct qcow2_tabref *ref, const uint8_t *data)
{
    struct repair *repair = container_of(walk, struct repair, walk);
    struct qcow2_ledger *ledger = repair->ledger;
    uint64_t size = repair->q->cluster_size;
    bool shared = qcow2_ledger_get(ledger, ref->host) != ref->refs;
    uint64_t to;
    int r = 0;

    if (data)
        r = build_table(repair, ref, data);
    else
        memset(repair->table, 0, size);
    if (r < 0 || (!shared && (!data || memcmp(repair->table, data, size) == 0)))
        return r;
    r = qcow2_put(ledger, repair->table, size, &to);
    if (r == 0)
        r = qcow2_ledger_add(ledger, to, size, (int64_t)ref->refs - 1);
    if (r == 0)
        r = qcow2_ledger_add(ledger, ref->host, size, -(int64_t)ref->refs);
    return r < 0 ? r : add_move(repair, ref->host, to);
}

/* ---- L1 tables ------------------------------------------------------------------------------- */

/* Repair L1 entries, except for COPIED, and let them point where the L2 tables have moved to. */
static void repair_l1(const struct repair *repair, uint64_t *entries, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint64_t entry = qcow2_repair_l1_entry(repair->check, entries[i]);
        uint64_t host = entry & QCOW2_OFF_MASK;

        entries[i] = (entry & QCOW2_COPIED) | moved_to(repair, host);
    }
}

/* Let each entry of repair->table, a copy of an L2 table, point at a copy of its data. */
static int unshare_table(struct repair *repair)
{
    struct qcow2 *q = repair->q;
    int r = 0;

    for (unsigned i = 0; i < qcow2_l2_entries(q) && r == 0 && !qcow2_has_data_file(q); i++) {
        struct qcow2_entry entry = qcow2_entry_decode(q, repair->table, i);
        if (entry.kind == QCOW2_PACKED || !entry.has_space)
            continue;
        r = unshare(repair, &entry, 1);
        store_be64(repair->table + ((size_t)i << q->l2_entry_bits), entry.entry | QCOW2_COPIED);
    }
    return r;
}

/* Give an L1 entry that shares its L2 table with another active one a table and data of its own. */
static int split_table(struct repair *repair, uint64_t *entry)
{
    struct qcow2 *q = repair->q;
    uint64_t old = *entry & QCOW2_OFF_MASK;
    uint64_t host = 0;
    int r = qcow2_meta_read(q, old, repair->table, q->cluster_size);

    if (r == 0)
        r = unshare_table(repair);
    if (r == 0)
        r = qcow2_put(repair->ledger, repair->table, q->cluster_size, &host);
    if (r == 0)
        r = qcow2_ledger_add(repair->ledger, old, q->cluster_size, -1);
    *entry = host;
    return r;
}

static int split_tables(struct repair *repair, uint64_t *entries, uint32_t n)
{
    struct qcow2_set seen = {0};
    int r = 0;

    for (uint32_t i = 0; i < n && r >= 0; i++) {
        uint64_t host = entries[i] & QCOW2_OFF_MASK;

        if (host == 0)
            continue;
        r = qcow2_set_add(&seen, qcow2_cluster_of(repair->q, host));
        if (r == -EEXIST)
            r = split_table(repair, &entries[i]);
    }
    free(seen.slots);
    return r;
}

static void set_l1_copied(const struct repair *repair, uint64_t *entries, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint64_t host = entries[i] & QCOW2_OFF_MASK;

        entries[i] =
            host | (host && qcow2_ledger_get(repair->ledger, host) == 1 ? QCOW2_COPIED : 0);
    }
}

/* Does anything else use a cluster of [host, host + len)? */
static bool is_shared(const struct repair *repair, uint64_t host, uint64_t len)
{
    for (uint64_t at = host; at < host + len; at += repair->q->cluster_size)
        if (qcow2_ledger_get(repair->ledger, at) != 1)
            return true;
    return false;
}

/* Put an L1 table that has changed, or that must move, to another place. */
static int replace_l1(struct repair *repair, const uint64_t *old, const uint64_t *entries,
                      uint32_t n, uint64_t *host)
{
    uint64_t len = n * sizeof(uint64_t);
    int r;

    if (n == 0 || (memcmp(old, entries, len) == 0 && !is_shared(repair, *host, len)))
        return 0;
    r = qcow2_ledger_add(repair->ledger, *host, len, -1);
    return r < 0 ? r : qcow2_put_l1(repair->ledger, entries, n, host);
}

/* Report wrong COPIED flags of the active L1 table, as long as all tables are where they were. */
static void check_l1_flags(struct repair *repair)
{
    const struct qcow2_table *l1 = &repair->q->l1;

    for (uint32_t i = 0; i < l1->n; i++) {
        uint64_t entry = qcow2_repair_l1_entry(repair->check, l1->entries[i]);
        uint64_t count = entry ? qcow2_ledger_get(repair->ledger, entry & QCOW2_OFF_MASK) : 0;

        if (entry && !flag_is_right(repair, entry, count, 1))
            qcow2_check_say(repair->check,
                            "Repairing OFLAG_COPIED L2 cluster: l1_index=%u l1_entry=%" PRIx64
                            " refcount=%" PRIu64,
                            i, l1->entries[i], count);
    }
}

static int repair_active_l1(struct repair *repair, struct qcow2_switch *next)
{
    const struct qcow2_table *l1 = &repair->q->l1;
    uint64_t *entries = malloc(l1->n * sizeof(uint64_t) + 1);
    int r;

    if (!entries)
        return -ENOMEM;
    memcpy(entries, l1->entries, l1->n * sizeof(uint64_t));
    repair_l1(repair, entries, l1->n);
    r = split_tables(repair, entries, l1->n);
    if (r >= 0) {
        set_l1_copied(repair, entries, l1->n);
        r = replace_l1(repair, l1->entries, entries, l1->n, &next->l1_host);
    }
    free(entries);
    return r;
}

/* ---- snapshots ------------------------------------------------------------------------------- */

static int repair_snapshot_l1(struct repair *repair, struct qcow2_snapshot *snapshot)
{
    uint64_t len = snapshot->l1_n * sizeof(uint64_t);
    uint64_t *entries = NULL;
    uint64_t *old = NULL;
    int r;

    if (len == 0)
        return 0;
    r = qcow2_l1_read(repair->q, snapshot->l1_host, snapshot->l1_n, &old);
    if (r < 0)
        return r;
    entries = malloc(len);
    if (entries) {
        memcpy(entries, old, len);
        repair_l1(repair, entries, snapshot->l1_n);
        r = replace_l1(repair, old, entries, snapshot->l1_n, &snapshot->l1_host);
    } else {
        r = -ENOMEM;
    }
    free(entries);
    free(old);
    return r;
}

/* Is the L1 table of a snapshot in the file? Without one there is nothing of the snapshot. */
static bool has_l1(const struct qcow2_check *check, const struct qcow2_snapshot *snapshot)
{
    return qcow2_check_l1_ok(check, snapshot) &&
           (snapshot->l1_n == 0 ||
            (snapshot->l1_host != 0 &&
             !qcow2_check_outside(check, snapshot->l1_host, snapshot->l1_n * sizeof(uint64_t))));
}

static bool drop_lost_snapshots(struct qcow2_check *check)
{
    struct qcow2_snaptable *table = &check->snapshots;
    uint32_t n = 0;
    bool dropped;

    for (uint32_t i = 0; i < table->n; i++) {
        struct qcow2_snapshot *snapshot = &table->snapshots[i];

        if (has_l1(check, snapshot)) {
            table->snapshots[n++] = *snapshot;
            continue;
        }
        qcow2_check_say(check, "Removing snapshot %u: it has no L1 table", i);
        free(snapshot->id);
        free(snapshot->name);
        free(snapshot->unknown);
    }
    dropped = n < table->n;
    table->n = n;
    return dropped;
}

static bool entries_complete(const struct qcow2_check *check)
{
    for (uint32_t i = 0; check->q->version >= 3 && i < check->snapshots.n; i++)
        if (check->snapshots.snapshots[i].extra_len < QCOW2_SNAPSHOT_EXTRA_V3)
            return false;
    return true;
}

static int replace_snaptable(struct repair *repair, struct qcow2_switch *next)
{
    struct qcow2_snaptable *table = &repair->check->snapshots;
    uint8_t *data = NULL;
    size_t len = 0;
    int r = 0;

    if (!qcow2_check_outside(repair->check, table->host, table->len))
        r = qcow2_ledger_add(repair->ledger, table->host, table->len, -1);
    if (r == 0)
        r = qcow2_snaptable_encode(table, &data, &len);
    if (r < 0)
        return r;
    next->nsnapshots = table->n;
    r = qcow2_put(repair->ledger, data, len, &next->snapshots_host);
    free(data);
    return r;
}

static int repair_snapshots(struct repair *repair, bool changed, struct qcow2_switch *next)
{
    struct qcow2_snaptable *table = &repair->check->snapshots;
    int r = 0;

    changed = changed || table->damaged || !entries_complete(repair->check) ||
              is_shared(repair, table->host, table->len);
    for (uint32_t i = 0; i < table->n && r == 0; i++) {
        uint64_t host = table->snapshots[i].l1_host;

        r = repair_snapshot_l1(repair, &table->snapshots[i]);
        changed = changed || table->snapshots[i].l1_host != host;
    }
    return r == 0 && changed ? replace_snaptable(repair, next) : r;
}

/* ---- one round ------------------------------------------------------------------------------- */

/* Count all references again, with entries as they are to be. */
static int count_repaired(struct qcow2_check *check)
{
    struct qcow2 *q = check->q;
    uint64_t len = q->reftable.n * sizeof(uint64_t);

    if (qcow2_check_outside(check, q->reftable.host, len)) {
        qcow2_table_done(&q->reftable);
        q->reftable.n = 0;
    }
    qcow2_counts_done(&check->ledger->now);
    qcow2_tablist_done(&check->tables);
    qcow2_tablist_init(&check->tables, true);
    check->l1_budget = UINT64_MAX; /* all that is read was read before */
    check->repaired = true;
    check->ledger->max = UINT64_MAX; /* a count that is too large may fit after the repair */
    return qcow2_check_count(check);
}

static int build(struct repair *repair, struct qcow2_switch *next)
{
    struct qcow2_check *check = repair->check;
    bool dropped = drop_lost_snapshots(check);
    int r = count_repaired(check);

    if (r == 0) {
        check_l1_flags(repair);
        r = qcow2_walk_tables(repair->q, &check->tables, &repair->walk);
    }
    if (r == 0)
        r = repair_active_l1(repair, next);
    if (r == 0)
        r = repair_snapshots(repair, dropped, next);
    if (check->drop_bitmaps) {
        next->autoclear &= ~QCOW2_AUTOCLEAR_BITMAPS;
        qcow2_check_say(check, "Removing the bitmaps");
    }
    return r;
}

/* If a cluster of the old refcount table or blocks is free now, report that. */
static void say_freed(struct qcow2_check *check, uint64_t host)
{
    if (qcow2_ledger_get(check->ledger, host) == 0)
        qcow2_check_say(check, "Repairing cluster %" PRIu64 " refcount=1 reference=0",
                        qcow2_cluster_of(check->q, host));
}

/* Switch the image; if refcounts are rebuilt, report which clusters of the old ones are free. */
static int carry_out(struct qcow2_check *check, const struct qcow2_switch *next)
{
    struct qcow2 *q = check->q;
    uint64_t table = q->reftable.host;
    uint32_t n = q->reftable.n;
    uint64_t *blocks = calloc(n + 1, sizeof(*blocks));
    int r = blocks ? 0 : -ENOMEM;

    for (uint32_t i = 0; r == 0 && i < n; i++)
        if (q->reftable.entries[i] && qcow2_ledger_get(check->ledger, q->reftable.entries[i]) == 1)
            blocks[i] = q->reftable.entries[i];
    if (r == 0)
        r = qcow2_switch_over(check->ledger, next);
    for (uint64_t at = 0; r == 0 && check->rebuild && at < n * sizeof(uint64_t);
         at += q->cluster_size)
        say_freed(check, table + at);
    for (uint32_t i = 0; r == 0 && check->rebuild && i < n; i++)
        if (blocks[i])
            say_freed(check, blocks[i]);
    free(blocks);
    return r;
}

/* Repair with one switch. *ret_flags is the number of COPIED flags that were wrong. */
static int repair_once(struct qcow2_check *check, uint64_t *ret_flags)
{
    struct repair repair = {
        .walk = {.visit = visit_table}, .check = check, .q = check->q, .ledger = check->ledger};
    struct qcow2_switch next;
    int r = qcow2_switch_init(check->q, &next);

    qcow2_counts_init(&repair.seen);
    repair.table = malloc(check->q->cluster_size);
    repair.cluster = malloc(check->q->cluster_size);
    if (!repair.table || !repair.cluster)
        r = -ENOMEM;
    if (r == 0)
        r = build(&repair, &next);
    *ret_flags = repair.flags;
    if (r == 0)
        r = carry_out(check, &next);
    qcow2_counts_done(&repair.seen);
    free(repair.table);
    free(repair.cluster);
    free(repair.moves);
    return r < 0 ? err_set_errno(check->err, r, "%s: cannot repair the image", check->q->path) : 0;
}

/* ---- until it is right ----------------------------------------------------------------------- */

/* Check the image again, as it is now. */
static int check_again(struct qcow2_check *check, struct block_check_report *report)
{
    struct qcow2 *q = check->q;
    struct err *err = check->err;
    int r;

    qcow2_check_done(check);
    r = qcow2_check_init(check, q, report, err);
    return r < 0 ? r : qcow2_check_run(check);
}

/* Are clusters past the end of the file counted? That does no harm until the file grows. */
static bool counts_beyond_end(const struct qcow2_check *check)
{
    return qcow2_counts_next(&check->ledger->was, check->nclusters, UINT64_MAX) < UINT64_MAX;
}

/* Is there anything to repair that check->fix allows to be repaired? */
static bool wants_repair(struct qcow2_check *check)
{
    const struct block_check_result *result = &check->result;

    if (qcow2_check_is_right(result) && check->wrong_flags == 0)
        return counts_beyond_end(check);
    if (check->fix & BLOCK_FIX_ERRORS)
        return true;
    if (result->corruptions == 0 && result->check_errors == 0)
        return true;
    qcow2_check_say(check, "Leaks are not repaired as long as there are errors");
    return false;
}

static uint64_t fewer(uint64_t before, uint64_t after)
{
    return before > after ? before - after : 0;
}

/* The image was found right: clear the dirty and corrupt bits, and unknown autoclear bits. */
static int clear_marks(struct qcow2_check *check)
{
    uint64_t marks = QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT;
    struct qcow2 *q = check->q;
    struct qcow2_switch next;
    int r = qcow2_switch_init(q, &next);

    if (r == 0 && !(next.incompatible & marks) && next.autoclear == q->autoclear)
        return 0;
    next.incompatible &= ~marks;
    if (r == 0)
        r = qcow2_switch_over(check->ledger, &next);
    return r < 0 ? err_set_errno(check->err, r, "%s: cannot write the header", q->path) : 0;
}

/*
 * Repair until a check finds nothing wrong. *ret_flags is that of the first round: flags that are
 * wrong later have become so by the repair.
 */
static int repair_rounds(struct qcow2_check *check, struct block_check_report *report,
                         uint64_t *ret_flags)
{
    int r = 0;

    for (int i = 0; i < ROUNDS_MAX && r == 0; i++) {
        uint64_t flags;

        r = repair_once(check, i == 0 ? ret_flags : &flags);
        if (r == 0)
            r = check_again(check, NULL);
        if (r < 0 || qcow2_check_is_right(&check->result))
            return r;
    }
    return r == 0 ? check_again(check, report) : r; /* report what is left */
}

int qcow2_repair(struct qcow2_check *check)
{
    struct qcow2 *q = check->q;
    struct block_check_result before = check->result;
    uint64_t flags = 0;
    int r = 0;

    if (!q->block.writable)
        return err_set(check->err, -EROFS, "%s: open for reading only", q->path);
    if (wants_repair(check)) {
        if (qcow2_check_outside(check, q->l1.host, q->l1.n * sizeof(uint64_t)))
            return err_set(check->err, -EIO,
                           "%s: the L1 table is not in the file: nothing to repair", q->path);
        qcow2_check_say_repair(check);
        r = repair_rounds(check, check->report, &flags);
        before.corruptions += flags;
    } else {
        qcow2_check_report_flags(check);
        before = check->result;
    }
    if (r < 0)
        return r;
    check->result.corruptions_fixed = fewer(before.corruptions, check->result.corruptions);
    check->result.leaks_fixed = fewer(before.leaks, check->result.leaks);
    if (check->result.corruptions == 0 && check->result.check_errors == 0)
        r = clear_marks(check);
    return r;
}
