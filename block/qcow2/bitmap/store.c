/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/bitmap/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2/format/bits.h"
#include "block/qcow2/format/entry.h"
#include "block/qcow2/format/header.h"
#include "block/qcow2/meta/bitmap_dir.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/switch/ledger.h"
#include "block/qcow2/switch/put.h"
#include "block/qcow2/switch/switch.h"

/* ---- the directory --------------------------------------------------------------------------- */

static uint64_t entry_len(const struct qcow2_bitmap_entry *entry)
{
    return align_up(QCOW2_BITMAP_DIR_LEN + entry->name_len, 8);
}

/* Make room in the list for one more entry. */
static int make_room(struct qcow2_bitmap_dir *dir)
{
    struct qcow2_bitmap_entry *list;

    if (dir->n > 0 && !is_pow2(dir->n))
        return 0;
    list = realloc(dir->list, (dir->n ? dir->n * 2ull : 1) * sizeof(*list));
    if (!list)
        return -ENOMEM;
    dir->list = list;
    return 0;
}

static int take_entry(void *opaque, const struct qcow2_bitmap *bitmap)
{
    struct qcow2_bitmap_dir *dir = opaque;
    struct qcow2_bitmap_entry entry = {
        .table_host = bitmap->table_host,
        .table_n = bitmap->table_n,
        .flags = bitmap->flags,
        .granularity_bits = bitmap->granularity_bits,
        .name_len = bitmap->name_len,
    };
    int r = make_room(dir);

    if (r < 0)
        return r;
    entry.name = calloc(1, bitmap->name_len + 1);
    if (!entry.name)
        return -ENOMEM;
    memcpy(entry.name, bitmap->name, bitmap->name_len);
    dir->list[dir->n++] = entry;
    return 0;
}

int qcow2_bitmap_dir_load(struct qcow2 *q, struct qcow2_bitmap_dir *ret_dir)
{
    int r;

    *ret_dir = (struct qcow2_bitmap_dir){0};
    r = qcow2_bitmaps_find(q, &ret_dir->where);
    if (r == 0)
        r = qcow2_bitmaps_walk(q, &ret_dir->where, take_entry, ret_dir);
    if (r < 0)
        qcow2_bitmap_dir_done(ret_dir);
    return r;
}

void qcow2_bitmap_dir_done(struct qcow2_bitmap_dir *dir)
{
    for (uint32_t i = 0; i < dir->n; i++)
        free(dir->list[i].name);
    free(dir->list);
    *dir = (struct qcow2_bitmap_dir){0};
}

struct qcow2_bitmap_entry *qcow2_bitmap_dir_find(const struct qcow2_bitmap_dir *dir,
                                                 const char *name)
{
    size_t len = strlen(name);

    for (uint32_t i = 0; i < dir->n; i++)
        if (dir->list[i].name_len == len && memcmp(dir->list[i].name, name, len) == 0)
            return &dir->list[i];
    return NULL;
}

static uint64_t dir_len(const struct qcow2_bitmap_dir *dir)
{
    uint64_t len = 0;

    for (uint32_t i = 0; i < dir->n; i++)
        len += entry_len(&dir->list[i]);
    return len;
}

int qcow2_bitmap_dir_add(struct qcow2_bitmap_dir *dir, const char *name, unsigned granularity_bits,
                         struct qcow2_bitmap_entry **ret_entry)
{
    struct qcow2_bitmap_entry entry = {
        .granularity_bits = granularity_bits,
        .name_len = (unsigned)strlen(name),
    };
    int r;

    if (dir->n == QCOW2_BITMAPS_MAX ||
        dir_len(dir) + entry_len(&entry) > QCOW2_BITMAP_DIRECTORY_MAX)
        return -ENOSPC;
    r = make_room(dir);
    if (r < 0)
        return r;
    entry.name = strdup(name);
    if (!entry.name)
        return -ENOMEM;
    dir->list[dir->n] = entry;
    *ret_entry = &dir->list[dir->n++];
    return 0;
}

void qcow2_bitmap_dir_remove(struct qcow2_bitmap_dir *dir, struct qcow2_bitmap_entry *entry)
{
    size_t after = (size_t)(dir->list + dir->n - (entry + 1));

    free(entry->name);
    memmove(entry, entry + 1, after * sizeof(*entry));
    dir->n--;
}

static uint8_t *encode(const struct qcow2_bitmap_dir *dir)
{
    uint8_t *data = calloc(1, dir_len(dir) + 1);
    uint8_t *at = data;

    for (uint32_t i = 0; data && i < dir->n; i++) {
        const struct qcow2_bitmap_entry *entry = &dir->list[i];

        store_be64(at + QCOW2_BITMAP_DIR_TABLE_OFF, entry->table_host);
        store_be32(at + QCOW2_BITMAP_DIR_TABLE_SIZE, entry->table_n);
        store_be32(at + QCOW2_BITMAP_DIR_FLAGS, entry->flags);
        at[QCOW2_BITMAP_DIR_TYPE] = QCOW2_BITMAP_TYPE_DIRTY;
        at[QCOW2_BITMAP_DIR_GRANULARITY] = (uint8_t)entry->granularity_bits;
        store_be16(at + QCOW2_BITMAP_DIR_NAME_LEN, (uint16_t)entry->name_len);
        memcpy(at + QCOW2_BITMAP_DIR_LEN, entry->name, entry->name_len);
        at += entry_len(entry);
    }
    return data;
}

int qcow2_bitmap_dir_put(struct qcow2_ledger *ledger, struct qcow2_bitmap_dir *dir,
                         struct qcow2_switch *next)
{
    struct qcow2_bitmaps where = {.n = dir->n, .directory_len = dir_len(dir)};
    uint8_t *data = encode(dir);
    int r = data ? 0 : -ENOMEM;

    if (r == 0 && dir->where.n > 0)
        r = qcow2_ledger_add(ledger, dir->where.directory_host, dir->where.directory_len, -1);
    if (r == 0)
        r = qcow2_put(ledger, data, where.directory_len, &where.directory_host);
    free(data);
    if (r < 0)
        return r;
    next->set_bitmaps = true;
    next->bitmaps = where;
    next->autoclear &= ~QCOW2_AUTOCLEAR_BITMAPS;
    next->autoclear |= where.n > 0 ? QCOW2_AUTOCLEAR_BITMAPS : 0;
    return 0;
}

/* ---- tables ---------------------------------------------------------------------------------- */

/* Read the entries of a table of any length. */
static int read_entries(struct qcow2 *q, const struct qcow2_bitmap_entry *entry,
                        uint64_t **ret_entries)
{
    uint64_t len = entry->table_n * sizeof(uint64_t);
    uint64_t *entries = calloc(1, len + 1);
    int r = entries ? 0 : -ENOMEM;

    if (r == 0 && entry->table_n > 0 && !range_fits(entry->table_host, len, q->file_end))
        r = -EINVAL;
    if (r == 0 && entry->table_n > 0)
        r = qcow2_meta_read(q, entry->table_host, entries, len);
    for (uint32_t i = 0; i < entry->table_n && r == 0; i++) {
        uint64_t host;

        entries[i] = be64toh(entries[i]);
        if (!qcow2_bitmap_entry_ok(q, entries[i], &host) || (host && host >= q->file_end))
            r = -EINVAL;
    }
    if (r < 0) {
        free(entries);
        return r;
    }
    *ret_entries = entries;
    return 0;
}

int qcow2_bitmap_read_table(struct qcow2 *q, const struct qcow2_bitmap_entry *entry, uint64_t len,
                            uint64_t **ret_entries)
{
    if (entry->table_n != qcow2_bits_clusters(q->cluster_bits, entry->granularity_bits, len))
        return -EINVAL;
    return read_entries(q, entry, ret_entries);
}

static int drop_cluster(struct qcow2_ledger *ledger, uint64_t table_entry)
{
    uint64_t host = table_entry & QCOW2_OFF_MASK;

    return host ? qcow2_ledger_add(ledger, host, ledger->q->cluster_size, -1) : 0;
}

static int drop_table(struct qcow2_ledger *ledger, const struct qcow2_bitmap_entry *entry)
{
    if (entry->table_n == 0)
        return 0;
    return qcow2_ledger_add(ledger, entry->table_host, entry->table_n * sizeof(uint64_t), -1);
}

int qcow2_bitmap_drop(struct qcow2_ledger *ledger, const struct qcow2_bitmap_entry *entry)
{
    uint64_t *entries;
    int r = read_entries(ledger->q, entry, &entries);

    if (r == 0) {
        for (uint32_t i = 0; i < entry->table_n && r == 0; i++)
            r = drop_cluster(ledger, entries[i]);
        free(entries);
    }
    if (r == 0)
        r = drop_table(ledger, entry);
    return r == -EINVAL || r == -ERANGE ? 0 : r;
}

/* ---- new tables ------------------------------------------------------------------------------ */

struct writer {
    struct qcow2_ledger *ledger;
    const struct qcow2_bitmap_change *change;
    uint64_t cut;  /* the first bit that is dropped; cuts no cluster if a multiple of `per` */
    uint64_t per;  /* bits of a cluster */
    uint8_t *old;  /* a cluster as it is */
    uint8_t *data; /* the cluster as it is to be */
};

static int read_cluster(const struct writer *writer, uint64_t table_entry)
{
    struct qcow2 *q = writer->ledger->q;
    uint64_t host = table_entry & QCOW2_OFF_MASK;

    memset(writer->old, table_entry & QCOW2_BITMAP_ALL_ONES ? 0xff : 0, q->cluster_size);
    return host ? qcow2_meta_read(q, host, writer->old, q->cluster_size) : 0;
}

static void add_bits(const struct writer *writer, const uint8_t *added)
{
    size_t size = writer->ledger->q->cluster_size;

    if (added == QCOW2_BITS_ALL)
        memset(writer->data, 0xff, size);
    for (size_t i = 0; added && added != QCOW2_BITS_ALL && i < size; i++)
        writer->data[i] |= added[i];
}

static void cut_bits(const struct writer *writer)
{
    uint64_t bit = writer->cut % writer->per;

    writer->data[bit / 8] &= (uint8_t)((1u << bit % 8) - 1);
    memset(writer->data + bit / 8 + 1, 0, writer->ledger->q->cluster_size - bit / 8 - 1);
}

/* Set *ret_entry to the entry for cluster `i`, which was `old`; write the cluster if it changes. */
static int put_cluster(const struct writer *writer, uint32_t i, uint64_t old, uint64_t *ret_entry)
{
    const struct qcow2_bits *bits = writer->change->added;
    const uint8_t *added = bits && i < bits->n ? bits->clusters[i] : NULL;
    bool cut = writer->cut % writer->per && writer->cut / writer->per == i;
    size_t size = writer->ledger->q->cluster_size;
    int r;

    *ret_entry = added == QCOW2_BITS_ALL ? QCOW2_BITMAP_ALL_ONES : old;
    if (!cut && (!added || added == QCOW2_BITS_ALL))
        return 0;
    r = read_cluster(writer, old);
    if (r < 0)
        return r;
    memcpy(writer->data, writer->old, size);
    add_bits(writer, added);
    if (cut)
        cut_bits(writer);
    *ret_entry = old;
    if (memcmp(writer->data, writer->old, size) == 0)
        return 0;
    return qcow2_put(writer->ledger, writer->data, size, ret_entry);
}

static int put_clusters(const struct writer *writer, const uint64_t *old, uint32_t old_n,
                        uint64_t *entries, uint32_t n)
{
    int r = 0;

    for (uint32_t i = 0; r == 0 && i < n; i++) {
        uint64_t had = i < old_n && writer->change->keep ? old[i] : 0;

        r = put_cluster(writer, i, had, &entries[i]);
    }
    for (uint32_t i = 0; r == 0 && i < old_n; i++)
        if (i >= n || entries[i] != old[i])
            r = drop_cluster(writer->ledger, old[i]);
    for (uint32_t i = 0; i < n; i++)
        entries[i] = htobe64(entries[i]);
    return r;
}

static int put_table(struct writer *writer, struct qcow2_bitmap_entry *entry, const uint64_t *old)
{
    struct qcow2_ledger *ledger = writer->ledger;
    uint64_t n =
        qcow2_bits_clusters(ledger->q->cluster_bits, entry->granularity_bits, writer->change->len);
    uint64_t *entries;
    int r;

    if (n == 0 || n > QCOW2_BITMAP_BYTES_MAX >> ledger->q->cluster_bits)
        return -EFBIG;
    entries = calloc(n, sizeof(*entries));
    if (!entries)
        return -ENOMEM;
    r = put_clusters(writer, old, entry->table_n, entries, (uint32_t)n);
    if (r == 0)
        r = drop_table(ledger, entry);
    if (r == 0)
        r = qcow2_put(ledger, entries, n * sizeof(*entries), &entry->table_host);
    free(entries);
    entry->table_n = (uint32_t)n;
    return r;
}

int qcow2_bitmap_put(struct qcow2_ledger *ledger, struct qcow2_bitmap_entry *entry,
                     const struct qcow2_bitmap_change *change)
{
    struct qcow2 *q = ledger->q;
    struct writer writer = {
        .ledger = ledger,
        .change = change,
        .per = 8ull << q->cluster_bits,
        .old = malloc(q->cluster_size),
        .data = malloc(q->cluster_size),
    };
    uint64_t *old = NULL;
    int r = writer.old && writer.data ? read_entries(q, entry, &old) : -ENOMEM;

    if (change->len != change->old_len)
        writer.cut =
            div_round_up(min_u64(change->len, change->old_len), 1ull << entry->granularity_bits);
    if (r == 0)
        r = put_table(&writer, entry, old);
    free(old);
    free(writer.old);
    free(writer.data);
    return r;
}
