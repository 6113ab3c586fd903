/* SPDX-License-Identifier: Apache-2.0 */
#include "img/open.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/host_path.h"
#include "base/lock_holder.h"
#include "block/image.h"
#include "img/message.h"
#include "img/name.h"
#include "img/opts.h"
#include "img/shown.h"

/* ---- why not --------------------------------------------------------------------------------- */

/*
 * block_open says what is wrong with which file, in its own order of words. The search goes along
 * the chain once more, image by image, to say it in qemu-img's order.
 */
struct search {
    FILE *text;
    char *in_use; /* path of the file that somebody else uses */
};

/* The part of a message after the path that it begins with. */
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
static int open_alone(const struct block_name *name, enum block_format format, unsigned flags,
                      bool readonly, struct block **ret_block, struct err *err)
{
    struct block_options options = {
        .readonly = readonly,
        .flags = BLOCK_OPEN_ALONE | IMG_BLOCK_FLAGS | flags,
    };

    block_name_apply(name, &options);
    options.format = format;
    options.readonly = readonly;
    return block_open(&options, ret_block, err);
}

/* Does somebody else use the file, so that it cannot be locked? */
static bool is_in_use(struct search *search, const struct block_name *name, bool writable)
{
    struct block *block;
    int r = open_alone(name, BLOCK_FORMAT_RAW, 0, !writable, &block, NULL);

    if (r == 0)
        (void)block_close(block); /* nothing was written */
    if (r != -EAGAIN)
        return false;
    fprintf(search->text, "Failed to get %s\"write\" lock", writable ? "" : "shared ");
    search->in_use = strdup(name->path);
    return true;
}

static bool search_image(struct search *search, const struct block_name *name, bool writable,
                         bool in_use, unsigned depth);

/* The data file that the image `name` has. */
static bool search_data(struct search *search, const struct block_name *name,
                        const struct block_details *details, bool in_use)
{
    struct block_name data = {.path = name->data_path, .part = FILE_PART_ALL};
    bool found = false;
    int r = 0;

    if (!name->data_path)
        r = block_name_below(details->path, details->data_name, NULL, &data, NULL);
    if (r == 0)
        found =
            file_is_wrong(search, data.path, false) || (in_use && is_in_use(search, &data, false));
    if (!name->data_path)
        block_name_done(&data);
    return found;
}

/* The files that an image, which is fine itself, names. */
static bool search_below(struct search *search, const struct block_name *image,
                         const struct block *block, bool in_use, unsigned depth)
{
    struct block_details details;
    struct block_name name;
    enum block_format format;
    struct err err;
    bool found;

    block_get_details(block, &details);
    if (details.data_name && search_data(search, image, &details, in_use))
        return true;
    if (!details.backing_name || depth == 0)
        return false;

    fprintf(search->text, "Could not open backing file: ");
    if (details.backing_format && img_format_parse(details.backing_format, &format) < 0) {
        fprintf(search->text, "Unknown driver '%s'", details.backing_format);
        return true;
    }
    if (block_name_below(details.path, details.backing_name, details.backing_format, &name, &err) <
        0) {
        fprintf(search->text, "%s", err.msg);
        found = true;
    } else {
        found = search_image(search, &name, false, in_use, depth - 1);
    }
    block_name_done(&name);
    return found;
}

static bool search_image(struct search *search, const struct block_name *name, bool writable,
                         bool in_use, unsigned depth)
{
    struct block *block;
    struct err err;
    bool found;

    if (file_is_wrong(search, name->path, writable) ||
        (in_use && is_in_use(search, name, writable)))
        return true;
    if (open_alone(name, name->format, BLOCK_OPEN_SHARE, true, &block, &err) < 0) {
        fprintf(search->text, "%s", without_path(err.msg, name->path));
        return true;
    }
    found = search_below(search, name, block, in_use, depth);
    (void)block_close(block); /* only read */
    return found;
}

/*
 * Why block_open could not open an image, which may be two lines; *err is what it said. To be
 * freed; NULL if there is no memory.
 */
static char *find_why(const struct block_name *name, const struct block_options *options,
                      const struct err *err)
{
    struct search search = {0};
    size_t len = 0;
    char *text = NULL;

    search.text = open_memstream(&text, &len);
    if (!search.text)
        return NULL;
    if (!search_image(&search, name, !options->readonly, err->code == -EAGAIN, BLOCK_CHAIN_MAX)) {
        rewind(search.text);
        fprintf(search.text, "%s", without_path(err->msg, name->path));
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

    fprintf(text, "Is another process using the image [%s]?", shown(text, path));
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

static int set_format(const struct img_open_options *options, struct block_name *name,
                      struct err *err)
{
    if (!options->format)
        return 0;
    if (block_format_parse(options->format, &name->format, &name->protocol) < 0)
        return err_set(err, -EINVAL, "Unknown driver '%s'", options->format);
    name->device = name->protocol && strcmp(name->protocol, "host_device") == 0;
    return 0;
}

int img_open_name(const struct img_open_options *options, struct block_name *ret_name,
                  struct err *err)
{
    int r;

    if (!options->image_opts && block_name_is_json(options->name))
        return block_name_from_json(options->name, options->format, ret_name, err);
    r = img_name_parse(options->name, options->image_opts, ret_name, err);
    return r < 0 ? r : set_format(options, ret_name, err);
}

static int set_options(const struct img_open_options *options, const struct block_name *name,
                       struct block_options *ret_options, bool *ret_writethrough, struct err *err)
{
    enum block_cache cache = BLOCK_CACHE_WRITEBACK;

    *ret_writethrough = false;
    if (options->cache && img_cache_parse(options->cache, &cache, ret_writethrough) < 0)
        return err_set(err, -EINVAL, "cache mode '%s'", options->cache);

    *ret_options = (struct block_options){
        .readonly = !(options->flags & IMG_OPEN_WRITABLE),
        .cache = cache,
        .discard = true,
        .compute_threads = !(options->flags & IMG_OPEN_ONE_THREAD),
        .aio = options->aio,
        .without = options->without,
        .flags = IMG_BLOCK_FLAGS | (options->flags & IMG_OPEN_SHARE ? BLOCK_OPEN_SHARE : 0),
        .write_backing = options->write_backing,
        .repair_report = &img_check_report,
    };
    block_name_apply(name, ret_options);
    if ((ret_options->flags & BLOCK_OPEN_SHARE) && !ret_options->readonly)
        return err_set(err, -EINVAL, "force-share=on can only be used with read-only images");
    if (options->flags & IMG_OPEN_CHECK)
        ret_options->flags |= BLOCK_OPEN_CHECK;
    if (options->flags & IMG_OPEN_NO_BACKING)
        ret_options->flags |= BLOCK_OPEN_ALONE;
    if (options->flags & IMG_OPEN_ENCRYPTED)
        ret_options->flags |= BLOCK_OPEN_ENCRYPTED;
    return 0;
}

static void print_probed(const char *path)
{
    fprintf(stderr,
            "WARNING: Image format was not specified for '%s' and probing guessed raw.\n"
            "         Automatically detecting the format is dangerous for raw images, write "
            "operations on block 0 will be restricted.\n"
            "         Specify the 'raw' format explicitly to remove the restrictions.\n",
            shown(stderr, path));
}

/* Warn of each image that was probed as raw and is going to be written. */
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

/* Where *ret_why is not NULL, it is the whole message, and *err only a part of it. */
static int open_named(const struct img_open_options *options, const struct block_name *name,
                      struct block **ret_block, char **ret_why, struct err *err)
{
    struct block_options block_options = {.path = name->path};
    bool writethrough = false;
    int r = set_options(options, name, &block_options, &writethrough, err);

    if (r < 0)
        return r;
    r = block_open(&block_options, ret_block, err);
    if (r < 0) {
        *ret_why = find_why(name, &block_options, err);
        return r;
    }
    warn_of_probed(&block_options, *ret_block);
    block_set_writeback(*ret_block, !writethrough);
    return 0;
}

struct block *img_open(const struct img_open_options *options)
{
    struct block *block = NULL;
    struct block_name name;
    char *why = NULL;
    struct err err;
    int r;

    if (options->image_opts && options->format) {
        img_error("--image-opts and --format are mutually exclusive");
        return NULL;
    }
    if (options->image_opts && (options->flags & IMG_OPEN_SHARE) &&
        img_name_denies_share(options->name)) {
        img_error("--force-share/-U conflicts with image options");
        return NULL;
    }
    r = img_open_name(options, &name, &err);
    if (r == 0)
        r = open_named(options, &name, &block, &why, &err);
    if (r < 0) {
        img_error("Could not open '%s': %s", options->name, why ? why : err.msg);
        opts_explain(&err);
    }
    free(why);
    block_name_done(&name);
    return r < 0 ? NULL : block;
}

static int name_backing(const char *image_path, const char *text, const char *format,
                        struct block_name *ret_name, struct err *err)
{
    enum block_format known;

    *ret_name = (struct block_name){.path = NULL};
    if (format && img_format_parse(format, &known) < 0)
        return err_set(err, -EINVAL, "Unknown driver '%s'", format);
    return block_name_below(image_path, text, format, ret_name, err);
}

int img_open_backing(const char *image_path, const char *text, const char *format,
                     const struct block_options *options, struct block **ret_block, char **ret_why)
{
    struct block_options block_options = *options;
    struct block_name name;
    struct err err;
    int r = name_backing(image_path, text, format, &name, &err);

    if (r < 0) {
        *ret_why = strdup(err.msg);
    } else {
        block_name_apply(&name, &block_options);
        r = block_open(&block_options, ret_block, &err);
        if (r < 0)
            *ret_why = find_why(&name, &block_options, &err);
    }
    block_name_done(&name);
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
