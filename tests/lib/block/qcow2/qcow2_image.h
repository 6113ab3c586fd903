/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2 images for tests: made and checked without the engine under test, and without qemu-img.
 */
#ifndef MINIVMM_TESTS_QCOW2_IMAGE_H
#define MINIVMM_TESTS_QCOW2_IMAGE_H

#include <stdint.h>

#include "tests/lib/block/mem_disk.h"

struct qcow2_image_options {
    unsigned version;        /* 0: 3 */
    unsigned cluster_bits;   /* 0: 16 */
    unsigned refcount_order; /* as it is; version 2 needs 4 */
    uint64_t size;
    const char *backing;
    const char *backing_format;
    bool extended_l2; /* needs clusters of 16 KiB and more */
    bool lazy_refcounts;
    bool zstd;
    const char *data_file; /* guest data goes there */
    bool data_file_raw;
};

/* Write an empty image. */
void qcow2_image_make(struct mem_disk *disk, const struct qcow2_image_options *options);

struct qcow2_image_check {
    unsigned errors; /* counted less often than used, wrongly marked COPIED, outside the file */
    unsigned leaks;  /* counted more often than used */
    bool dirty;      /* marked so: counts may be too low, and are not errors */
    char first[128]; /* the first error in words */
};

/* Compare all refcounts with what the tables, those of snapshots too, and bitmaps use. */
void qcow2_image_check(const struct mem_disk *disk, struct qcow2_image_check *ret_check);

/*
 * A cluster that nobody uses, to be counted: the byte that has its count, and what it has to be.
 * False if the refcount blocks have no free one in the file or right after it.
 */
bool qcow2_image_find_leak(const struct mem_disk *disk, uint64_t *ret_at, uint8_t *ret_byte);

#endif
