/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/check/check.h"

#include <errno.h>
#include <inttypes.h>

#include "base/log.h"
#include "block/qcow2/check/check_state.h"
#include "block/qcow2/check/pass.h"
#include "block/qcow2/check/repair.h"
#include "block/qcow2/qcow2.h"

int qcow2_check(struct block *block, unsigned fix, struct block_check_report *report,
                struct block_check_result *ret_result, struct err *err)
{
    struct qcow2_check check;
    int r = qcow2_check_init(&check, qcow2_of(block), report, err);

    check.fix = fix;
    check.salvage = fix & BLOCK_FIX_ERRORS;
    if (r == 0)
        r = qcow2_check_run(&check);
    if (r == 0 && check.drop_bitmaps && !(fix & BLOCK_FIX_ERRORS))
        r = err_set(err, -EINVAL, "%s: the bitmaps are damaged", check.q->path);
    if (r == 0 && fix)
        r = qcow2_repair(&check);
    if (r == 0)
        *ret_result = check.result;
    qcow2_check_done(&check);
    return r;
}

int qcow2_recover(struct block *block, struct block_check_report *report, struct err *err)
{
    struct qcow2 *q = qcow2_of(block);
    struct qcow2_check check;
    int r;

    if (q->checking || !(q->incompatible & QCOW2_INCOMPAT_DIRTY))
        return 0;
    r = qcow2_check_init(&check, q, report, err);
    check.fix = BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS;
    if (r == 0)
        r = qcow2_check_run(&check);
    if (r == 0)
        r = qcow2_repair(&check);
    if (r == 0 && !qcow2_check_is_right(&check.result))
        r = err_set(err, -EIO, "%s: the image is damaged and cannot be repaired", q->path);
    if (r == 0 && !report)
        log_warn("%s: the image was not closed cleanly: repaired %" PRIu64 " errors and %" PRIu64
                 " leaks in its refcounts",
                 q->path, check.result.corruptions_fixed, check.result.leaks_fixed);
    qcow2_check_done(&check);
    return r;
}
