/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/check/repair_entry.h"

#include "base/bytes.h"
#include "block/qcow2/check/check_state.h"
#include "block/qcow2/format/entry.h"
#include "block/qcow2/meta/snaptable.h"
#include "block/qcow2/qcow2.h"

/* Let lost data read as zero; subclusters that show the backing file still do. */
static void set_zero(const struct qcow2 *q, struct qcow2_entry *entry)
{
    uint64_t bitmap = entry->kind == QCOW2_PACKED ? QCOW2_BITMAP_HELD : entry->bitmap;

    *entry = (struct qcow2_entry){.kind = QCOW2_UNALLOCATED};
    if (qcow2_has_subclusters(q)) {
        entry->bitmap = (bitmap | bitmap << 32) & QCOW2_BITMAP_ZERO;
    } else if (q->version >= 3) {
        entry->entry = QCOW2_ZERO;
        entry->kind = QCOW2_ZEROES;
    }
}

/* Does an entry point where no data can be? */
static bool is_lost(const struct qcow2_check *check, const struct qcow2_entry *entry)
{
    return entry->host < check->q->cluster_size /* the header */ ||
           qcow2_check_outside(check, entry->host, entry->len);
}

static void repair_packed(const struct qcow2_check *check, struct qcow2_entry *entry)
{
    if (qcow2_has_data_file(check->q) || is_lost(check, entry)) {
        set_zero(check->q, entry);
        return;
    }
    entry->entry &= ~QCOW2_COPIED;
    entry->bitmap = 0;
}

void qcow2_repair_l2_entry(const struct qcow2_check *check, struct qcow2_entry *entry)
{
    const struct qcow2 *q = check->q;

    if (entry->kind == QCOW2_PACKED) {
        repair_packed(check, entry);
        return;
    }
    entry->entry &= ~QCOW2_L2_RESERVED;
    if (q->version < 3 && (entry->entry & QCOW2_ZERO)) {
        entry->entry &= ~QCOW2_ZERO;
        entry->kind = entry->host ? QCOW2_NORMAL : QCOW2_UNALLOCATED;
    }
    if (entry->kind == QCOW2_UNALLOCATED) {
        entry->bitmap &= ~QCOW2_BITMAP_HELD;
    } else if (entry->has_space) {
        if (!is_aligned(entry->host, q->cluster_size) ||
            (!qcow2_has_data_file(q) && is_lost(check, entry)))
            set_zero(q, entry);
        else
            entry->bitmap &= ~((entry->bitmap & QCOW2_BITMAP_HELD) << 32); /* keep the data */
    }
}

uint64_t qcow2_repair_l1_entry(const struct qcow2_check *check, uint64_t entry)
{
    uint64_t host = entry & QCOW2_OFF_MASK;

    if (host == 0 || !is_aligned(host, check->q->cluster_size) ||
        qcow2_check_outside(check, host, check->q->cluster_size))
        return 0;
    return entry & ~QCOW2_L1_RESERVED;
}

bool qcow2_check_outside(const struct qcow2_check *check, uint64_t host, uint64_t len)
{
    uint64_t end;

    return !add_u64(host, len, &end) ||
           (end > check->file_len && end - check->file_len >= check->q->cluster_size);
}

bool qcow2_check_l1_ok(const struct qcow2_check *check, const struct qcow2_snapshot *snapshot)
{
    return is_aligned(snapshot->l1_host, check->q->cluster_size) &&
           snapshot->l1_n <= QCOW2_L1_BYTES_MAX / sizeof(uint64_t);
}
