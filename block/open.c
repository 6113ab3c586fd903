/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening an image: its format, its data file, and the chain of its backing files.
 */
#include "block/open.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "block/confine.h"
#include "block/driver.h"
#include "block/env.h"
#include "block/name.h"
#include "block/probe.h"
#include "block/qcow2/driver.h"
#include "block/raw.h"

/* The images opened so far: the one that the user named is the top, its backing files follow. */
struct chain {
    const struct block_env *env;
    struct file_host_options file_options;
    struct block_confine confine;
    unsigned flags;
    unsigned without;
    const struct block_options *options;
    unsigned len;
    uint64_t tables_left;
    struct block *top; /* with all that are open below it */
};

/* ---- one image ------------------------------------------------------------------------------- */

static int check_not_in_chain(const struct chain *chain, const struct file *file, const char *path,
                              struct err *err)
{
    for (const struct block *block = chain->top; block; block = block->backing)
        if (file_is_same(block->file, file) ||
            (block->data_file && file_is_same(block->data_file, file)))
            return err_set(err, -ELOOP, "%s: the image is its own backing file or data file", path);
    return 0;
}

static int probe(struct file *file, const char *path, enum block_format *ret_format,
                 struct err *err)
{
    uint8_t sector[PROBE_LEN];
    const char *name;
    int r = file_read(file, 0, sector, sizeof(sector));

    if (r < 0)
        return err_set_errno(err, r, "%s: cannot read", path);
    name = probe_file(sector, path);
    if (name && block_format_parse(name, ret_format, NULL) < 0)
        return probe_refuse(path, name, err);
    if (!name)
        *ret_format = BLOCK_FORMAT_RAW;
    return 0;
}

static int ask_for_admission(const struct chain *chain, const struct file *file, const char *path,
                             struct err *err)
{
    const struct block_file asked = {
        .path = path,
        .id = file->id,
        .writable = file->writable,
        .is_top = !chain->top,
    };

    if (!chain->options->admit)
        return 0;
    return chain->options->admit(chain->options->admit_opaque, &asked, err);
}

/* Does the file fit what the name says about it? */
static int check_name(const struct block_name *name, const struct file *file, struct err *err)
{
    if (name->device && !file->fixed_len)
        return err_set(err, -EINVAL,
                       "%s: 'host_device' driver requires '%s' to be either a character or block "
                       "device",
                       name->path, name->path);
    if (file->writable && name->readonly)
        return err_set(err, -EROFS, "%s: is to be read only", name->path);
    return 0;
}

/* An image may only waive locks where it may also name any file. */
static bool is_locked(const struct chain *chain, const struct block_name *name,
                      const struct file *namer)
{
    bool waived = (name->share || name->unlocked) && !(namer && chain->confine.on);

    return !(chain->flags & BLOCK_OPEN_SHARE) && !waived;
}

/*
 * Open and lock a file of the host, limited to the part that the name says. It must not be in the
 * chain already. `namer` is the image that names it, or NULL if the user does. All names of images
 * come through here.
 */
static int open_file(struct chain *chain, const struct block_name *name, const struct file *namer,
                     struct file **ret_file, struct err *err)
{
    struct file_host_options options = chain->file_options;
    struct host_places places;
    struct file *file;
    int r;

    options.direct |= name->direct;
    options.no_sync |= name->no_flush;
    if (namer)
        options.places = block_confine_places(&chain->confine, namer, &places);
    r = chain->env->open_file(chain->env, name->path, &options, &file, err);
    if (r < 0)
        return r;
    r = check_name(name, file, err);
    if (r == 0)
        r = file_set_part(file, &name->part, name->path, err);
    if (r == 0)
        r = check_not_in_chain(chain, file, name->path, err);
    if (r == 0)
        r = ask_for_admission(chain, file, name->path, err);
    if (r == 0 && is_locked(chain, name, namer))
        r = file_lock(file, name->path, err);
    if (r < 0) {
        file_free(file);
        return r;
    }
    if (!chain->confine.top)
        chain->confine.top = file;
    *ret_file = file;
    return 0;
}

/* Open the external data file of `block`, which was opened as `image`. */
static int open_data_file(struct chain *chain, struct block *block, const struct block_name *image,
                          bool user_said, struct err *err)
{
    struct block_name name = {.path = image->data_path, .part = FILE_PART_ALL};
    struct file *file = NULL;
    int r = 0;

    if (!image->data_path)
        r = block_name_below(image->path, block->data_name, NULL, &name, err);
    name.unlocked |= image->unlocked;
    if (r == 0)
        r = open_file(chain, &name, user_said && image->data_path ? NULL : block->file, &file, err);
    if (r == 0) {
        qcow2_set_data_file(block, file);
        block->data_path = strdup(name.path);
        r = block->data_path ? 0 : err_set(err, -ENOMEM, "out of memory");
    }
    if (!image->data_path)
        block_name_done(&name);
    if (r == 0)
        return 0;
    err_prefix(err, "data file of %s", image->path);
    return r;
}

static int open_format(const struct block_source *source, enum block_format format,
                       struct block **ret_block, struct err *err)
{
    return format == BLOCK_FORMAT_QCOW2 ? qcow2_open(source, ret_block, err)
                                        : raw_open(source, ret_block, err);
}

static int open_image(struct chain *chain, const struct block_name *name, const struct file *namer,
                      bool discard, struct block **ret_block, struct err *err)
{
    enum block_format format = name->format;
    struct block_source source = {
        .path = name->path,
        .writable = chain->file_options.writable,
        .discard = discard,
        .flags = chain->flags,
        .without = chain->without,
        .guarded = format == BLOCK_FORMAT_PROBE || (namer && !chain->file_options.writable),
        .tables_left = &chain->tables_left,
    };
    int r;

    assert(name->path);
    r = open_file(chain, name, namer, &source.file, err);
    if (r < 0)
        return r;
    if (chain->len > 0)
        source.flags |= BLOCK_OPEN_ANY_RAW; /* the image above says that it is an image */
    if (format == BLOCK_FORMAT_PROBE)
        r = probe(source.file, name->path, &format, err);
    if (r == 0)
        r = open_format(&source, format, ret_block, err);
    if (r < 0) {
        file_free(source.file);
        return r;
    }
    chain->len++;
    (*ret_block)->path = strdup(name->path);
    if (!(*ret_block)->path)
        r = err_set(err, -ENOMEM, "%s: out of memory", name->path);
    else if ((*ret_block)->data_name && !(chain->flags & BLOCK_OPEN_ALONE))
        r = open_data_file(chain, *ret_block, name, !namer, err);
    if (r == 0 && source.writable && (*ret_block)->driver->recover)
        r = (*ret_block)->driver->recover(*ret_block, chain->options->repair_report, err);
    if (r < 0) {
        (void)block_close(*ret_block); /* nothing was written */
        *ret_block = NULL;
    }
    return r;
}

/* Open what `block` names as its backing file; *ret_last: the chain is to end with it. */
static int open_backing(struct chain *chain, struct block *block, bool discard, bool *ret_last,
                        struct err *err)
{
    struct block_name name;
    int r;

    if (chain->len == BLOCK_CHAIN_MAX)
        return err_set(err, -ELOOP, "more than %u images on top of each other", BLOCK_CHAIN_MAX);
    r = block_name_below(block->path, block->backing_name, block->backing_format, &name, err);
    if (r == 0)
        r = open_image(chain, &name, block->file, discard, &block->backing, err);
    *ret_last = name.no_backing;
    block_name_done(&name);
    return r;
}

static int open_below(struct chain *chain, struct block *top, const struct block_options *options,
                      struct err *err)
{
    unsigned depth = 0;
    bool last = false;
    int r = 0;

    for (struct block *block = top; r == 0 && !last && block->backing_name;
         block = block->backing) {
        chain->file_options.writable = ++depth == options->write_backing;
        r = open_backing(chain, block, chain->file_options.writable && options->discard, &last,
                         err);
        if (r < 0) {
            err_prefix(err, "backing file of %s", block->path);
            break;
        }
    }
    return r;
}

/* Called when all is open, so that an image that cannot be opened brings an error only. */
static void warn_of_probed(const struct block *top)
{
    for (const struct block *block = top; block->backing; block = block->backing)
        if (!block->backing_format)
            log_warn("backing file %s: the image on top of it does not say its format: taken for "
                     "%s",
                     block->backing_name, block->backing->driver->name);
}

static int open_chain(struct chain *chain, struct err *err)
{
    const struct block_options *options = chain->options;
    const struct block_name name = {
        .path = (char *)(uintptr_t)options->path,
        .format = options->format,
        .part = options->part ? *options->part : FILE_PART_ALL,
        .data_path = (char *)(uintptr_t)options->data_path,
        .device = options->flags & BLOCK_OPEN_DEVICE,
        .unlocked = options->flags & BLOCK_OPEN_UNLOCKED,
    };
    int r = block_confine_init(&chain->confine, options, err);

    if (r == 0)
        r = open_image(chain, &name, NULL, options->discard, &chain->top, err);
    if (r < 0)
        return r;
    if (!(options->flags & (BLOCK_OPEN_CHECK | BLOCK_OPEN_ALONE | BLOCK_OPEN_NO_BACKING)))
        r = open_below(chain, chain->top, options, err);
    if (r < 0)
        (void)block_close(chain->top); /* nothing was written */
    return r;
}

int block_open_in(const struct block_env *env, const struct block_options *options,
                  struct block **ret_block, struct err *err)
{
    static const enum aio_kind kinds[] = {
        [BLOCK_AIO_AUTO] = AIO_AUTO,
        [BLOCK_AIO_URING] = AIO_URING,
        [BLOCK_AIO_THREADS] = AIO_THREADS,
    };
    struct chain chain = {
        .env = env,
        .flags = options->flags,
        .without = options->without,
        .options = options,
        .tables_left = BLOCK_CHAIN_TABLES_MAX,
        .file_options =
            {
                .writable = !options->readonly,
                .direct = options->cache == BLOCK_CACHE_NONE,
                .no_sync = options->cache == BLOCK_CACHE_UNSAFE,
                .threads = options->compute_threads,
                .aio = kinds[options->aio],
            },
    };
    int r;

    if ((options->flags & BLOCK_OPEN_SHARE) && !options->readonly)
        return err_set(err, -EINVAL, "%s: without locks an image can only be read", options->path);
    r = open_chain(&chain, err);
    block_confine_done(&chain.confine);
    if (r < 0)
        return r;
    chain.top->aio_kind = chain.file_options.aio;
    for (struct block *layer = chain.top; layer; layer = layer->backing) {
        layer->compute_threads = options->compute_threads;
        if (layer->driver->share_memory)
            layer->driver->share_memory(layer, chain.len);
    }
    warn_of_probed(chain.top);
    *ret_block = chain.top;
    return 0;
}

int block_open(const struct block_options *options, struct block **ret_block, struct err *err)
{
    return block_open_in(&block_host_env, options, ret_block, err);
}
