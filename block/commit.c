/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing an image into its backing file.
 *
 *   1. The backing file grows to the image's length.
 *   2. What the image has is copied; a flush makes it durable in the backing file.
 *   3. The image is emptied, with one write of its header.
 *
 * Until step 3 the disk does not change: what is copied is still in the image, and hides what the
 * backing file has in its place.
 */
#include "block/commit.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "block/driver.h"

/* Data is copied in pieces of this size. */
#define PIECE (1u << 20)
#define PIECE_ALIGN 4096u

struct commit {
    struct block *top;
    struct block *base;
    unsigned depth; /* of base */
    const struct block_commit_options *options;
    uint8_t *buf;
};

/* The backing file that was opened for writing. */
static int find_base(struct commit *c, struct err *err)
{
    if (!c->top->backing) {
        err_set(err, -ENOTSUP, "the image has no backing file to commit to");
        return -ENOTSUP;
    }
    for (c->base = c->top->backing, c->depth = 1; c->base && !c->base->writable; c->depth++)
        c->base = c->base->backing;
    if (!c->base || (!c->top->writable && !c->options->keep)) {
        err_set(err, -EROFS, "the image or its backing file is open for reading only");
        return -EROFS;
    }
    if (c->depth > 1 && !c->options->keep)
        return err_set(err, -EINVAL, "only an image right above its backing file can be emptied");
    return 0;
}

static int copy_data(const struct commit *c, uint64_t off, uint64_t len)
{
    struct iovec iov = {c->buf, len};
    int r = c->top->driver->read(c->top, off, len, &iov, 1);

    return r < 0 ? r : c->base->driver->write(c->base, off, len, &iov, 1);
}

/* Copy one piece from `off` on; *ret_len is its length. */
static int copy_piece(const struct commit *c, uint64_t off, uint64_t *ret_len)
{
    struct block_status status;
    int r = block_get_status(c->top, off, c->top->len - off, false, &status);

    if (r < 0)
        return r;
    *ret_len = status.len;
    if (status.depth >= c->depth)
        return 0; /* the backing file has it already */
    if (status.flags & BLOCK_STATUS_ZERO)
        return c->base->driver->write_zeroes(c->base, off, status.len, BLOCK_REQ_UNMAP);
    *ret_len = min_u64(status.len, PIECE);
    return copy_data(c, off, *ret_len);
}

static int copy_all(const struct commit *c)
{
    uint64_t len = 0;
    int r = 0;

    c->base->written = true;
    for (uint64_t off = 0; r == 0 && off < c->top->len; off += len) {
        if (c->options->progress)
            c->options->progress(c->options->opaque, off, c->top->len);
        r = copy_piece(c, off, &len);
    }
    return r < 0 ? r : c->base->driver->flush(c->base);
}

static int grow_base(const struct commit *c, struct err *err)
{
    const struct block_resize_options options = {.len = c->top->len};

    return c->top->len > c->base->len ? block_resize(c->base, &options, err) : 0;
}

static int commit(struct commit *c, struct err *err)
{
    struct block_req flush = {.op = BLOCK_FLUSH};
    int r = block_execute(c->top, &flush);

    if (r < 0)
        return err_set_errno(err, r, "cannot write back the image");
    r = grow_base(c, err);
    if (r < 0)
        return r;
    r = copy_all(c);
    if (r < 0)
        return err_set_errno(err, r, "cannot copy to the backing file");
    if (!c->options->keep)
        r = c->top->driver->make_empty(c->top);
    return r < 0 ? err_set_errno(err, r,
                                 "the backing file is complete, but the image cannot be "
                                 "emptied")
                 : 0;
}

int block_commit(struct block *block, const struct block_commit_options *options, struct err *err)
{
    struct commit c = {.top = block, .options = options};
    int r = find_base(&c, err);

    assert(block_is_quiet(block));
    if (r < 0)
        return r;
    c.buf = aligned_alloc(PIECE_ALIGN, PIECE);
    if (!c.buf)
        return err_set(err, -ENOMEM, "out of memory");
    r = commit(&c, err);
    free(c.buf);
    return r;
}
