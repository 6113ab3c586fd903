/*
 * Operations on whole images (image.h): what is common to the formats.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/driver.h"

/* ---- snapshots ------------------------------------------------------------------------------- */

static int no_snapshots(const struct block *block, struct err *err)
{
    return err_set(err, -ENOTSUP, "%s images have no snapshots", block->driver->name);
}

int block_snapshot_list(struct block *block, struct block_snapshot **ret_list, unsigned *ret_n,
                        struct err *err)
{
    if (!block->driver->list_snapshots)
        return no_snapshots(block, err);
    return block->driver->list_snapshots(block, ret_list, ret_n, err);
}

void block_snapshot_list_free(struct block_snapshot *list, unsigned n)
{
    for (unsigned i = 0; list && i < n; i++) {
        free(list[i].id);
        free(list[i].name);
    }
    free(list);
}

int block_snapshot_create(struct block *block, const struct block_snapshot *snapshot,
                          struct err *err)
{
    if (strlen(snapshot->name) > BLOCK_SNAPSHOT_NAME_MAX)
        return err_set(err, -EINVAL, "snapshot name: expected at most %u bytes",
                       BLOCK_SNAPSHOT_NAME_MAX);
    if (!block->driver->create_snapshot)
        return no_snapshots(block, err);
    return block->driver->create_snapshot(block, snapshot, err);
}

int block_snapshot_apply(struct block *block, const char *which, struct err *err)
{
    if (!block->driver->apply_snapshot)
        return no_snapshots(block, err);
    return block->driver->apply_snapshot(block, which, err);
}

int block_snapshot_delete(struct block *block, const char *which, struct err *err)
{
    if (!block->driver->delete_snapshot)
        return no_snapshots(block, err);
    return block->driver->delete_snapshot(block, which, err);
}

int block_snapshot_show(struct block *block, const char *which, struct err *err)
{
    if (!block->driver->show_snapshot)
        return no_snapshots(block, err);
    return block->driver->show_snapshot(block, which, err);
}

int block_vmstate_write(struct block *block, uint64_t off, const void *buf, size_t len)
{
    return block->driver->write_vmstate ? block->driver->write_vmstate(block, off, buf, len)
                                        : -ENOTSUP;
}

int block_vmstate_read(struct block *block, uint64_t off, void *buf, size_t len)
{
    return block->driver->read_vmstate ? block->driver->read_vmstate(block, off, buf, len)
                                       : -ENOTSUP;
}
