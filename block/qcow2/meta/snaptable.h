/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The snapshot table of an image: read and checked, or repaired; and encoded to be written.
 */
#ifndef MINIVMM_BLOCK_QCOW2_META_SNAPTABLE_H
#define MINIVMM_BLOCK_QCOW2_META_SNAPTABLE_H

#include "block/qcow2/qcow2.h"

/* QEMU's limits: bytes of extra data in an entry, and of the whole table. */
#define QCOW2_SNAPSHOT_EXTRA_MAX 1024u
#define QCOW2_SNAPTABLE_BYTES_MAX (64u << 20)

/* The extra data that version 3 demands: VM state size and disk size, 64 bits each. */
#define QCOW2_SNAPSHOT_EXTRA_V3 16u

struct qcow2_snapshot {
    uint64_t l1_host;
    uint32_t l1_n;
    uint32_t date_sec;
    uint32_t date_nsec;
    uint64_t vm_clock_ns;
    uint64_t vm_state_len;
    uint64_t disk_len; /* of the disk in the snapshot; the present one where the entry has none */
    uint64_t icount;   /* instructions executed; UINT64_MAX where the entry has none */
    char *id;
    char *name;

    /* Extra data as it is in the file: its length, and what follows the fields that are known. */
    uint32_t extra_len;
    uint8_t *unknown;
    uint32_t unknown_len;
};

struct qcow2_snaptable {
    uint64_t host;
    uint64_t len; /* bytes in the file */
    uint32_t n;
    struct qcow2_snapshot *snapshots;
    uint32_t damaged; /* how often qcow2_snaptable_salvage found a limit broken */
};

/*
 * Read the table that the header in the file points at. Returns 0; or -EINVAL for a table that
 * breaks a limit, -EIO or -ENOMEM, with *err filled. The caller frees the table with
 * qcow2_snaptable_done.
 */
int qcow2_snaptable_read(struct qcow2 *q, struct qcow2_snaptable *ret_table,
                         struct err *err) MUST_CHECK;

/*
 * Read the table for a repair. Where qcow2_snaptable_read would refuse it, entries beyond a limit
 * and unknown extra data of entries that have too much are left out, and `damaged` counts this.
 */
int qcow2_snaptable_salvage(struct qcow2 *q, struct qcow2_snaptable *ret_table,
                            struct err *err) MUST_CHECK;

/* Free the memory of the table's entries. */
void qcow2_snaptable_done(struct qcow2_snaptable *table);

/*
 * Encode the table: each entry gets the extra data of version 3 and keeps extra data that is not
 * known. The caller frees *ret_data. Returns 0; -E2BIG above QEMU's limits; -ENOMEM.
 */
int qcow2_snaptable_encode(const struct qcow2_snaptable *table, uint8_t **ret_data,
                           size_t *ret_len) MUST_CHECK;

#endif
