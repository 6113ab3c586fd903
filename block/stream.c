/* SPDX-License-Identifier: Apache-2.0 */
#include "block/stream.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "block/driver.h"

/* Copied at a time: no cluster is in two pieces. */
#define PIECE BLOCK_ALLOC_UNIT_MAX
#define PIECE_ALIGN 4096u

/* The next stretch from `off` on; *ret_copied says how much of it had to be copied. */
static int stream_piece(struct block *block, uint64_t off, void *buf, uint64_t *ret_len,
                        uint64_t *ret_copied)
{
    struct block_status status;
    int r = block_get_status(block, off, block->len - off, false, &status);

    *ret_copied = 0;
    if (r < 0)
        return r;
    *ret_len = status.len;
    if (status.depth == 0 || (status.flags & BLOCK_STATUS_ZERO))
        return 0; /* without a backing file it shows the same */
    *ret_len = min_u64(status.len, PIECE - off % PIECE);
    *ret_copied = *ret_len;
    r = block->driver->copy_up(block, off, *ret_len, buf);
    block->written = true;
    return r;
}

static int stream_all(struct block *block, struct block_job *job, void *buf)
{
    uint64_t len = 0;
    int r = 0;

    for (uint64_t off = 0; r == 0 && off < block->len; off += len) {
        uint64_t copied;

        r = stream_piece(block, off, buf, &len, &copied);
        if (r == 0)
            r = block_job_step(job, block, off + len, copied);
    }
    return r;
}

static int drop_backing(struct block *block, struct block **ret_dropped, struct err *err)
{
    int r;

    block_hold(block);
    r = block_change_backing(block, NULL, NULL, err);
    if (r == 0) {
        block->driver->trim(block); /* what was read ahead */
        *ret_dropped = block_take_backing(block);
    }
    block_release(block);
    return r;
}

int block_stream(struct block *block, struct block_job *job, struct block **ret_dropped,
                 struct err *err)
{
    void *buf;
    int r;

    if (!block->backing)
        return err_set(err, -ENOTSUP, "%s: the image has no backing file", block->path);
    if (!block->writable)
        return err_set(err, -EROFS, "%s: the image is open for reading only", block->path);
    buf = aligned_alloc(PIECE_ALIGN, PIECE);
    if (!buf)
        return err_set(err, -ENOMEM, "out of memory");
    block_job_set(&job->len, block->len);
    r = stream_all(block, job, buf);
    free(buf);
    if (r < 0)
        return err_set_errno(err, r, "%s: cannot copy from the backing file", block->path);
    return drop_backing(block, ret_dropped, err);
}
