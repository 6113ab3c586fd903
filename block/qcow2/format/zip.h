/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compresses and inflates clusters with zlib or zstd; knows nothing of images. An inflater or a
 * deflater serves one thread at a time.
 */
#ifndef MINIVMM_BLOCK_QCOW2_FORMAT_ZIP_H
#define MINIVMM_BLOCK_QCOW2_FORMAT_ZIP_H

#include "block/qcow2/qcow2.h"

/* Inflates one cluster after the other. */
struct qcow2_inflater;

/* 0 or -ENOMEM. */
int qcow2_inflater_new(enum qcow2_compression how, struct qcow2_inflater **ret_inflater) MUST_CHECK;

/* NULL is fine. */
void qcow2_inflater_free(struct qcow2_inflater *inflater);

/*
 * Fill `dst` from the compressed data at `src`, where other bytes may follow it. Returns 0; -EIO if
 * the data is damaged or does not fill `dst`; -ENOMEM.
 */
int qcow2_inflate(struct qcow2_inflater *inflater, const uint8_t *src, size_t src_len, uint8_t *dst,
                  size_t dst_len) MUST_CHECK;

/*
 * May it be kept for later? Not if it needed much memory: what a frame asks for is what the image
 * says.
 */
bool qcow2_inflater_is_small(const struct qcow2_inflater *inflater);

/* Compresses one cluster after the other. */
struct qcow2_deflater;

/* 0 or -ENOMEM. */
int qcow2_deflater_new(enum qcow2_compression how, struct qcow2_deflater **ret_deflater) MUST_CHECK;

/* NULL is fine. */
void qcow2_deflater_free(struct qcow2_deflater *deflater);

/*
 * Compress `src` into `dst` and set *ret_len to the length there. Returns 0; -ENOSPC if the result
 * does not fit `dst`; -ENOMEM.
 */
int qcow2_deflate(struct qcow2_deflater *deflater, const uint8_t *src, size_t src_len, uint8_t *dst,
                  size_t dst_len, size_t *ret_len) MUST_CHECK;

#endif
