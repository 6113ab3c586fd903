/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minivmm-img rebase: another backing file, or none, for an image.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/image.h"
#include "img/args.h"
#include "img/command.h"
#include "img/message.h"
#include "img/name.h"
#include "img/open.h"
#include "img/progress.h"
#include "img/rebase.h"

struct rebasing {
    const struct args *args;
    const char *name;
    const char *base_name; /* NULL: not given; "": none */
    const char *base_format;
    bool unsafe; /* -u: the name alone is changed */
    enum block_cache src_cache;
    struct block *image;
    struct block *base;
    struct progress progress;
};

static int check_command_line(struct rebasing *rebasing)
{
    const struct args *args = rebasing->args;
    bool writethrough;

    if (!rebasing->unsafe && !rebasing->base_name)
        return img_usage("Must specify backing file (-b) or use unsafe mode (-u)");
    if (args_check_cache(args) < 0 ||
        (args->src_cache &&
         img_cache_parse(args->src_cache, &rebasing->src_cache, &writethrough) < 0))
        return EXIT_FAILURE;
    return EXIT_SUCCESS;
}

static bool has_base(const struct rebasing *rebasing)
{
    return rebasing->base_name && *rebasing->base_name;
}

static int open_image(struct rebasing *rebasing)
{
    const struct args *args = rebasing->args;
    const struct img_open_options options = {
        .name = rebasing->name,
        .image_opts = args->image_opts,
        .format = args->format,
        .flags = IMG_OPEN_WRITABLE | (rebasing->unsafe ? IMG_OPEN_NO_BACKING : 0),
        .cache = args->cache,
    };
    enum block_format format;

    rebasing->image = img_open(&options);
    if (!rebasing->image)
        return EXIT_FAILURE;
    if (rebasing->base_format && img_format_parse(rebasing->base_format, &format) < 0) {
        img_error("Invalid format name: '%s'", rebasing->base_format);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

/* Its name is relative to the image, not to where we are. */
static int open_base(struct rebasing *rebasing)
{
    const struct block_options options = {
        .readonly = true,
        .cache = rebasing->src_cache,
        .flags = IMG_BLOCK_FLAGS | (rebasing->args->share ? BLOCK_OPEN_SHARE : 0),
        .compute_threads = true,
    };
    struct block_details details;
    char *why = NULL;
    int r;

    block_get_details(rebasing->image, &details);
    r = img_open_backing(details.path, rebasing->base_name, rebasing->base_format, &options,
                         &rebasing->base, &why);
    if (r < 0)
        img_error("Could not open new backing file '%s': %s", rebasing->base_name,
                  why ? why : strerror(-r));
    free(why);
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int keep_contents(struct rebasing *rebasing)
{
    const struct rebase_options options = {
        .image = rebasing->image, .base = rebasing->base, .progress = &rebasing->progress};
    struct err err;

    if (rebase_run(&options, &err) == 0)
        return EXIT_SUCCESS;
    img_error("%s", err.msg);
    return EXIT_FAILURE;
}

static int change_name(struct rebasing *rebasing)
{
    const char *name = has_base(rebasing) ? rebasing->base_name : NULL;
    const char *why = NULL;
    struct err err;
    int r;

    if (name && !rebasing->base_format)
        r = -EINVAL;
    else
        r = block_change_backing(rebasing->image, name, name ? rebasing->base_format : NULL, &err);
    if (r == 0)
        return EXIT_SUCCESS;
    if (r == -ENOSPC)
        why = "No space left in the file header";
    else if (r == -EINVAL && name && !rebasing->base_format)
        why = "backing format must be specified";
    img_error("Could not change the backing file to '%s': %s", name ? name : "",
              why ? why : strerror(-r));
    return EXIT_FAILURE;
}

static int rebase(struct rebasing *rebasing)
{
    int status = open_image(rebasing);

    if (status == EXIT_SUCCESS && !rebasing->unsafe && has_base(rebasing))
        status = open_base(rebasing);
    if (status == EXIT_SUCCESS && !rebasing->unsafe)
        status = keep_contents(rebasing);
    if (status == EXIT_SUCCESS)
        status = change_name(rebasing);
    if (rebasing->image)
        status = img_close(rebasing->image, rebasing->name, status);
    (void)block_close(rebasing->base); /* only read */
    return status;
}

static int run(struct args *args)
{
    struct rebasing rebasing = {.args = args};
    int status;
    int opt;

    while ((opt = args_next(args)) > 0) {
        switch (opt) {
        case 'F':
            rebasing.base_format = args->value;
            break;
        case 'b':
            rebasing.base_name = args->value;
            break;
        case 'u':
            rebasing.unsafe = true;
            break;
        }
    }
    if (opt < 0)
        return args->status;
    status = check_command_line(&rebasing);
    if (status != EXIT_SUCCESS)
        return status;
    rebasing.name = args->operands[0];
    progress_start(&rebasing.progress, args->progress);
    status = rebase(&rebasing);
    progress_end(&rebasing.progress, status == EXIT_SUCCESS);
    return status;
}

static const struct option longs[] = {ARGS_LONGS_IMAGE, ARGS_LONG_SHARE, ARGS_LONG_END};

const struct img_command img_rebase = {
    .name = "rebase",
    .run = run,
    .shorts = "hf:F:b:upt:T:qU",
    .one_image = true,
    .longs = longs,
    .synopsis = "[--object objectdef] [--image-opts] [-U] [-q] [-f fmt] [-t cache] [-T src_cache] "
                "[-p] [-u] -b backing_file [-F backing_fmt] filename",
    .help = "Give an image another backing file. The image shows what it showed before: where the\n"
            "backing files differ, that is written into it first. It may be interrupted.\n"
            "\n"
            "  -b backing_file  relative to the folder of the image; '' for none: the image gets\n"
            "                   all that it shows\n"
            "  -F backing_fmt   format of the backing file\n"
            "  -u               only change the name in the image: what it shows may change\n"
            "  -f fmt           format of the image; probed if it is not given\n"
            "  -t, -T cache     of the image and of the backing files: none, writeback (default),\n"
            "                   writethrough, directsync, unsafe\n"
            "  -U               the backing file may be in use\n"
            "  -p, -q           show the progress; print errors only\n",
};
