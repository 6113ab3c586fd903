/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/format/refblock.h"

#include <string.h>

void qcow2_refblock_fill(unsigned refcount_order, uint8_t *data, size_t len, uint64_t n)
{
    memset(data, 0, len);
    for (uint64_t i = 0; i < n; i++)
        qcow2_refblock_set(refcount_order, data, i, 1);
}
