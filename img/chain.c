#include "img/chain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "block/block_ops.h"
#include "img/name.h"
#include "img/open.h"
#include "vmm/base/file_host.h"

static bool same_file(const char *a, const char *b)
{
    struct stat sa;
    struct stat sb;

    return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
           sa.st_ino == sb.st_ino;
}

/* What an image says about the one below it, and about its data file. */
struct below {
    char *name; /* NULL: there is none */
    char *path;
    char *data_path; /* NULL: there is none, or it is no file of the host */
    enum block_format format;
};

static int describe_below(const struct block_details *details, struct below *below, struct err *err)
{
    if (details->data_name &&
        block_resolve(details->path, details->data_name, &below->data_path, NULL) < 0)
        below->data_path = NULL;
    if (!details->backing_name)
        return 0;
    if (details->backing_format && img_format_parse(details->backing_format, &below->format) < 0)
        return err_set(err, -ENOTSUP, "Unknown driver '%s'", details->backing_format);
    below->name = strdup(details->backing_name);
    if (!below->name)
        return err_set(err, -ENOMEM, "out of memory");
    return block_resolve(details->path, details->backing_name, &below->path, err);
}

static int look_below(const char *path, enum block_format format, struct below *below,
                      struct err *err)
{
    const struct block_options options = {
        .path = path,
        .format = format,
        .readonly = true,
        .flags = BLOCK_OPEN_ALONE | BLOCK_OPEN_SHARE | IMG_BLOCK_FLAGS,
    };
    struct block_details details;
    struct block *block;
    int r = block_open(&options, &block, err);

    if (r < 0)
        return r;
    *below = (struct below){.format = BLOCK_FORMAT_PROBE};
    block_get_details(block, &details);
    r = describe_below(&details, below, err);
    (void)block_close(block); /* only read */
    if (r < 0) {
        free(below->name);
        free(below->path);
        free(below->data_path);
    }
    return r;
}

/* Does the image at `path`, which has the backing file `below`, call it `base`? */
static bool is_called(const char *path, const struct below *below, const char *base)
{
    char *base_path = NULL;
    bool found = !base || strcmp(below->name, base) == 0;

    if (!found && block_resolve(path, base, &base_path, NULL) == 0)
        found = same_file(base_path, below->path);
    free(base_path);
    return found;
}

int chain_find(const char *path, enum block_format format, const char *base, unsigned *ret_depth,
               struct err *err)
{
    char *image = strdup(path);
    struct below below = {0};
    int r = image ? 0 : err_set(err, -ENOMEM, "out of memory");
    bool found = false;
    unsigned depth;

    for (depth = 1; r == 0 && !found && depth <= BLOCK_CHAIN_MAX; depth++) {
        r = look_below(image, format, &below, err);
        if (r != 0)
            break;
        free(below.data_path);
        if (!below.name)
            break;
        found = is_called(image, &below, base);
        free(below.name);
        free(image);
        image = below.path;
        format = below.format;
    }
    free(image);
    if (r == 0)
        *ret_depth = found ? depth - 1 : 0;
    return r;
}

static bool is_file(const char *path, const uint64_t id[2])
{
    uint64_t its_id[2];
    struct stat st;

    if (!path || stat(path, &st) < 0)
        return false;
    file_host_identify(&st, its_id);
    return memcmp(its_id, id, sizeof(its_id)) == 0;
}

bool chain_has_file(const char *path, enum block_format format, const uint64_t id[2])
{
    struct below below = {.path = strdup(path), .format = format};
    bool found = is_file(path, id);

    for (unsigned depth = 0; below.path && !found && depth < BLOCK_CHAIN_MAX; depth++) {
        char *image = below.path;

        below.path = NULL;
        if (look_below(image, below.format, &below, NULL) == 0) {
            found = is_file(below.data_path, id) || is_file(below.path, id);
            free(below.data_path);
            free(below.name);
        } else {
            below.path = NULL;
        }
        free(image);
    }
    free(below.path);
    return found;
}
