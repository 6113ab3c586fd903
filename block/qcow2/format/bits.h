/*
 * Bits of a dirty bitmap in memory: a set of ranges of the disk. It has room only for the clusters
 * of the bitmap that have some bits and not all, and it reads nothing from the image.
 */
#ifndef MINIVMM_BLOCK_QCOW2_FORMAT_BITS_H
#define MINIVMM_BLOCK_QCOW2_FORMAT_BITS_H

#include <stdint.h>

#include "base/compiler.h"

/* QEMU's limit for one bitmap. */
#define QCOW2_BITMAP_BYTES_MAX (512u << 20)

struct qcow2_bits {
    unsigned cluster_bits;
    unsigned granularity_bits; /* log2 of the bytes of the disk that a bit stands for */
    uint64_t len;              /* of the disk, in bytes */
    uint64_t nbits;
    uint32_t n; /* clusters: entries of the bitmap's table */

    /* Of each cluster: NULL for no bit, QCOW2_BITS_ALL, or its bytes, the lowest bit first. */
    uint8_t **clusters;
};

#define QCOW2_BITS_ALL ((uint8_t *)(uintptr_t)1)

/* Entries of the table of a bitmap for a disk of `len` bytes. */
uint64_t qcow2_bits_clusters(unsigned cluster_bits, unsigned granularity_bits, uint64_t len);

/* An empty set, to be freed with qcow2_bits_done. -ENOMEM; -EFBIG above QEMU's limit. */
int qcow2_bits_init(struct qcow2_bits *bits, unsigned cluster_bits, unsigned granularity_bits,
                    uint64_t len) MUST_CHECK;
void qcow2_bits_done(struct qcow2_bits *bits);

/*
 * Add all ranges that [off, off + len) touches; what lies past the disk's end is ignored. -ENOMEM.
 */
int qcow2_bits_set(struct qcow2_bits *bits, uint64_t off, uint64_t len) MUST_CHECK;

/* The same for what a cluster of another bitmap of the disk says: cluster `i`, `data` as above. */
int qcow2_bits_add_cluster(struct qcow2_bits *bits, const struct qcow2_bits *like, uint32_t i,
                           const uint8_t *data) MUST_CHECK;

/* All of a set that may have another granularity, for a disk of the same length. */
int qcow2_bits_add(struct qcow2_bits *bits, const struct qcow2_bits *other) MUST_CHECK;

#endif
