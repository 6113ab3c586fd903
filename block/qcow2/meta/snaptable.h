/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The snapshot table of a qcow2 image, as it is in the file.
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
    uint64_t disk_len; /* the disk's length then; the image's, where the entry does not say */
    uint64_t icount;   /* instructions executed; UINT64_MAX: not said */
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
    uint32_t damaged; /* limits that were broken: qcow2_snaptable_salvage */
};

/*
 * Read the table that the header in the file points at. 0; -EINVAL for a table that breaks a limit,
 * -EIO, -ENOMEM, with *err filled. To be freed with qcow2_snaptable_done.
 */
int qcow2_snaptable_read(struct qcow2 *q, struct qcow2_snaptable *ret_table,
                         struct err *err) MUST_CHECK;

/* The same for a repair: entries beyond the limits are dropped, too long extra data as well. */
int qcow2_snaptable_salvage(struct qcow2 *q, struct qcow2_snaptable *ret_table,
                            struct err *err) MUST_CHECK;
void qcow2_snaptable_done(struct qcow2_snaptable *table);

/*
 * The bytes of the table: version 3's extra data in every entry, unknown extra data kept. *ret_data
 * is to be freed. -E2BIG above QEMU's limits, -ENOMEM.
 */
int qcow2_snaptable_encode(const struct qcow2_snaptable *table, uint8_t **ret_data,
                           size_t *ret_len) MUST_CHECK;

#endif
