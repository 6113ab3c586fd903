/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minivmm-img measure: how much space a new image will take.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "img/args.h"
#include "img/command.h"
#include "img/create_options.h"
#include "img/json.h"
#include "img/measure.h"
#include "img/message.h"
#include "img/open.h"
#include "img/size.h"
#include "img/snapshot_name.h"

enum { SIZE = ARGS_OWN };

/* A length that was not given. */
#define NO_SIZE UINT64_MAX

/* block/ puts the path in front of what is wrong; there is none yet. */
#define NO_PATH "new image"

struct measurement {
    const struct args *args;
    const char *snapshot; /* -l */
    uint64_t size;
    struct block *source; /* NULL: a size was given */
    struct create_options options;
    struct block_create_options create;
};

static const char *wrong_operands(const struct measurement *m)
{
    const struct args *args = m->args;

    if (args->noperands > 1)
        return "At most one filename argument is allowed.";
    if (args->noperands == 0 && (args->image_opts || args->format || m->snapshot))
        return "--image-opts, -f, and -l require a filename argument.";
    if (args->noperands == 0 && m->size == NO_SIZE)
        return "Either --size N or one filename must be specified.";
    if (args->noperands == 1 && m->size != NO_SIZE)
        return "--size N cannot be used together with a filename.";
    return NULL;
}

static int open_source(struct measurement *m)
{
    const struct args *args = m->args;
    const struct img_open_options options = args_open_options(args, args->operands[0], 0);

    m->source = img_open(&options);
    if (!m->source)
        return EXIT_FAILURE;
    return m->snapshot ? snapshot_name_show(m->source, m->snapshot) : EXIT_SUCCESS;
}

static int take_options(struct measurement *m, struct err *err)
{
    int r =
        create_options_init(&m->options, m->args->out_format ? m->args->out_format : "raw", err);

    if (r == 0 && m->args->options)
        r = create_options_parse(&m->options, m->args->options, err);
    if (r == 0)
        r = create_options_take(&m->options, &m->create, err);
    m->create.path = NO_PATH;
    m->create.len = m->size;
    if (m->create.backing_file) /* is not opened, so its format does not matter */
        m->create.backing_format = BLOCK_FORMAT_RAW;
    return r;
}

static void print(const struct measurement *m, const struct measure *result)
{
    json_t *object;

    if (!m->args->json) {
        printf("required size: %" PRIu64 "\n", result->required);
        printf("fully allocated size: %" PRIu64 "\n", result->full);
        if (result->has_bitmaps)
            printf("bitmaps size: %" PRIu64 "\n", result->bitmaps);
        return;
    }
    object = json_object();
    json_put(object, "required", json_integer((json_int_t)result->required));
    json_put(object, "fully-allocated", json_integer((json_int_t)result->full));
    if (result->has_bitmaps)
        json_put(object, "bitmaps", json_integer((json_int_t)result->bitmaps));
    json_print(object);
    json_decref(object);
}

static int fail(const struct err *err)
{
    const char *msg = err->msg;

    if (strncmp(msg, NO_PATH ": ", strlen(NO_PATH ": ")) == 0)
        msg += strlen(NO_PATH ": ");
    img_error("%s", msg);
    opts_explain(err);
    return EXIT_FAILURE;
}

static int run_measurement(struct measurement *m)
{
    struct measure result;
    struct err err;
    int status = m->args->noperands > 0 ? open_source(m) : EXIT_SUCCESS;

    if (status != EXIT_SUCCESS)
        return status;
    if (take_options(m, &err) < 0 || measure(&m->create, m->source, &result, &err) < 0)
        return fail(&err);
    print(m, &result);
    return EXIT_SUCCESS;
}

static int run(struct args *args)
{
    struct measurement m = {.args = args, .size = NO_SIZE};
    const char *wrong;
    int status;
    int opt;

    while ((opt = args_next(args)) > 0) {
        if (opt == 'l')
            m.snapshot = args->value;
        else if (size_arg("image size", args->value, 0, INT64_MAX, &m.size) < 0)
            return EXIT_FAILURE;
    }
    if (opt < 0)
        return args->status;
    wrong = wrong_operands(&m);
    if (wrong) {
        img_error("%s", wrong);
        return EXIT_FAILURE;
    }
    status = run_measurement(&m);
    (void)block_close(m.source); /* only read */
    create_options_done(&m.options);
    return status;
}

static const struct option longs[] = {
    ARGS_LONGS_IMAGE, ARGS_LONG_OUTPUT, {"size", required_argument, NULL, SIZE},
    ARGS_LONG_SHARE,  ARGS_LONG_END,
};

const struct img_command img_measure = {
    .name = "measure",
    .run = run,
    .shorts = "hf:l:o:O:U",
    .longs = longs,
    .synopsis = "[--output=ofmt] [-O output_fmt] [-o options] [--size N | [--object objectdef] "
                "[--image-opts] [-f fmt] [-l snapshot_param] filename]",
    .help = "How many bytes the file of a new image will have: for what an image shows, or for a\n"
            "disk of N bytes; and when all of it has been written.\n"
            "\n"
            "  -O output_fmt  of the new image: qcow2 or raw (raw)\n"
            "  -o options     of the new image: key=value,…\n"
            "  --size N       bytes, or with a unit: k, M, G, T, P, E\n"
            "  -f fmt         format of the image; probed if it is not given\n"
            "  -l snapshot    of the image: an id or name, or snapshot.id=…,snapshot.name=…\n"
            "  --output=ofmt  human or json\n"
            "  -U             the image may be in use\n",
};
