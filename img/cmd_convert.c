/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minivmm-img convert: what one or several images show, as a new image.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/image.h"
#include "block/name.h"
#include "img/args.h"
#include "img/bitmaps.h"
#include "img/command.h"
#include "img/copy.h"
#include "img/create_options.h"
#include "img/message.h"
#include "img/name.h"
#include "img/open.h"
#include "img/progress.h"
#include "img/size.h"
#include "img/snapshot_name.h"
#include "img/target.h"

/* qemu-img's limits of -m and -S. */
#define COROUTINES_MAX 16u
#define SPARSE_MAX (16u << 20)

enum {
    TARGET_IMAGE_OPTS = ARGS_OWN,
    TARGET_IS_ZERO,
    SALVAGE,
    BITMAPS,
    SKIP_BROKEN_BITMAPS,
};

struct conversion {
    const struct args *args;
    const char *out_format;
    const char *backing;        /* -B, or from -o */
    const char *backing_format; /* -F */
    const char *snapshot;       /* -l */
    bool sparse_given;          /* -S */
    bool no_create;             /* -n */
    bool target_image_opts;
    bool bitmaps;
    bool skip_broken;

    char **names; /* of the sources */
    unsigned nsources;
    struct copy_source *sources;
    uint64_t len;

    const char *target_name;
    struct block_name target_path;
    struct create_options create_options;
    struct block_create_options create;
    struct block *target;
    struct progress progress;
    struct copy_options copy;
};

static int fail(const struct err *err)
{
    img_error("%s", err->msg);
    return EXIT_FAILURE;
}

/* ---- the command line ------------------------------------------------------------------------ */

static int set_sparse(struct conversion *c, const char *text)
{
    uint64_t size;

    if (size_arg("buffer size for sparse output", text, 0, INT64_MAX, &size) < 0)
        return EXIT_FAILURE;
    if (!is_aligned(size, BLOCK_SECTOR_SIZE) || size > SPARSE_MAX) {
        img_error(
            "Invalid buffer size for sparse output specified. Valid sizes are multiples of %u "
            "up to %u. Select 0 to disable sparse detection (fully allocates output).",
            BLOCK_SECTOR_SIZE, SPARSE_MAX);
        return EXIT_FAILURE;
    }
    c->copy.min_zeroes = size;
    c->sparse_given = true;
    return EXIT_SUCCESS;
}

static int set_coroutines(struct conversion *c, const char *text)
{
    char *end;
    long n;

    errno = 0;
    n = strtol(text, &end, 0);
    if (errno || end == text || *end || n < 1 || n > (long)COROUTINES_MAX) {
        img_error("Invalid number of coroutines. Allowed number of coroutines is between 1 and %u",
                  COROUTINES_MAX);
        return EXIT_FAILURE;
    }
    c->copy.requests = (unsigned)n;
    return EXIT_SUCCESS;
}

static int set_rate(struct conversion *c, const char *text)
{
    return size_arg("rate limit", text, 0, INT64_MAX, &c->copy.rate) < 0 ? EXIT_FAILURE
                                                                         : EXIT_SUCCESS;
}

/* One option. EXIT_SUCCESS, or what is wrong with it was printed. */
static int set_option(struct conversion *c, int opt, const char *value)
{
    switch (opt) {
    case 'B':
        c->backing = value;
        break;
    case 'C':
        c->copy.offload = true;
        break;
    case 'c':
        c->copy.compress = true;
        break;
    case 'F':
        c->backing_format = value;
        break;
    case 'l':
        c->snapshot = value;
        break;
    case 'm':
        return set_coroutines(c, value);
    case 'n':
        c->no_create = true;
        break;
    case 'r':
        return set_rate(c, value);
    case 'S':
        return set_sparse(c, value);
    case 'W':
        c->copy.out_of_order = true;
        break;
    case TARGET_IMAGE_OPTS:
        c->target_image_opts = true;
        break;
    case TARGET_IS_ZERO:
        c->copy.target_is_zero = true;
        break;
    case SALVAGE:
        c->copy.salvage = true;
        break;
    case BITMAPS:
        c->bitmaps = true;
        break;
    case SKIP_BROKEN_BITMAPS:
        c->skip_broken = true;
        break;
    }
    return EXIT_SUCCESS;
}

/* Do the options go together? What is wrong, or NULL. */
static const char *contradiction(const struct conversion *c)
{
    if (c->skip_broken && !c->bitmaps)
        return "Use of --skip-broken-bitmaps requires --bitmaps";
    if (c->copy.compress && c->copy.offload)
        return "Cannot enable copy offloading when -c is used";
    if (c->sparse_given && c->copy.offload)
        return "Cannot enable copy offloading when -S is used";
    if (c->copy.salvage && c->copy.offload)
        return "Cannot use copy offloading in salvaging mode";
    if (c->target_image_opts && !c->no_create)
        return "--target-image-opts requires use of -n flag";
    if (c->no_create && c->args->options)
        return "-o has no effect when skipping image creation";
    if (c->copy.target_is_zero && !c->no_create)
        return "--target-is-zero requires use of -n flag";
    if (c->args->noperands < 2)
        return "Must specify image file name";
    return NULL;
}

/* ---- sources --------------------------------------------------------------------------------- */

static int open_source(struct conversion *c, unsigned i)
{
    struct img_open_options options = args_open_options(c->args, c->names[i], 0);

    options.cache = c->args->src_cache;
    c->sources[i].block = img_open(&options);
    return c->sources[i].block ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int show_snapshot(struct conversion *c)
{
    if (!c->snapshot)
        return EXIT_SUCCESS;
    if (c->nsources > 1) {
        img_error("No support for concatenating multiple snapshot");
        return EXIT_FAILURE;
    }
    return snapshot_name_show(c->sources[0].block, c->snapshot);
}

static int open_sources(struct conversion *c)
{
    int status = EXIT_SUCCESS;

    c->sources = calloc(c->nsources, sizeof(*c->sources));
    if (!c->sources) {
        img_error("out of memory");
        return EXIT_FAILURE;
    }
    for (unsigned i = 0; status == EXIT_SUCCESS && i < c->nsources; i++)
        status = open_source(c, i);
    if (status == EXIT_SUCCESS)
        status = show_snapshot(c);
    for (unsigned i = 0; status == EXIT_SUCCESS && i < c->nsources; i++) {
        struct block_info info;

        block_get_info(c->sources[i].block, &info);
        c->sources[i].len = info.len;
        if (info.len > INT64_MAX - c->len) {
            img_error("the images together are longer than any image can be");
            status = EXIT_FAILURE;
        }
        c->len += info.len;
    }
    return status;
}

/* ---- the target ------------------------------------------------------------------------------ */

static int set_create_options(struct conversion *c, struct err *err)
{
    struct create_options *options = &c->create_options;
    int r = create_options_init(options, c->out_format, err);

    if (r == 0 && c->args->options)
        r = create_options_parse(options, c->args->options, err);
    if (r == 0)
        r = create_options_set_len(options, c->len, err);
    if (r == 0)
        r = create_options_set_backing(options, c->backing, c->backing_format, err);
    if (r == 0)
        c->backing = opts_peek(&options->opts, "backing_file");
    return r;
}

static bool is_preallocated(const struct conversion *c)
{
    const char *how = opts_peek(&c->create_options.opts, "preallocation");

    return how && strcmp(how, "off") != 0;
}

/* The same for what -o and the sources have brought. */
static const char *contradiction_with_images(const struct conversion *c)
{
    if (c->copy.target_is_zero && c->backing)
        return "Cannot use --target-is-zero when the destination image has a backing file";
    if (c->nsources > 1 && c->backing)
        return "Having a backing file for the target makes no sense when concatenating multiple "
               "input images";
    if (c->backing && !c->no_create && !opts_peek(&c->create_options.opts, "backing_fmt"))
        return "Use of backing file requires explicit backing format";
    if (c->copy.compress && !c->no_create && c->create_options.format != BLOCK_FORMAT_QCOW2)
        return "Compression not supported for this file format";
    if (c->copy.compress && opts_peek(&c->create_options.opts, "data_file"))
        return "Compression is not supported with an external data file";
    if (c->copy.compress && is_preallocated(c))
        return "Compression and preallocation not supported at the same time";
    if (c->bitmaps && c->nsources > 1)
        return "Copying bitmaps only possible with single source";
    return NULL;
}

/* Nothing that is to be written may be read for it. */
static int check_outputs(const struct conversion *c, const char *path, const char *data_name,
                         struct err *err)
{
    const struct target_files files = {path, data_name};
    int r = 0;

    for (unsigned i = 0; r == 0 && i < c->nsources; i++)
        r = target_check_input(&files, c->sources[i].block, err);
    if (r == 0 && !c->no_create)
        r = target_check_backing(&files, c->create.backing_file, c->create.backing_format, err);
    return r;
}

static int create_target(struct conversion *c)
{
    char doing[32];
    struct err err;
    int r = img_name_parse_new(c->target_name, &c->target_path, &err);

    if (r < 0)
        return fail(&err);
    r = create_options_take(&c->create_options, &c->create, &err);
    if (r == 0)
        r = img_name_check_new(c->target_path.path, c->out_format, &err);
    if (r == 0) {
        c->create.path = c->target_path.path;
        if (check_outputs(c, c->create.path, c->create.data_file, &err) < 0)
            return fail(&err);
        c->create.backing_unchecked = true; /* opening the target says best what is wrong with it */
        r = block_create(&c->create, &err);
    }
    if (r < 0) {
        (void)snprintf(doing, sizeof(doing), "converting %s", c->out_format);
        create_options_error(c->target_name, doing, &err);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

/* Before it is opened, which may repair it. What is wrong with its name, opening tells. */
static int check_old_target(const struct conversion *c, const struct img_open_options *options)
{
    struct block_name name;
    struct err err;
    int r = 0;

    if (img_open_name(options, &name, &err) == 0)
        r = check_outputs(c, name.path, NULL, &err);
    block_name_done(&name);
    return r < 0 ? fail(&err) : EXIT_SUCCESS;
}

/* Opening has not written to its data file. */
static int check_old_data_file(const struct conversion *c)
{
    struct block_details details;
    struct err err;

    block_get_details(c->target, &details);
    return check_outputs(c, details.path, details.data_name, &err) < 0 ? fail(&err) : EXIT_SUCCESS;
}

static int open_target(struct conversion *c)
{
    const struct img_open_options options = {
        .name = c->target_name,
        .image_opts = c->target_image_opts,
        .format = c->target_image_opts ? NULL : c->out_format,
        .flags = IMG_OPEN_WRITABLE,
        .cache = c->args->cache ? c->args->cache : "unsafe",
    };
    int status = c->no_create ? check_old_target(c, &options) : EXIT_SUCCESS;

    if (status != EXIT_SUCCESS)
        return status;
    c->target = img_open(&options);
    if (!c->target)
        return EXIT_FAILURE;
    return c->no_create ? check_old_data_file(c) : EXIT_SUCCESS;
}

/* Does the target, which is open now, allow what the options want? */
static int check_target(struct conversion *c)
{
    struct block_details details;
    struct block_info info;

    block_get_info(c->target, &info);
    block_get_details(c->target, &details);
    if (c->copy.compress && strcmp(info.format, "qcow2") != 0) {
        img_error("Compression not supported for this file format");
        return EXIT_FAILURE;
    }
    if (c->copy.compress && details.data_name) {
        img_error("Compression is not supported with an external data file");
        return EXIT_FAILURE;
    }
    if (info.len < c->len) {
        img_error("output file is smaller than input file");
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

static uint64_t backing_len(const struct conversion *c)
{
    struct block_details details;
    struct block_info info;

    block_get_details(c->target, &details);
    if (c->no_create || !details.backing)
        return UINT64_MAX;
    block_get_info(details.backing, &info);
    return info.len;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static void say_unreadable(uint64_t off, int error, bool status)
{
    img_warn("error while reading %soffset %llu: %s", status ? "block status at " : "",
             (unsigned long long)off, strerror(-error));
}

static int copy_all(struct conversion *c)
{
    bool made = !c->no_create && !c->backing;
    struct err err;

    c->copy.sources = c->sources;
    c->copy.nsources = c->nsources;
    c->copy.target = c->target;
    c->copy.target_has_backing = c->backing;
    c->copy.backing_len = backing_len(c);
    c->copy.target_is_zero = target_is_zero(c->target, made, c->copy.target_is_zero);
    c->copy.unreadable = c->args->quiet ? NULL : say_unreadable;
    c->copy.progress = &c->progress;
    return copy_run(&c->copy, &err) < 0 ? fail(&err) : EXIT_SUCCESS;
}

/* Whatever ends this from here on: no half-written image is left without a word. */
static int take_care(const struct conversion *c, const char *path, const char *data_name)
{
    char *data_path = NULL;
    struct err err;

    if (data_name && block_name_resolve(path, data_name, &data_path, &err) < 0)
        return fail(&err);
    target_begin(path, data_path, !c->no_create, copy_position);
    free(data_path);
    return EXIT_SUCCESS;
}

static int take_care_of_old(const struct conversion *c)
{
    struct block_details details;

    block_get_details(c->target, &details);
    return take_care(c, details.path, details.data_name);
}

static int fill_target(struct conversion *c)
{
    int status = EXIT_SUCCESS;

    if (!c->no_create)
        status = create_target(c);
    if (status == EXIT_SUCCESS && !c->no_create)
        status = take_care(c, c->create.path, c->create.data_file);
    if (status == EXIT_SUCCESS)
        status = open_target(c);
    if (status == EXIT_SUCCESS && c->bitmaps)
        status = bitmaps_check_target(c->target);
    if (status == EXIT_SUCCESS)
        status = check_target(c);
    if (status == EXIT_SUCCESS && c->no_create)
        status = take_care_of_old(c);
    if (status == EXIT_SUCCESS)
        status = copy_all(c);
    if (status == EXIT_SUCCESS && c->bitmaps)
        status = bitmaps_copy(c->sources[0].block, c->target, c->skip_broken);
    if (c->target)
        status = img_close(c->target, c->target_name, status);
    target_end(status == EXIT_SUCCESS);
    return status;
}

static int convert(struct conversion *c)
{
    const char *what;
    struct err err;
    int status = open_sources(c);

    if (status != EXIT_SUCCESS)
        return status;
    if (!c->no_create && set_create_options(c, &err) < 0)
        return fail(&err);
    what = contradiction_with_images(c);
    if (what) {
        img_error("%s", what);
        return EXIT_FAILURE;
    }
    if (c->bitmaps)
        status = bitmaps_check_source(c->sources[0].block, c->skip_broken);
    return status == EXIT_SUCCESS ? fill_target(c) : status;
}

static int convert_with_progress(struct conversion *c)
{
    int status;

    if (args_check_cache(c->args) < 0)
        return EXIT_FAILURE;
    progress_start(&c->progress, c->args->progress);
    status = convert(c);
    progress_end(&c->progress, status == EXIT_SUCCESS);
    for (unsigned i = 0; c->sources && i < c->nsources; i++)
        (void)block_close(c->sources[i].block); /* only read */
    free(c->sources);
    create_options_done(&c->create_options);
    block_name_done(&c->target_path);
    return status;
}

static int print_options(const struct conversion *c)
{
    enum block_format format;
    struct err err;

    if (create_options_format(c->out_format, &format, &err) < 0)
        return fail(&err);
    create_options_help(format, c->args->noperands > 1);
    return EXIT_SUCCESS;
}

static int run(struct args *args)
{
    struct conversion c = {.args = args, .copy.min_zeroes = COPY_MIN_ZEROES};
    const char *what;
    int opt;

    while ((opt = args_next(args)) > 0)
        if (set_option(&c, opt, args->value) != EXIT_SUCCESS)
            return EXIT_FAILURE;
    if (opt < 0)
        return args->status;
    c.out_format = args->out_format ? args->out_format : "raw";
    if (args_options_help(args))
        return print_options(&c);
    what = contradiction(&c);
    if (what) {
        img_error("%s", what);
        return EXIT_FAILURE;
    }
    c.names = args->operands;
    c.nsources = (unsigned)args->noperands - 1;
    c.target_name = args->operands[c.nsources];
    return convert_with_progress(&c);
}

static const struct option longs[] = {
    ARGS_LONGS_IMAGE,
    ARGS_LONG_SHARE,
    {"target-image-opts", no_argument, NULL, TARGET_IMAGE_OPTS},
    {"target-is-zero", no_argument, NULL, TARGET_IS_ZERO},
    {"salvage", no_argument, NULL, SALVAGE},
    {"bitmaps", no_argument, NULL, BITMAPS},
    {"skip-broken-bitmaps", no_argument, NULL, SKIP_BROKEN_BITMAPS},
    ARGS_LONG_END,
};

const struct img_command img_convert = {
    .name = "convert",
    .run = run,
    .shorts = "hf:O:B:CcF:o:l:S:pt:T:nm:WUr:q",
    .longs = longs,
    .synopsis =
        "[--object objectdef] [--image-opts] [--target-image-opts] [--target-is-zero] [--bitmaps "
        "[--skip-broken-bitmaps]] [-U] [-C] [-c] [-p] [-q] [-n] [-f fmt] [-t cache] [-T src_cache] "
        "[-O output_fmt] "
        "[-B backing_file [-F backing_fmt]] [-o options] [-l snapshot_param] [-S sparse_size] "
        "[-r rate_limit] [-m num_coroutines] [-W] [--salvage] filename [filename2 [...]] "
        "output_filename",
    .help =
        "Make an image that shows what another one shows, or several behind each other.\n"
        "Only what is allocated is read, and zeroes are not written as data.\n"
        "\n"
        "  -f fmt           format of the sources; probed if it is not given\n"
        "  -O output_fmt    qcow2 or raw (raw)\n"
        "  -o options       of the new image: key=value,…; -o help lists them\n"
        "  -c               compress (qcow2)\n"
        "  -B backing_file  the new image's backing file: what the source itself does not have is\n"
        "                   not copied\n"
        "  -F backing_fmt   its format\n"
        "  -S sparse_size   bytes of zeroes that are left out (4k); 0: everything is written\n"
        "  -n               the target is there already\n"
        "  --target-is-zero and reads as zero all over\n"
        "  -l snapshot      of the source: an id or name, or snapshot.id=…,snapshot.name=…\n"
        "  -m number        requests in flight, 1 to 16; by default as many as are of use\n"
        "  -W               write in any order\n"
        "  -C               let the host copy data as it is, where it can: shared, if the file\n"
        "                   system shares, and without looking for zeroes in it\n"
        "  -r rate_limit    bytes per second\n"
        "  -t, -T cache     of the target (unsafe) and the sources (writeback): none, writeback,\n"
        "                   writethrough, directsync, unsafe\n"
        "  --bitmaps        copy dirty bitmaps, too; --skip-broken-bitmaps: but for those in use\n"
        "  --salvage        write zeroes for what cannot be read\n"
        "  -U               sources may be in use\n"
        "  -p, -q           show the progress; print errors only\n",
};
