/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/check/count.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "block/qcow2/check/check_state.h"
#include "block/qcow2/check/repair_entry.h"
#include "block/qcow2/check/report.h"
#include "block/qcow2/format/counts.h"
#include "block/qcow2/format/entry.h"
#include "block/qcow2/format/refblock.h"
#include "block/qcow2/format/set.h"
#include "block/qcow2/meta/bitmap_dir.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/meta/snaptable.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/switch/ledger.h"
#include "block/qcow2/switch/walk.h"

/* The first word of a line that reports an error together with its repair. */
static const char *repair_word(const struct qcow2_check *check)
{
    return check->fix & BLOCK_FIX_ERRORS ? "Repairing" : "ERROR";
}

/* ---- refcounts in the file ------------------------------------------------------------------- */

struct block_loader {
    struct qcow2_walk walk;
    struct qcow2_check *check;
};

static int load_block(struct qcow2_walk *walk, const struct qcow2_tabref *ref, const uint8_t *data)
{
    struct qcow2_check *check = container_of(walk, struct block_loader, walk)->check;
    const struct qcow2 *q = check->q;
    uint64_t first = ref->index << q->refblock_bits;
    int r = 0;

    for (uint64_t i = 0; data && i >> q->refblock_bits == 0 && r == 0; i++) {
        uint64_t count = qcow2_refblock_get(q->refcount_order, data, i);

        if (count)
            r = qcow2_counts_set(&check->ledger->was, first + i, count);
    }
    return r;
}

static int bad_block(struct qcow2_walk *walk, const struct qcow2_tabref *ref, int error)
{
    struct qcow2_check *check = container_of(walk, struct block_loader, walk)->check;
    int r = qcow2_set_add(&check->bad_blocks, ref->index + 1);

    return r == -EEXIST ? 0 : r;
}

bool qcow2_check_bad_block(const struct qcow2_check *check, uint64_t cluster)
{
    return qcow2_set_has(&check->bad_blocks, (cluster >> check->q->refblock_bits) + 1);
}

/*
 * Read the refcount blocks for clusters of the file; those for clusters past its end are skipped.
 */
static int load_counts(struct qcow2_check *check)
{
    const struct qcow2 *q = check->q;
    struct block_loader loader = {.walk = {load_block, bad_block}, .check = check};
    uint64_t n = min_u64(q->reftable.n, (check->nclusters >> q->refblock_bits) + 1);
    struct qcow2_tablist list;
    int r = 0;

    qcow2_tablist_init(&list, false);
    for (uint64_t i = 0; i < n && r == 0; i++) {
        uint64_t host = q->reftable.entries[i] & ~QCOW2_REFTABLE_RESERVED;
        struct qcow2_tabref ref = {.host = host, .index = i, .refs = 1};

        if (host == 0)
            continue;
        if (!is_aligned(host, q->cluster_size) || host > INT64_MAX - q->cluster_size)
            r = bad_block(&loader.walk, &ref, -EIO);
        else if (host < check->file_len)
            r = qcow2_tablist_add(&list, &ref);
    }
    if (r == 0)
        r = qcow2_walk_tables(check->q, &list, &loader.walk);
    qcow2_tablist_done(&list);
    return r < 0 ? err_set_errno(check->err, r, "%s: cannot read the refcounts", q->path) : 0;
}

static void check_snapshot_entries(struct qcow2_check *check)
{
    for (uint32_t i = 0; check->q->version >= 3 && i < check->snapshots.n; i++) {
        if (check->snapshots.snapshots[i].extra_len >= QCOW2_SNAPSHOT_EXTRA_V3)
            continue;
        check->result.corruptions++;
        qcow2_check_say(check, "%s snapshot table entry %u is incomplete", repair_word(check), i);
    }
}

int qcow2_check_load(struct qcow2_check *check)
{
    struct qcow2 *q = check->q;
    int r = load_counts(check);

    if (r == 0)
        r = check->salvage ? qcow2_snaptable_salvage(q, &check->snapshots, check->err)
                           : qcow2_snaptable_read(q, &check->snapshots, check->err);
    if (r < 0)
        return r;
    qcow2_check_error(check, check->snapshots.damaged,
                      "ERROR the snapshot table breaks limits %u times: what is beyond them goes",
                      check->snapshots.damaged);
    check_snapshot_entries(check);
    return 0;
}

/* ---- references ------------------------------------------------------------------------------ */

/* Count `weight` references to each of the clusters that [host, host + len) touches. */
static int refer(struct qcow2_check *check, uint64_t host, uint64_t len, uint64_t weight)
{
    struct qcow2 *q = check->q;
    uint64_t max = check->ledger->max;
    int r = 0;

    if (len == 0)
        return 0;
    if (qcow2_check_outside(check, host, len)) {
        qcow2_check_error(
            check, weight,
            "ERROR: counting reference for region exceeding the end of the file by one cluster or "
            "more: offset %#" PRIx64 " size %#" PRIx64,
            host, len);
        return 0;
    }
    for (uint64_t c = qcow2_cluster_of(q, host); c <= qcow2_cluster_of(q, host + len - 1) && r == 0;
         c++) {
        uint64_t count = qcow2_counts_get(&check->ledger->now, c);
        uint64_t add = min_u64(weight, max - count);

        if (add < weight)
            qcow2_check_error(check, weight - add, "ERROR: overflow cluster offset=%#" PRIx64,
                              c << q->cluster_bits);
        r = qcow2_counts_set(&check->ledger->now, c, count + add);
        check->nclusters = max_u64(check->nclusters, c + 1);
    }
    return r < 0 ? err_set_errno(check->err, r, "%s: cannot count references", q->path) : 0;
}

/* Is COPIED in `entry` right for the cluster at `host`? *ret_count is its refcount in the file. */
static bool copied_is_right(const struct qcow2_check *check, uint64_t entry, uint64_t host,
                            uint64_t *ret_count)
{
    uint64_t cluster = qcow2_cluster_of(check->q, host);

    *ret_count = qcow2_counts_get(&check->ledger->was, cluster);
    return qcow2_check_bad_block(check, cluster) || (*ret_count == 1) == !!(entry & QCOW2_COPIED);
}

/* ---- L2 tables ------------------------------------------------------------------------------- */

static void check_packed(struct qcow2_check *check, const struct qcow2_entry *entry,
                         uint64_t weight)
{
    qcow2_check_error(check, entry->entry & QCOW2_COPIED ? weight : 0,
                      "ERROR: coffset=%#" PRIx64
                      ": copied flag must never be set for compressed clusters",
                      entry->host);
    if (qcow2_has_data_file(check->q))
        qcow2_check_error(check, weight,
                          "ERROR a compressed cluster in an image with a data file: %#" PRIx64,
                          entry->entry);
    else
        qcow2_check_error(
            check, entry->bitmap ? weight : 0,
            "ERROR the entry of a compressed cluster has a subcluster bitmap: %#" PRIx64,
            entry->entry);
}

static bool has_data(const struct qcow2_check *check, const struct qcow2_entry *entry)
{
    if (qcow2_has_subclusters(check->q))
        return entry->bitmap & QCOW2_BITMAP_HELD;
    return entry->kind == QCOW2_NORMAL;
}

static void misplaced_space(struct qcow2_check *check, uint64_t host, uint64_t weight)
{
    check->result.corruptions += weight;
    qcow2_check_say(check,
                    "%s offset=%" PRIx64 ": Preallocated cluster is not properly aligned; L2 entry "
                    "corrupted.",
                    repair_word(check), host);
}

static void check_normal(struct qcow2_check *check, const struct qcow2_entry *entry,
                         uint64_t weight)
{
    if ((entry->bitmap >> 32) & entry->bitmap)
        qcow2_check_error(check, weight,
                          "ERROR the cluster at %#" PRIx64
                          " has subclusters that are data and zero at once",
                          entry->host);
    if (is_aligned(entry->host, check->q->cluster_size))
        return;
    if (has_data(check, entry))
        qcow2_check_error(check, weight,
                          "ERROR offset=%" PRIx64
                          ": Data cluster is not properly aligned; L2 entry corrupted.",
                          entry->host);
    else
        misplaced_space(check, entry->host, weight);
}

/* Report what is wrong with an entry by itself. */
static void check_entry(struct qcow2_check *check, const struct qcow2_entry *entry, uint64_t weight)
{
    if (entry->kind == QCOW2_PACKED) {
        check_packed(check, entry, weight);
        return;
    }
    if (check->q->version < 3 && (entry->entry & QCOW2_ZERO))
        qcow2_check_error(check, weight,
                          "ERROR a zero flag, which version 2 does not have: %#" PRIx64,
                          entry->entry);
    if (entry->entry & QCOW2_L2_RESERVED)
        qcow2_check_error(check, weight, "ERROR an L2 entry has reserved bits set: %#" PRIx64,
                          entry->entry);
    if (entry->kind == QCOW2_UNALLOCATED)
        qcow2_check_error(check, entry->bitmap & QCOW2_BITMAP_HELD ? weight : 0,
                          "ERROR an unallocated cluster has subclusters with data: %#" PRIx64,
                          entry->bitmap);
    else if (entry->has_space)
        check_normal(check, entry, weight);
}

static void check_copied(struct qcow2_check *check, const struct qcow2_entry *entry,
                         uint64_t weight)
{
    uint64_t host = entry->entry & QCOW2_OFF_MASK;
    uint64_t count = 1;
    bool right = entry->entry & QCOW2_COPIED;

    if (entry->kind == QCOW2_PACKED || !entry->has_space)
        return;
    if (!qcow2_has_data_file(check->q))
        right = copied_is_right(check, entry->entry, host, &count);
    if (!right)
        qcow2_check_wrong_copied(check, weight,
                                 "ERROR OFLAG_COPIED data cluster: l2_entry=%" PRIx64
                                 " refcount=%" PRIu64,
                                 entry->entry, count);
}

/* Count the clusters that the disk takes up, and those that do not follow the one before them. */
static void count_fragments(struct qcow2_check *check, const struct qcow2_entry *entry,
                            uint64_t weight, uint64_t *next_host)
{
    struct block_check_result *result = &check->result;

    result->allocated_clusters += weight;
    if (entry->kind == QCOW2_PACKED) {
        result->compressed_clusters += weight;
        result->fragmented_clusters += weight;
        return;
    }
    if (*next_host && *next_host != entry->host)
        result->fragmented_clusters += weight;
    *next_host = entry->host + check->q->cluster_size;
}

/* Does an entry point at space, after the repair if there is to be one? */
static bool takes_space(const struct qcow2_check *check, const struct qcow2_entry *entry)
{
    if (!entry->has_space)
        return false;
    if (entry->kind == QCOW2_PACKED)
        return !qcow2_has_data_file(check->q) && entry->bitmap == 0;
    /* A repair gives up misplaced space without data. */
    return !(check->fix & BLOCK_FIX_ERRORS) || has_data(check, entry) ||
           is_aligned(entry->host, check->q->cluster_size);
}

static int visit_entry(struct qcow2_check *check, const struct qcow2_tabref *ref,
                       struct qcow2_entry *entry, uint64_t *next_host)
{
    if (check->repaired)
        qcow2_repair_l2_entry(check, entry);
    else
        check_entry(check, entry, ref->refs);
    if (!takes_space(check, entry))
        return 0;
    if (ref->active > 0)
        count_fragments(check, entry, ref->active, next_host);
    return qcow2_has_data_file(check->q) ? 0 : refer(check, entry->host, entry->len, ref->refs);
}

static int visit_table(struct qcow2_walk *walk, const struct qcow2_tabref *ref, const uint8_t *data)
{
    struct qcow2_check *check = container_of(walk, struct qcow2_check, walk);
    uint64_t next_host = 0;
    int r = 0;

    for (unsigned i = 0; data && i < qcow2_l2_entries(check->q) && r == 0; i++) {
        struct qcow2_entry entry = qcow2_entry_decode(check->q, data, i);
        if (entry.entry == 0 && entry.bitmap == 0)
            continue;
        if (ref->active > 0 && ref->host != 0)
            check_copied(check, &entry, ref->active);
        r = visit_entry(check, ref, &entry, &next_host);
    }
    return r;
}

static int unreadable_table(struct qcow2_walk *walk, const struct qcow2_tabref *ref, int error)
{
    struct qcow2_check *check = container_of(walk, struct qcow2_check, walk);

    return err_set_errno(check->err, error, "%s: cannot read the L2 table at %#" PRIx64,
                         check->q->path, ref->host);
}

/* ---- L1 tables ------------------------------------------------------------------------------- */

static int visit_l1_entry(struct qcow2_check *check, uint32_t index, uint64_t entry, bool active)
{
    struct qcow2 *q = check->q;
    uint64_t host = entry & QCOW2_OFF_MASK;
    struct qcow2_tabref ref = {.host = host, .index = index, .refs = 1, .active = active};
    uint64_t count = 1;
    bool right = !active || host == 0 || copied_is_right(check, entry, host, &count);
    int r;

    qcow2_check_error(check, entry & QCOW2_L1_RESERVED ? 1u : 0u,
                      "ERROR L1 entry %u has reserved bits set: %#" PRIx64, index, entry);
    r = refer(check, host, q->cluster_size, 1);
    if (r < 0)
        return r;
    qcow2_check_error(
        check, is_aligned(host, q->cluster_size) ? 0u : 1u,
        "ERROR l2_offset=%" PRIx64 ": Table is not cluster aligned; L1 entry corrupted", host);
    qcow2_check_wrong_copied(check, right ? 0u : 1u,
                             "ERROR OFLAG_COPIED L2 cluster: l1_index=%u l1_entry=%" PRIx64
                             " refcount=%" PRIu64,
                             index, entry, count);
    if (host >= check->file_len)
        return 0;
    r = qcow2_tablist_add(&check->tables, &ref);
    return r < 0 ? err_set_errno(check->err, r, "%s: cannot list the L2 tables", q->path) : 0;
}

/*
 * Read a table of `n` numbers of 64 bits: the first *ret_n, as far as the file goes. The caller
 * frees *ret_numbers.
 */
static int read_numbers(struct qcow2_check *check, uint64_t host, uint32_t n,
                        uint64_t **ret_numbers, uint32_t *ret_n)
{
    struct qcow2 *q = check->q;
    uint64_t len = (uint64_t)n * sizeof(uint64_t);
    uint64_t *numbers;
    int r;

    *ret_n = 0;
    *ret_numbers = NULL;
    if (host >= check->file_len)
        return 0;
    len = min_u64(len, align_up(check->file_len - host, sizeof(uint64_t)));
    if (len > check->l1_budget)
        return err_set(check->err, -EFBIG, "%s: the L1 tables overlap, or are too many to check",
                       q->path);
    check->l1_budget -= len;
    numbers = malloc(len + 1);
    if (!numbers)
        return err_set(check->err, -ENOMEM, "%s: out of memory", q->path);
    r = qcow2_meta_read(q, host, numbers, len);
    if (r < 0) {
        free(numbers);
        return err_set_errno(check->err, r, "%s: cannot read the table at %#" PRIx64, q->path,
                             host);
    }
    *ret_numbers = numbers;
    *ret_n = (uint32_t)(len / sizeof(uint64_t));
    for (uint32_t i = 0; i < *ret_n; i++)
        numbers[i] = be64toh(numbers[i]);
    return 0;
}

static int count_l1(struct qcow2_check *check, uint64_t host, uint32_t n, bool active)
{
    uint64_t *entries = NULL;
    uint32_t nread = 0;
    int r = refer(check, host, (uint64_t)n * sizeof(uint64_t), 1);

    if (r == 0)
        r = read_numbers(check, host, n, &entries, &nread);
    if (r < 0)
        return r;
    for (uint32_t i = 0; i < nread && r == 0; i++) {
        uint64_t entry = check->repaired ? qcow2_repair_l1_entry(check, entries[i]) : entries[i];

        if (entry)
            r = visit_l1_entry(check, i, entry, active);
    }
    free(entries);
    return r;
}

/* ---- snapshots ------------------------------------------------------------------------------- */

static int count_snapshots(struct qcow2_check *check)
{
    int r = 0;

    for (uint32_t i = 0; i < check->snapshots.n && r == 0; i++) {
        const struct qcow2_snapshot *snapshot = &check->snapshots.snapshots[i];

        if (qcow2_check_l1_ok(check, snapshot))
            r = count_l1(check, snapshot->l1_host, snapshot->l1_n, false);
        else
            qcow2_check_error(
                check, 1u,
                "ERROR snapshot table entry %u: no L1 table can have %u entries at %#" PRIx64, i,
                snapshot->l1_n, snapshot->l1_host);
    }
    return r < 0 ? r : refer(check, check->snapshots.host, check->snapshots.len, 1);
}

/* ---- bitmaps --------------------------------------------------------------------------------- */

static int count_bitmap(void *opaque, const struct qcow2_bitmap *bitmap)
{
    struct qcow2_check *check = opaque;
    uint64_t *entries = NULL;
    uint32_t n = 0;
    int r = refer(check, bitmap->table_host, (uint64_t)bitmap->table_n * sizeof(uint64_t), 1);

    if (r == 0)
        r = read_numbers(check, bitmap->table_host, bitmap->table_n, &entries, &n);
    if (r < 0)
        return r;
    for (uint32_t i = 0; i < n && r == 0; i++) {
        uint64_t host;

        if (!qcow2_bitmap_entry_ok(check->q, entries[i], &host))
            r = -EINVAL;
        else if (host)
            r = refer(check, host, check->q->cluster_size, 1);
    }
    free(entries);
    return r;
}

static int count_bitmaps(struct qcow2_check *check)
{
    int r;

    if (check->drop_bitmaps)
        return 0;
    r = qcow2_bitmaps_find(check->q, &check->bitmaps);
    if (r == 0 && check->bitmaps.n > 0)
        r = refer(check, check->bitmaps.directory_host, check->bitmaps.directory_len, 1);
    if (r == 0)
        r = qcow2_bitmaps_walk(check->q, &check->bitmaps, count_bitmap, check);
    if (r != -EINVAL)
        return r;
    qcow2_check_error(check, 1u, "ERROR the bitmaps are damaged");
    check->drop_bitmaps = true;
    return 0;
}

/* ---- refcount blocks ------------------------------------------------------------------------- */

/* Can the refcount table's entry be the offset of a block? If not, report it. */
static bool check_block(struct qcow2_check *check, uint32_t index, uint64_t entry)
{
    const struct qcow2 *q = check->q;

    if (entry & QCOW2_REFTABLE_RESERVED) {
        qcow2_check_error(check, 1u, "ERROR refcount table entry %u has reserved bits set", index);
        return false;
    }
    if (!is_aligned(entry, q->cluster_size)) {
        qcow2_check_error(
            check, 1u,
            "ERROR refcount block %u is not cluster aligned; refcount table entry corrupted",
            index);
        return false;
    }
    if (qcow2_cluster_of(q, entry) < check->nclusters)
        return true;
    if (!check->repaired) {
        check->result.corruptions++;
        qcow2_check_say(check, "%s refcount block %u is outside image", repair_word(check), index);
    }
    return false;
}

static int count_blocks(struct qcow2_check *check)
{
    const struct qcow2 *q = check->q;
    int r = 0;

    for (uint32_t i = 0; i < q->reftable.n && r == 0; i++) {
        uint64_t entry = q->reftable.entries[i];
        uint64_t count;

        if (entry == 0)
            continue;
        if (!check_block(check, i, entry))
            continue;
        r = refer(check, entry, q->cluster_size, 1);
        count = qcow2_ledger_get(check->ledger, entry);
        qcow2_check_error(check, count == 1 ? 0u : 1u, "ERROR refcount block %u refcount=%" PRIu64,
                          i, count);
    }
    return r;
}

/* ---- all of it ------------------------------------------------------------------------------- */

int qcow2_check_count(struct qcow2_check *check)
{
    struct qcow2 *q = check->q;
    int r = refer(check, 0, q->cluster_size, 1);

    check->walk = (struct qcow2_walk){visit_table, unreadable_table};
    check->result.total_clusters = div_round_up(q->block.len, q->cluster_size);
    if (r == 0)
        r = count_l1(check, q->l1.host, q->l1.n, true);
    if (r == 0)
        r = count_snapshots(check);
    if (r == 0)
        r = qcow2_walk_tables(q, &check->tables, &check->walk);
    if (r == 0)
        r = refer(check, q->reftable.host, q->reftable.n * sizeof(uint64_t), 1);
    if (r == 0)
        r = count_bitmaps(check);
    if (r == 0)
        r = count_blocks(check);
    return r;
}
