/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bits of a dirty bitmap in memory; each stands for a range of the disk. A cluster of the
 * bitmap costs memory only if some of its bits are set and not all. Nothing here reads the image.
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

    /*
     * For each cluster of the bitmap: NULL if no bit is set, QCOW2_BITS_ALL if all are, else its
     * bytes. The lowest bit of a byte is the first.
     */
    uint8_t **clusters;
};

#define QCOW2_BITS_ALL ((uint8_t *)(uintptr_t)1)

/* Entries of the table of a bitmap for a disk of `len` bytes. */
uint64_t qcow2_bits_clusters(unsigned cluster_bits, unsigned granularity_bits, uint64_t len);

/* Start with no bit set. Returns 0; -ENOMEM; -EFBIG above QEMU's limit. */
int qcow2_bits_init(struct qcow2_bits *bits, unsigned cluster_bits, unsigned granularity_bits,
                    uint64_t len) MUST_CHECK;

/* Free what qcow2_bits_init and the setting of bits have allocated. */
void qcow2_bits_done(struct qcow2_bits *bits);

/*
 * Set the bits of all ranges that [off, off + len) touches; bytes past the disk's end have none.
 * Returns 0 or -ENOMEM.
 */
int qcow2_bits_set(struct qcow2_bits *bits, uint64_t off, uint64_t len) MUST_CHECK;

/*
 * Set the bits of all ranges that cluster `i` of another bitmap of the disk has. That bitmap has
 * the lengths in `like`; `data` is the cluster in the form of qcow2_bits.clusters. Returns 0 or
 * -ENOMEM.
 */
int qcow2_bits_add_cluster(struct qcow2_bits *bits, const struct qcow2_bits *like, uint32_t i,
                           const uint8_t *data) MUST_CHECK;

/*
 * Set the bits of all ranges that `other` has, a bitmap of the same disk that may have another
 * granularity. Returns 0 or -ENOMEM.
 */
int qcow2_bits_add(struct qcow2_bits *bits, const struct qcow2_bits *other) MUST_CHECK;

#endif
