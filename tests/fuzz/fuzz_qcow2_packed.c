/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile compressed clusters.
 *
 * Input: the kind of compression and the cluster size, where in its cluster the data begins, how
 * many sectors the table says it has, and the data.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/block/qcow2/qcow2_image.h"

#define HEAD_LEN 4u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An L2 table for the first clusters, whose entries all point at the data. */
static void make_image(struct mem_disk *disk, const uint8_t *data, size_t size)
{
    static const unsigned bits[] = {9, 12, 16, 21};
    struct qcow2_image_options options = {.cluster_bits = bits[data[0] % ARRAY_SIZE(bits)],
                                          .refcount_order = 4,
                                          .zstd = data[0] & 0x80};
    uint64_t cluster = 1ull << options.cluster_bits;
    unsigned off_bits = 62 - (options.cluster_bits - 8);
    uint64_t sectors = data[3] & ((1u << (options.cluster_bits - 8)) - 1);
    uint64_t l2;

    options.size = 4 * cluster;
    qcow2_image_make(disk, &options);
    l2 = disk->len;
    for (uint64_t i = 0; i < 4; i++)
        store_be64(disk->data + l2 + i * 8,
                   1ull << 62 | sectors << off_bits | (l2 + cluster + (load_be16(data + 1) >> i)));
    store_be64(disk->data + load_be64(disk->data + 40), 1ull << 63 | l2);
    memcpy(disk->data + l2 + cluster, data + HEAD_LEN, size - HEAD_LEN);
    disk->len = l2 + cluster + size - HEAD_LEN;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mem_disk disk;
    struct mem_env env;
    struct block *block;
    uint8_t *buf;

    if (size <= HEAD_LEN || size > (1u << 20))
        return 0;
    mem_disk_init(&disk, "image");
    make_image(&disk, data, size);
    mem_env_init(&env);
    mem_env_add(&env, &disk);
    block = mem_env_open(&env, "image", BLOCK_FORMAT_QCOW2, false);
    buf = malloc(block->len);
    /* Whole, in parts, and as what a write keeps; any result will do. */
    if (buf && (mem_block_read(block, 0, buf, block->len) < 0 ||
                mem_block_read(block, block->len / 4 - 512, buf, 1024) < 0 ||
                mem_block_write(block, block->len / 2 - 512, buf, 1024) < 0))
        buf[0] = 0;
    free(buf);
    (void)block_close(block); /* the counts are wrong, so this may fail */
    mem_disk_done(&disk);
    return 0;
}
