#include "img/open.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/block_ops.h"
#include "img/img.h"
#include "img/name.h"
#include "vmm/base/host_path.h"
#include "vmm/base/lock_holder.h"

/* ---- why not --------------------------------------------------------------------------------- */

/*
 * block_open says what is wrong with which file, in its own order of words. Here the chain is gone
 * along once more, image by image, to say it in qemu-img's.
 */
struct search {
    FILE *text;
    char *in_use; /* path of the file that somebody else uses */
};

/* The part of a message behind the path that it begins with. */
static const char *without_path(const char *msg, const char *path)
{
    size_t len = strlen(path);

    return strncmp(msg, path, len) == 0 && strncmp(msg + len, ": ", 2) == 0 ? msg + len + 2 : msg;
}

/* A descriptor of a file or block device; or -errno, -EINVAL if it is neither: untouched then. */
static int open_file(const char *name, bool writable)
{
    struct host_path path;
    int r = host_path_find(name, &path);

    if (r < 0)
        return r;
    if (S_ISREG(path.st.st_mode) || S_ISBLK(path.st.st_mode))
        r = host_path_open(&path, writable ? O_RDWR : O_RDONLY);
    else if (S_ISSOCK(path.st.st_mode))
        r = -ENXIO;
    else
        r = S_ISDIR(path.st.st_mode) && writable ? -EISDIR : -EINVAL;
    host_path_done(&path);
    return r;
}

/* Is it the file itself, whatever is in it? */
static bool file_is_wrong(struct search *search, const char *path, bool writable)
{
    int fd = open_file(path, writable);

    if (fd == -EINVAL)
        fprintf(search->text, "'file' driver requires '%s' to be a regular file", path);
    else if (fd < 0)
        fprintf(search->text, "Could not open '%s': %s", path, strerror(-fd));
    else
        close(fd);
    return fd < 0;
}

/* Open one image without those below it. 0 or -errno with *err filled. */
static int open_alone(const char *path, enum block_format format, unsigned flags, bool readonly,
                      struct block **ret_block, struct err *err)
{
    const struct block_options options = {
        .path = path,
        .format = format,
        .readonly = readonly,
        .flags = BLOCK_OPEN_ALONE | IMG_BLOCK_FLAGS | flags,
    };

    return block_open(&options, ret_block, err);
}

/* Does somebody else use the file, so that it cannot be locked? */
static bool is_in_use(struct search *search, const char *path, bool writable)
{
    struct block *block;
    int r = open_alone(path, BLOCK_FORMAT_RAW, 0, !writable, &block, NULL);

    if (r == 0)
        (void)block_close(block); /* nothing was written */
    if (r != -EAGAIN)
        return false;
    fprintf(search->text, "Failed to get %s\"write\" lock", writable ? "" : "shared ");
    search->in_use = strdup(path);
    return true;
}

static bool search_image(struct search *search, const char *path, enum block_format format,
                         bool writable, bool in_use, unsigned depth);

/* The files that an image, which is fine itself, names. */
static bool search_below(struct search *search, const struct block *block, bool in_use,
                         unsigned depth)
{
    enum block_format format = BLOCK_FORMAT_PROBE;
    struct block_details details;
    char *path = NULL;
    struct err err;
    bool found = false;

    block_get_details(block, &details);
    if (details.data_name && block_resolve(details.path, details.data_name, &path, &err) == 0)
        found = file_is_wrong(search, path, false) || (in_use && is_in_use(search, path, false));
    free(path);
    path = NULL;
    if (found || !details.backing_name || depth == 0)
        return found;

    fprintf(search->text, "Could not open backing file: ");
    if (details.backing_format && img_format_parse(details.backing_format, &format) < 0) {
        fprintf(search->text, "Unknown driver '%s'", details.backing_format);
        return true;
    }
    if (block_resolve(details.path, details.backing_name, &path, &err) < 0) {
        fprintf(search->text, "%s", err.msg);
        return true;
    }
    found = search_image(search, path, format, false, in_use, depth - 1);
    free(path);
    return found;
}

static bool search_image(struct search *search, const char *path, enum block_format format,
                         bool writable, bool in_use, unsigned depth)
{
    struct block *block;
    struct err err;
    bool found;

    if (file_is_wrong(search, path, writable) || (in_use && is_in_use(search, path, writable)))
        return true;
    if (open_alone(path, format, BLOCK_OPEN_SHARE, true, &block, &err) < 0) {
        fprintf(search->text, "%s", without_path(err.msg, path));
        return true;
    }
    found = search_below(search, block, in_use, depth);
    (void)block_close(block); /* only read */
    return found;
}

/*
 * Why block_open could not open an image, which may be two lines; *err is what it said. To be
 * freed; NULL if there is no memory.
 */
static char *find_why(const struct block_options *options, const struct err *err)
{
    struct search search = {0};
    size_t len = 0;
    char *text = NULL;

    search.text = open_memstream(&text, &len);
    if (!search.text)
        return NULL;
    if (!search_image(&search, options->path, options->format, !options->readonly,
                      err->code == -EAGAIN, BLOCK_CHAIN_MAX)) {
        rewind(search.text);
        fprintf(search.text, "%s", without_path(err->msg, options->path));
    }
    if (search.in_use) {
        fputc('\n', search.text);
        img_explain_in_use(search.text, search.in_use);
    }
    if (fclose(search.text) != 0) {
        free(text);
        text = NULL;
    }
    free(search.in_use);
    return text;
}

void img_explain_in_use(FILE *text, const char *path)
{
    struct lock_holder holder;
    struct stat st;

    fprintf(text, "Is another process using the image [%s]?", path);
    if (stat(path, &st) == 0 && lock_holder_find(&st, -1, &holder) && holder.pid != getpid())
        fprintf(text, "\nIt is in use by process %d (%s).", (int)holder.pid, holder.name);
}

/* ---- opening --------------------------------------------------------------------------------- */

int img_cache_parse(const char *mode, enum block_cache *ret_cache, bool *ret_writethrough)
{
    static const struct {
        const char *name;
        enum block_cache cache;
        bool writethrough;
    } modes[] = {
        {"none", BLOCK_CACHE_NONE, false},           {"off", BLOCK_CACHE_NONE, false},
        {"writeback", BLOCK_CACHE_WRITEBACK, false}, {"writethrough", BLOCK_CACHE_WRITEBACK, true},
        {"directsync", BLOCK_CACHE_NONE, true},      {"unsafe", BLOCK_CACHE_UNSAFE, false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        if (strcmp(modes[i].name, mode) == 0) {
            *ret_cache = modes[i].cache;
            *ret_writethrough = modes[i].writethrough;
            return 0;
        }
    }
    return -EINVAL;
}

static int set_format(const struct img_open_options *options, struct img_name *name,
                      struct err *err)
{
    if (!options->format)
        return 0;
    if (name->format != BLOCK_FORMAT_PROBE)
        return err_set(err, -EINVAL, "Cannot specify both 'driver' and 'format'");
    if (img_format_parse(options->format, &name->format) < 0)
        return err_set(err, -EINVAL, "Unknown driver '%s'", options->format);
    return 0;
}

int img_open_name(const struct img_open_options *options, struct img_name *ret_name,
                  struct err *err)
{
    int r = img_name_parse(options->name, options->image_opts, ret_name, err);

    return r < 0 ? r : set_format(options, ret_name, err);
}

static int set_options(const struct img_open_options *options, const struct img_name *name,
                       struct block_options *ret_options, bool *ret_writethrough, struct err *err)
{
    bool share = name->share || (options->flags & IMG_OPEN_SHARE);
    enum block_cache cache = BLOCK_CACHE_WRITEBACK;

    *ret_writethrough = false;
    if (options->cache && img_cache_parse(options->cache, &cache, ret_writethrough) < 0)
        return err_set(err, -EINVAL, "cache mode '%s'", options->cache);
    if (name->direct)
        cache = BLOCK_CACHE_NONE;
    else if (name->no_flush)
        cache = BLOCK_CACHE_UNSAFE;

    *ret_options = (struct block_options){
        .path = name->path,
        .format = name->format,
        .readonly = name->readonly || !(options->flags & IMG_OPEN_WRITABLE),
        .cache = cache,
        .discard = true,
        .compute_threads = !(options->flags & IMG_OPEN_ONE_THREAD),
        .aio = options->aio,
        .without = options->without,
        .flags = IMG_BLOCK_FLAGS | (share ? BLOCK_OPEN_SHARE : 0),
        .write_backing = options->write_backing,
        .repair_report = &img_check_report,
    };
    if (share && !ret_options->readonly)
        return err_set(err, -EINVAL, "force-share=on can only be used with read-only images");
    if (options->flags & IMG_OPEN_CHECK)
        ret_options->flags |= BLOCK_OPEN_CHECK;
    if ((options->flags & IMG_OPEN_NO_BACKING) || name->no_backing)
        ret_options->flags |= BLOCK_OPEN_ALONE;
    return 0;
}

static void print_probed(const char *path)
{
    fprintf(stderr,
            "WARNING: Image format was not specified for '%s' and probing guessed raw.\n"
            "         Automatically detecting the format is dangerous for raw images, write "
            "operations on block 0 will be restricted.\n"
            "         Specify the 'raw' format explicitly to remove the restrictions.\n",
            path);
}

/* Of each image that is going to be written. */
static void warn_of_probed(const struct block_options *options, const struct block *block)
{
    bool probed = options->format == BLOCK_FORMAT_PROBE;

    while (block) {
        struct block_details details;
        struct block_info info;

        block_get_info(block, &info);
        block_get_details(block, &details);
        if (probed && !info.readonly && strcmp(info.format, "raw") == 0)
            print_probed(details.path);
        probed = !details.backing_format;
        block = details.backing;
    }
}

/* *ret_why says more than *err, if it is not NULL. */
static int open_named(const struct img_open_options *options, const struct img_name *name,
                      struct block **ret_block, char **ret_why, struct err *err)
{
    struct block_options block_options = {.path = name->path};
    bool writethrough = false;
    int r = set_options(options, name, &block_options, &writethrough, err);

    if (r < 0)
        return r;
    r = block_open(&block_options, ret_block, err);
    if (r < 0) {
        *ret_why = find_why(&block_options, err);
        return r;
    }
    warn_of_probed(&block_options, *ret_block);
    block_set_writeback(*ret_block, !writethrough);
    return 0;
}

struct block *img_open(const struct img_open_options *options)
{
    struct block *block = NULL;
    struct img_name name;
    char *why = NULL;
    struct err err;
    int r;

    if (options->image_opts && options->format) {
        img_error("--image-opts and --format are mutually exclusive");
        return NULL;
    }
    r = img_open_name(options, &name, &err);
    if (r == 0)
        r = open_named(options, &name, &block, &why, &err);
    if (r < 0)
        img_error("Could not open '%s': %s", options->name, why ? why : err.msg);
    free(why);
    img_name_done(&name);
    return r < 0 ? NULL : block;
}

int img_open_backing(const char *image_path, const char *name, const struct block_options *options,
                     struct block **ret_block, char **ret_why)
{
    struct block_options block_options = *options;
    char *path = NULL;
    struct err err;
    int r = block_resolve(image_path, name, &path, &err);

    if (r < 0) {
        *ret_why = strdup(err.msg);
        return r;
    }
    block_options.path = path;
    r = block_open(&block_options, ret_block, &err);
    if (r < 0)
        *ret_why = find_why(&block_options, &err);
    free(path);
    return r;
}

int img_close(struct block *block, const char *name, int status)
{
    int r = block_close(block);

    if (r < 0 && status == EXIT_SUCCESS) {
        img_error("%s: cannot write back the image: %s", name, strerror(-r));
        return EXIT_FAILURE;
    }
    return status;
}
