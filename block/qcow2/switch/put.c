/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/switch/put.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/meta/snaptable.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/switch/ledger.h"
#include "block/qcow2/switch/switch.h"

int qcow2_put(struct qcow2_ledger *ledger, const void *data, size_t len, uint64_t *ret_host)
{
    uint64_t host = 0;
    int r = len > 0 ? qcow2_ledger_alloc(ledger, len, &host) : 0;

    if (r == 0 && len > 0)
        r = qcow2_meta_write(ledger->q, host, data, len);
    if (r == 0)
        *ret_host = host;
    return r;
}

int qcow2_put_l1(struct qcow2_ledger *ledger, const uint64_t *entries, uint32_t n,
                 uint64_t *ret_host)
{
    /* The table has whole sectors, since it is written back in such pieces later. */
    size_t len = align_up(n * sizeof(uint64_t), QCOW2_TABLE_PIECE * sizeof(uint64_t));
    uint64_t *data = calloc(1, len + 1);
    int r;

    if (!data)
        return -ENOMEM;
    for (uint32_t i = 0; i < n; i++)
        data[i] = htobe64(entries[i]);
    r = qcow2_put(ledger, data, len, ret_host);
    free(data);
    return r;
}

int qcow2_put_snaptable(struct qcow2_ledger *ledger, const struct qcow2_snaptable *table,
                        struct qcow2_switch *next)
{
    uint8_t *data;
    size_t len;
    int r = qcow2_snaptable_encode(table, &data, &len);

    if (r < 0)
        return r;
    if (table->len > 0)
        r = qcow2_ledger_add(ledger, table->host, table->len, -1);
    if (r == 0)
        r = qcow2_put(ledger, data, len, &next->snapshots_host);
    free(data);
    next->nsnapshots = table->n;
    return r;
}
