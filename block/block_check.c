/*
 * Checking images: what is common to the formats.
 */
#include <assert.h>
#include <errno.h>

#include "block/driver.h"

int block_check(struct block *block, unsigned fix, struct block_check_report *report,
                struct block_check_result *ret_result, struct err *err)
{
    assert(!block->loop);
    if (!block->driver->check)
        return err_set(err, -ENOTSUP, "format %s: there is nothing to check", block->driver->name);
    if (fix && !block->writable)
        return err_set(err, -EROFS, "the image is open for reading only");
    return block->driver->check(block, fix, report, ret_result, err);
}
