/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/disk_image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

void disk_image_name(unsigned index, char name[DISK_NAME_MAX])
{
    snprintf(name, DISK_NAME_MAX, "vd%c", index < 26 ? 'a' + (int)index : '?');
}

struct open_file_use disk_image_use(unsigned index, const char *path, bool is_top, bool writable)
{
    struct open_file_use use = {.path = path, .writable = writable};
    char name[DISK_NAME_MAX];

    disk_image_name(index, name);
    snprintf(use.role, sizeof(use.role), "%sdisk %s",
             is_top ? "" : "a backing file or data file of ", name);
    return use;
}

static int admit(void *opaque, const struct block_file *file, struct err *err)
{
    const struct disk_image *image = opaque;
    const struct open_file_use use =
        disk_image_use(image->index, file->path, file->is_top, file->writable);

    return open_files_add(image->files, file->id, &use, err);
}

/* What one disk and all disks are allowed, in an array to be freed. NULL without memory. */
static const char **join_places(const struct config_places *a, const struct config_places *b)
{
    const char **paths = calloc(a->n + b->n + 1, sizeof(*paths));

    if (!paths)
        return NULL;
    for (unsigned i = 0; i < a->n; i++)
        paths[i] = a->paths[i];
    for (unsigned i = 0; i < b->n; i++)
        paths[a->n + i] = b->paths[i];
    return paths;
}

int disk_image_open(const struct disk_image *image, struct block **ret_block, struct err *err)
{
    const struct config_disk *config = &image->vm->disks[image->index];
    const struct config_places *for_all = &image->vm->backing;
    const char **allowed = join_places(&config->backing, for_all);
    const struct block_options options = {
        .path = image->overlay ? image->overlay : config->path,
        .format = image->overlay ? BLOCK_FORMAT_QCOW2 : config->format,
        .readonly = config->readonly,
        .cache = config->cache,
        .aio = config->aio,
        .discard = config->discard,
        .flags = image->overlay ? BLOCK_OPEN_NO_BACKING : 0,
        .admit = admit,
        .admit_opaque = (void *)(uintptr_t)image,
        .confined = !config->backing.any && !for_all->any,
        .allowed = allowed,
        .nallowed = config->backing.n + for_all->n,
    };
    int r;

    if (!allowed)
        return err_set(err, -ENOMEM, "%s: out of memory", options.path);
    r = block_open(&options, ret_block, err);
    free(allowed);
    return r;
}
