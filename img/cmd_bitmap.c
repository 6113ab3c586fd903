/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minivmm-img bitmap: the persistent dirty bitmaps of an image.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/image.h"
#include "img/args.h"
#include "img/bitmaps.h"
#include "img/command.h"
#include "img/message.h"
#include "img/open.h"
#include "img/size.h"

enum { OPT_ADD = ARGS_OWN, OPT_REMOVE, OPT_CLEAR, OPT_ENABLE, OPT_DISABLE, OPT_MERGE };

/* What an option stands for, and its name in messages. */
static const struct {
    enum block_bitmap_op op;
    const char *name;
} actions[] = {
    [0] = {BLOCK_BITMAP_ADD, "add"},
    [OPT_REMOVE - OPT_ADD] = {BLOCK_BITMAP_REMOVE, "remove"},
    [OPT_CLEAR - OPT_ADD] = {BLOCK_BITMAP_CLEAR, "clear"},
    [OPT_ENABLE - OPT_ADD] = {BLOCK_BITMAP_ENABLE, "enable"},
    [OPT_DISABLE - OPT_ADD] = {BLOCK_BITMAP_DISABLE, "disable"},
    [OPT_MERGE - OPT_ADD] = {BLOCK_BITMAP_MERGE, "merge"},
};

struct step {
    int opt;
    const char *source; /* OPT_MERGE */
};

struct work {
    const struct args *args;
    struct step *steps; /* in the order of the command line */
    unsigned n;
    bool add;
    bool merge;
    uint64_t granularity;
    const char *source_name; /* -b: the image that --merge takes bitmaps from */
    const char *source_format;
    struct block *image;
    struct block *source; /* NULL: the image itself */
};

/* ---- the command line ------------------------------------------------------------------------ */

static void add_step(struct work *work, int opt, const char *value)
{
    work->steps[work->n++] = (struct step){.opt = opt, .source = value};
    work->add |= opt == OPT_ADD;
    work->merge |= opt == OPT_MERGE;
}

/* EXIT_SUCCESS, or what is wrong was printed. */
static int set_option(struct work *work, int opt, const char *value)
{
    switch (opt) {
    case 'b':
        work->source_name = value;
        break;
    case 'F':
        work->source_format = value;
        break;
    case 'g':
        if (size_arg("granularity", value, 0, INT64_MAX, &work->granularity) < 0)
            return EXIT_FAILURE;
        break;
    default:
        add_step(work, opt, value);
        break;
    }
    return EXIT_SUCCESS;
}

/* What is wrong, or NULL. */
static const char *contradiction(const struct work *work)
{
    if (work->n == 0)
        return "Need at least one of --add, --remove, --clear, --enable, --disable, or --merge";
    if (work->granularity && !work->add)
        return "granularity only supported with --add";
    if (work->source_format && !work->source_name)
        return "-F only supported with -b";
    if (work->source_name && !work->merge)
        return "Merge bitmap source file only supported with --merge";
    if (work->args->noperands != 2)
        return "Expecting filename and bitmap name";
    return NULL;
}

/* ---- what it says ---------------------------------------------------------------------------- */

static int carry_out(const struct work *work, const struct step *step)
{
    const char *name = work->args->operands[1];
    const struct block_bitmap_edit edit = {
        .op = actions[step->opt - OPT_ADD].op,
        .name = name,
        /* What does not fit the field is refused like 1, which is no granularity. */
        .granularity = work->granularity > UINT32_MAX ? 1 : (uint32_t)work->granularity,
        .source = work->source,
        .source_name = step->source,
    };
    struct err err;

    if (block_bitmap_edit(work->image, &edit, &err) == 0)
        return EXIT_SUCCESS;
    img_error("Operation %s on bitmap %s failed: %s", actions[step->opt - OPT_ADD].name, name,
              err.msg);
    bitmaps_print_hint(&err);
    return EXIT_FAILURE;
}

/* Alone: what they show does not matter, and the one may be the other's backing file. */
static int open_images(struct work *work)
{
    const struct img_open_options image = args_open_options(
        work->args, work->args->operands[0], IMG_OPEN_WRITABLE | IMG_OPEN_NO_BACKING);
    const struct img_open_options source = {
        .name = work->source_name,
        .format = work->source_format,
        .flags = IMG_OPEN_NO_BACKING,
    };

    work->image = img_open(&image);
    if (!work->image)
        return EXIT_FAILURE;
    if (!source.name)
        return EXIT_SUCCESS;
    work->source = img_open(&source);
    return work->source ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* What was done before something fails stays, as with qemu-img. */
static int run_steps(struct work *work)
{
    int status = open_images(work);

    for (unsigned i = 0; status == EXIT_SUCCESS && i < work->n; i++)
        status = carry_out(work, &work->steps[i]);
    if (work->image)
        status = img_close(work->image, work->args->operands[0], status);
    (void)block_close(work->source); /* only read */
    return status;
}

static int run_work(struct work *work, struct args *args)
{
    const char *what;
    int opt;

    while ((opt = args_next(args)) != 0) {
        if (opt < 0)
            return args->status;
        if (set_option(work, opt, args->value) != EXIT_SUCCESS)
            return EXIT_FAILURE;
    }
    what = contradiction(work);
    if (what) {
        img_error("%s", what);
        return EXIT_FAILURE;
    }
    return run_steps(work);
}

static int run(struct args *args)
{
    struct work work = {.args = args, .steps = calloc((size_t)args->argc, sizeof(*work.steps))};
    int status = EXIT_FAILURE;

    if (work.steps)
        status = run_work(&work, args);
    else
        img_error("out of memory");
    free(work.steps);
    return status;
}

static const struct option longs[] = {
    ARGS_LONG_HELP,
    ARGS_LONG_OBJECT,
    ARGS_LONG_IMAGE_OPTS,
    {"source-file", required_argument, NULL, 'b'},
    {"source-format", required_argument, NULL, 'F'},
    {"granularity", required_argument, NULL, 'g'},
    {"add", no_argument, NULL, OPT_ADD},
    {"remove", no_argument, NULL, OPT_REMOVE},
    {"clear", no_argument, NULL, OPT_CLEAR},
    {"enable", no_argument, NULL, OPT_ENABLE},
    {"disable", no_argument, NULL, OPT_DISABLE},
    {"merge", required_argument, NULL, OPT_MERGE},
    ARGS_LONG_END,
};

const struct img_command img_bitmap = {
    .name = "bitmap",
    .run = run,
    .shorts = "b:f:F:g:h",
    .longs = longs,
    .synopsis = "(--merge source | --add | --remove | --clear | --enable | --disable)... "
                "[-b source_file [-F source_fmt]] [-g granularity] [--object objectdef] "
                "[--image-opts | -f fmt] filename bitmap",
    .help =
        "Change a persistent dirty bitmap of a qcow2 image: which parts of the disk were written\n"
        "since it was added or cleared. Several changes are made in the order in which they are\n"
        "given.\n"
        "\n"
        "  --add           a new one, which follows what is written\n"
        "  --remove        forget it\n"
        "  --clear         nothing was written\n"
        "  --enable        it follows from now on\n"
        "  --disable       it stays as it is, whatever is written\n"
        "  --merge source  add what another bitmap says\n"
        "  -b source_file  the image that has the other bitmap; this one, if it is not given\n"
        "  -F source_fmt   its format\n"
        "  -g granularity  of --add: the bytes that a bit stands for, a power of two from 512 to\n"
        "                  2G (the cluster size, but 4k at least and 64k at most)\n",
};
