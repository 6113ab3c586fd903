#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/block_confine.h"
#include "block/block_int.h"
#include "block/probe.h"
#include "vmm/base/log.h"

static int host_open_file(const struct block_env *env, const char *path,
                          const struct file_host_options *options, struct file **ret_file,
                          struct err *err)
{
    return file_host_open(path, options, ret_file, err);
}

static int host_create_file(const struct block_env *env, const char *path,
                            const struct file_host_options *options, struct file **ret_file,
                            struct err *err)
{
    return file_host_create(path, options, ret_file, err);
}

static int host_keep_file(const struct block_env *env, struct file *file, const char *path,
                          struct err *err)
{
    return file_host_keep(file, path, err);
}

static void host_drop_file(const struct block_env *env, struct file *file, const char *path)
{
    file_host_drop(file);
}

const struct block_env block_host_env = {
    .open_file = host_open_file,
    .create_file = host_create_file,
    .keep_file = host_keep_file,
    .drop_file = host_drop_file,
};

/* The images opened so far, from the one that the user named down. */
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

static int format_from_name(const char *name, enum block_format *ret_format, struct err *err)
{
    if (strcmp(name, "qcow2") == 0)
        *ret_format = BLOCK_FORMAT_QCOW2;
    else if (strcmp(name, "raw") == 0)
        *ret_format = BLOCK_FORMAT_RAW;
    else
        return err_set(err, -ENOTSUP, "format '%s': expected qcow2 or raw", name);
    return 0;
}

/* ---- names ----------------------------------------------------------------------------------- */

/*
 * The path of a backing file: relative to the folder of the image that names it, not to where this
 * process happens to run. QEMU's "protocol:name" is understood for plain files only.
 */
int block_resolve(const char *image, const char *name, char **ret_path, struct err *err)
{
    size_t prefix = strcspn(name, ":/");
    const char *slash = strrchr(image, '/');
    size_t dir_len = slash ? (size_t)(slash - image) + 1 : 0;
    char *path;

    if (name[prefix] == ':') {
        if (strncmp(name, "file:", 5) != 0)
            return err_set(err, -ENOTSUP,
                           "'%s': a file of the host is expected: protocols and json: descriptions "
                           "are not supported",
                           name);
        name += strlen("file:");
    }
    if (name[0] == '/')
        dir_len = 0;
    path = malloc(dir_len + strlen(name) + 1);
    if (!path)
        return err_set(err, -ENOMEM, "out of memory");
    memcpy(path, image, dir_len);
    memcpy(path + dir_len, name, strlen(name) + 1);
    *ret_path = path;
    return 0;
}

/* ---- one image ------------------------------------------------------------------------------- */

static bool is_same(const struct file *a, const struct file *b)
{
    return memcmp(a->id, b->id, sizeof(a->id)) == 0;
}

static int check_not_in_chain(const struct chain *chain, const struct file *file, const char *path,
                              struct err *err)
{
    for (const struct block *block = chain->top; block; block = block->backing)
        if (is_same(block->file, file) || (block->data_file && is_same(block->data_file, file)))
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
    if (name && format_from_name(name, ret_format, NULL) < 0)
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

/*
 * Open a file of the host that is not in the chain yet, locked. `namer` is the image that names it;
 * NULL: the user does.
 */
static int open_file(struct chain *chain, const char *path, const struct file *namer,
                     struct file **ret_file, struct err *err)
{
    struct file_host_options options = chain->file_options;
    struct host_places places;
    struct file *file;
    int r;

    if (namer)
        options.places = block_confine_places(&chain->confine, namer, &places);
    r = chain->env->open_file(chain->env, path, &options, &file, err);
    if (r < 0)
        return r;
    r = check_not_in_chain(chain, file, path, err);
    if (r == 0)
        r = ask_for_admission(chain, file, path, err);
    if (r == 0 && !(chain->flags & BLOCK_OPEN_SHARE))
        r = file_lock(file, path, err);
    if (r < 0) {
        file_free(file);
        return r;
    }
    if (!namer)
        chain->confine.top = file;
    *ret_file = file;
    return 0;
}

/* Open the external data file that `block`, opened from `path`, names. */
static int open_data_file(struct chain *chain, struct block *block, const char *path,
                          struct err *err)
{
    struct file *file = NULL;
    char *data_path = NULL;
    int r = block_resolve(path, block->data_name, &data_path, err);

    if (r == 0)
        r = open_file(chain, data_path, block->file, &file, err);
    free(data_path);
    if (r == 0)
        qcow2_set_data_file(block, file);
    else
        err_prefix(err, "data file of %s", path);
    return r;
}

static int open_image(struct chain *chain, const char *path, const struct file *namer,
                      enum block_format format, bool discard, struct block **ret_block,
                      struct err *err)
{
    struct block_source source = {
        .path = path,
        .writable = chain->file_options.writable,
        .discard = discard,
        .flags = chain->flags,
        .without = chain->without,
        .probed = format == BLOCK_FORMAT_PROBE,
        .tables_left = &chain->tables_left,
    };
    int r;

    assert(path);
    r = open_file(chain, path, namer, &source.file, err);
    if (r < 0)
        return r;
    if (chain->len > 0)
        source.flags |= BLOCK_OPEN_ANY_RAW; /* an image says that it is one */
    if (source.probed) {
        r = probe(source.file, path, &format, err);
        if (r < 0)
            goto free_file;
    }
    if (format == BLOCK_FORMAT_QCOW2)
        r = qcow2_open(&source, ret_block, err);
    else
        r = raw_open(&source, ret_block, err);
    if (r < 0)
        goto free_file;
    chain->len++;
    (*ret_block)->path = strdup(path);
    if (!(*ret_block)->path)
        r = err_set(err, -ENOMEM, "%s: out of memory", path);
    else if ((*ret_block)->data_name && !(chain->flags & BLOCK_OPEN_ALONE))
        r = open_data_file(chain, *ret_block, path, err);
    if (r == 0 && source.writable && (*ret_block)->driver->recover)
        r = (*ret_block)->driver->recover(*ret_block, chain->options->repair_report, err);
    if (r < 0) {
        (void)block_close(*ret_block); /* nothing was written */
        *ret_block = NULL;
    }
    return r;

free_file:
    file_free(source.file);
    return r;
}

/* Open what `block`, opened from `path`, names as its backing file; *ret_path is to be freed. */
static int open_backing(struct chain *chain, struct block *block, const char *path, bool discard,
                        char **ret_path, struct err *err)
{
    enum block_format format = BLOCK_FORMAT_PROBE;
    int r = 0;

    if (chain->len == BLOCK_CHAIN_MAX)
        return err_set(err, -ELOOP, "more than %u images on top of each other", BLOCK_CHAIN_MAX);
    if (block->backing_format)
        r = format_from_name(block->backing_format, &format, err);
    if (r < 0)
        return r;
    r = block_resolve(path, block->backing_name, ret_path, err);
    if (r < 0)
        return r;
    return open_image(chain, *ret_path, block->file, format, discard, &block->backing, err);
}

static int open_below(struct chain *chain, struct block *top, const struct block_options *options,
                      struct err *err)
{
    unsigned depth = 0;
    char *path = NULL;
    int r = 0;

    for (struct block *block = top; r == 0 && block->backing_name; block = block->backing) {
        const char *image = path ? path : options->path;
        char *next = NULL;

        chain->file_options.writable = ++depth == options->write_backing;
        r = open_backing(chain, block, image, chain->file_options.writable && options->discard,
                         &next, err);
        if (r < 0)
            err_prefix(err, "backing file of %s", image);
        free(path);
        path = next;
        if (r < 0)
            break;
    }
    free(path);
    return r;
}

/* When all is open: an image that cannot be used is one error and no warnings. */
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
    int r = block_confine_init(&chain->confine, options, err);

    if (r == 0)
        r = open_image(chain, options->path, NULL, options->format, options->discard, &chain->top,
                       err);
    if (r < 0)
        return r;
    if (!(options->flags & (BLOCK_OPEN_CHECK | BLOCK_OPEN_ALONE)))
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
