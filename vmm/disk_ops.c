/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/disk_ops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "block/image.h"
#include "block/live.h"
#include "block/name.h"
#include "block/stack.h"
#include "vmm/disk.h"
#include "vmm/disk_image.h"
#include "vmm/disk_private.h"

struct op {
    struct disk_op base;
    struct disk *disk;
    uint64_t len;
    char *id;
    char *name;
    char *path;
    struct block_snapshot *ret_deleted;
};

static struct op *op_of(struct disk_op *base)
{
    return container_of(base, struct op, base);
}

static void free_op(struct disk_op *base)
{
    struct op *op = op_of(base);

    free(op->id);
    free(op->name);
    free(op->path);
    free(op);
}

/* Make *copy one of `text`, which may be NULL. */
static bool copy_text(char **copy, const char *text)
{
    *copy = text ? strdup(text) : NULL;
    return *copy || !text;
}

/* What `wish` says: the texts are copied. 0, -EBUSY or -ENOMEM. */
static int new_op(struct disk *disk, const struct op *wish, struct op **ret_op)
{
    struct op *op;
    bool copied;

    if (disk->job_op)
        return -EBUSY;
    op = malloc(sizeof(*op));
    if (!op)
        return -ENOMEM;
    *op = *wish;
    op->disk = disk;
    op->base.free = free_op;
    copied = copy_text(&op->id, wish->id);
    copied &= copy_text(&op->name, wish->name);
    copied &= copy_text(&op->path, wish->path);
    if (!copied) {
        free_op(&op->base);
        return -ENOMEM;
    }
    *ret_op = op;
    return 0;
}

static int ask(struct disk *disk, const struct op *wish)
{
    struct op *op;
    int r = new_op(disk, wish, &op);

    if (r == 0)
        disk_queue_add(&disk->queue, &op->base);
    return r;
}

static struct block *block_of(const struct op *op)
{
    return op->disk->port.block;
}

int disk_check_writable(struct disk *disk, struct err *err)
{
    struct block_info info;

    block_get_info(disk->port.block, &info);
    return info.readonly ? err_set(err, -EROFS, "%s is read-only", disk_label(disk)) : 0;
}

void disk_switch_to(struct disk *disk, struct block *block)
{
    struct block_details details;

    block_get_details(block, &details);
    if (disk_labels_set(&disk->labels, disk->name, details.path) < 0)
        log_warn("%s: out of memory: messages go on to name that image", disk_label(disk));
    pthread_mutex_lock(&disk->lock);
    block_port_switch(&disk->port, block);
    pthread_mutex_unlock(&disk->lock);
    block_release(block);
}

/* ---- resize ---------------------------------------------------------------------------------- */

static int resize(struct disk_op *base)
{
    struct op *op = op_of(base);
    struct block *block = block_of(op);
    const struct block_resize_options options = {.len = op->len};
    struct block_info info;
    int r = disk_check_writable(op->disk, &base->err);

    if (r < 0)
        return r;
    block_get_info(block, &info);
    if (op->len < info.len)
        return err_set(&base->err, -ENOTSUP,
                       "%s has %llu bytes: %llu: it only gets longer, as its guest may use all",
                       disk_label(op->disk), (unsigned long long)info.len,
                       (unsigned long long)op->len);
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

/* ---- snapshots inside the image -------------------------------------------------------------- */

/* The snapshot with this id and name, of which either may be NULL; NULL: there is none. */
static struct block_snapshot *find_snapshot(struct block_snapshot *list, unsigned n, const char *id,
                                            const char *name)
{
    for (unsigned i = 0; i < n; i++)
        if ((!id || strcmp(list[i].id, id) == 0) && (!name || strcmp(list[i].name, name) == 0))
            return &list[i];
    return NULL;
}

static int create_snapshot_held(struct op *op)
{
    const struct block_snapshot snapshot = {.name = op->name, .icount = UINT64_MAX};
    struct err *err = &op->base.err;
    struct block_snapshot *list;
    unsigned n;
    int r = block_snapshot_list(block_of(op), &list, &n, err);

    if (r < 0)
        return r;
    if (find_snapshot(list, n, NULL, op->name))
        r = err_set(err, -EEXIST, "Snapshot with name '%s' already exists on %s", op->name,
                    disk_label(op->disk));
    block_snapshot_list_free(list, n);
    if (r == 0)
        r = block_snapshot_create(block_of(op), &snapshot, err);
    if (r == 0)
        block_note_snapshots(block_of(op));
    return r;
}

static int create_snapshot(struct disk_op *base)
{
    struct op *op = op_of(base);
    int r = disk_check_writable(op->disk, &base->err);

    if (r < 0)
        return r;
    block_hold(block_of(op));
    r = create_snapshot_held(op);
    block_release(block_of(op));
    return r;
}

int disk_snapshot_create(struct disk *disk, const char *name, struct disk_done done)
{
    const struct op op = {.base = {.carry_out = create_snapshot, .done = done},
                          .name = (char *)(uintptr_t)name};

    return ask(disk, &op);
}

/*
 * block_snapshot_delete takes a name before an id: a snapshot that is called what another one has
 * for an id is in the way.
 */
static int delete_found(struct op *op, struct block_snapshot *list, unsigned n)
{
    struct block_snapshot *found = find_snapshot(list, n, op->id, op->name);
    const struct block_snapshot *other;
    int r;

    if (!found)
        return err_set(&op->base.err, -ENOENT,
                       "Snapshot with id '%s' and name '%s' does not exist on %s",
                       op->id ? op->id : "", op->name ? op->name : "", disk_label(op->disk));
    other = find_snapshot(list, n, NULL, found->id);
    if (other && other != found)
        return err_set(&op->base.err, -EINVAL, "'%s' is the id of one snapshot and the name of %s",
                       found->id, "another one: expected that one to be deleted first");
    r = block_snapshot_delete(block_of(op), found->id, &op->base.err);
    if (r < 0)
        return r;
    block_note_snapshots(block_of(op));
    *op->ret_deleted = *found;
    found->id = NULL;
    found->name = NULL;
    return 0;
}

static int delete_snapshot(struct disk_op *base)
{
    struct op *op = op_of(base);
    struct block_snapshot *list;
    unsigned n;
    int r = disk_check_writable(op->disk, &base->err);

    if (r < 0)
        return r;
    block_hold(block_of(op));
    r = block_snapshot_list(block_of(op), &list, &n, &base->err);
    if (r == 0) {
        r = delete_found(op, list, n);
        block_snapshot_list_free(list, n);
    }
    block_release(block_of(op));
    return r;
}

int disk_snapshot_delete(struct disk *disk, const char *id, const char *name,
                         struct block_snapshot *ret_deleted, struct disk_done done)
{
    const struct op op = {.base = {.carry_out = delete_snapshot, .done = done},
                          .id = (char *)(uintptr_t)id,
                          .name = (char *)(uintptr_t)name,
                          .ret_deleted = ret_deleted};

    return ask(disk, &op);
}

/* ---- overlays -------------------------------------------------------------------------------- */

struct overlay {
    struct op *op;
    struct block_info info;       /* of the present image */
    struct block_details present; /* likewise; the operation under way does not change them */
    char *backing;                /* its path, from the root */
    struct block *block;          /* the new image */
    int result;
};

static int look_at_present(struct overlay *o)
{
    block_get_info(block_of(o->op), &o->info);
    block_get_details(block_of(o->op), &o->present);
    return disk_check_writable(o->op->disk, &o->op->base.err);
}

/* Which file will the overlay have to name? */
static int find_present(struct overlay *o)
{
    const char *path = o->present.path;

    o->backing = realpath(path, NULL);
    if (o->backing && disk_image_is_at(&o->present, o->backing, &FILE_PART_ALL))
        return 0;
    return err_set(&o->op->base.err, -ENOENT, "%s: the image of the disk has no such name any more",
                   path);
}

static int make(struct overlay *o)
{
    const struct disk *disk = o->op->disk;
    const struct disk_image image = {
        .vm = disk->vm, .index = disk->index, .files = disk->files, .overlay = o->op->path};
    const struct block_create_options options = {
        .path = o->op->path,
        .format = BLOCK_FORMAT_QCOW2,
        .len = o->info.len,
        .exclusive = true,
        .backing_file = o->backing,
        .backing_format =
            strcmp(o->info.format, "raw") == 0 ? BLOCK_FORMAT_RAW : BLOCK_FORMAT_QCOW2,
        .backing_unchecked = true, /* it is open for writing */
    };
    struct err *err = &o->op->base.err;
    int r = block_create(&options, err);

    if (r < 0)
        return r;
    r = disk_image_open(&image, &o->block, err);
    if (r < 0)
        (void)unlink(o->op->path);
    return r;
}

/* On another thread: names are looked up, and to make a file means to sync it and its folder. */
static void find_and_make(void *opaque)
{
    struct overlay *o = opaque;

    o->result = find_present(o);
    if (o->result == 0)
        o->result = make(o);
}

/* It was not put to use. */
static void unmake(void *opaque)
{
    struct overlay *o = opaque;

    disk_image_forget(o->op->disk->files, o->block);
    (void)block_close(o->block); /* nothing was written */
    (void)unlink(o->op->path);
}

static int put(struct overlay *o)
{
    struct disk *disk = o->op->disk;
    struct block *old = block_of(o->op);
    int r;

    block_hold(old);
    r = block_stack_put(old, o->block, &o->op->base.err);
    if (r < 0) {
        block_release(old);
        return r;
    }
    disk_switch_to(disk, o->block);
    disk_image_note_use(disk->files, disk->index, old, false);
    return 0;
}

static int put_overlay(struct disk_op *base)
{
    struct overlay o = {.op = op_of(base)};
    int r = block_name_check_path(o.op->path, &base->err);

    if (r == 0)
        r = look_at_present(&o);
    if (r == 0) {
        block_live_elsewhere(block_of(o.op), find_and_make, &o);
        r = o.result;
    }
    if (r == 0) {
        r = put(&o);
        if (r < 0)
            block_live_elsewhere(block_of(o.op), unmake, &o);
    }
    free(o.backing);
    return r;
}

int disk_snapshot_overlay(struct disk *disk, const char *path, struct disk_done done)
{
    const struct op op = {.base = {.carry_out = put_overlay, .done = done},
                          .path = (char *)(uintptr_t)path};

    return ask(disk, &op);
}
