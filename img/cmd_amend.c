/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minivmm-img amend: changing what an image was made with.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/image.h"
#include "img/args.h"
#include "img/command.h"
#include "img/create_options.h"
#include "img/message.h"
#include "img/name.h"
#include "img/open.h"
#include "img/progress.h"

static int refuse_format(const char *format)
{
    img_error("Format driver '%s' does not support option amendment", format);
    return EXIT_FAILURE;
}

/* Refuse a format that was named, unless it is qcow2, in the words for whether QEMU has it. */
static int check_format(const char *format)
{
    if (strcmp(format, "qcow2") == 0)
        return EXIT_SUCCESS;
    if (strcmp(format, "raw") == 0 || img_format_is_foreign(format))
        return refuse_format(format);
    img_error("Unknown file format '%s'", format);
    return EXIT_FAILURE;
}

/* What is wrong with -o, and a word about keys that create has. */
static int parse_error(const struct create_options *options, const struct err *err)
{
    bool only_create = false;

    if (strncmp(err->msg, "Invalid parameter", strlen("Invalid parameter")) == 0)
        for (size_t i = 0; i < options->opts.n; i++)
            only_create = only_create || create_options_only_create(options->opts.list[i].key);
    opts_error(NULL, err);
    if (only_create)
        fputs("This option is only supported for image creation\n", stderr);
    return EXIT_FAILURE;
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Saying again what the image says is fine. */
static bool changes_backing(const struct opts *opts, const struct block *block)
{
    const char *name = opts_peek(opts, "backing_file");
    const char *format = opts_peek(opts, "backing_fmt");
    struct block_details details;

    block_get_details(block, &details);
    return (name || format) &&
           (!same_text(name, details.backing_name) || !same_text(format, details.backing_format));
}

static int amend_image(const struct args *args, struct create_options *options, struct block *block)
{
    struct block_amend_options amend;
    struct progress progress;
    struct err err;
    int r;

    if (create_options_parse(options, args->options, &err) < 0)
        return parse_error(options, &err);
    if (changes_backing(&options->opts, block)) {
        img_error("Cannot amend the backing file");
        fprintf(stderr, "You can use '%s rebase' instead.\n", img_program);
        return EXIT_FAILURE;
    }
    progress_start(&progress, args->progress);
    r = create_options_take_amend(options, &amend, &err);
    if (r == 0)
        r = block_amend(block, &amend, &err);
    progress_end(&progress, r == 0);
    if (r < 0)
        img_error("%s", err.msg);
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int amend(const struct args *args, struct block *block)
{
    struct create_options options = {.format = BLOCK_FORMAT_QCOW2, .amend = true};
    struct block_info info;
    int status;

    block_get_info(block, &info);
    if (strcmp(info.format, "qcow2") != 0)
        return refuse_format(info.format);
    if (args_options_help(args)) {
        create_options_help_amend();
        return EXIT_SUCCESS;
    }
    status = amend_image(args, &options, block);
    create_options_done(&options);
    return status;
}

static int run_amend(const struct args *args)
{
    struct img_open_options open = args_open_options(args, args->operands[0], IMG_OPEN_WRITABLE);
    struct block *block;

    open.cache = args->cache;
    block = img_open(&open);
    return block ? img_close(block, open.name, amend(args, block)) : EXIT_FAILURE;
}

enum { OPT_FORCE = ARGS_OWN };

static int run(struct args *args)
{
    int opt;

    do
        opt = args_next(args); /* --force is for keys of encrypted images */
    while (opt > 0);
    if (opt < 0)
        return args->status;
    if (!args->options)
        return img_usage("Must specify options (-o)");
    if (args->format && args_options_help(args)) {
        int status = check_format(args->format);

        if (status == EXIT_SUCCESS)
            create_options_help_amend();
        return status;
    }
    if (args->noperands != 1) {
        img_error("Expecting one image file name");
        return EXIT_FAILURE;
    }
    if (args_check_cache(args) < 0)
        return EXIT_FAILURE;
    return run_amend(args);
}

static const struct option longs[] = {
    ARGS_LONGS_IMAGE,
    {"force", no_argument, NULL, OPT_FORCE},
    ARGS_LONG_END,
};

const struct img_command img_amend = {
    .name = "amend",
    .run = run,
    .shorts = "f:ho:pqt:",
    .longs = longs,
    .synopsis = "[--object objectdef] [--image-opts] [-p] [-q] [-f fmt] [-t cache] [--force] "
                "-o options filename",
    .help = "Change what a qcow2 image was made with.\n"
            "\n"
            "  -o options  key=value,…; -o help lists them\n"
            "  -t cache    cache mode: writeback, none, writethrough, directsync or unsafe\n"
            "  -p          show progress\n"
            "  --force     taken and ignored: it is for encrypted images\n",
};
