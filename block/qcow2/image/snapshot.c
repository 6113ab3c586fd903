/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots inside an image. Each operation builds new tables beside the present ones and switches
 * over with one write of the header (switch/ledger.h), so that the power can fail at any moment.
 *
 *   create  the snapshot gets the active tables as they are, the disk gets copies of them:
 *
 *               header -> L1 ----------> L2 -> data        before
 *               header -> L1 (copy) ---> L2 (copy) \
 *                         L1 ----------> L2 -------> data  after: the data is counted up
 *
 *   apply   the disk gets copies of the snapshot's tables; its old tables are counted down
 *   delete  the snapshot's tables are counted down; where only the disk refers to a cluster then, a
 *           new L2 table says so (COPIED)
 */
#include "block/qcow2/image/snapshot.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "base/iov.h"
#include "block/qcow2/format/header.h"
#include "block/qcow2/image/resize.h"
#include "block/qcow2/meta/bitmap_dir.h"
#include "block/qcow2/meta/flush.h"
#include "block/qcow2/meta/snaptable.h"
#include "block/qcow2/meta/table.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/request/prepare.h"
#include "block/qcow2/switch/ledger.h"
#include "block/qcow2/switch/punch.h"
#include "block/qcow2/switch/put.h"
#include "block/qcow2/switch/switch.h"
#include "block/qcow2/switch/tree.h"

/* ---- common ---------------------------------------------------------------------------------- */

static int find_image(struct block *block, bool change, struct qcow2 **ret_q, struct err *err)
{
    struct qcow2 *q = qcow2_of(block);

    *ret_q = q;
    if (qcow2_has_data_file(q))
        return err_set(err, -ENOTSUP,
                       "%s: no snapshots with an external data file: it has one state only",
                       q->path);
    if (change && !block->writable)
        return err_set(err, -EROFS, "%s: the image is open for reading only", q->path);
    return 0;
}

static const struct qcow2_snapshot *find_id(const struct qcow2_snaptable *table, const char *id)
{
    for (uint32_t i = 0; i < table->n; i++)
        if (strcmp(table->snapshots[i].id, id) == 0)
            return &table->snapshots[i];
    return NULL;
}

static const struct qcow2_snapshot *find_name(const struct qcow2_snaptable *table, const char *name)
{
    for (uint32_t i = 0; i < table->n; i++)
        if (strcmp(table->snapshots[i].name, name) == 0)
            return &table->snapshots[i];
    return NULL;
}

static uint64_t l2_covers(const struct qcow2 *q)
{
    return 1ull << (q->cluster_bits + q->l2_bits);
}

/* The number of L1 entries that map a disk of `len` bytes. */
static uint64_t l1_entries(const struct qcow2 *q, uint64_t len)
{
    return div_round_up(len, l2_covers(q));
}

static uint64_t l1_bytes(uint32_t n)
{
    return (uint64_t)n * sizeof(uint64_t);
}

/* ---- a change -------------------------------------------------------------------------------- */

/* A change of the image on its way to a switch. */
struct change {
    struct qcow2 *q;
    struct qcow2_snaptable table;
    struct qcow2_ledger *ledger;
    struct qcow2_switch next;
    uint64_t *l1; /* the new active L1 table, of next.l1_n entries */
};

static int change_begin(struct change *c, struct block *block, struct err *err)
{
    struct block_req flush = {.op = BLOCK_FLUSH};
    int r = find_image(block, true, &c->q, err);

    if (r < 0)
        return r;
    r = block_execute(block, &flush);
    if (r < 0)
        return err_set_errno(err, r, "%s: cannot write back the image", c->q->path);
    r = qcow2_snaptable_read(c->q, &c->table, err);
    if (r < 0)
        return r;
    r = qcow2_ledger_new(c->q, &c->ledger);
    if (r == 0)
        r = qcow2_ledger_load(c->ledger);
    if (r == 0)
        r = qcow2_switch_init(c->q, &c->next);
    return r < 0 ? err_set_errno(err, r, "%s: cannot read the reference counts", c->q->path) : 0;
}

static void change_done(struct change *c)
{
    free(c->l1);
    qcow2_ledger_free(c->ledger);
    qcow2_snaptable_done(&c->table);
}

/* A new active L1 table in memory: `n` entries, the first `have` of them from `entries`. */
static int new_l1(struct change *c, uint32_t n, const uint64_t *entries, uint32_t have)
{
    c->l1 = calloc((size_t)n + 1, sizeof(uint64_t));
    if (!c->l1)
        return -ENOMEM;
    memcpy(c->l1, entries, have * sizeof(uint64_t));
    c->next.l1_n = n;
    return 0;
}

/* Count down the active tables, and what they point at. */
static int drop_active(struct change *c)
{
    const struct qcow2_table *l1 = &c->q->l1;
    int r = qcow2_tree_add(c->ledger, l1->entries, l1->n, QCOW2_TREE_TABLES | QCOW2_TREE_DATA, -1);

    return r < 0 || l1->n == 0 ? r : qcow2_ledger_add(c->ledger, l1->host, l1_bytes(l1->n), -1);
}

static int carry_out(struct change *c)
{
    int r = qcow2_switch_over(c->ledger, &c->next);

    if (r == 0 && c->q->block.discard)
        qcow2_punch_unused(c->ledger);
    return r;
}

/* ---- list ------------------------------------------------------------------------------------ */

/* Describe a snapshot in the list, which takes over its id and name. */
static void describe(struct qcow2_snapshot *from, struct block_snapshot *to)
{
    *to = (struct block_snapshot){
        .id = from->id,
        .name = from->name,
        .date_sec = from->date_sec,
        .date_nsec = from->date_nsec,
        .vm_clock_ns = from->vm_clock_ns,
        .vm_state_len = from->vm_state_len,
        .icount = from->icount,
        .len = from->disk_len,
    };
    from->id = NULL;
    from->name = NULL;
}

int qcow2_list_snapshots(struct block *block, struct block_snapshot **ret_list, unsigned *ret_n,
                         struct err *err)
{
    struct qcow2_snaptable table = {0};
    struct block_snapshot *list;
    struct qcow2 *q;
    int r = find_image(block, false, &q, err);

    if (r == 0)
        r = qcow2_snaptable_read(q, &table, err);
    if (r < 0)
        return r;
    list = calloc(table.n + 1, sizeof(*list));
    if (list) {
        for (uint32_t i = 0; i < table.n; i++)
            describe(&table.snapshots[i], &list[i]);
        *ret_list = list;
        *ret_n = table.n;
    }
    qcow2_snaptable_done(&table);
    return list ? 0 : err_set(err, -ENOMEM, "%s: out of memory", q->path);
}

/* Of what is remembered: no more than anybody would be told. */
#define NOTED_MAX ((size_t)1 << 20)

void qcow2_note_snapshots(struct block *block)
{
    struct qcow2 *q = qcow2_of(block);
    struct block_snapshot *list = NULL;
    size_t size = 0;
    unsigned n = 0;

    block_snapshot_list_free(q->noted, q->nnoted);
    q->noted = NULL;
    q->nnoted = 0;
    if (qcow2_has_data_file(q) || qcow2_list_snapshots(block, &list, &n, NULL) < 0 || n == 0) {
        free(list);
        return;
    }
    while (q->nnoted < n && size < NOTED_MAX) {
        const struct block_snapshot *snapshot = &list[q->nnoted++];

        size += sizeof(*snapshot) + strlen(snapshot->id) + strlen(snapshot->name);
    }
    for (unsigned i = q->nnoted; i < n; i++) {
        free(list[i].id);
        free(list[i].name);
    }
    q->noted = list;
}

/* ---- create ---------------------------------------------------------------------------------- */

static char *next_id(const struct qcow2_snaptable *table)
{
    unsigned long max = 0;
    char text[32];

    for (uint32_t i = 0; i < table->n; i++) {
        unsigned long id = strtoul(table->snapshots[i].id, NULL, 10);

        if (id > max && id < ULONG_MAX)
            max = id;
    }
    (void)snprintf(text, sizeof(text), "%lu", max + 1);
    return strdup(text);
}

/* Make an entry of the snapshot table that points at the active tables. */
static int describe_active(const struct change *c, const struct block_snapshot *snapshot,
                           struct qcow2_snapshot *entry)
{
    struct timespec now = {snapshot->date_sec, snapshot->date_nsec};

    if (now.tv_sec == 0)
        (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail */
    *entry = (struct qcow2_snapshot){
        .l1_host = c->q->l1.host,
        .l1_n = c->q->l1.n,
        .date_sec = (uint32_t)now.tv_sec,
        .date_nsec = (uint32_t)now.tv_nsec,
        .vm_clock_ns = snapshot->vm_clock_ns,
        .vm_state_len = snapshot->vm_state_len,
        .disk_len = c->q->block.len,
        .id = next_id(&c->table),
        .name = strdup(snapshot->name),
        .icount = snapshot->icount,
    };
    if (!entry->id || !entry->name) {
        free(entry->id);
        free(entry->name);
        return -ENOMEM;
    }
    return 0;
}

static int append(struct change *c, const struct block_snapshot *snapshot)
{
    struct qcow2_snaptable *table = &c->table;
    struct qcow2_snapshot *snapshots =
        realloc(table->snapshots, (table->n + 1) * sizeof(*table->snapshots));
    int r;

    if (!snapshots)
        return -ENOMEM;
    table->snapshots = snapshots;
    r = describe_active(c, snapshot, &snapshots[table->n]);
    if (r == 0)
        table->n++;
    return r;
}

/*
 * Give the disk copies of its tables. It shares the data with the snapshot, but no table, so that
 * none of the snapshot's is ever written again. VM state past the disk's end is the snapshot's
 * alone.
 */
static int share_data(struct change *c)
{
    const struct qcow2_table *l1 = &c->q->l1;
    uint32_t n = (uint32_t)min_u64(l1_entries(c->q, c->q->block.len), l1->n);
    int r = new_l1(c, l1->n, l1->entries, n);

    if (r == 0)
        r = qcow2_tree_add(c->ledger, c->l1, n, QCOW2_TREE_DATA, 1);
    if (r == 0)
        r = qcow2_tree_copy_tables(c->ledger, c->l1, n, QCOW2_COPY_ALL);
    if (r == 0)
        r = qcow2_put_l1(c->ledger, c->l1, c->next.l1_n, &c->next.l1_host);
    return r; /* NOLINT: change_done frees c->l1 */
}

static int create(struct change *c, const struct block_snapshot *snapshot, struct err *err)
{
    int r;

    if (c->table.n >= QCOW2_SNAPSHOTS_MAX)
        return err_set(err, -EFBIG, "%s: the image has %u snapshots already", c->q->path,
                       c->table.n);
    r = append(c, snapshot);
    if (r == 0)
        r = share_data(c);
    if (r == -ERANGE)
        return err_set(err, -EINVAL,
                       "%s: %u bits for each reference count are too few for another snapshot",
                       c->q->path, 1u << c->q->refcount_order);
    if (r == 0)
        r = qcow2_put_snaptable(c->ledger, &c->table, &c->next);
    if (r == 0)
        r = carry_out(c);
    return r < 0 ? err_set_errno(err, r, "%s: cannot create a snapshot", c->q->path) : 0;
}

int qcow2_create_snapshot(struct block *block, const struct block_snapshot *snapshot,
                          struct err *err)
{
    struct change c = {0};
    int r = change_begin(&c, block, err);

    if (r == 0)
        r = create(&c, snapshot, err);
    change_done(&c);
    return r;
}

/* ---- apply ----------------------------------------------------------------------------------- */

static const struct qcow2_snapshot *find_to_apply(const struct qcow2_snaptable *table,
                                                  const char *which)
{
    const struct qcow2_snapshot *snapshot = find_id(table, which);

    return snapshot ? snapshot : find_name(table, which);
}

static int not_found(const struct qcow2 *q, const char *which, struct err *err)
{
    return err_set(err, -ENOENT, "%s: snapshot '%s' not found", q->path, which);
}

/* Read the snapshot's L1 table, and lengthen it so that it maps the snapshot's whole disk. */
static int load_l1(struct qcow2 *q, const struct qcow2_snapshot *snapshot, uint64_t **ret_entries,
                   uint32_t *ret_n)
{
    uint64_t n = max_u64(l1_entries(q, snapshot->disk_len), snapshot->l1_n);
    uint64_t *entries;
    uint64_t *longer;
    int r;

    if (n > QCOW2_L1_BYTES_MAX / sizeof(uint64_t) ||
        snapshot->disk_len > INT64_MAX - BLOCK_SECTOR_SIZE ||
        !is_aligned(snapshot->disk_len, BLOCK_SECTOR_SIZE))
        return -EIO;
    r = qcow2_l1_read(q, snapshot->l1_host, snapshot->l1_n, &entries);
    if (r < 0)
        return r;
    longer = realloc(entries, (n + 1) * sizeof(uint64_t));
    if (!longer) {
        free(entries);
        return -ENOMEM;
    }
    memset(longer + snapshot->l1_n, 0, (n - snapshot->l1_n) * sizeof(uint64_t));
    *ret_entries = longer;
    *ret_n = (uint32_t)n;
    return 0;
}

static int apply(struct change *c, const struct qcow2_snapshot *snapshot)
{
    int r = load_l1(c->q, snapshot, &c->l1, &c->next.l1_n);

    if (r == 0)
        r = drop_active(c);
    if (r == 0)
        r = qcow2_tree_add(c->ledger, c->l1, c->next.l1_n, QCOW2_TREE_DATA, 1);
    if (r == 0)
        r = qcow2_tree_copy_tables(c->ledger, c->l1, c->next.l1_n, QCOW2_COPY_ALL);
    if (r == 0)
        r = qcow2_put_l1(c->ledger, c->l1, c->next.l1_n, &c->next.l1_host);
    if (r < 0)
        return r;
    c->next.size = snapshot->disk_len;
    c->next.autoclear &= ~QCOW2_AUTOCLEAR_BITMAPS; /* they are about the old contents */
    return carry_out(c);
}

/* Refuse an image with bitmaps: all of the disk changes, and they would not follow. */
static int refuse_bitmaps(struct qcow2 *q, struct err *err)
{
    struct qcow2_bitmaps bitmaps;
    int r = qcow2_bitmaps_find(q, &bitmaps);

    if (r == 0 && bitmaps.n > 0)
        return err_set(err, -EBUSY, "Device has active dirty bitmaps");
    return r < 0 ? err_set_errno(err, r, "%s: cannot read the bitmaps", q->path) : 0;
}

int qcow2_apply_snapshot(struct block *block, const char *which, struct err *err)
{
    const struct qcow2_snapshot *snapshot;
    struct change c = {0};
    int r = change_begin(&c, block, err);

    if (r == 0)
        r = refuse_bitmaps(c.q, err);
    if (r == 0) {
        snapshot = find_to_apply(&c.table, which);
        r = snapshot ? apply(&c, snapshot) : not_found(c.q, which, err);
        if (r < 0 && snapshot)
            err_set_errno(err, r, "%s: cannot apply snapshot '%s'", c.q->path, which);
    }
    change_done(&c);
    return r;
}

/* ---- delete ---------------------------------------------------------------------------------- */

static int drop_snapshot(struct change *c, const struct qcow2_snapshot *snapshot)
{
    uint64_t *entries;
    int r = qcow2_l1_read(c->q, snapshot->l1_host, snapshot->l1_n, &entries);

    if (r < 0)
        return r;
    r = qcow2_tree_add(c->ledger, entries, snapshot->l1_n, QCOW2_TREE_TABLES | QCOW2_TREE_DATA, -1);
    free(entries);
    if (r < 0 || snapshot->l1_n == 0)
        return r;
    return qcow2_ledger_add(c->ledger, snapshot->l1_host, l1_bytes(snapshot->l1_n), -1);
}

static void remove_entry(struct qcow2_snaptable *table, const struct qcow2_snapshot *snapshot)
{
    struct qcow2_snapshot *at = &table->snapshots[snapshot - table->snapshots];

    free(at->id);
    free(at->name);
    free(at->unknown);
    table->n--;
    memmove(at, at + 1, (size_t)(table->snapshots + table->n - at) * sizeof(*at));
}

/*
 * Clusters that only the disk uses from now on may be written in place: let its tables say so.
 */
static int own_again(struct change *c)
{
    const struct qcow2_table *l1 = &c->q->l1;
    int r = new_l1(c, l1->n, l1->entries, l1->n);

    if (r == 0)
        r = qcow2_tree_copy_tables(c->ledger, c->l1, l1->n, QCOW2_COPY_CHANGED);
    if (r < 0 || memcmp(c->l1, l1->entries, l1->n * sizeof(uint64_t)) == 0)
        return r;
    r = qcow2_ledger_add(c->ledger, l1->host, l1_bytes(l1->n), -1);
    return r < 0 ? r : qcow2_put_l1(c->ledger, c->l1, l1->n, &c->next.l1_host);
}

static int delete (struct change *c, const struct qcow2_snapshot *snapshot)
{
    int r = drop_snapshot(c, snapshot);

    if (r < 0)
        return r;
    remove_entry(&c->table, snapshot);
    r = own_again(c);
    if (r == 0)
        r = qcow2_put_snaptable(c->ledger, &c->table, &c->next);
    return r < 0 ? r : carry_out(c);
}

int qcow2_delete_snapshot(struct block *block, const char *which, struct err *err)
{
    const struct qcow2_snapshot *snapshot;
    struct change c = {0};
    int r = change_begin(&c, block, err);

    if (r == 0) {
        snapshot = find_name(&c.table, which);
        if (!snapshot)
            snapshot = find_id(&c.table, which);
        r = snapshot ? delete (&c, snapshot) : not_found(c.q, which, err);
        if (r < 0 && snapshot)
            err_set_errno(err, r, "%s: cannot delete snapshot '%s'", c.q->path, which);
    }
    change_done(&c);
    return r;
}

/* ---- show ------------------------------------------------------------------------------------ */

static int show(struct qcow2 *q, const struct qcow2_snapshot *snapshot)
{
    uint64_t *entries;
    uint32_t n;
    int r = load_l1(q, snapshot, &entries, &n);

    if (r < 0)
        return r;
    free(q->l1.entries);
    q->l1.entries = entries;
    q->l1.n = n;
    q->l1.host = snapshot->l1_host;
    q->block.len = snapshot->disk_len;
    return 0;
}

int qcow2_show_snapshot(struct block *block, const char *which, struct err *err)
{
    const struct qcow2_snapshot *snapshot;
    struct qcow2_snaptable table = {0};
    struct qcow2 *q;
    int r = find_image(block, false, &q, err);

    if (r < 0)
        return r;
    if (block->writable)
        return err_set(err, -EINVAL, "%s: snapshots are shown of read-only images", q->path);
    r = qcow2_snaptable_read(q, &table, err);
    if (r < 0)
        return r;
    snapshot = find_to_apply(&table, which);
    r = snapshot ? show(q, snapshot) : not_found(q, which, err);
    if (r < 0 && snapshot)
        err_set_errno(err, r, "%s: cannot read snapshot '%s'", q->path, which);
    qcow2_snaptable_done(&table);
    return r;
}

/* ---- VM state -------------------------------------------------------------------------------- */

/* VM state begins with the first L1 entry that no part of the disk uses. */
static uint64_t vmstate_off(const struct qcow2 *q)
{
    return l1_entries(q, q->block.len) * l2_covers(q);
}

/* Let the L1 table reach `end`. It grows by half at least, not with each piece of the state. */
static int make_room(struct qcow2 *q, uint64_t end)
{
    uint64_t n = l1_entries(q, end);
    uint64_t more = min_u64(q->l1.n + q->l1.n / 2ull, QCOW2_L1_BYTES_MAX / sizeof(uint64_t));
    int r = qcow2_prepare_write(q);

    if (r < 0 || n <= q->l1.n)
        return r;
    r = qcow2_flush(q);
    return r < 0 ? r : qcow2_grow_l1(q, max_u64(n, more));
}

/* Carry out one request past the end, as if the disk went on there. */
static int vmstate_io(struct qcow2 *q, uint64_t off, struct iovec *iov, bool write)
{
    const struct block_driver *driver = q->block.driver;
    uint64_t len = q->block.len;
    uint64_t at;
    uint64_t end;
    int r;

    if (!is_aligned(off | iov->iov_len, BLOCK_SECTOR_SIZE) || !add_u64(vmstate_off(q), off, &at) ||
        !add_u64(at, iov->iov_len, &end) || end > INT64_MAX - BLOCK_SECTOR_SIZE)
        return -EINVAL;
    if (!write && l1_entries(q, end) > q->l1.n)
        return -EINVAL;
    r = write ? make_room(q, end) : 0;
    if (r < 0)
        return r;
    q->block.len = align_up(end, q->cluster_size);
    r = write ? driver->write(&q->block, at, iov->iov_len, iov, 1)
              : driver->read(&q->block, at, iov->iov_len, iov, 1);
    q->block.len = len;
    return r;
}

int qcow2_write_vmstate(struct block *block, uint64_t off, const void *buf, size_t len)
{
    struct iovec iov = {(void *)(uintptr_t)buf, len};
    struct qcow2 *q;
    int r = find_image(block, true, &q, NULL);

    if (r < 0)
        return r;
    r = vmstate_io(q, off, &iov, true);
    block->written = true;
    return r;
}

int qcow2_read_vmstate(struct block *block, uint64_t off, void *buf, size_t len)
{
    struct iovec iov = {buf, len};
    struct qcow2 *q;
    int r = find_image(block, false, &q, NULL);

    return r < 0 ? r : vmstate_io(q, off, &iov, false);
}
