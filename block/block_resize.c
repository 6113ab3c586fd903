/*
 * Longer and shorter disks: what is common to the formats.
 */
#include <assert.h>
#include <errno.h>

#include "base/bytes.h"
#include "block/driver.h"

static int check(const struct block *block, const struct block_resize_options *options,
                 struct err *err)
{
    if (!block->writable)
        return err_set(err, -EROFS, "the image is open for reading only");
    if (options->len > INT64_MAX - BLOCK_SECTOR_SIZE)
        return err_set(err, -EFBIG, "%llu bytes: the image size is too large",
                       (unsigned long long)options->len);
    if (options->len > block->len)
        return 0;
    if (options->prealloc != BLOCK_PREALLOC_OFF)
        return err_set(err, -EINVAL, "Preallocation can only be used for growing images");
    if (align_up(options->len, BLOCK_SECTOR_SIZE) < block->len && !options->shrink)
        return err_set(err, -EINVAL, "Use the --shrink option to perform a shrink operation.");
    return 0;
}

int block_resize(struct block *block, const struct block_resize_options *options, struct err *err)
{
    struct block_req flush = {.op = BLOCK_FLUSH};
    int r = check(block, options, err);

    assert(!block->loop);
    if (r < 0)
        return r;
    r = block_execute(block, &flush);
    if (r < 0)
        return err_set_errno(err, r, "cannot write back the image");
    return block->driver->resize(block, options->len, options->prealloc, err);
}
