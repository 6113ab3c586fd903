/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/block/qcow2/qcow2_image.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

static void set_count(uint8_t *block, unsigned order, uint64_t i, uint64_t value)
{
    unsigned bits = 1u << order;

    if (bits < 8) {
        unsigned shift = (unsigned)(i * bits % 8);

        block[i * bits / 8] &= (uint8_t) ~(((1u << bits) - 1) << shift);
        block[i * bits / 8] |= (uint8_t)(value << shift);
        return;
    }
    for (unsigned byte = 0; byte < bits / 8; byte++)
        block[(i + 1) * (bits / 8) - 1 - byte] = (uint8_t)(value >> (8 * byte));
}

static size_t add_extension(uint8_t *header, size_t at, uint32_t type, const char *text)
{
    size_t len = strlen(text);

    store_be32(header + at, type);
    store_be32(header + at + 4, (uint32_t)len);
    for (size_t i = 0; i < len; i++)
        header[at + 8 + i] = (uint8_t)text[i];
    return at + 8 + align_up(len, 8);
}

/* The features of version 3; where the extensions begin. */
static size_t make_features(uint8_t *hdr, const struct qcow2_image_options *options)
{
    uint64_t incompatible = (options->data_file ? 1u << 2 : 0) | (options->zstd ? 1u << 3 : 0) |
                            (options->extended_l2 ? 1u << 4 : 0);
    size_t len = options->zstd ? 112 : 104;

    store_be64(hdr + 72, incompatible);
    store_be64(hdr + 80, options->lazy_refcounts ? 1 : 0);
    store_be64(hdr + 88, options->data_file_raw ? 1u << 1 : 0);
    store_be32(hdr + 96, options->refcount_order);
    store_be32(hdr + 100, (uint32_t)len);
    if (options->zstd)
        hdr[104] = 1;
    return len;
}

/* Clusters: header, refcount table, refcount block, L1 table. */
void qcow2_image_make(struct mem_disk *disk, const struct qcow2_image_options *options)
{
    unsigned version = options->version ? options->version : 3;
    unsigned bits = options->cluster_bits ? options->cluster_bits : 16;
    unsigned entry_bits = options->extended_l2 ? 4 : 3;
    uint64_t cluster = 1ull << bits;
    uint64_t l1_entries = div_round_up(options->size, 1ull << (bits + bits - entry_bits));
    uint64_t l1_clusters = div_round_up(max_u64(l1_entries, 1) * 8, cluster);
    uint64_t used = 3 + l1_clusters;
    uint8_t *hdr = disk->data;
    size_t end = 72;

    memset(disk->data, 0, used * cluster);
    if (!disk->fixed_len)
        disk->len = used * cluster;
    store_be32(hdr, 0x514649fb);
    store_be32(hdr + 4, version);
    store_be32(hdr + 20, bits);
    store_be64(hdr + 24, options->size);
    store_be32(hdr + 36, (uint32_t)l1_entries);
    store_be64(hdr + 40, 3 * cluster);
    store_be64(hdr + 48, cluster);
    store_be32(hdr + 56, 1);
    if (version == 3)
        end = make_features(hdr, options);
    if (options->data_file)
        end = add_extension(hdr, end, 0x44415441, options->data_file);
    if (options->backing_format)
        end = add_extension(hdr, end, 0xe2792aca, options->backing_format);
    if (options->backing) {
        store_be64(hdr + 8, end + 8);
        store_be32(hdr + 16, (uint32_t)strlen(options->backing));
        memcpy(hdr + end + 8, options->backing, strlen(options->backing));
    }
    store_be64(disk->data + cluster, 2 * cluster);
    for (uint64_t i = 0; i < used; i++)
        set_count(disk->data + 2 * cluster, options->refcount_order, i, 1);
}
