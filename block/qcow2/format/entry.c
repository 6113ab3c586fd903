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
static bool has_place(const struct qcow2 *q, const struct qcow2_entry *entry)
{
    return entry->host != 0 || (qcow2_has_data_file(q) && (entry->entry & QCOW2_COPIED));
}

struct qcow2_entry qcow2_entry_decode(const struct qcow2 *q, const uint8_t *table, unsigned i)
{
    const uint8_t *at = table + ((size_t)i << q->l2_entry_bits);
    bool subclusters = qcow2_has_subclusters(q);
    struct qcow2_entry entry = {
        .entry = load_be64(at),
        .bitmap = subclusters ? load_be64(at + 8) : 0,
        .len = q->cluster_size,
    };

    entry.host = entry.entry & QCOW2_OFF_MASK;
    if (entry.entry & QCOW2_COMPRESSED) {
        entry.kind = QCOW2_PACKED;
        entry.has_space = true;
        qcow2_packed_range(q, entry.entry, &entry.host, &entry.len);
    } else if ((entry.entry & QCOW2_ZERO) && !subclusters) {
        entry.kind = QCOW2_ZEROES;
        entry.has_space = entry.host != 0;
    } else {
        entry.has_space = has_place(q, &entry);
        entry.kind = entry.has_space ? QCOW2_NORMAL : QCOW2_UNALLOCATED;
    }
    return entry;
}
