/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minivmm-img create: a new image.
 */
#include <errno.h>
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
#include "img/size.h"
#include "img/target.h"

struct creation {
    const struct args *args;
    const char *name; /* of the new image, as it was given */
    struct block_name path;
    bool has_len; /* a size was given as operand */
    uint64_t len;
    const char *backing;
    const char *backing_format;
    bool unchecked; /* -u */
    struct create_options options;
    struct block_create_options create;
};

static int fail(const struct creation *c, const struct err *err)
{
    create_options_error(c->name, NULL, err);
    return EXIT_FAILURE;
}

/* ---- options --------------------------------------------------------------------------------- */

static int set_backing(struct creation *c, struct err *err)
{
    int r = create_options_set_backing(&c->options, c->backing, c->backing_format, err);

    if (r < 0)
        return r;
    c->backing = opts_peek(&c->options.opts, "backing_file");
    c->backing_format = opts_peek(&c->options.opts, "backing_fmt");
    if (c->backing && !*c->backing)
        return err_set(err, -EINVAL, "Expected backing file name, got empty string");
    if (c->backing && strcmp(c->backing, c->name) == 0)
        return err_set(err, -EINVAL,
                       "Error: Trying to create an image with the same filename as the backing "
                       "file");
    return 0;
}

static int set_options(struct creation *c, struct err *err)
{
    int r = create_options_init(&c->options, c->args->format ? c->args->format : "raw", err);

    if (r == 0)
        r = img_name_parse_new(c->name, &c->path, err);
    if (r == 0 && c->args->options)
        r = create_options_parse(&c->options, c->args->options, err);
    if (r == 0)
        r = set_backing(c, err);
    if (r == 0 && c->has_len && opts_peek(&c->options.opts, "size"))
        r = err_set(err, -EINVAL, "The image size must be specified only once");
    if (r == 0 && c->has_len)
        r = create_options_set_len(&c->options, c->len, err);
    return r;
}

/* ---- the backing file ------------------------------------------------------------------------ */

/* The disk becomes as long as the backing file's, unless a size was given. */
static int use_backing(struct creation *c, const struct block_info *info, struct err *err)
{
    if (!c->backing_format)
        return err_set(err, -EINVAL, "Backing file specified without backing format");
    if (opts_peek(&c->options.opts, "size"))
        return 0;
    return create_options_set_len(&c->options, info->len, err);
}

/*
 * Only its size is wanted, and whether there is an image: so it may be in use. Prints what is
 * wrong, and is < 0 then.
 */
static int open_backing(const struct creation *c, struct block **ret_backing)
{
    struct block_options options = {
        .readonly = true,
        .flags = BLOCK_OPEN_SHARE | IMG_BLOCK_FLAGS,
    };
    char *why = NULL;
    int r =
        img_open_backing(c->path.path, c->backing, c->backing_format, &options, ret_backing, &why);

    if (r < 0)
        img_error("%s: %s\nCould not open backing image.", c->name, why ? why : strerror(-r));
    free(why);
    return r;
}

static int look_at_backing(struct creation *c)
{
    struct block *backing = NULL;
    struct block_info info;
    struct err err;
    int r;

    r = open_backing(c, &backing);
    if (r < 0)
        return r;
    block_get_info(backing, &info);
    r = use_backing(c, &info, &err);
    if (r < 0) {
        fail(c, &err);
        if (!c->backing_format)
            fprintf(stderr, "Detected format of %s.", info.format);
    }
    (void)block_close(backing); /* only read */
    return r;
}

/* What the new image is to be read with must not be emptied for it. */
static int check_outputs(const struct creation *c, struct err *err)
{
    const struct target_files files = {c->create.path, c->create.data_file};

    return target_check_backing(&files, c->create.backing_file, c->create.backing_format, err);
}

/* ---- all of it ------------------------------------------------------------------------------- */

static int create(struct creation *c)
{
    struct err err;
    int r = set_options(c, &err);

    if (r == 0 && c->backing && !c->unchecked && look_at_backing(c) < 0)
        return EXIT_FAILURE;
    if (r == 0 && c->backing && !c->backing_format)
        r = err_set(&err, -EINVAL, "Backing file specified without backing format");
    if (r == 0 && !opts_peek(&c->options.opts, "size"))
        r = err_set(&err, -EINVAL, "Image creation needs a size parameter");
    if (r < 0)
        return fail(c, &err);

    if (!c->args->quiet)
        create_options_print(&c->options, c->name);
    r = create_options_take(&c->options, &c->create, &err);
    if (r == 0)
        r = img_name_check_new(c->path.path, c->options.format_name, &err);
    if (r == 0) {
        c->create.path = c->path.path;
        r = check_outputs(c, &err);
    }
    if (r == 0) {
        c->create.backing_unchecked = true; /* it was looked at */
        r = block_create(&c->create, &err);
    }
    return r < 0 ? fail(c, &err) : EXIT_SUCCESS;
}

static int take_operands(struct creation *c)
{
    if (c->args->noperands < 1)
        return img_usage("Expecting image file name");
    c->name = c->args->operands[0];
    if (c->args->noperands > 1) {
        if (size_arg("image size", c->args->operands[1], 0, INT64_MAX, &c->len) < 0)
            return EXIT_FAILURE;
        c->has_len = true;
    }
    if (c->args->noperands > 2)
        return img_usage("Unexpected argument: %s", c->args->operands[2]);
    return EXIT_SUCCESS;
}

/* -o help; the file's name decides whether there is anything to say about the file. */
static int print_options(const struct args *args)
{
    const char *name = args->format ? args->format : "raw";
    struct block_name path = {0};
    enum block_format format;
    struct err err;
    int r = create_options_format(name, &format, &err);

    if (r == 0 && args->noperands > 0)
        r = img_name_parse(args->operands[0], false, &path, &err);
    if (r == 0)
        create_options_help(format, args->noperands > 0);
    else
        img_error("%s", err.msg);
    block_name_done(&path);
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int run(struct args *args)
{
    struct creation c = {.args = args};
    int status;
    int opt;

    while ((opt = args_next(args)) > 0) {
        switch (opt) {
        case 'F':
            c.backing_format = args->value;
            break;
        case 'b':
            c.backing = args->value;
            break;
        case 'u':
            c.unchecked = true;
            break;
        }
    }
    if (opt < 0)
        return args->status;
    if (args_options_help(args))
        return print_options(args);
    status = take_operands(&c);
    if (status == EXIT_SUCCESS)
        status = create(&c);
    create_options_done(&c.options);
    block_name_done(&c.path);
    return status;
}

static const struct option longs[] = {ARGS_LONG_HELP, ARGS_LONG_OBJECT, ARGS_LONG_END};

const struct img_command img_create = {
    .name = "create",
    .run = run,
    .shorts = "F:b:f:ho:qu",
    .longs = longs,
    .synopsis = "[--object objectdef] [-q] [-f fmt] [-b backing_file [-F backing_fmt]] [-u] "
                "[-o options] filename [size]",
    .help =
        "Make a new image. What filename named before is replaced, unless it is in use.\n"
        "\n"
        "  -f fmt           qcow2 or raw (raw)\n"
        "  -b backing_file  what the new image does not have is read from there; relative to the\n"
        "                   folder of the new image\n"
        "  -F backing_fmt   the format of the backing file\n"
        "  -u               do not look at the backing file\n"
        "  -o options       key=value,…; -o help lists them\n"
        "  -q               print errors only\n"
        "  size             bytes, or with a unit: k, M, G, T, P, E; by default that of the\n"
        "                   backing file\n",
};
