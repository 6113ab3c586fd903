/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/switch/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2/format/entry.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/switch/ledger.h"
#include "block/qcow2/switch/walk.h"

static bool l1_entry_ok(const struct qcow2 *q, uint64_t entry)
{
    uint64_t host = entry & QCOW2_OFF_MASK;

    return (entry & QCOW2_L1_RESERVED) == 0 && is_aligned(host, q->cluster_size) &&
           host < q->file_end;
}

int qcow2_tree_list_tables(const struct qcow2 *q, const uint64_t *entries, uint32_t n,
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

/* ---- counting -------------------------------------------------------------------------------- */

struct tree_adder {
    struct qcow2_walk walk;
    struct qcow2_ledger *ledger;
    unsigned which;
    int64_t delta;
};

static bool data_entry_ok(const struct qcow2 *q, const struct qcow2_entry *entry)
{
    return (entry->kind == QCOW2_PACKED || is_aligned(entry->host, q->cluster_size)) &&
           entry->host < q->file_end;
}

static int add_table(struct qcow2_walk *walk, const struct qcow2_tabref *ref, const uint8_t *data)
{
    struct tree_adder *adder = container_of(walk, struct tree_adder, walk);
    struct qcow2 *q = adder->ledger->q;
    int64_t delta = adder->delta * (int64_t)ref->refs;
    int r = 0;

    if (adder->which & QCOW2_TREE_TABLES)
        r = qcow2_ledger_add(adder->ledger, ref->host, q->cluster_size, delta);
    if (!(adder->which & QCOW2_TREE_DATA) || !data || qcow2_has_data_file(q))
        return r;
    for (unsigned i = 0; i < qcow2_l2_entries(q) && r == 0; i++) {
        struct qcow2_entry entry = qcow2_entry_decode(q, data, i);
        if (!entry.has_space)
            continue;
        r = data_entry_ok(q, &entry) ? qcow2_ledger_add(adder->ledger, entry.host, entry.len, delta)
                                     : -EIO;
    }
    return r;
}

int qcow2_tree_add(struct qcow2_ledger *ledger, const uint64_t *entries, uint32_t n, unsigned which,
                   int64_t delta)
{
    struct tree_adder adder = {
        .walk = {.visit = add_table}, .ledger = ledger, .which = which, .delta = delta};
    struct qcow2_tablist list;
    int r;

    qcow2_tablist_init(&list, true);
    r = qcow2_tree_list_tables(ledger->q, entries, n, &list);
    if (r == 0)
        r = qcow2_walk_tables(ledger->q, &list, &adder.walk);
    qcow2_tablist_done(&list);
    return r;
}

/* ---- copying --------------------------------------------------------------------------------- */

/* Adjacent new tables are written together, up to this length, or one by one if they are longer. */
#define WRITE_LEN (1u << 20)

/* Tables to be written together: they are adjacent in the file. */
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

/* Set *ret_table to room for a table at `host`, to be filled before the next call. */
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
    struct qcow2_ledger *ledger;
    enum qcow2_tree_copy which;
    uint64_t *entries; /* of the L1 table */
    struct writer writer;
};

/* The entry as it should be: with COPIED if nothing else refers to its cluster. */
static uint64_t right_entry(const struct qcow2_ledger *ledger, const struct qcow2_entry *entry)
{
    if (!entry->has_space)
        return entry->entry;
    if (entry->kind != QCOW2_PACKED &&
        (qcow2_has_data_file(ledger->q) || qcow2_ledger_get(ledger, entry->host) == 1))
        return entry->entry | QCOW2_COPIED;
    return entry->entry & ~QCOW2_COPIED;
}

static bool flags_right(const struct qcow2_ledger *ledger, const uint8_t *table)
{
    for (unsigned i = 0; table && i < qcow2_l2_entries(ledger->q); i++) {
        struct qcow2_entry entry = qcow2_entry_decode(ledger->q, table, i);
        if (right_entry(ledger, &entry) != entry.entry)
            return false;
    }
    return true;
}

/* Write a copy of `table`, or of zeroes if that is NULL, with the right COPIED flags to `host`. */
static int copy_table(struct copier *copier, const uint8_t *table, uint64_t host)
{
    struct qcow2 *q = copier->ledger->q;
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
        struct qcow2_entry entry = qcow2_entry_decode(q, table, i);
        if (entry.entry != 0)
            store_be64(copy + ((size_t)i << q->l2_entry_bits), right_entry(copier->ledger, &entry));
    }
    return 0;
}

static int visit_copied(struct qcow2_walk *walk, const struct qcow2_tabref *ref,
                        const uint8_t *data)
{
    struct copier *copier = container_of(walk, struct copier, walk);
    struct qcow2_ledger *ledger = copier->ledger;
    uint64_t host;
    int r;

    if (copier->which == QCOW2_COPY_CHANGED && flags_right(ledger, data)) {
        bool alone = qcow2_ledger_get(ledger, ref->host) == 1;

        copier->entries[ref->index] = ref->host | (alone ? QCOW2_COPIED : 0);
        return 0;
    }
    r = qcow2_ledger_alloc(ledger, ledger->q->cluster_size, &host);
    if (r == 0)
        r = copy_table(copier, data, host);
    if (r == 0 && copier->which == QCOW2_COPY_CHANGED)
        r = qcow2_ledger_add(ledger, ref->host, ledger->q->cluster_size, -1);
    if (r == 0)
        copier->entries[ref->index] = host | QCOW2_COPIED;
    return r;
}

int qcow2_tree_copy_tables(struct qcow2_ledger *ledger, uint64_t *entries, uint32_t n,
                           enum qcow2_tree_copy which)
{
    struct qcow2 *q = ledger->q;
    struct copier copier = {.walk = {.visit = visit_copied},
                            .ledger = ledger,
                            .which = which,
                            .entries = entries,
                            .writer = {.q = q, .max = max_u64(WRITE_LEN, q->cluster_size)}};
    struct qcow2_tablist list;
    int r;

    copier.writer.buf = malloc(copier.writer.max);
    if (!copier.writer.buf)
        return -ENOMEM;
    qcow2_tablist_init(&list, false);
    r = qcow2_tree_list_tables(q, entries, n, &list);
    if (r == 0)
        r = qcow2_walk_tables(q, &list, &copier.walk);
    if (r == 0)
        r = writer_flush(&copier.writer);
    qcow2_tablist_done(&list);
    free(copier.writer.buf);
    return r;
}
