/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the fields of a qcow2 header are; private to block/qcow2/.
 */
#ifndef MINIVMM_BLOCK_QCOW2_FORMAT_HEADER_H
#define MINIVMM_BLOCK_QCOW2_FORMAT_HEADER_H

#include <stddef.h>
#include <stdint.h>

/* Byte offsets of header fields. */
enum {
    HDR_VERSION = 4,
    HDR_BACKING_OFF = 8,
    HDR_BACKING_LEN = 16,
    HDR_CLUSTER_BITS = 20,
    HDR_SIZE = 24,
    HDR_CRYPT = 32,
    HDR_L1_SIZE = 36,
    HDR_L1_OFF = 40,
    HDR_REFTABLE_OFF = 48,
    HDR_REFTABLE_CLUSTERS = 56,
    HDR_NB_SNAPSHOTS = 60,
    HDR_SNAPSHOTS_OFF = 64,
    HDR_V2_LEN = 72,
    HDR_INCOMPATIBLE = 72,
    HDR_COMPATIBLE = 80,
    HDR_AUTOCLEAR = 88,
    HDR_REFCOUNT_ORDER = 96,
    HDR_HEADER_LEN = 100,
    HDR_V3_LEN = 104,
    HDR_COMPRESSION = 104,
    HDR_LEN = 112, /* of the headers that we and QEMU write */
};

enum {
    EXT_END = 0,
    EXT_BACKING_FORMAT = 0xe2792aca,
    EXT_FEATURE_NAMES = 0x6803f857,
    EXT_CRYPTO = 0x0537be77,
    EXT_BITMAPS = 0x23852875,
    EXT_DATA_FILE = 0x44415441,
};

#define EXT_BITMAPS_LEN 24u

/*
 * The most that we read of a header with its extensions and names. QEMU writes less: all of them
 * are in the first cluster, and a name has at most 1023 bytes.
 */
#define QCOW2_HEADER_MAX (64u << 10)

#define QCOW2_COMPAT_LAZY (1ull << 0)
#define QCOW2_AUTOCLEAR_BITMAPS (1ull << 0)
#define QCOW2_AUTOCLEAR_RAW_DATA (1ull << 1)

/* An entry of the feature name table: a byte for the bit's kind, one for its number, the name. */
#define FEATURE_NAME_LEN 46u
#define FEATURE_ENTRY_LEN (2 + FEATURE_NAME_LEN)

#define QCOW2_FEATURE_NAMES 8u
#define QCOW2_FEATURE_NAMES_LEN ((size_t)QCOW2_FEATURE_NAMES * FEATURE_ENTRY_LEN)

/* Fill `data` with the table that we write: it names all features that we know. */
void qcow2_feature_names(uint8_t data[QCOW2_FEATURE_NAMES_LEN]);

#endif
