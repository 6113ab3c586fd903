/* SPDX-License-Identifier: Apache-2.0 */
#include "img/snapshot_name.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "block/image.h"
#include "img/message.h"
#include "img/opts.h"

#define ID "snapshot.id"
#define NAME "snapshot.name"

/* What is wrong is the description, not the image. */
#define BAD_TEXT (-EDOM)

static int not_found(struct err *err)
{
    return err_set(err, -ENOENT, "Can't find snapshot");
}

static bool is_meant(const struct block_snapshot *snapshot, const char *id, const char *name)
{
    return (!id || strcmp(snapshot->id, id) == 0) && (!name || strcmp(snapshot->name, name) == 0);
}

static int show_by(struct block *block, const char *id, const char *name, struct err *err)
{
    struct block_snapshot *list;
    unsigned n;
    unsigned i;
    int r = block_snapshot_list(block, &list, &n, err);

    if (r < 0)
        return r;
    for (i = 0; i < n && !is_meant(&list[i], id, name); i++)
        ;
    r = i < n ? block_snapshot_show(block, list[i].id, err) : not_found(err);
    block_snapshot_list_free(list, n);
    return r;
}

static int show_described(struct block *block, const char *text, struct err *err)
{
    struct opts opts = {0};
    const char *id;
    const char *name;
    int r = opts_parse(&opts, text, NULL, err);

    if (r == 0) {
        id = opts_get(&opts, ID);
        name = opts_get(&opts, NAME);
        if (opts_unused(&opts) || (!id && !name))
            r = err_set(err, BAD_TEXT, "Failed in parsing snapshot param '%s'", text);
        else
            r = show_by(block, id, name, err);
    }
    opts_done(&opts);
    return r;
}

static int show(struct block *block, const char *text, struct err *err)
{
    struct block_info info;
    int r;

    block_get_info(block, &info);
    if (strcmp(info.format, "qcow2") != 0)
        return err_set(err, -ENOTSUP,
                       "Block format '%s' used by device '' does not support temporarily loading "
                       "internal snapshots",
                       info.format);
    if (strncmp(text, "snapshot.", strlen("snapshot.")) == 0)
        return show_described(block, text, err);
    r = block_snapshot_show(block, text, err);
    return r == -ENOENT ? not_found(err) : r;
}

int snapshot_name_show(struct block *block, const char *text)
{
    struct err err;
    int r = show(block, text, &err);

    if (r == 0)
        return EXIT_SUCCESS;
    img_error("%s%s", r == BAD_TEXT ? "" : "Failed to load snapshot: ", err.msg);
    return EXIT_FAILURE;
}
