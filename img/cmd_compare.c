/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minivmm-img compare: do two images show the same?
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "img/args.h"
#include "img/command.h"
#include "img/compare.h"
#include "img/message.h"
#include "img/open.h"
#include "img/progress.h"

/* Exit statuses. */
enum { SAME = 0, DIFFERENT = 1, CANNOT_OPEN = 2, CANNOT_TELL = 3, CANNOT_READ = 4 };

struct pair {
    const struct args *args;
    bool strict;
    const char *names[2];
    const char *formats[2];
    struct block *blocks[2];
    uint64_t lens[2];
    struct progress progress;
};

static void PRINTF_LIKE(2, 3) say(const struct pair *pair, const char *fmt, ...)
{
    va_list ap;

    if (pair->args->quiet)
        return;
    va_start(ap, fmt);
    (void)vprintf(fmt, ap); /* main looks after stdout at the end */
    va_end(ap);
}

static int report(struct pair *pair, const char *const names[2],
                  const struct compare_result *result)
{
    if (result->outcome == COMPARE_EQUAL)
        return SAME;
    progress_end(&pair->progress, false);
    switch (result->outcome) {
    case COMPARE_CONTENT:
        say(pair, "Content mismatch at offset %" PRIu64 "!\n", result->off);
        return DIFFERENT;
    case COMPARE_STATUS:
        say(pair, "Strict mode: Offset %" PRIu64 " block status mismatch!\n", result->off);
        return DIFFERENT;
    case COMPARE_NO_STATUS:
        img_error("Sector allocation test failed for %s", names[result->side]);
        return CANNOT_TELL;
    case COMPARE_NO_DATA:
        img_error("Error while reading offset %" PRIu64 " of %s: %s", result->off,
                  names[result->side], strerror(-result->error));
        return CANNOT_READ;
    default:
        return CANNOT_READ;
    }
}

static int compare_part(struct pair *pair, const struct compare_options *options,
                        const char *const names[2])
{
    struct compare_result result;
    struct err err;

    if (compare_run(options, &result, &err) < 0) {
        img_error("%s", err.msg);
        return CANNOT_READ;
    }
    return report(pair, names, &result);
}

/* What the longer one has past the end of the other has to be zeroes. */
static int compare_rest(struct pair *pair)
{
    unsigned longer = pair->lens[0] > pair->lens[1] ? 0 : 1;
    const struct compare_options options = {
        .blocks = {pair->blocks[longer], NULL},
        .from = min_u64(pair->lens[0], pair->lens[1]),
        .to = pair->lens[longer],
        .progress = &pair->progress,
        .progress_len = pair->lens[longer],
    };
    const char *const names[2] = {pair->names[longer], NULL};

    progress_break();
    say(pair, "Warning: Image size mismatch!\n");
    return compare_part(pair, &options, names);
}

static int compare(struct pair *pair)
{
    const struct compare_options options = {
        .blocks = {pair->blocks[0], pair->blocks[1]},
        .to = min_u64(pair->lens[0], pair->lens[1]),
        .strict = pair->strict,
        .progress = &pair->progress,
        .progress_len = max_u64(pair->lens[0], pair->lens[1]),
    };
    int status;

    if (pair->strict && pair->lens[0] != pair->lens[1]) {
        progress_end(&pair->progress, false);
        say(pair, "Strict mode: Image size mismatch!\n");
        return DIFFERENT;
    }
    status = compare_part(pair, &options, pair->names);
    if (status == SAME && pair->lens[0] != pair->lens[1])
        status = compare_rest(pair);
    if (status == SAME) {
        progress_end(&pair->progress, false); /* the last report was of all */
        say(pair, "Images are identical.\n");
    }
    return status;
}

static int open_pair(struct pair *pair)
{
    if (args_check_cache(pair->args) < 0)
        return CANNOT_OPEN;
    for (unsigned i = 0; i < 2; i++) {
        struct img_open_options options = args_open_options(pair->args, pair->names[i], 0);
        struct block_info info;

        options.format = pair->formats[i];
        options.cache = pair->args->src_cache;
        pair->blocks[i] = img_open(&options);
        if (!pair->blocks[i])
            return CANNOT_OPEN;
        block_get_info(pair->blocks[i], &info);
        pair->lens[i] = info.len;
    }
    return SAME;
}

static int run(struct args *args)
{
    struct pair pair = {.args = args};
    int status;
    int opt;

    while ((opt = args_next(args)) > 0) {
        if (opt == 'F')
            pair.formats[1] = args->value;
        else if (opt == 's')
            pair.strict = true;
    }
    if (opt < 0)
        return args->status;
    if (args->noperands != 2)
        return img_usage("Expecting two image file names");
    pair.formats[0] = args->format;
    pair.names[0] = args->operands[0];
    pair.names[1] = args->operands[1];

    progress_start(&pair.progress, args->progress);
    status = open_pair(&pair);
    if (status == SAME)
        status = compare(&pair);
    progress_end(&pair.progress, false);
    for (unsigned i = 0; i < 2; i++)
        (void)block_close(pair.blocks[i]); /* only read */
    return status;
}

static const struct option longs[] = {ARGS_LONGS_IMAGE, ARGS_LONG_SHARE, ARGS_LONG_END};

const struct img_command img_compare = {
    .name = "compare",
    .run = run,
    .shorts = "hf:F:T:pqsU",
    .longs = longs,
    .synopsis = "[--object objectdef] [--image-opts] [-f fmt] [-F fmt] [-T src_cache] [-p] [-q] "
                "[-s] [-U] filename1 filename2",
    .help = "Do two images show the same? Zeroes behind the end of the shorter one do not count.\n"
            "What both have from the same file is not read.\n"
            "\n"
            "  -f fmt, -F fmt   format of the first image, of the second one; probed if not given\n"
            "  -s               strict: lengths and allocation have to be the same too\n"
            "  -T src_cache     none, writeback (default), writethrough, directsync, unsafe\n"
            "  -U               the images may be in use\n"
            "  -p, -q           show the progress; print errors only\n"
            "\n"
            "Exit status: 0 the same, 1 different, 2 an image cannot be opened, 3 its allocation "
            "cannot\n"
            "be read, 4 its data cannot be read.\n",
};
