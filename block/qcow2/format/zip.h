/*
 * Compression of clusters; knows nothing of images.
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
 * Fill `dst` from compressed data, which anything may follow. -EIO if it is damaged or
 * does not fill `dst`; -ENOMEM.
 */
int qcow2_inflate(struct qcow2_inflater *inflater, const uint8_t *src, size_t src_len, uint8_t *dst,
                  size_t dst_len) MUST_CHECK;

/* Compresses one cluster after the other. */
struct qcow2_deflater;

/* 0 or -ENOMEM. */
int qcow2_deflater_new(enum qcow2_compression how, struct qcow2_deflater **ret_deflater) MUST_CHECK;

/* NULL is fine. */
void qcow2_deflater_free(struct qcow2_deflater *deflater);

/* -ENOSPC if the result does not fit `dst`; -ENOMEM. */
int qcow2_deflate(struct qcow2_deflater *deflater, const uint8_t *src, size_t src_len, uint8_t *dst,
                  size_t dst_len, size_t *ret_len) MUST_CHECK;

#endif
