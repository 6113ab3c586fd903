/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minivmm-img snapshot: snapshots inside an image.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/image.h"
#include "img/args.h"
#include "img/command.h"
#include "img/message.h"
#include "img/open.h"
#include "img/snapshot_text.h"

static int list(struct block *block)
{
    struct block_snapshot *snapshots;
    struct err err;
    unsigned n;
    int r = block_snapshot_list(block, &snapshots, &n, &err);

    if (r == -ENOTSUP)
        return EXIT_SUCCESS; /* there are none */
    if (r < 0) {
        img_error("%s", err.msg);
        return EXIT_FAILURE;
    }
    snapshot_list_print(snapshots, n);
    block_snapshot_list_free(snapshots, n);
    return EXIT_SUCCESS;
}

static int create(struct block *block, const char *name)
{
    char text[BLOCK_SNAPSHOT_NAME_MAX + 1];
    const struct block_snapshot snapshot = {.name = text};
    struct err err;
    int r;

    /* What is too long is cut, as scripts are used to. */
    (void)snprintf(text, sizeof(text), "%s", name);
    r = block_snapshot_create(block, &snapshot, &err);
    if (r == 0)
        return EXIT_SUCCESS;
    img_error("Could not create snapshot '%s': %d (%s)", name, r, strerror(-r));
    return EXIT_FAILURE;
}

static int apply(struct block *block, const char *which)
{
    struct err err;
    int r = block_snapshot_apply(block, which, &err);

    if (r == 0)
        return EXIT_SUCCESS;
    if (r == -EBUSY) /* which it does not say of anything else */
        img_error("Could not apply snapshot '%s': %s", which, err.msg);
    else
        img_error("Could not apply snapshot '%s': Failed to load snapshot: %s", which,
                  strerror(-r));
    return EXIT_FAILURE;
}

/* By name only: what looks like an id may be somebody's name for something else. */
static bool has_name(struct block *block, const char *name)
{
    struct block_snapshot *snapshots;
    bool found = false;
    struct err err;
    unsigned n;

    if (block_snapshot_list(block, &snapshots, &n, &err) < 0)
        return false;
    for (unsigned i = 0; i < n; i++)
        found = found || strcmp(snapshots[i].name, name) == 0;
    block_snapshot_list_free(snapshots, n);
    return found;
}

static int delete (struct block *block, const char *name)
{
    struct err err;

    if (!has_name(block, name)) {
        img_error("Could not delete snapshot '%s': snapshot not found", name);
        return EXIT_FAILURE;
    }
    if (block_snapshot_delete(block, name, &err) == 0)
        return EXIT_SUCCESS;
    img_error("Could not delete snapshot '%s': %s", name, err.msg);
    return EXIT_FAILURE;
}

static int act(struct block *block, int action, const char *which)
{
    switch (action) {
    case 'l':
        return list(block);
    case 'c':
        return create(block, which);
    case 'a':
        return apply(block, which);
    case 'd':
        return delete (block, which);
    default:
        return EXIT_SUCCESS;
    }
}

static int run(struct args *args)
{
    struct img_open_options open;
    const char *which = NULL;
    struct block *block;
    int action = 0;
    int opt;

    while ((opt = args_next(args)) > 0) {
        if (action)
            return img_usage("Cannot mix '-l', '-a', '-c', '-d'");
        action = opt;
        which = args->value;
    }
    if (opt < 0)
        return args->status;
    /* The list is in the image itself: the files that it names need not be there. */
    open = args_open_options(args, args->operands[0],
                             action == 'l' ? IMG_OPEN_NO_BACKING : IMG_OPEN_WRITABLE);
    block = img_open(&open);
    if (!block)
        return EXIT_FAILURE;
    return img_close(block, open.name, act(block, action, which));
}

static const struct option longs[] = {ARGS_LONGS_IMAGE, ARGS_LONG_SHARE, ARGS_LONG_END};

const struct img_command img_snapshot = {
    .name = "snapshot",
    .run = run,
    .shorts = "la:c:d:hqU",
    .one_image = true,
    .longs = longs,
    .synopsis = "[--object objectdef] [--image-opts] [-U] [-q] [-l | -a snapshot | -c snapshot | "
                "-d snapshot] filename",
    .help = "List, take, apply or delete a snapshot inside an image.\n"
            "\n"
            "  -l        list them\n"
            "  -c name   take one\n"
            "  -a which  make the disk what it was then; its name or id\n"
            "  -d name   delete one\n",
};
