/*
 * Compressed clusters: reading them through a small cache of inflated ones, and writing them.
 *
 * Compressed data is packed without regard to sectors or clusters of the file:
 *
 *     host clusters:   |            1            |            2            |
 *     compressed:      |<-- A -->|<--- B --->|<---- C ---->|<- D ->| ...free
 *
 * Each cluster of the file is counted once for every compressed cluster that touches it: here 1 and
 * 2 three times and twice.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/qcow2.h"
#include "block/qcow2_zip.h"
#include "vmm/base/bytes.h"
#include "vmm/base/iov.h"

/*
 * Inflated clusters kept for reads of their neighbourhood: 2 MiB of them, but at least 4, for as many
 * sequential readers, and at most 64, so that looking through them costs nothing.
 */
#define INFLATED_BYTES (2u << 20)
#define INFLATED_MIN 4u
#define INFLATED_MAX 64u

/* ---- inflated clusters -------------------------------------------------------------------------- */

static int make_slots(struct qcow2 *q)
{
    struct qcow2_inflated *inflated = &q->inflated;
    uint64_t n = max_u64(min_u64(INFLATED_BYTES >> q->cluster_bits, INFLATED_MAX), INFLATED_MIN);

    if (inflated->slots)
        return 0;
    inflated->slots = calloc(n, sizeof(*inflated->slots));
    if (!inflated->slots)
        return -ENOMEM;
    inflated->n = (unsigned)n;
    return 0;
}

static struct qcow2_inflated_slot *find_slot(struct qcow2 *q, uint64_t off)
{
    for (unsigned i = 0; i < q->inflated.n; i++)
        if (q->inflated.slots[i].entry && q->inflated.slots[i].off == off)
            return &q->inflated.slots[i];
    return NULL;
}

/* The slot that was not used for longest; NULL if all are being filled. */
static struct qcow2_inflated_slot *find_victim(struct qcow2 *q)
{
    struct qcow2_inflated_slot *victim = NULL;

    for (unsigned i = 0; i < q->inflated.n; i++) {
        struct qcow2_inflated_slot *slot = &q->inflated.slots[i];

        if (slot->loading)
            continue;
        if (!slot->entry)
            return slot;
        if (!victim || slot->used < victim->used)
            victim = slot;
    }
    return victim;
}

/* Read what `entry` describes and inflate it to `data`. */
static int read_and_inflate(struct qcow2 *q, uint64_t entry, uint8_t *data)
{
    uint64_t host;
    uint64_t len;
    uint8_t *packed;
    int r;

    qcow2_packed_range(q, entry, &host, &len);
    packed = malloc(len);
    if (!packed)
        return -ENOMEM;
    r = qcow2_packed_read(q, host, packed, len);
    if (r == 0)
        r = qcow2_inflate(q->compression, packed, len, data, q->cluster_size);
    free(packed);
    return r;
}

static int fill_slot(struct qcow2 *q, struct qcow2_inflated_slot *slot, uint64_t off,
                     uint64_t entry)
{
    int r = -ENOMEM;

    if (!slot->data)
        slot->data = malloc(q->cluster_size);
    slot->off = off;
    slot->entry = entry;
    slot->loading = true;
    if (slot->data)
        r = read_and_inflate(q, entry, slot->data);
    slot->loading = false;
    if (r < 0)
        slot->entry = 0;
    co_queue_wake_all(&q->inflated.changed);
    return r;
}

/* Get the slot that holds a cluster; valid until the next wait. */
static int get_slot(struct qcow2 *q, uint64_t off, uint64_t entry,
                    struct qcow2_inflated_slot **ret_slot)
{
    int r = make_slots(q);

    while (r == 0) {
        struct qcow2_inflated_slot *slot = find_slot(q, off);

        if (slot && !slot->loading && slot->entry == entry) {
            slot->used = ++q->inflated.uses;
            *ret_slot = slot;
            return 0;
        }
        if (!slot)
            slot = find_victim(q);
        if (!slot || slot->loading)
            co_queue_wait(&q->inflated.changed);
        else
            r = fill_slot(q, slot, off, entry);
    }
    return r;
}

int qcow2_read_packed(struct qcow2 *q, uint64_t off, uint64_t entry, uint64_t len,
                      const struct iovec *iov, unsigned niov)
{
    uint64_t in_cluster = off & (q->cluster_size - 1);
    struct qcow2_inflated_slot *slot;
    int r = get_slot(q, off - in_cluster, entry, &slot);

    if (r == 0)
        iov_from_buf(iov, niov, 0, slot->data + in_cluster, len);
    return r;
}

void qcow2_drop_inflated(struct qcow2 *q, uint64_t off)
{
    struct qcow2_inflated_slot *slot = find_slot(q, off);

    if (slot)
        slot->entry = 0;
}

void qcow2_free_inflated(struct qcow2 *q)
{
    for (unsigned i = 0; i < q->inflated.n; i++)
        free(q->inflated.slots[i].data);
    free(q->inflated.slots);
    q->inflated.slots = NULL;
    q->inflated.n = 0;
}

/* ---- writing ------------------------------------------------------------------------------------ */

/* A cluster on its way into the file. */
struct packed {
    uint64_t off;
    uint8_t *plain; /* a whole cluster */
    uint8_t *data;
    size_t len;
};

/* Write the data and make the table show it. The caller holds the cluster exclusively. */
static int write_packed(struct qcow2 *q, const struct packed *packed)
{
    uint64_t host;
    int r = qcow2_begin_packed(q, packed->off, packed->len, &host);

    if (r < 0)
        return r;
    r = qcow2_check_data_range(q, host, packed->len);
    if (r == 0)
        r = qcow2_packed_write(q, host, packed->data, packed->len);
    if (r == 0)
        r = qcow2_commit_packed(q, packed->off, host, packed->len);
    if (r < 0)
        qcow2_abort_packed(q, host, packed->len);
    return r;
}

/* What does not shrink by at least a byte is written as it is. */
static int write_cluster(struct qcow2 *q, struct packed *packed, uint64_t len)
{
    struct iovec iov = {packed->plain, len};
    struct range range;
    int r;

    r = qcow2_deflate(q->compression, packed->plain, q->cluster_size, packed->data,
                      q->cluster_size - 1, &packed->len);
    if (r == -ENOSPC)
        return qcow2_write(&q->block, packed->off, len, &iov, 1);
    if (r < 0)
        return r;
    r = qcow2_bound_dirty(q);
    if (r < 0)
        return r;
    range_acquire(&q->ranges, &range, packed->off, q->cluster_size, true);
    r = write_packed(q, packed);
    range_release(&q->ranges, &range);
    return r;
}

static int write_clusters(struct qcow2 *q, uint64_t off, uint64_t len, const struct iovec *iov,
                          unsigned niov)
{
    struct packed packed = {.plain = malloc(q->cluster_size), .data = malloc(q->cluster_size)};
    int r = packed.plain && packed.data ? 0 : -ENOMEM;

    for (uint64_t done = 0; r == 0 && done < len; done += q->cluster_size) {
        uint64_t n = min_u64(len - done, q->cluster_size);

        packed.off = off + done;
        iov_to_buf(iov, niov, done, packed.plain, n);
        memset(packed.plain + n, 0, q->cluster_size - n);
        r = write_cluster(q, &packed, n);
    }
    free(packed.plain);
    free(packed.data);
    return r;
}

int qcow2_write_compressed(struct block *block, uint64_t off, uint64_t len, const struct iovec *iov,
                           unsigned niov)
{
    struct qcow2 *q = qcow2_of(block);
    int r;

    if (!is_aligned(off, q->cluster_size) ||
        (!is_aligned(len, q->cluster_size) && off + len != block->len))
        return -EINVAL;
    if (q->data != block->file)
        return -ENOTSUP; /* an external data file has no place for compressed data */
    r = qcow2_prepare_write(q);
    return r < 0 ? r : write_clusters(q, off, len, iov, niov);
}
