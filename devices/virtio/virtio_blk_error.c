/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtio_blk_error.h"

#include <errno.h>
#include <string.h>

/* Indexed by enum block_op. */
static const char op_names[][16] = {
    [BLOCK_READ] = "read",       [BLOCK_WRITE] = "write", [BLOCK_FLUSH] = "flush",
    [BLOCK_DISCARD] = "discard", [BLOCK_COPY] = "copy",   [BLOCK_WRITE_ZEROES] = "write of zeroes",
};

/* What the user can do about it; "" where there is no general answer. */
static const char *advice_for(int error, bool kept)
{
    switch (error) {
    case ENOSPC:
    case EDQUOT:
        if (kept)
            return ": free space on the host's file system that has the image: it is tried again "
                   "when the VM goes on";
        return ": free space on the host's file system that has the image: writes succeed again "
               "then, but what failed is up to the guest to repeat";
    case EFBIG:
        return ": the host lets no file become so large: see `ulimit -f` and the limits of its "
               "file system";
    case EIO:
        return ": the host's storage failed, or the image is damaged: see the host's kernel log, "
               "and check the image when the VM has ended";
    default:
        return "";
    }
}

void virtio_blk_log_error(struct log_limit *limit, const char *label, const struct block_req *req,
                          int result, bool kept)
{
    const char *advice = advice_for(-result, kept);

    if (req->op == BLOCK_FLUSH)
        (void)log_limited_at(limit, LOG_WARN, "%s: flush failed: %s%s", label, strerror(-result),
                             advice);
    else
        (void)log_limited_at(limit, LOG_WARN, "%s: %s of %llu bytes at %llu failed: %s%s", label,
                             op_names[req->op], (unsigned long long)req->len,
                             (unsigned long long)req->off, strerror(-result), advice);
}
