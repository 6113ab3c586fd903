/*
 * What the header says, for people.
 */
#include "block/qcow2/format/header.h"
#include "block/qcow2/qcow2.h"

void qcow2_get_details(const struct block *block, struct block_details *details)
{
    static const char *const encryptions[] = {
        [QCOW2_NOT_ENCRYPTED] = NULL, [QCOW2_AES] = "aes", [QCOW2_LUKS] = "luks"};
    const struct qcow2 *q = qcow2_of(block);

    details->encryption = encryptions[q->encryption];
    details->luks_off = q->luks_off;
    details->version = q->version;
    details->cluster_size = (uint32_t)q->cluster_size;
    details->refcount_bits = 1u << q->refcount_order;
    details->lazy_refcounts = q->lazy;
    details->extended_l2 = q->incompatible & QCOW2_INCOMPAT_EXTL2;
    details->zstd = q->compression == QCOW2_ZSTD;
    details->dirty = q->incompatible & QCOW2_INCOMPAT_DIRTY;
    details->corrupt = q->incompatible & QCOW2_INCOMPAT_CORRUPT;
    details->data_file_raw = q->autoclear & QCOW2_AUTOCLEAR_RAW_DATA;
}
