/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/disk_jobs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/commit_live.h"
#include "block/commit_middle.h"
#include "block/image_ops.h"
#include "block/live.h"
#include "block/name.h"
#include "block/stack.h"
#include "block/stream.h"
#include "vmm/disk.h"
#include "vmm/disk_image.h"
#include "vmm/disk_ops.h"
#include "vmm/disk_private.h"

struct disk_job_op {
    struct disk_op base;
    struct disk *disk;
    struct disk_job_wish wish; /* its texts are the operation's */
    struct disk_job_events events;
    enum block_job_state told; /* how far the job is, as far as somebody was told */
};

static struct disk_job_op *op_of(struct disk_op *base)
{
    return container_of(base, struct disk_job_op, base);
}

/* ---- which images ---------------------------------------------------------------------------- */

static const char *path_of(const struct block *layer)
{
    struct block_details details;

    block_get_details(layer, &details);
    return details.path;
}

/* The image at `depth` or below that a path names; NULL: there is none. *depth is its depth. */
static struct block *find_path(struct block *top, const char *path, unsigned *depth)
{
    struct block_details above = {0};
    struct block *layer;

    for (unsigned at = 0; (layer = block_stack_at(top, at)); at++) {
        struct block_details details;

        block_get_details(layer, &details);
        if (at >= *depth && (strcmp(details.path, path) == 0 ||
                             (above.backing_name && strcmp(above.backing_name, path) == 0))) {
            *depth = at;
            return layer;
        }
        above = details;
    }
    return NULL;
}

struct node_name {
    char text[DISK_NAME_MAX + 16];
};

/* What clients call the image at a depth. */
static struct node_name name_node(const struct disk *disk, unsigned depth)
{
    struct node_name name;

    if (depth == 0)
        (void)snprintf(name.text, sizeof(name.text), "#%s", disk->name);
    else
        (void)snprintf(name.text, sizeof(name.text), "#%s.%u", disk->name, depth);
    return name;
}

static struct block *find_depth(const struct disk_job_op *op, unsigned depth, struct err *err)
{
    struct block *layer = block_stack_at(op->disk->port.block, depth);

    if (!layer)
        err_set(err, -ENOENT, "Cannot find device='' nor node-name='%s'",
                name_node(op->disk, depth).text);
    return layer;
}

/* An image from `*depth` on; *depth is its depth. NULL: *err says why. */
static struct block *find_base(const struct disk_job_op *op, const struct disk_layer *base,
                               unsigned *depth, struct err *err)
{
    struct block *layer;

    if (base->path) {
        layer = find_path(op->disk->port.block, base->path, depth);
        if (!layer)
            err_set(err, -ENOENT, "Can't find '%s' in the backing chain", base->path);
        return layer;
    }
    layer = find_depth(op, base->depth, err);
    if (layer && base->depth < *depth) {
        err_set(err, -EINVAL, "Node '%s' is not a backing image of '%s'",
                name_node(op->disk, base->depth).text, op->disk->name);
        return NULL;
    }
    *depth = base->depth;
    return layer;
}

static bool is_said(const struct disk_layer *layer)
{
    return layer->path || layer->by_depth;
}

/* ---- what the overlay calls the base --------------------------------------------------------- */

struct naming {
    const char *overlay;       /* its path */
    struct block_details base; /* the operation under way does not change it */
    const char *now;           /* what the image right above the base calls it */
    const char *wanted;        /* NULL: any name */
    char *name;                /* to be freed */
    struct err *err;
    int result;
};

/*
 * Does the name lead from the overlay to the base? A description may say more than where the file
 * is: the present one does, but another one must not.
 */
static bool leads_to_base(const struct naming *naming, const char *text)
{
    struct block_name name;
    struct err ignored;
    bool does = block_name_below(naming->overlay, text, NULL, &name, &ignored) == 0 &&
                !name.data_path && !name.no_backing &&
                disk_image_is_at(&naming->base, name.path, &name.part);

    block_name_done(&name);
    return does || (block_name_is_json(text) && strcmp(text, naming->now) == 0);
}

/*
 * The name that the base has now, if it can stay: then images that are moved together are found
 * again.
 */
static char *find_name(const struct naming *naming)
{
    char *path;

    if (naming->wanted)
        return leads_to_base(naming, naming->wanted) ? strdup(naming->wanted) : NULL;
    if (leads_to_base(naming, naming->now))
        return strdup(naming->now);
    path = realpath(naming->base.path, NULL);
    if (path && leads_to_base(naming, path))
        return path;
    free(path);
    return NULL;
}

/* On another thread: names are looked up. */
static void find_name_there(void *opaque)
{
    struct naming *naming = opaque;

    naming->name = find_name(naming);
    if (naming->name)
        naming->result = block_stack_check_name(naming->name, naming->err);
    else if (naming->wanted)
        naming->result = err_set(naming->err, -EINVAL, "backing-file '%s': expected a name of %s",
                                 naming->wanted, naming->base.path);
    else
        naming->result = err_set(naming->err, -ENOENT, "%s: the image has no such name any more",
                                 naming->base.path);
}

/* The name by which the header of the image at one depth can name the one at the other. */
static int name_base(struct disk_job_op *op, unsigned overlay, unsigned base, char **ret_name)
{
    struct block *top = op->disk->port.block;
    struct block_details above;
    struct naming naming = {
        .overlay = path_of(block_stack_at(top, overlay)),
        .wanted = op->wish.backing_file,
        .err = &op->base.err,
    };

    block_get_details(block_stack_at(top, base - 1), &above);
    block_get_details(block_stack_at(top, base), &naming.base);
    naming.now = above.backing_name;
    block_live_elsewhere(top, find_name_there, &naming);
    *ret_name = naming.name;
    return naming.result;
}

/* ---- images that are not needed any more ----------------------------------------------------- */

static void close_dropped(void *opaque)
{
    (void)block_close(opaque); /* only read, or empty */
}

/* An image with those below it; NULL is fine. */
static void drop(struct disk *disk, struct block *first)
{
    struct block *layer;

    for (unsigned depth = 0; (layer = block_stack_at(first, depth)); depth++)
        disk_image_forget(disk->files, layer);
    if (first)
        block_live_elsewhere(disk->port.block, close_dropped, first);
}

/* ---- streaming ------------------------------------------------------------------------------- */

/* *ret_depth: of the base; 0: there is none. */
static int find_stream_base(struct disk_job_op *op, unsigned *ret_depth)
{
    const struct disk_job_wish *wish = &op->wish;
    struct err *err = &op->base.err;

    *ret_depth = 0;
    if (is_said(&wish->bottom)) {
        if (!find_depth(op, wish->bottom.depth, err))
            return err->code;
        if (block_stack_at(op->disk->port.block, wish->bottom.depth + 1))
            *ret_depth = wish->bottom.depth + 1;
    } else if (is_said(&wish->base)) {
        *ret_depth = 1;
        if (!find_base(op, &wish->base, ret_depth, err))
            return err->code;
    }
    if (*ret_depth == 0 && wish->backing_file)
        return err_set(err, -EINVAL, "backing file specified, but streaming the entire chain");
    return 0;
}

static int stream(struct disk_op *base)
{
    struct disk_job_op *op = op_of(base);
    struct disk *disk = op->disk;
    struct block *top = disk->port.block;
    struct block *dropped = NULL;
    char *name = NULL;
    unsigned depth = 0;
    int r = find_stream_base(op, &depth);

    /* If there is nothing to take over, nor to be named, nothing is written. */
    if (r == 0 && (depth != 1 || op->wish.backing_file) && block_stack_at(top, 1))
        r = disk_check_writable(disk, &base->err);
    if (r == 0 && depth > 0)
        r = name_base(op, 0, depth, &name);
    if (r == 0)
        r = block_stream(top, depth > 0 ? block_stack_at(top, depth) : NULL, name, &disk->job,
                         &dropped, &base->err);
    free(name);
    drop(disk, dropped);
    return r;
}

/* ---- committing ------------------------------------------------------------------------------ */

static int find_commit_range(struct disk_job_op *op, unsigned *ret_top, unsigned *ret_base)
{
    const struct disk_job_wish *wish = &op->wish;
    struct block *block = op->disk->port.block;
    struct err *err = &op->base.err;

    *ret_top = 0;
    if (wish->top.path && !find_path(block, wish->top.path, ret_top))
        return err_set(err, -ENOENT, "Top image file %s not found", wish->top.path);
    if (wish->top.by_depth) {
        *ret_top = wish->top.depth;
        if (!find_depth(op, *ret_top, err))
            return err->code;
    }
    *ret_base = *ret_top + 1;
    if ((wish->base.by_depth && wish->base.depth == *ret_top) || !block_stack_at(block, *ret_base))
        return err_set(err, -EINVAL, "cannot commit an image into itself");
    if (wish->base.by_depth && wish->base.depth < *ret_top)
        return err_set(err, -EINVAL, "'%s' is not in this backing file chain",
                       name_node(op->disk, wish->base.depth).text);
    if (is_said(&wish->base))
        return find_base(op, &wish->base, ret_base, err) ? 0 : err->code;
    while (block_stack_at(block, *ret_base + 1))
        ++*ret_base;
    return 0;
}

static int commit_top(struct disk_job_op *op, unsigned depth)
{
    struct disk *disk = op->disk;
    struct block *top = disk->port.block;
    struct block *base = block_stack_at(top, depth);
    struct block_commit_live done = {0};
    char *name = NULL;
    int r = 0;

    if (op->wish.backing_file)
        return err_set(&op->base.err, -EINVAL,
                       "'backing-file' specified, but 'top' is the active layer");
    if (depth > 1)
        r = name_base(op, 0, depth, &name);
    if (r == 0)
        r = block_commit_live(top, base, name, &disk->job, &done, &op->base.err);
    free(name);
    if (done.moved) {
        disk_switch_to(disk, base);
        disk_image_note_use(disk->files, disk->index, base, true);
        drop(disk, top);
    }
    drop(disk, done.dropped);
    return r;
}

static int commit_middle(struct disk_job_op *op, unsigned top, unsigned base)
{
    struct disk *disk = op->disk;
    struct block *active = disk->port.block;
    struct block *dropped = NULL;
    char *name;
    int r = name_base(op, top - 1, base, &name);
    const struct block_middle middle = {
        .active = active,
        .overlay = block_stack_at(active, top - 1),
        .base = block_stack_at(active, base),
        .name = name,
    };

    if (r == 0)
        r = block_commit_middle(&middle, &disk->job, &dropped, &op->base.err);
    free(name);
    drop(disk, dropped);
    return r;
}

static int commit(struct disk_op *base)
{
    struct disk_job_op *op = op_of(base);
    unsigned below = 0;
    unsigned top = 0;
    int r = disk_check_writable(op->disk, &base->err);

    if (r == 0)
        r = find_commit_range(op, &top, &below);
    if (r < 0)
        return r;
    return top == 0 ? commit_top(op, below) : commit_middle(op, top, below);
}

/* ---- the main thread ------------------------------------------------------------------------- */

static void free_op(struct disk_op *base)
{
    struct disk_job_op *op = op_of(base);

    free((char *)(uintptr_t)op->wish.top.path);
    free((char *)(uintptr_t)op->wish.base.path);
    free((char *)(uintptr_t)op->wish.backing_file);
    free(op);
}

static void tell_news(struct disk_job_op *op)
{
    const enum block_job_state state = block_job_get_state(&op->disk->job);
    const enum block_job_state told = op->told;

    op->told = state;
    if (told < BLOCK_JOB_RUNNING && state >= BLOCK_JOB_RUNNING)
        op->events.begun(op->events.opaque);
    if (told < BLOCK_JOB_READY && state >= BLOCK_JOB_READY)
        op->events.ready(op->events.opaque);
}

static void news(struct loop_work *work)
{
    const struct disk *disk = container_of(work, struct disk, job.news);

    if (disk->job_op)
        tell_news(disk->job_op);
}

static void job_done(void *opaque, int result, const struct err *err)
{
    struct disk_job_op *op = opaque;
    struct disk *disk = op->disk;

    loop_cancel(disk->job.watcher, &disk->job.news);
    tell_news(op);
    op->events.done(op->events.opaque, result, err);
    disk->job_op = NULL;
}

/* Make *text a copy of itself, or NULL if it was that. */
static bool copy_text(const char **text)
{
    if (!*text)
        return true;
    *text = strdup(*text);
    return *text;
}

static int ask(struct disk *disk, int (*carry_out)(struct disk_op *op),
               const struct disk_job_wish *wish, const struct disk_job_events *events)
{
    struct disk_job_op *op;
    bool copied;

    if (disk->job_op)
        return -EBUSY;
    op = malloc(sizeof(*op));
    if (!op)
        return -ENOMEM;
    *op = (struct disk_job_op){
        .base = {.carry_out = carry_out, .free = free_op, .done = {job_done, op}},
        .disk = disk,
        .wish = *wish,
        .events = *events,
    };
    copied = copy_text(&op->wish.top.path);
    copied &= copy_text(&op->wish.base.path);
    copied &= copy_text(&op->wish.backing_file);
    if (!copied) {
        free_op(&op->base);
        return -ENOMEM;
    }
    block_job_begin(&disk->job, wish->speed, disk->thread.loop, disk->queue.main, news);
    disk->job_op = op;
    disk_queue_add(&disk->queue, &op->base);
    return 0;
}

int disk_stream(struct disk *disk, const struct disk_job_wish *wish,
                const struct disk_job_events *events)
{
    return ask(disk, stream, wish, events);
}

int disk_commit(struct disk *disk, const struct disk_job_wish *wish,
                const struct disk_job_events *events)
{
    return ask(disk, commit, wish, events);
}

struct block_job *disk_job(struct disk *disk)
{
    return disk->job_op ? &disk->job : NULL;
}
