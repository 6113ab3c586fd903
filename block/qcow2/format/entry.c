/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/format/entry.h"

#include "base/bytes.h"
#include "block/qcow2/qcow2.h"

/*
 * The width of the offset in the entry of a compressed cluster. The bits above it have the number
 * of sectors after the first ("Compressed Clusters Descriptor" in the specification).
 */
static unsigned packed_off_bits(const struct qcow2 *q)
{
    return 62 - (q->cluster_bits - 8);
}

uint64_t qcow2_packed_max(const struct qcow2 *q)
{
    return min_u64(1ull << packed_off_bits(q), QCOW2_HOST_MAX);
}

uint64_t qcow2_packed_entry(const struct qcow2 *q, uint64_t host, uint64_t len)
{
    uint64_t sectors = (host + len - 1) / BLOCK_SECTOR_SIZE - host / BLOCK_SECTOR_SIZE;

    return QCOW2_COMPRESSED | (sectors << packed_off_bits(q)) | host;
}

void qcow2_packed_range(const struct qcow2 *q, uint64_t entry, uint64_t *ret_host,
                        uint64_t *ret_len)
{
    unsigned off_bits = packed_off_bits(q);
    uint64_t host = entry & ((1ull << off_bits) - 1);
    uint64_t sectors = ((entry & ~(QCOW2_COMPRESSED | QCOW2_COPIED)) >> off_bits) + 1;

    *ret_host = host;
    *ret_len = sectors * BLOCK_SECTOR_SIZE - (host & (BLOCK_SECTOR_SIZE - 1));
}

/*
 * In an external data file a cluster may lie at offset 0; COPIED tells such a cluster from one that
 * has no place. In the image file offset 0 is the header's.
 */
static bool has_place(const struct qcow2 *q, uint64_t entry)
{
    return (entry & QCOW2_OFF_MASK) || (qcow2_has_data_file(q) && (entry & QCOW2_COPIED));
}

static struct qcow2_entry decode_packed(const struct qcow2 *q, uint64_t entry, uint64_t bitmap)
{
    uint64_t host;
    uint64_t len;

    qcow2_packed_range(q, entry, &host, &len);
    return (struct qcow2_entry){entry, bitmap, QCOW2_PACKED, true, host, len};
}

/* Called for each entry of a table: nothing here has an address, so all of it is in registers. */
struct qcow2_entry qcow2_entry_decode(const struct qcow2 *q, const uint8_t *table, unsigned i)
{
    const uint8_t *at = table + ((size_t)i << q->l2_entry_bits);
    bool subclusters = qcow2_has_subclusters(q);
    uint64_t entry = load_be64(at);
    uint64_t bitmap = subclusters ? load_be64(at + 8) : 0;
    uint64_t host = entry & QCOW2_OFF_MASK;
    enum qcow2_kind kind;
    bool has_space;

    if (entry & QCOW2_COMPRESSED)
        return decode_packed(q, entry, bitmap);
    if ((entry & QCOW2_ZERO) && !subclusters) {
        kind = QCOW2_ZEROES;
        has_space = host != 0;
    } else {
        has_space = has_place(q, entry);
        kind = has_space ? QCOW2_NORMAL : QCOW2_UNALLOCATED;
    }
    return (struct qcow2_entry){entry, bitmap, kind, has_space, host, q->cluster_size};
}
