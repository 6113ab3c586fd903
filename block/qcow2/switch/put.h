/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes new metadata for a switch, to clusters that neither the old nor the new state uses.
 */
#ifndef MINIVMM_BLOCK_QCOW2_SWITCH_PUT_H
#define MINIVMM_BLOCK_QCOW2_SWITCH_PUT_H

#include "block/qcow2/meta/snaptable.h"
#include "block/qcow2/switch/ledger.h"
#include "block/qcow2/switch/switch.h"

/* Write `len` bytes to new clusters at *ret_host, which is 0 if `len` is. Returns 0 or -errno. */
int qcow2_put(struct qcow2_ledger *ledger, const void *data, size_t len,
              uint64_t *ret_host) MUST_CHECK;

/* Write an L1 table of `n` entries, in host byte order in memory. Same results. */
int qcow2_put_l1(struct qcow2_ledger *ledger, const uint64_t *entries, uint32_t n,
                 uint64_t *ret_host) MUST_CHECK;

/*
 * Write a snapshot table, let `next` point at it, and count down the clusters from which it was
 * read. Returns 0, or what qcow2_snaptable_encode, qcow2_ledger_add or qcow2_put return.
 */
int qcow2_put_snaptable(struct qcow2_ledger *ledger, const struct qcow2_snaptable *table,
                        struct qcow2_switch *next) MUST_CHECK;

#endif
