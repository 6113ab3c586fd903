/*
 * Changes of the header: what is common to the formats.
 */
#include <assert.h>
#include <errno.h>

#include "block/driver.h"

int block_change_backing(struct block *block, const char *name, const char *format, struct err *err)
{
    struct block_req flush = {.op = BLOCK_FLUSH};
    int r = 0;

    assert(!block->loop);
    if (!block->driver->change_backing)
        return err_set(err, -ENOTSUP, "format %s has no backing files", block->driver->name);
    if (!block->writable)
        return err_set(err, -EROFS, "the image is open for reading only");
    if (block->written)
        r = block_execute(block, &flush);
    if (r == 0)
        r = block->driver->change_backing(block, name, format);
    return r < 0 ? err_set_errno(err, r, "cannot change the backing file") : 0;
}

int block_amend(struct block *block, const struct block_amend_options *options, struct err *err)
{
    struct block_req flush = {.op = BLOCK_FLUSH};
    int r;

    assert(!block->loop);
    if (!block->driver->amend)
        return err_set(err, -ENOTSUP, "Format driver '%s' does not support option amendment",
                       block->driver->name);
    if (!block->writable)
        return err_set(err, -EROFS, "the image is open for reading only");
    r = block_execute(block, &flush);
    return r < 0 ? err_set_errno(err, r, "cannot write back the image")
                 : block->driver->amend(block, options, err);
}
