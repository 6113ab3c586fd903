/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/disk_image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file_host.h"
#include "block/stack.h"

void disk_image_name(unsigned index, char name[DISK_NAME_MAX])
{
    if (index < 26)
        snprintf(name, DISK_NAME_MAX, "vd%c", 'a' + (int)index);
    else
        snprintf(name, DISK_NAME_MAX, "vd%c%c", 'a' + (int)((index / 26 - 1) % 26),
                 'a' + (int)(index % 26));
}

/* How a disk uses a file. */
static struct open_file_use use_of(unsigned index, const char *path, bool is_top, bool writable)
{
    struct open_file_use use = {.path = path, .writable = writable};
    char name[DISK_NAME_MAX];

    disk_image_name(index, name);
    snprintf(use.role, sizeof(use.role), "%sdisk %s",
             is_top ? "" : "a backing file or data file of ", name);
    return use;
}

/* Each image may have a data file. */
#define FILES_MAX (2 * BLOCK_CHAIN_MAX)

struct opening {
    const struct disk_image *image;
    uint64_t added[FILES_MAX][2];
    unsigned nadded;
};

static int admit(void *opaque, const struct block_file *file, struct err *err)
{
    struct opening *opening = opaque;
    const struct disk_image *image = opening->image;
    const struct open_file_use use = use_of(image->index, file->path, file->is_top, file->writable);
    int r;

    if (opening->nadded == FILES_MAX)
        return err_set(err, -ELOOP, "more than %u files", FILES_MAX);
    r = open_files_add(image->files, file->id, &use, err);
    if (r == 0)
        memcpy(opening->added[opening->nadded++], file->id, sizeof(opening->added[0]));
    return r;
}

/* What others have added stays: what was refused may be theirs. */
static void remove_added(const struct opening *opening)
{
    for (unsigned i = 0; i < opening->nadded; i++)
        open_files_remove(opening->image->files, opening->added[i]);
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

static void note_snapshots(struct block *top)
{
    struct block *layer;

    for (unsigned depth = 0; (layer = block_stack_at(top, depth)); depth++)
        block_note_snapshots(layer);
}

int disk_image_open(const struct disk_image *image, struct block **ret_block, struct err *err)
{
    const struct config_disk *config = &image->vm->disks[image->index];
    const struct config_places *for_all = &image->vm->backing;
    const char **allowed = join_places(&config->backing, for_all);
    struct opening opening = {.image = image};
    const struct block_options options = {
        .path = image->overlay ? image->overlay : config->path,
        .format = image->overlay ? BLOCK_FORMAT_QCOW2 : config->format,
        .readonly = config->readonly,
        .cache = config->cache,
        .aio = config->aio,
        .discard = config->discard,
        .flags = image->overlay ? BLOCK_OPEN_NO_BACKING : 0,
        .admit = admit,
        .admit_opaque = &opening,
        .confined = !config->backing.any && !for_all->any,
        .allowed = allowed,
        .nallowed = config->backing.n + for_all->n,
    };
    int r;

    if (!allowed)
        return err_set(err, -ENOMEM, "%s: out of memory", options.path);
    r = block_open(&options, ret_block, err);
    free(allowed);
    if (r < 0)
        remove_added(&opening);
    else
        note_snapshots(*ret_block);
    return r;
}

bool disk_image_is_at(const struct block_details *image, const char *path,
                      const struct file_part *part)
{
    uint64_t found[2];
    struct stat st;

    if (part->off != image->part.off || part->len != image->part.len || stat(path, &st) < 0)
        return false;
    file_host_identify(&st, found);
    return memcmp(found, image->file_id, sizeof(found)) == 0;
}

void disk_image_note_use(struct open_files *files, unsigned index, const struct block *layer,
                         bool is_top)
{
    struct block_details details;
    struct open_file_use use;

    block_get_details(layer, &details);
    use = use_of(index, details.path, is_top, is_top);
    open_files_change(files, details.file_id, &use);
    if (!details.data_id)
        return;
    use = use_of(index, details.data_path, false, is_top);
    open_files_change(files, details.data_id, &use);
}

void disk_image_forget(struct open_files *files, const struct block *layer)
{
    struct block_details details;

    block_get_details(layer, &details);
    open_files_remove(files, details.file_id);
    if (details.data_id)
        open_files_remove(files, details.data_id);
}
