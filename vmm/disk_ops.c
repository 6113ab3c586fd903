/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/disk_ops.h"

#include <errno.h>
#include <stdlib.h>

#include "block/image.h"
#include "vmm/disk.h"
#include "vmm/disk_private.h"

struct op {
    struct disk_op base;
    struct disk *disk;
    uint64_t len;
};

static struct op *op_of(struct disk_op *base)
{
    return container_of(base, struct op, base);
}

static void free_op(struct disk_op *base)
{
    free(op_of(base));
}

static int ask(struct disk *disk, const struct op *wish)
{
    struct op *op = malloc(sizeof(*op));

    if (!op)
        return -ENOMEM;
    *op = *wish;
    op->disk = disk;
    op->base.free = free_op;
    disk_queue_add(&disk->queue, &op->base);
    return 0;
}

/* ---- resize ---------------------------------------------------------------------------------- */

static int resize(struct disk_op *base)
{
    struct op *op = op_of(base);
    struct block *block = op->disk->block;
    const struct block_resize_options options = {.len = op->len};
    struct block_info info;
    int r;

    block_get_info(block, &info);
    if (op->len < info.len)
        return err_set(
            &base->err, -ENOTSUP, "%s: %llu bytes: expected at least the %llu that the guest has",
            disk_label(op->disk), (unsigned long long)op->len, (unsigned long long)info.len);
    block_hold(block);
    r = block_resize(block, &options, &base->err);
    block_release(block);
    if (r == 0)
        block_port_resized(&op->disk->port);
    return r;
}

int disk_resize(struct disk *disk, uint64_t len, struct disk_done done)
{
    const struct op op = {.base = {.carry_out = resize, .done = done}, .len = len};

    return ask(disk, &op);
}
