/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing new metadata to clusters that nobody uses.
 */
#ifndef MINIVMM_BLOCK_QCOW2_SWITCH_PUT_H
#define MINIVMM_BLOCK_QCOW2_SWITCH_PUT_H

#include "block/qcow2/meta/snaptable.h"
#include "block/qcow2/switch/ledger.h"
#include "block/qcow2/switch/switch.h"

/* Write bytes (a snapshot table, say) to new clusters. No bytes: *ret_host is 0. */
int qcow2_put(struct qcow2_ledger *ledger, const void *data, size_t len,
              uint64_t *ret_host) MUST_CHECK;

/* The same for an L1 table in host byte order. */
int qcow2_put_l1(struct qcow2_ledger *ledger, const uint64_t *entries, uint32_t n,
                 uint64_t *ret_host) MUST_CHECK;

/*
 * The same for a snapshot table, which `next` gets; the one that was read loses its reference. 0,
 * or as qcow2_snaptable_encode and qcow2_put.
 */
int qcow2_put_snaptable(struct qcow2_ledger *ledger, const struct qcow2_snaptable *table,
                        struct qcow2_switch *next) MUST_CHECK;

#endif
