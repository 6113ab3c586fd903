/*
 * What a repair does about single entries of L1 and L2 tables.
 */
#include "base/bytes.h"
#include "block/qcow2/check/check.h"
#include "block/qcow2/request/l2.h"

/* Data that is not there reads as zero; subclusters that are those of the image below stay that. */
static void set_zero(const struct qcow2 *q, struct qcow2_l2_entry *entry)
{
    uint64_t bitmap = entry->kind == QCOW2_L2_PACKED ? QCOW2_CHECK_ALLOCATED : entry->bitmap;
    bool extended = q->incompatible & QCOW2_INCOMPAT_EXTL2;

    *entry = (struct qcow2_l2_entry){.kind = QCOW2_L2_UNALLOCATED};
    if (extended) {
        entry->bitmap = (bitmap | bitmap << 32) & (QCOW2_CHECK_ALLOCATED << 32);
    } else if (q->version >= 3) {
        entry->entry = QCOW2_ZERO;
        entry->kind = QCOW2_L2_ZERO;
    }
}

/* Can there be no data where an entry points? */
static bool is_lost(const struct qcow2_check *check, const struct qcow2_l2_entry *entry)
{
    return entry->host < check->q->cluster_size /* the header */ ||
           qcow2_check_outside(check, entry->host, entry->len);
}

static void repair_packed(const struct qcow2_check *check, struct qcow2_l2_entry *entry)
{
    if (qcow2_has_data_file(check->q) || is_lost(check, entry)) {
        set_zero(check->q, entry);
        return;
    }
    entry->entry &= ~QCOW2_COPIED;
    entry->bitmap = 0;
}

void qcow2_repair_l2_entry(const struct qcow2_check *check, struct qcow2_l2_entry *entry)
{
    const struct qcow2 *q = check->q;

    if (entry->kind == QCOW2_L2_PACKED) {
        repair_packed(check, entry);
        return;
    }
    entry->entry &= ~QCOW2_L2_RESERVED;
    if (q->version < 3 && (entry->entry & QCOW2_ZERO)) {
        entry->entry &= ~QCOW2_ZERO;
        entry->kind = entry->host ? QCOW2_L2_NORMAL : QCOW2_L2_UNALLOCATED;
    }
    if (entry->kind == QCOW2_L2_UNALLOCATED) {
        entry->bitmap &= ~QCOW2_CHECK_ALLOCATED;
    } else if (entry->kind != QCOW2_L2_ZERO) {
        if (!is_aligned(entry->host, q->cluster_size) ||
            (!qcow2_has_data_file(q) && is_lost(check, entry)))
            set_zero(q, entry);
        else
            entry->bitmap &= ~((entry->bitmap & QCOW2_CHECK_ALLOCATED) << 32); /* keep the data */
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
