/*
 * Persistent dirty bitmaps: what is common to the formats.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "block/driver.h"

int block_bitmap_list(struct block *block, struct block_bitmap **ret_list, unsigned *ret_n,
                      struct err *err)
{
    int r;

    *ret_list = NULL;
    *ret_n = 0;
    if (!block->driver->list_bitmaps)
        return 0;
    r = block->driver->list_bitmaps(block, ret_list, ret_n);
    return r < 0 ? err_set_errno(err, r, "%s: cannot read the bitmaps", block->path) : 0;
}

void block_bitmap_list_free(struct block_bitmap *list, unsigned n)
{
    for (unsigned i = 0; list && i < n; i++)
        free(list[i].name);
    free(list);
}

int block_bitmap_edit(struct block *block, const struct block_bitmap_edit *edit, struct err *err)
{
    struct block_req flush = {.op = BLOCK_FLUSH};
    int r;

    assert(!block->loop);
    if (!block->driver->edit_bitmap && edit->op == BLOCK_BITMAP_ADD)
        return err_set(err, -ENOTSUP, "Cannot store dirty bitmaps in file '%s'", block->path);
    if (!block->driver->edit_bitmap)
        return err_set(err, -ENOENT, "Dirty bitmap '%s' not found", edit->name);
    if (!block->writable)
        return err_set(err, -EROFS, "the image is open for reading only");
    r = block_execute(block, &flush);
    return r < 0 ? err_set_errno(err, r, "cannot write back the image")
                 : block->driver->edit_bitmap(block, edit, err);
}
