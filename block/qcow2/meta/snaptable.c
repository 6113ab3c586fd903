/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/meta/snaptable.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2/format/header.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/qcow2.h"

/* Byte offsets in an entry. */
enum {
    ENT_L1_OFF = 0,
    ENT_L1_SIZE = 8,
    ENT_ID_LEN = 12,
    ENT_NAME_LEN = 14,
    ENT_DATE_SEC = 16,
    ENT_DATE_NSEC = 20,
    ENT_VM_CLOCK = 24,
    ENT_VM_STATE_LEN = 32,
    ENT_EXTRA_LEN = 36,
    ENT_LEN = 40,
    ENT_VM_STATE_LEN_64 = 40,
    ENT_DISK_LEN = 48,
    ENT_ICOUNT = 56,
};

/* Bytes of extra data that are known; they are written for every snapshot. */
#define EXTRA_KNOWN 24u
#define READ_FIRST (64u << 10)

/* ---- reading --------------------------------------------------------------------------------- */

/* The table while it is read: its bytes, as far as they were needed. */
struct reader {
    struct qcow2 *q;
    uint64_t host;
    uint64_t at; /* where the next entry begins */
    uint32_t n;  /* the number of that entry */
    uint8_t *data;
    uint64_t len; /* bytes in `data` */
    bool salvage;
    bool beyond; /* a limit is broken: *err says which; `salvage` drops this entry and the rest */
    uint32_t damaged;
    struct err *err;
};

/* Report a limit that is broken, in QEMU's words. */
static int too_much(struct reader *reader, const char *what, uint32_t n)
{
    reader->beyond = true;
    return err_set(reader->err, -EINVAL, "%s: %s %u: repair it with minivmm-img check -r all",
                   reader->q->path, what, n);
}

/* Read on until `data` has `len` bytes from `at` on. */
static int need(struct reader *reader, uint64_t len)
{
    uint64_t end = reader->at + len;
    uint64_t want = max_u64(READ_FIRST, reader->len);
    uint8_t *data;
    int r;

    if (end <= reader->len)
        return 0;
    if (end > QCOW2_SNAPTABLE_BYTES_MAX)
        return too_much(reader, "Snapshot table is too big, in entry", reader->n);
    while (want < end)
        want *= 2;
    want = min_u64(want, QCOW2_SNAPTABLE_BYTES_MAX); /* more is never parsed */
    data = realloc(reader->data, want);
    if (!data)
        return -ENOMEM;
    reader->data = data;
    r = qcow2_meta_read(reader->q, reader->host + reader->len, data + reader->len,
                        want - reader->len);
    if (r == 0)
        reader->len = want;
    return r;
}

static void parse_fixed(const struct qcow2 *q, const uint8_t *entry,
                        struct qcow2_snapshot *snapshot)
{
    snapshot->l1_host = load_be64(entry + ENT_L1_OFF);
    snapshot->l1_n = load_be32(entry + ENT_L1_SIZE);
    snapshot->date_sec = load_be32(entry + ENT_DATE_SEC);
    snapshot->date_nsec = load_be32(entry + ENT_DATE_NSEC);
    snapshot->vm_clock_ns = load_be64(entry + ENT_VM_CLOCK);
    snapshot->vm_state_len = load_be32(entry + ENT_VM_STATE_LEN);
    snapshot->extra_len = load_be32(entry + ENT_EXTRA_LEN);
    snapshot->disk_len = q->block.len;
    snapshot->icount = UINT64_MAX;
}

static int parse_extra(const uint8_t *entry, struct qcow2_snapshot *snapshot)
{
    if (snapshot->extra_len >= 8)
        snapshot->vm_state_len = load_be64(entry + ENT_VM_STATE_LEN_64);
    if (snapshot->extra_len >= QCOW2_SNAPSHOT_EXTRA_V3)
        snapshot->disk_len = load_be64(entry + ENT_DISK_LEN);
    if (snapshot->extra_len >= EXTRA_KNOWN)
        snapshot->icount = load_be64(entry + ENT_ICOUNT);
    if (snapshot->extra_len <= EXTRA_KNOWN || snapshot->extra_len > QCOW2_SNAPSHOT_EXTRA_MAX)
        return 0;
    snapshot->unknown_len = snapshot->extra_len - EXTRA_KNOWN;
    snapshot->unknown = malloc(snapshot->unknown_len);
    if (!snapshot->unknown)
        return -ENOMEM;
    memcpy(snapshot->unknown, entry + ENT_LEN + EXTRA_KNOWN, snapshot->unknown_len);
    return 0;
}

/* Copy a text; a zero byte ends it early, since no name has one. */
static int parse_text(const uint8_t *text, size_t len, char **ret_text)
{
    *ret_text = strndup((const char *)text, len);
    return *ret_text ? 0 : -ENOMEM;
}

static int parse_entry(struct reader *reader, struct qcow2_snapshot *snapshot)
{
    size_t id_len;
    size_t name_len;
    uint64_t len;
    const uint8_t *entry;
    int r = need(reader, ENT_LEN);

    if (r < 0)
        return r;
    entry = reader->data + reader->at;
    parse_fixed(reader->q, entry, snapshot);
    if (snapshot->extra_len > QCOW2_SNAPSHOT_EXTRA_MAX && !reader->salvage)
        return too_much(reader, "Too much extra metadata in snapshot table entry", reader->n);
    id_len = load_be16(entry + ENT_ID_LEN);
    name_len = load_be16(entry + ENT_NAME_LEN);
    len = ENT_LEN + (uint64_t)snapshot->extra_len + id_len + name_len;
    r = need(reader, align_up(len, 8));
    if (r < 0)
        return r;
    entry = reader->data + reader->at;
    r = parse_extra(entry, snapshot);
    if (r == 0)
        r = parse_text(entry + ENT_LEN + snapshot->extra_len, id_len, &snapshot->id);
    if (r == 0)
        r = parse_text(entry + ENT_LEN + snapshot->extra_len + id_len, name_len, &snapshot->name);
    reader->damaged += snapshot->extra_len > QCOW2_SNAPSHOT_EXTRA_MAX;
    reader->at += align_up(len, 8);
    reader->n++;
    return r;
}

static int read_entries(struct qcow2 *q, struct qcow2_snaptable *table, bool salvage,
                        struct err *err)
{
    struct reader reader = {.q = q, .host = table->host, .salvage = salvage, .err = err};
    int r = 0;

    table->snapshots = calloc(table->n + 1ull, sizeof(*table->snapshots));
    if (!table->snapshots)
        r = -ENOMEM;
    for (uint32_t i = 0; i < table->n && r == 0; i++) {
        r = parse_entry(&reader, &table->snapshots[i]);
        if (reader.beyond && salvage) {
            table->n = i;
            reader.damaged++;
            r = 0;
        }
    }
    table->len = reader.at;
    table->damaged += reader.damaged;
    free(reader.data);
    if (r < 0 && !reader.beyond)
        err_set_errno(err, r, "%s: cannot read the snapshot table", q->path);
    return r;
}

static int read_table(struct qcow2 *q, struct qcow2_snaptable *ret_table, bool salvage,
                      struct err *err)
{
    struct qcow2_snaptable table = {0};
    uint8_t fields[HDR_V2_LEN - HDR_NB_SNAPSHOTS];
    int r = qcow2_meta_read(q, HDR_NB_SNAPSHOTS, fields, sizeof(fields));

    if (r < 0)
        return err_set_errno(err, r, "%s: cannot read the header", q->path);
    table.n = load_be32(fields);
    table.host = load_be64(fields + (HDR_SNAPSHOTS_OFF - HDR_NB_SNAPSHOTS));
    if (table.n > QCOW2_SNAPSHOTS_MAX && salvage) {
        table.n = QCOW2_SNAPSHOTS_MAX;
        table.damaged = 1;
    }
    if (table.n > QCOW2_SNAPSHOTS_MAX)
        return err_set(err, -EINVAL, "%s: %u snapshots: at most %u are expected", q->path, table.n,
                       QCOW2_SNAPSHOTS_MAX);
    if (table.n > 0 && (!is_aligned(table.host, q->cluster_size) || table.host >= QCOW2_HOST_MAX))
        return err_set(err, -EINVAL, "%s: the snapshot table is not at a cluster: %#llx", q->path,
                       (unsigned long long)table.host);
    r = read_entries(q, &table, salvage, err);
    if (r < 0) {
        qcow2_snaptable_done(&table);
        return r;
    }
    *ret_table = table;
    return 0;
}

int qcow2_snaptable_read(struct qcow2 *q, struct qcow2_snaptable *ret_table, struct err *err)
{
    return read_table(q, ret_table, false, err);
}

int qcow2_snaptable_salvage(struct qcow2 *q, struct qcow2_snaptable *ret_table, struct err *err)
{
    return read_table(q, ret_table, true, err);
}

void qcow2_snaptable_done(struct qcow2_snaptable *table)
{
    for (uint32_t i = 0; table->snapshots && i < table->n; i++) {
        free(table->snapshots[i].id);
        free(table->snapshots[i].name);
        free(table->snapshots[i].unknown);
    }
    free(table->snapshots);
    *table = (struct qcow2_snaptable){0};
}

/* ---- writing --------------------------------------------------------------------------------- */

static size_t encoded_len(const struct qcow2_snapshot *snapshot)
{
    return align_up(ENT_LEN + EXTRA_KNOWN + snapshot->unknown_len + strlen(snapshot->id) +
                        strlen(snapshot->name),
                    8);
}

static bool fits(const struct qcow2_snapshot *snapshot)
{
    return strlen(snapshot->id) <= UINT16_MAX && strlen(snapshot->name) <= UINT16_MAX &&
           snapshot->unknown_len <= QCOW2_SNAPSHOT_EXTRA_MAX - EXTRA_KNOWN;
}

static void encode_entry(const struct qcow2_snapshot *snapshot, uint8_t *entry)
{
    size_t id_len = strlen(snapshot->id);
    size_t name_len = strlen(snapshot->name);
    uint8_t *at = entry + ENT_LEN + EXTRA_KNOWN;

    store_be64(entry + ENT_L1_OFF, snapshot->l1_host);
    store_be32(entry + ENT_L1_SIZE, snapshot->l1_n);
    store_be16(entry + ENT_ID_LEN, (uint16_t)id_len);
    store_be16(entry + ENT_NAME_LEN, (uint16_t)name_len);
    store_be32(entry + ENT_DATE_SEC, snapshot->date_sec);
    store_be32(entry + ENT_DATE_NSEC, snapshot->date_nsec);
    store_be64(entry + ENT_VM_CLOCK, snapshot->vm_clock_ns);
    /* A program that knows only this field sees no VM state rather than a part of it. */
    if (snapshot->vm_state_len <= UINT32_MAX)
        store_be32(entry + ENT_VM_STATE_LEN, (uint32_t)snapshot->vm_state_len);
    store_be32(entry + ENT_EXTRA_LEN, EXTRA_KNOWN + snapshot->unknown_len);
    store_be64(entry + ENT_VM_STATE_LEN_64, snapshot->vm_state_len);
    store_be64(entry + ENT_DISK_LEN, snapshot->disk_len);
    store_be64(entry + ENT_ICOUNT, snapshot->icount);
    if (snapshot->unknown_len > 0)
        memcpy(at, snapshot->unknown, snapshot->unknown_len);
    at += snapshot->unknown_len;
    memcpy(at, snapshot->id, id_len);
    memcpy(at + id_len, snapshot->name, name_len);
}

int qcow2_snaptable_encode(const struct qcow2_snaptable *table, uint8_t **ret_data, size_t *ret_len)
{
    size_t len = 0;
    uint8_t *data;

    if (table->n > QCOW2_SNAPSHOTS_MAX)
        return -E2BIG;
    for (uint32_t i = 0; i < table->n; i++) {
        len += encoded_len(&table->snapshots[i]);
        if (!fits(&table->snapshots[i]) || len > QCOW2_SNAPTABLE_BYTES_MAX)
            return -E2BIG;
    }
    data = calloc(1, len + 1);
    if (!data)
        return -ENOMEM;
    *ret_data = data;
    *ret_len = len;
    for (uint32_t i = 0; i < table->n; i++) {
        encode_entry(&table->snapshots[i], data);
        data += encoded_len(&table->snapshots[i]);
    }
    return 0;
}
