/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/request/forget.h"

#include "block/qcow2/meta/cache.h"
#include "block/qcow2/meta/places.h"
#include "block/qcow2/meta/space.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/request/ahead.h"
#include "block/qcow2/request/bitmap_note.h"
#include "block/qcow2/request/packed_read.h"
#include "block/qcow2/request/partial.h"

void qcow2_forget(struct qcow2 *q, unsigned what)
{
    if (what & QCOW2_FORGET_READ) {
        qcow2_packed_forget(q);
        qcow2_ahead_forget(q);
    }
    if (what & QCOW2_FORGET_DISK) {
        qcow2_partial_forget(q);
        q->packed_end = 0;
    }
    if (what & QCOW2_FORGET_SPACE)
        qcow2_space_reset(q);
    if (what & QCOW2_FORGET_TABLES)
        qcow2_cache_done(q);
    if (what & QCOW2_FORGET_PLACES)
        qcow2_forget_places(q);
    if (what & QCOW2_FORGET_NOTES)
        qcow2_bitmaps_forget(q);
}
