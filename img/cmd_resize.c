/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minivmm-img resize: a longer or shorter disk.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/image.h"
#include "img/args.h"
#include "img/bitmaps.h"
#include "img/command.h"
#include "img/create_options.h"
#include "img/message.h"
#include "img/open.h"
#include "img/size.h"

enum { OPT_PREALLOCATION = ARGS_OWN, OPT_SHRINK };

/* The size that was asked for: absolute, or with '+' or '-' in front. */
struct change {
    char sign; /* or 0 */
    uint64_t len;
};

static int parse_change(const char *text, struct change *ret_change)
{
    struct opts opts = {0};
    struct err err;
    int r;

    ret_change->sign = *text == '+' || *text == '-' ? *text : '\0';
    ret_change->len = 0;
    r = opts_set(&opts, "size", ret_change->sign ? text + 1 : text, &err);
    if (r == 0)
        r = opts_get_size(&opts, "size", &ret_change->len, &err);
    if (r < 0)
        opts_error(NULL, &err);
    opts_done(&opts);
    return r;
}

static bool new_len(const struct change *change, uint64_t old, uint64_t *ret_len)
{
    uint64_t len = change->len;

    if (change->sign == '+' && !add_u64(old, len, &len))
        return false;
    if (change->sign == '-') {
        if (len >= old)
            return false;
        len = old - len;
    }
    *ret_len = len;
    return len > 0 && len <= INT64_MAX;
}

/* May the disk get this length? Prints why not. */
static bool check(const struct block_info *info, const struct block_resize_options *options)
{
    if (options->len <= info->len && options->prealloc != BLOCK_PREALLOC_OFF) {
        img_error("Preallocation can only be used for growing images");
        return false;
    }
    if (options->len < info->len && !options->shrink) {
        img_error("Use the --shrink option to perform a shrink operation.");
        img_warn("Shrinking an image will delete all data beyond the shrunken image's end. Before "
                 "performing such an operation, make sure there is no important data there.");
        return false;
    }
    if (!is_aligned(options->len, BLOCK_SECTOR_SIZE) && strcmp(info->format, "raw") != 0) {
        img_error("The new size must be a multiple of %u", BLOCK_SECTOR_SIZE);
        return false;
    }
    return true;
}

static int resize(struct block *block, const struct change *change,
                  struct block_resize_options *options, bool quiet)
{
    struct block_info info;
    struct err err;

    block_get_info(block, &info);
    if (!new_len(change, info.len, &options->len)) {
        img_error("New image size must be positive");
        return EXIT_FAILURE;
    }
    if (!check(&info, options))
        return EXIT_FAILURE;
    if (block_resize(block, options, &err) < 0) {
        img_error("%s", err.msg);
        bitmaps_print_hint(&err);
        return EXIT_FAILURE;
    }
    if (!quiet)
        puts("Image resized.");
    return EXIT_SUCCESS;
}

/*
 * The size is the last argument, whatever it looks like: "-512M" is no option there. Returns NULL
 * if there are not enough arguments.
 */
static const char *take_size(struct args *args)
{
    if (args->argc < 3)
        return NULL;
    return args->argv[--args->argc];
}

static int run(struct args *args)
{
    struct img_open_options open;
    struct block_resize_options options = {0};
    const char *size = take_size(args);
    struct change change;
    struct block *block;
    int opt;

    while ((opt = args_next(args)) > 0) {
        if (opt == OPT_SHRINK)
            options.shrink = true;
        if (opt == OPT_PREALLOCATION && prealloc_parse(args->value, &options.prealloc) < 0) {
            img_error("Invalid preallocation mode '%s'", args->value);
            return EXIT_FAILURE;
        }
    }
    if (opt < 0)
        return args->status;
    if (!size)
        return img_usage("Not enough arguments");
    if (args->noperands != 1)
        return img_usage("Expecting image file name and size");
    if (parse_change(size, &change) < 0)
        return EXIT_FAILURE;

    open = args_open_options(args, args->operands[0], IMG_OPEN_WRITABLE);
    block = img_open(&open);
    if (!block)
        return EXIT_FAILURE;
    return img_close(block, open.name, resize(block, &change, &options, args->quiet));
}

static const struct option longs[] = {
    ARGS_LONGS_IMAGE,
    {"preallocation", required_argument, NULL, OPT_PREALLOCATION},
    {"shrink", no_argument, NULL, OPT_SHRINK},
    ARGS_LONG_END,
};

const struct img_command img_resize = {
    .name = "resize",
    .run = run,
    .shorts = "f:hq",
    .longs = longs,
    .synopsis = "[--object objectdef] [--image-opts] [-f fmt] [--preallocation=prealloc] [-q] "
                "[--shrink] filename [+ | -]size",
    .help = "Make the disk longer or shorter: size bytes, or with + or - in front by that much.\n"
            "What is added reads as zero.\n"
            "\n"
            "  --shrink                   losing what is behind the new end is meant\n"
            "  --preallocation=prealloc   of what is added: off, metadata, falloc or full\n",
};
