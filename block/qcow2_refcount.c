/*
 * Which host clusters are in use. Counts go up as soon as a cluster is taken, in memory; they go
 * down only after it is durable that nothing refers to the cluster (qcow2_flush.c).
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/qcow2.h"
#include "vmm/base/bytes.h"
#include "vmm/base/log.h"

/* ---- sets of clusters ----------------------------------------------------------------------------- */

static size_t slot_of(const struct qcow2_set *set, uint64_t cluster)
{
    size_t i = (size_t)((cluster * 0x9e3779b97f4a7c15ull) >> 32) & (set->nslots - 1);

    while (set->slots[i] != 0 && set->slots[i] != cluster)
        i = (i + 1) & (set->nslots - 1);
    return i;
}

bool qcow2_set_has(const struct qcow2_set *set, uint64_t cluster)
{
    return set->nslots > 0 && set->slots[slot_of(set, cluster)] == cluster;
}

static int set_grow(struct qcow2_set *set)
{
    struct qcow2_set bigger = {.nslots = set->nslots ? set->nslots * 2 : 32, .n = set->n};

    bigger.slots = calloc(bigger.nslots, sizeof(*bigger.slots));
    if (!bigger.slots)
        return -ENOMEM;
    for (size_t i = 0; i < set->nslots; i++)
        if (set->slots[i] != 0)
            bigger.slots[slot_of(&bigger, set->slots[i])] = set->slots[i];
    free(set->slots);
    *set = bigger;
    return 0;
}

int qcow2_set_add(struct qcow2_set *set, uint64_t cluster)
{
    size_t i;
    int r;

    if (set->n * 2 >= set->nslots) {
        r = set_grow(set);
        if (r < 0)
            return r;
    }
    i = slot_of(set, cluster);
    if (set->slots[i] == cluster)
        return -EEXIST;
    set->slots[i] = cluster;
    set->n++;
    return 0;
}

void qcow2_set_remove(struct qcow2_set *set, uint64_t cluster)
{
    size_t mask = set->nslots - 1;
    size_t hole;

    if (!qcow2_set_has(set, cluster))
        return;
    hole = slot_of(set, cluster);
    set->slots[hole] = 0;
    set->n--;

    /* Those behind it, up to the next free slot, may have been pushed along by it. */
    for (size_t i = (hole + 1) & mask; set->slots[i] != 0; i = (i + 1) & mask) {
        uint64_t moved = set->slots[i];

        set->slots[i] = 0;
        set->slots[slot_of(set, moved)] = moved;
    }
}

/* ---- where metadata is ---------------------------------------------------------------------------- */

static uint64_t table_len(const struct qcow2 *q, const struct qcow2_table *table)
{
    return align_up(table->n * sizeof(uint64_t), q->cluster_size);
}

bool qcow2_is_metadata(const struct qcow2 *q, uint64_t host, uint64_t len)
{
    uint64_t last = qcow2_cluster_of(q, host + len - 1);

    if (host < q->cluster_size || ranges_overlap(host, len, q->l1.host, table_len(q, &q->l1)) ||
        ranges_overlap(host, len, q->reftable.host, table_len(q, &q->reftable)))
        return true;
    for (uint64_t cluster = qcow2_cluster_of(q, host); cluster <= last; cluster++)
        if (qcow2_set_has(&q->metadata, cluster))
            return true;
    return false;
}

static int add_table_entries(struct qcow2 *q, const struct qcow2_table *table)
{
    for (uint32_t i = 0; i < table->n; i++) {
        uint64_t host = table->entries[i] & QCOW2_OFF_MASK;
        int r;

        if (host == 0)
            continue;
        if (!is_aligned(host, q->cluster_size) || host >= QCOW2_HOST_MAX ||
            qcow2_is_metadata(q, host, q->cluster_size))
            return -EIO;
        r = qcow2_set_add(&q->metadata, qcow2_cluster_of(q, host));
        if (r < 0)
            return r;
    }
    return 0;
}

int qcow2_find_metadata(struct qcow2 *q)
{
    int r = add_table_entries(q, &q->l1);

    return r < 0 ? r : add_table_entries(q, &q->reftable);
}

/* ---- counts --------------------------------------------------------------------------------------- */

/* A refcount in its slice. */
struct count {
    struct qcow2_slice *slice;
    unsigned i;
    unsigned n; /* counts in the slice */
};

static uint64_t count_get(const struct qcow2 *q, const struct count *count)
{
    const uint8_t *data = count->slice->data;
    size_t i = count->i;

    switch (q->refcount_order) {
    case 3:
        return data[i];
    case 4:
        return load_be16(data + 2 * i);
    case 5:
        return load_be32(data + 4 * i);
    case 6:
        return load_be64(data + 8 * i);
    default: { /* several to a byte, the first in the lowest bits */
        unsigned bits = 1u << q->refcount_order;
        unsigned per_byte = 8 / bits;

        return (data[i / per_byte] >> (i % per_byte * bits)) & ((1u << bits) - 1);
    }
    }
}

static void count_set(struct qcow2 *q, const struct count *count, uint64_t value)
{
    uint8_t *data = count->slice->data;
    size_t i = count->i;

    switch (q->refcount_order) {
    case 3:
        data[i] = (uint8_t)value;
        break;
    case 4:
        store_be16(data + 2 * i, (uint16_t)value);
        break;
    case 5:
        store_be32(data + 4 * i, (uint32_t)value);
        break;
    case 6:
        store_be64(data + 8 * i, value);
        break;
    default: {
        unsigned bits = 1u << q->refcount_order;
        unsigned per_byte = 8 / bits;
        unsigned shift = i % per_byte * bits;
        unsigned mask = ((1u << bits) - 1) << shift;

        data[i / per_byte] = (uint8_t)((data[i / per_byte] & ~mask) | (value << shift));
    }
    }
    qcow2_slice_dirty(q, count->slice);
}

/* Get the count of a cluster whose refcount block exists; to be put with qcow2_slice_put. */
static int count_find(struct qcow2 *q, uint64_t cluster, struct count *ret_count)
{
    uint64_t block = cluster >> q->refblock_bits;
    uint64_t in_block = cluster & ((1ull << q->refblock_bits) - 1);
    unsigned per_slice_bits = q->slice_bits + 3 - q->refcount_order;
    uint64_t host;

    if (block >= q->reftable.n)
        return -ENOENT;
    host = q->reftable.entries[block] & QCOW2_OFF_MASK;
    if (host == 0)
        return -ENOENT;
    ret_count->n = 1u << per_slice_bits;
    ret_count->i = (unsigned)(in_block & (ret_count->n - 1));
    return qcow2_slice_get(q, QCOW2_REFBLOCK,
                           host + ((in_block >> per_slice_bits) << q->slice_bits),
                           &ret_count->slice);
}

/* ---- new refcount blocks and tables ---------------------------------------------------------------- */

static void extend_file(struct qcow2 *q, uint64_t end)
{
    q->file_end = max_u64(q->file_end, end);
}

/*
 * Make a cluster read as zero in the file, and the file long enough to hold it, before it becomes a
 * table: entries nobody has written are read from there.
 */
static int zero_new_table(struct qcow2 *q, uint64_t host, uint64_t len, bool fresh)
{
    uint64_t last = qcow2_slice_size(q);
    int r = 0;

    if (!fresh)
        r = file_zero(q->block.file, host, len, false);
    return r < 0 ? r : file_write(q->block.file, host + len - last, file_zeroes, last);
}

/*
 * A part of the file that no refcount block covers yet is free, all of it. Its block goes into its
 * first cluster and counts itself, so that making it needs no other allocation.
 */
static int new_refblock(struct qcow2 *q, uint32_t block)
{
    uint64_t cluster = (uint64_t)block << q->refblock_bits;
    uint64_t host = cluster << q->cluster_bits;
    struct count count;
    int r;

    if (qcow2_is_metadata(q, host, q->cluster_size))
        return qcow2_mark_corrupt(q, "metadata lies where no refcount block counts it", host);
    r = zero_new_table(q, host, q->cluster_size, host >= q->file_end);
    if (r < 0)
        return r;
    r = qcow2_set_add(&q->metadata, cluster);
    if (r < 0)
        return r;
    extend_file(q, host + q->cluster_size);
    qcow2_table_set(&q->reftable, block, host);
    r = count_find(q, cluster, &count);
    if (r < 0) {
        qcow2_set_remove(&q->metadata, cluster);
        qcow2_table_set(&q->reftable, block, 0);
        return r;
    }
    count_set(q, &count, 1);
    qcow2_slice_put(q, count.slice);
    return 0;
}

/* The bytes of a refcount block whose first `n` counts are one. */
static void fill_refblock(struct qcow2 *q, uint8_t *data, uint64_t n)
{
    unsigned bits = 1u << q->refcount_order;

    memset(data, 0, q->cluster_size);
    for (uint64_t i = 0; i < n; i++) {
        if (bits < 8)
            data[i * bits / 8] |= (uint8_t)(1u << (i * bits % 8));
        else
            data[(i + 1) * bits / 8 - 1] = 1; /* big endian: the last byte is the lowest */
    }
}

/* Where a larger refcount table goes: past all that the present one covers. */
struct bigger_reftable {
    uint64_t cluster; /* first: refcount blocks, then the table */
    uint32_t nblocks;
    uint32_t table_clusters;
    struct qcow2_table table;
};

/*
 * At the first cluster that the present table cannot count:
 *
 *     | block | ... | block |  table ...  |
 *
 * with as many blocks as it takes to count themselves and the table.
 */
static int plan_reftable(const struct qcow2 *q, struct bigger_reftable *plan)
{
    uint64_t per_cluster = q->cluster_size / sizeof(uint64_t);
    uint64_t per_block = 1ull << q->refblock_bits;
    uint64_t entries = q->reftable.n + max_u64(q->reftable.n / 2, per_cluster);
    uint64_t blocks;

    plan->table_clusters = (uint32_t)div_round_up(entries, per_cluster);
    blocks = 1;
    while (blocks * per_block < blocks + plan->table_clusters)
        blocks++;
    plan->nblocks = (uint32_t)blocks;
    plan->cluster = (uint64_t)q->reftable.n << q->refblock_bits;
    plan->table.n = (uint32_t)(plan->table_clusters * per_cluster);
    plan->table.host = (plan->cluster + blocks) << q->cluster_bits;
    if (plan->table.n * sizeof(uint64_t) > QCOW2_REFTABLE_BYTES_MAX ||
        q->reftable.n + blocks > plan->table.n || plan->table.host >= QCOW2_HOST_MAX)
        return -EFBIG;
    return 0;
}

static int write_refblocks(struct qcow2 *q, const struct bigger_reftable *plan)
{
    uint64_t left = plan->nblocks + plan->table_clusters;
    uint8_t *data = malloc(q->cluster_size);
    int r = 0;

    if (!data)
        return -ENOMEM;
    for (uint32_t i = 0; i < plan->nblocks && r == 0; i++) {
        uint64_t n = min_u64(left, 1ull << q->refblock_bits);

        fill_refblock(q, data, n);
        left -= n;
        r = file_write(q->block.file, (plan->cluster + i) << q->cluster_bits, data,
                       q->cluster_size);
    }
    free(data);
    return r;
}

static int write_reftable(struct qcow2 *q, const struct bigger_reftable *plan)
{
    size_t len = plan->table.n * sizeof(uint64_t);
    uint8_t *data = malloc(len);
    int r;

    if (!data)
        return -ENOMEM;
    for (uint32_t i = 0; i < plan->table.n; i++)
        store_be64(data + i * sizeof(uint64_t), plan->table.entries[i]);
    r = file_write(q->block.file, plan->table.host, data, len);
    free(data);
    return r;
}

static int load_bigger(struct qcow2 *q, struct bigger_reftable *plan)
{
    struct qcow2_table *table = &plan->table;
    int r = 0;

    table->entries = calloc(table->n, sizeof(uint64_t));
    table->dirty = calloc(div_round_up(table->n, 64ull * QCOW2_TABLE_PART), sizeof(uint64_t));
    if (!table->entries || !table->dirty)
        return -ENOMEM;
    memcpy(table->entries, q->reftable.entries, q->reftable.n * sizeof(uint64_t));
    for (uint32_t i = 0; i < plan->nblocks && r == 0; i++) {
        table->entries[q->reftable.n + i] = (plan->cluster + i) << q->cluster_bits;
        r = qcow2_set_add(&q->metadata, plan->cluster + i);
    }
    return r;
}

/*
 * The new table is complete and durable before the header points at it. Old entries of the present
 * table that are not written yet stay behind in memory only: blocks they point at would be lost in a
 * crash, so the table is brought up to date with everything else first.
 */
static int switch_reftable(struct qcow2 *q, struct bigger_reftable *plan)
{
    struct qcow2_table old = q->reftable;
    int r = qcow2_write_back(q);

    if (r == 0)
        r = write_refblocks(q, plan);
    if (r == 0)
        r = write_reftable(q, plan);
    if (r == 0)
        r = file_sync(q->block.file);
    if (r == 0)
        r = qcow2_write_reftable_pointer(q, plan->table.host, plan->table_clusters);
    if (r < 0)
        return r;
    q->reftable = plan->table;
    extend_file(q, plan->table.host + plan->table.n * sizeof(uint64_t));
    qcow2_freed_add(&q->freed, qcow2_cluster_of(q, old.host), table_len(q, &old) >> q->cluster_bits,
                    false);
    qcow2_table_done(&old);
    return 0;
}

static int grow_reftable(struct qcow2 *q)
{
    struct bigger_reftable plan = {0};
    int r = plan_reftable(q, &plan);
    uint64_t host = plan.cluster << q->cluster_bits;

    if (r == 0 && qcow2_is_metadata(q, host, plan.table.host - host + table_len(q, &plan.table)))
        r = qcow2_mark_corrupt(q, "metadata lies where no refcount block counts it", host);
    if (r == 0)
        r = load_bigger(q, &plan);
    if (r == 0)
        r = switch_reftable(q, &plan);
    if (r < 0) {
        for (uint32_t i = 0; i < plan.nblocks; i++)
            qcow2_set_remove(&q->metadata, plan.cluster + i);
        qcow2_table_done(&plan.table);
    }
    return r;
}

/* Make sure that the cluster's refcount exists. */
static int ensure_counted(struct qcow2 *q, uint64_t cluster)
{
    uint64_t block = cluster >> q->refblock_bits;

    if (cluster >= QCOW2_HOST_MAX >> q->cluster_bits)
        return -EFBIG;
    if (block >= q->reftable.n)
        return grow_reftable(q);
    if ((q->reftable.entries[block] & QCOW2_OFF_MASK) == 0)
        return new_refblock(q, (uint32_t)block);
    return 0;
}

/* ---- allocation ------------------------------------------------------------------------------------ */

/*
 * Take the first run of free clusters from `cluster` on, within one slice. *ret_n is 0, and
 * *ret_next where to go on, if the slice has none.
 */
static int alloc_in_slice(struct qcow2 *q, uint64_t cluster, uint64_t want, uint64_t *ret_cluster,
                          uint64_t *ret_n, uint64_t *ret_next)
{
    struct count count;
    uint64_t base;
    uint64_t n = 0;
    int r = count_find(q, cluster, &count);

    if (r < 0)
        return r;
    base = cluster - count.i;
    while (count.i < count.n && count_get(q, &count) != 0)
        count.i++;
    *ret_cluster = base + count.i;
    for (; n < want && count.i < count.n && count_get(q, &count) == 0; count.i++, n++) {
        uint64_t host = (base + count.i) << q->cluster_bits;

        if (qcow2_is_metadata(q, host, q->cluster_size)) {
            qcow2_slice_put(q, count.slice);
            return qcow2_mark_corrupt(q, "metadata is counted as free", host);
        }
    }
    for (uint64_t i = 0; i < n; i++) {
        count.i = (unsigned)(*ret_cluster + i - base);
        count_set(q, &count, 1);
    }
    *ret_n = n;
    *ret_next = n > 0 ? *ret_cluster + n : base + count.n;
    qcow2_slice_put(q, count.slice);
    return 0;
}

int qcow2_alloc_clusters(struct qcow2 *q, uint64_t want, uint64_t *ret_cluster, uint64_t *ret_n,
                         bool *ret_fresh)
{
    uint64_t n = 0;
    uint64_t host;
    int r;

    if (q->corrupt)
        return -EIO;
    while (n == 0) {
        r = ensure_counted(q, q->next_cluster);
        if (r == 0)
            r = alloc_in_slice(q, q->next_cluster, want, ret_cluster, &n, &q->next_cluster);
        if (r < 0)
            return r;
    }
    host = *ret_cluster << q->cluster_bits;

    /* A run that begins before the end of the file is cut there: fresh is true for all or none. */
    if (host < q->file_end && host + (n << q->cluster_bits) > q->file_end) {
        uint64_t keep = (q->file_end - host) >> q->cluster_bits;

        qcow2_unalloc_clusters(q, *ret_cluster + keep, n - keep);
        n = keep;
    }
    *ret_fresh = host >= q->file_end;
    *ret_n = n;
    extend_file(q, host + (n << q->cluster_bits));
    return 0;
}

/* Lower a count by one. */
static int count_down(struct qcow2 *q, uint64_t cluster)
{
    struct count count;
    uint64_t value;
    int r = count_find(q, cluster, &count);

    if (r == -ENOENT)
        return qcow2_mark_corrupt(q, "a cluster in use is not counted", cluster << q->cluster_bits);
    if (r < 0)
        return r;
    value = count_get(q, &count);
    if (value > 0)
        count_set(q, &count, value - 1);
    qcow2_slice_put(q, count.slice);
    if (value == 0)
        return qcow2_mark_corrupt(q, "a cluster in use is counted as free",
                                  cluster << q->cluster_bits);
    if (value == 1)
        q->next_cluster = min_u64(q->next_cluster, cluster);
    return 0;
}

void qcow2_unalloc_clusters(struct qcow2 *q, uint64_t cluster, uint64_t n)
{
    /* What cannot be given back is lost space, which the image checker finds. */
    for (uint64_t i = 0; i < n; i++)
        if (count_down(q, cluster + i) < 0)
            return;
}

/* ---- release --------------------------------------------------------------------------------------- */

void qcow2_freed_add(struct qcow2_freed *freed, uint64_t cluster, uint64_t n, bool punch)
{
    if (freed->n > 0) {
        struct qcow2_run *last = &freed->runs[freed->n - 1];

        if (last->cluster + last->n == cluster && last->punch == punch) {
            last->n += n;
            return;
        }
    }
    if (freed->n == freed->max) {
        size_t max = freed->max ? freed->max * 2 : 16;
        struct qcow2_run *runs = realloc(freed->runs, max * sizeof(*runs));

        if (!runs)
            return; /* lost space, which the image checker finds */
        freed->runs = runs;
        freed->max = max;
    }
    freed->runs[freed->n++] = (struct qcow2_run){cluster, n, punch};
}

void qcow2_freed_move(struct qcow2_freed *to, struct qcow2_freed *from)
{
    for (size_t i = 0; i < from->n; i++)
        qcow2_freed_add(to, from->runs[i].cluster, from->runs[i].n, from->runs[i].punch);
    free(from->runs);
    *from = (struct qcow2_freed){0};
}

static bool is_last_reference(struct qcow2 *q, uint64_t cluster)
{
    struct count count;
    bool last;

    if (qcow2_is_metadata(q, cluster << q->cluster_bits, q->cluster_size) ||
        count_find(q, cluster, &count) < 0)
        return false;
    last = count_get(q, &count) == 1;
    qcow2_slice_put(q, count.slice);
    return last;
}

/*
 * Give the space of clusters that nothing else refers to back to the host. They are still counted,
 * so nobody can take one while its hole is being punched.
 */
static void punch_run(struct qcow2 *q, const struct qcow2_run *run)
{
    uint64_t first = run->cluster;
    uint64_t end = run->cluster + run->n;

    while (first < end) {
        uint64_t n = 0;

        while (first + n < end && is_last_reference(q, first + n))
            n++;
        /* A hint: where it fails the space stays with the file, free for reuse. */
        if (n > 0 &&
            file_zero_fast(q->block.file, first << q->cluster_bits, n << q->cluster_bits, true) < 0)
            return;
        first += n + 1;
    }
}

/* Stops at the first failure: what remains is lost space, which the image checker finds. */
static int count_down_run(struct qcow2 *q, const struct qcow2_run *run)
{
    int r = 0;

    for (uint64_t c = run->cluster; c < run->cluster + run->n && r == 0; c++) {
        if (qcow2_is_metadata(q, c << q->cluster_bits, q->cluster_size))
            r = qcow2_mark_corrupt(q, "metadata was used as data", c << q->cluster_bits);
        else
            r = count_down(q, c);
    }
    return r;
}

void qcow2_release(struct qcow2 *q)
{
    struct qcow2_freed freed = q->unreferenced;

    if (freed.n == 0)
        return;
    q->unreferenced = (struct qcow2_freed){0};
    for (size_t i = 0; i < freed.n; i++)
        if (freed.runs[i].punch)
            punch_run(q, &freed.runs[i]);

    co_mutex_lock(&q->lock);
    for (size_t i = 0; i < freed.n; i++)
        if (count_down_run(q, &freed.runs[i]) < 0)
            break;
    co_mutex_unlock(&q->lock);
    free(freed.runs);
}
