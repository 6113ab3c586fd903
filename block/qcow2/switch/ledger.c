/*
 * Counts in memory, trees, and space for new tables. The switch to them is in switch/switch.c.
 */
#include "block/qcow2/switch/ledger.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2/format/counter.h"
#include "block/qcow2/switch/walk.h"

/* New tables that lie side by side leave in one write of at most this, or of one table. */
#define WRITE_LEN (1u << 20)

/* ---- life ------------------------------------------------------------------------------------ */

int qcow2_refs_new(struct qcow2 *q, struct qcow2_refs **ret_refs)
{
    struct qcow2_refs *refs;
    int r = q->block.writable ? qcow2_close(&q->block) : 0; /* writes all back */

    if (r == 0 && q->block.writable)
        r = qcow2_barrier_at_first(q);
    if (r < 0)
        return r;
    if (!q->reftable.entries) {
        r = qcow2_table_load(q, &q->reftable, NULL);
        if (r < 0)
            return r;
    }
    refs = calloc(1, sizeof(*refs));
    if (!refs)
        return -ENOMEM;
    refs->q = q;
    refs->max = qcow2_counter_max(q->refcount_order);
    refs->move_from = UINT64_MAX;
    qcow2_counts_init(&refs->was);
    qcow2_counts_init(&refs->now);
    *ret_refs = refs;
    return 0;
}

void qcow2_refs_free(struct qcow2_refs *refs)
{
    if (!refs)
        return;
    qcow2_counts_done(&refs->was);
    qcow2_counts_done(&refs->now);
    free(refs->dropped.slots);
    free(refs);
}

/* ---- counts in the file ---------------------------------------------------------------------- */

struct count_loader {
    struct qcow2_walk walk;
    struct qcow2_refs *refs;
};

static int load_block(struct qcow2_walk *walk, const struct qcow2_tabref *ref, const uint8_t *data)
{
    struct qcow2_refs *refs = container_of(walk, struct count_loader, walk)->refs;
    unsigned order = refs->q->refcount_order;
    uint64_t first = ref->index << refs->q->refblock_bits;
    int r = 0;

    for (uint64_t i = 0; data && i >> refs->q->refblock_bits == 0 && r == 0; i++) {
        uint64_t count = qcow2_counter_get(order, data, i);

        if (count)
            r = qcow2_counts_set(&refs->was, first + i, count);
        if (count && r == 0)
            r = qcow2_counts_set(&refs->now, first + i, count);
    }
    return r;
}

bool qcow2_refblock_ok(const struct qcow2 *q, uint64_t entry)
{
    return entry != 0 && (entry & QCOW2_REFTABLE_RESERVED) == 0 &&
           is_aligned(entry, q->cluster_size) && entry < q->file_end;
}

int qcow2_refs_load(struct qcow2_refs *refs)
{
    struct qcow2 *q = refs->q;
    struct count_loader loader = {.walk = {.visit = load_block}, .refs = refs};
    struct qcow2_tablist list;
    int r = qcow2_settle(q);

    if (r < 0)
        return r;
    if (q->incompatible & QCOW2_INCOMPAT_DIRTY)
        return -EUCLEAN;
    qcow2_tablist_init(&list, false);
    for (uint32_t i = 0; i < q->reftable.n && r == 0; i++) {
        struct qcow2_tabref ref = {.host = q->reftable.entries[i], .index = i, .refs = 1};

        if (ref.host == 0)
            continue;
        r = qcow2_refblock_ok(q, ref.host) ? qcow2_tablist_add(&list, &ref) : -EIO;
    }
    if (r == 0)
        r = qcow2_walk_tables(q, &list, &loader.walk);
    qcow2_tablist_done(&list);
    return r;
}

/* ---- counts in memory ------------------------------------------------------------------------ */

uint64_t qcow2_refs_get(const struct qcow2_refs *refs, uint64_t host)
{
    return qcow2_counts_get(&refs->now, qcow2_cluster_of(refs->q, host));
}

static int add_one(struct qcow2_refs *refs, uint64_t cluster, int64_t delta)
{
    uint64_t count = qcow2_counts_get(&refs->now, cluster);
    uint64_t by = delta < 0 ? -(uint64_t)delta : (uint64_t)delta;

    if (delta < 0 ? count < by : refs->max - count < by)
        return -ERANGE;
    count += (uint64_t)delta;

    /* The present state may use it although it is not counted there. */
    if (count == 0 && delta < 0 && qcow2_counts_get(&refs->was, cluster) == 0) {
        int r = qcow2_set_add(&refs->dropped, cluster);

        if (r < 0 && r != -EEXIST)
            return r;
    }
    return qcow2_counts_set(&refs->now, cluster, count);
}

int qcow2_refs_add(struct qcow2_refs *refs, uint64_t host, uint64_t len, int64_t delta)
{
    uint64_t last;
    int r = 0;

    if (len == 0)
        return 0;
    if (!add_u64(host, len - 1, &last))
        return -EIO;
    last = qcow2_cluster_of(refs->q, last);
    for (uint64_t c = qcow2_cluster_of(refs->q, host); c <= last && r == 0; c++)
        r = add_one(refs, c, delta);
    return r;
}

/* ---- trees ----------------------------------------------------------------------------------- */

int qcow2_l1_read(struct qcow2 *q, uint64_t host, uint32_t n, uint64_t **ret_entries)
{
    uint64_t end = q->cut_short ? QCOW2_HOST_MAX : q->file_end;
    uint64_t len = (uint64_t)n * sizeof(uint64_t);
    uint64_t *entries;
    int r;

    if (len > QCOW2_L1_BYTES_MAX || !is_aligned(host, q->cluster_size) ||
        (n > 0 && (host == 0 || !range_fits(host, len, end))))
        return -EIO;
    entries = malloc(len + 1);
    if (!entries)
        return -ENOMEM;
    r = qcow2_meta_read(q, host, entries, len);
    if (r < 0) {
        free(entries);
        return r;
    }
    for (uint32_t i = 0; i < n; i++)
        entries[i] = be64toh(entries[i]);
    *ret_entries = entries;
    return 0;
}

static bool l1_entry_ok(const struct qcow2 *q, uint64_t entry)
{
    uint64_t host = entry & QCOW2_OFF_MASK;

    return (entry & QCOW2_L1_RESERVED) == 0 && is_aligned(host, q->cluster_size) &&
           host < q->file_end;
}

int qcow2_list_tables(const struct qcow2 *q, const uint64_t *entries, uint32_t n,
                      struct qcow2_tablist *list)
{
    int r = 0;

    for (uint32_t i = 0; i < n && r == 0; i++) {
        struct qcow2_tabref ref = {.host = entries[i] & QCOW2_OFF_MASK, .index = i, .refs = 1};

        if (entries[i] == 0)
            continue;
        r = l1_entry_ok(q, entries[i]) ? 0 : -EIO;
        if (r == 0 && ref.host)
            r = qcow2_tablist_add(list, &ref);
    }
    return r;
}

struct tree_adder {
    struct qcow2_walk walk;
    struct qcow2_refs *refs;
    unsigned parts;
    int64_t delta;
};

static bool data_entry_ok(const struct qcow2 *q, const struct qcow2_l2_entry *entry)
{
    return (entry->kind == QCOW2_L2_PACKED || is_aligned(entry->host, q->cluster_size)) &&
           entry->host < q->file_end;
}

static int add_table(struct qcow2_walk *walk, const struct qcow2_tabref *ref, const uint8_t *data)
{
    struct tree_adder *adder = container_of(walk, struct tree_adder, walk);
    struct qcow2 *q = adder->refs->q;
    int64_t delta = adder->delta * (int64_t)ref->refs;
    int r = 0;

    if (adder->parts & QCOW2_TREE_TABLES)
        r = qcow2_refs_add(adder->refs, ref->host, q->cluster_size, delta);
    if (!(adder->parts & QCOW2_TREE_DATA) || !data || qcow2_has_data_file(q))
        return r;
    for (unsigned i = 0; i < qcow2_l2_entries(q) && r == 0; i++) {
        struct qcow2_l2_entry entry;

        qcow2_l2_decode(q, data, i, &entry);
        if (entry.kind == QCOW2_L2_UNALLOCATED || entry.kind == QCOW2_L2_ZERO)
            continue;
        r = data_entry_ok(q, &entry) ? qcow2_refs_add(adder->refs, entry.host, entry.len, delta)
                                     : -EIO;
    }
    return r;
}

int qcow2_refs_add_tree(struct qcow2_refs *refs, const uint64_t *entries, uint32_t n,
                        unsigned parts, int64_t delta)
{
    struct tree_adder adder = {
        .walk = {.visit = add_table}, .refs = refs, .parts = parts, .delta = delta};
    struct qcow2_tablist list;
    int r;

    qcow2_tablist_init(&list, true);
    r = qcow2_list_tables(refs->q, entries, n, &list);
    if (r == 0)
        r = qcow2_walk_tables(refs->q, &list, &adder.walk);
    qcow2_tablist_done(&list);
    return r;
}

/* ---- new clusters ---------------------------------------------------------------------------- */

static bool is_free(const struct qcow2_refs *refs, uint64_t cluster)
{
    return qcow2_counts_get(&refs->now, cluster) == 0 &&
           qcow2_counts_get(&refs->was, cluster) == 0 && !qcow2_set_has(&refs->dropped, cluster);
}

int qcow2_refs_alloc(struct qcow2_refs *refs, uint64_t len, uint64_t *ret_host)
{
    struct qcow2 *q = refs->q;
    uint64_t want = div_round_up(len, q->cluster_size);
    uint64_t first = max_u64(refs->next, 1); /* the header's is never free */
    uint64_t n = 0;
    int r;

    while (n < want) {
        if (first + n >= QCOW2_COUNTS_CLUSTERS_MAX)
            return -EFBIG;
        if (is_free(refs, first + n)) {
            n++;
        } else {
            first += n + 1;
            n = 0;
        }
    }
    r = qcow2_refs_add(refs, first << q->cluster_bits, want << q->cluster_bits, 1);
    if (r < 0)
        return r;
    /* Even if this is never committed: the clusters do not read as zero any more. */
    q->file_end = max_u64(q->file_end, (first + want) << q->cluster_bits);
    if (want == 1)
        refs->next = first + 1; /* a long run may have passed over single clusters */
    *ret_host = first << q->cluster_bits;
    return 0;
}

int qcow2_refs_put(struct qcow2_refs *refs, const void *data, size_t len, uint64_t *ret_host)
{
    uint64_t host = 0;
    int r = len > 0 ? qcow2_refs_alloc(refs, len, &host) : 0;

    if (r == 0 && len > 0)
        r = qcow2_meta_write(refs->q, host, data, len);
    if (r == 0)
        *ret_host = host;
    return r;
}

int qcow2_refs_put_l1(struct qcow2_refs *refs, const uint64_t *entries, uint32_t n,
                      uint64_t *ret_host)
{
    /* Whole sectors: the table is written back in such parts later. */
    size_t len = align_up(n * sizeof(uint64_t), QCOW2_TABLE_PART * sizeof(uint64_t));
    uint64_t *data = calloc(1, len + 1);
    int r;

    if (!data)
        return -ENOMEM;
    for (uint32_t i = 0; i < n; i++)
        data[i] = htobe64(entries[i]);
    r = qcow2_refs_put(refs, data, len, ret_host);
    free(data);
    return r;
}

/* ---- copies of L2 tables --------------------------------------------------------------------- */

/* Tables on their way into the file, as long as each lies behind the one before. */
struct writer {
    struct qcow2 *q;
    uint8_t *buf;
    size_t max; /* bytes */
    size_t len;
    uint64_t host;
};

static int writer_flush(struct writer *writer)
{
    int r = 0;

    if (writer->len > 0)
        r = qcow2_meta_write(writer->q, writer->host, writer->buf, writer->len);
    writer->len = 0;
    return r;
}

/* Room for a table at `host`, to be filled before the next call. */
static int writer_add(struct writer *writer, uint64_t host, uint8_t **ret_table)
{
    int r = 0;

    if (writer->len == writer->max || host != writer->host + writer->len)
        r = writer_flush(writer);
    if (r < 0)
        return r;
    if (writer->len == 0)
        writer->host = host;
    *ret_table = writer->buf + writer->len;
    writer->len += writer->q->cluster_size;
    return 0;
}

struct copier {
    struct qcow2_walk walk;
    struct qcow2_refs *refs;
    enum qcow2_copy which;
    uint64_t *entries; /* of the L1 table */
    struct writer writer;
};

/* The entry as it should be: with COPIED if nothing else refers to its cluster. */
static uint64_t right_entry(const struct qcow2_refs *refs, const struct qcow2_l2_entry *entry)
{
    switch (entry->kind) {
    case QCOW2_L2_ZERO_SPACE:
    case QCOW2_L2_NORMAL:
        if (qcow2_has_data_file(refs->q) || qcow2_refs_get(refs, entry->host) == 1)
            return entry->entry | QCOW2_COPIED;
        return entry->entry & ~QCOW2_COPIED;
    case QCOW2_L2_PACKED:
        return entry->entry & ~QCOW2_COPIED;
    default:
        return entry->entry;
    }
}

static bool flags_right(const struct qcow2_refs *refs, const uint8_t *table)
{
    for (unsigned i = 0; table && i < qcow2_l2_entries(refs->q); i++) {
        struct qcow2_l2_entry entry;

        qcow2_l2_decode(refs->q, table, i, &entry);
        if (right_entry(refs, &entry) != entry.entry)
            return false;
    }
    return true;
}

/* `table`: NULL for zeroes. */
static int copy_table(struct copier *copier, const uint8_t *table, uint64_t host)
{
    struct qcow2 *q = copier->refs->q;
    uint8_t *copy;
    int r = writer_add(&copier->writer, host, &copy);

    if (r < 0)
        return r;
    if (!table) {
        memset(copy, 0, q->cluster_size);
        return 0;
    }
    memcpy(copy, table, q->cluster_size);
    for (unsigned i = 0; i < qcow2_l2_entries(q); i++) {
        struct qcow2_l2_entry entry;

        qcow2_l2_decode(q, table, i, &entry);
        if (entry.entry != 0)
            store_be64(copy + ((size_t)i << q->l2_entry_bits), right_entry(copier->refs, &entry));
    }
    return 0;
}

static int visit_copied(struct qcow2_walk *walk, const struct qcow2_tabref *ref,
                        const uint8_t *data)
{
    struct copier *copier = container_of(walk, struct copier, walk);
    struct qcow2_refs *refs = copier->refs;
    uint64_t host;
    int r;

    if (copier->which == QCOW2_COPY_CHANGED && flags_right(refs, data)) {
        bool alone = qcow2_refs_get(refs, ref->host) == 1;

        copier->entries[ref->index] = ref->host | (alone ? QCOW2_COPIED : 0);
        return 0;
    }
    r = qcow2_refs_alloc(refs, refs->q->cluster_size, &host);
    if (r == 0)
        r = copy_table(copier, data, host);
    if (r == 0 && copier->which == QCOW2_COPY_CHANGED)
        r = qcow2_refs_add(refs, ref->host, refs->q->cluster_size, -1);
    if (r == 0)
        copier->entries[ref->index] = host | QCOW2_COPIED;
    return r;
}

int qcow2_refs_copy_tables(struct qcow2_refs *refs, uint64_t *entries, uint32_t n,
                           enum qcow2_copy which)
{
    struct qcow2 *q = refs->q;
    struct copier copier = {.walk = {.visit = visit_copied},
                            .refs = refs,
                            .which = which,
                            .entries = entries,
                            .writer = {.q = q, .max = max_u64(WRITE_LEN, q->cluster_size)}};
    struct qcow2_tablist list;
    int r;

    copier.writer.buf = malloc(copier.writer.max);
    if (!copier.writer.buf)
        return -ENOMEM;
    qcow2_tablist_init(&list, false);
    r = qcow2_list_tables(q, entries, n, &list);
    if (r == 0)
        r = qcow2_walk_tables(q, &list, &copier.walk);
    if (r == 0)
        r = writer_flush(&copier.writer);
    qcow2_tablist_done(&list);
    free(copier.writer.buf);
    return r;
}
