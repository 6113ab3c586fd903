/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minivmm-img commit: what an image has is written into one below it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/image.h"
#include "img/args.h"
#include "img/chain.h"
#include "img/command.h"
#include "img/message.h"
#include "img/name.h"
#include "img/open.h"
#include "img/progress.h"
#include "img/rate.h"
#include "img/size.h"

struct commit {
    const struct args *args;
    const char *base; /* NULL: the image's own backing file */
    bool keep;        /* -d */
    uint64_t bytes_per_s;

    struct block *block;
    struct progress progress;
    struct rate rate;
};

static void report(void *opaque, uint64_t done, uint64_t len)
{
    struct commit *commit = opaque;

    progress_report(&commit->progress, done, len);
    rate_wait(&commit->rate, block_get_stats(commit->block)->data_read_bytes);
}

static int commit_image(struct commit *commit)
{
    const struct block_commit_options options = {
        .keep = commit->keep,
        .progress = report,
        .opaque = commit,
    };
    struct err err;
    int r;

    rate_start(&commit->rate, commit->bytes_per_s);
    progress_start(&commit->progress, commit->args->progress);
    r = block_commit(commit->block, &options, &err);
    progress_end(&commit->progress, r == 0);
    if (r < 0) {
        img_error("%s", err.msg);
        return EXIT_FAILURE;
    }
    if (!commit->args->quiet)
        puts("Image committed.");
    return EXIT_SUCCESS;
}

/* How far below the image is the one to write to? 0 if that is nowhere; prints why. */
static unsigned find_base(const struct commit *commit, const struct img_open_options *open)
{
    struct block_name name;
    struct err err;
    unsigned depth = 0;
    int r = img_open_name(open, &name, &err);

    if (r == 0)
        r = chain_find(&name, commit->base, &depth, &err);
    block_name_done(&name);
    if (r < 0)
        return 1; /* opening the chain tells best what is wrong with it */
    if (depth > 0)
        return depth;
    if (commit->base)
        img_error("Did not find '%s' in the backing chain of '%s'", commit->base, open->name);
    else
        img_error("Image does not have a backing file");
    return 0;
}

static int run_commit(struct commit *commit)
{
    const struct args *args = commit->args;
    struct img_open_options open = args_open_options(args, args->operands[0], IMG_OPEN_WRITABLE);

    open.cache = args->cache;
    open.write_backing = find_base(commit, &open);
    if (open.write_backing == 0)
        return EXIT_FAILURE;
    commit->block = img_open(&open);
    if (!commit->block)
        return EXIT_FAILURE;
    return img_close(commit->block, open.name, commit_image(commit));
}

static int run(struct args *args)
{
    struct commit commit = {.args = args};
    int opt;

    while ((opt = args_next(args)) > 0) {
        switch (opt) {
        case 'b':
            commit.base = args->value;
            commit.keep = true; /* what is between becomes wrong, so nobody should use the image */
            break;
        case 'd':
            commit.keep = true;
            break;
        case 'r':
            if (size_arg("rate limit", args->value, 0, INT64_MAX, &commit.bytes_per_s) < 0)
                return EXIT_FAILURE;
            break;
        }
    }
    if (opt < 0)
        return args->status;
    if (args_check_cache(args) < 0)
        return EXIT_FAILURE;
    return run_commit(&commit);
}

static const struct option longs[] = {ARGS_LONGS_IMAGE, ARGS_LONG_END};

const struct img_command img_commit = {
    .name = "commit",
    .run = run,
    .shorts = "f:ht:b:dpqr:",
    .one_image = true,
    .longs = longs,
    .synopsis = "[--object objectdef] [--image-opts] [-q] [-f fmt] [-t cache] [-b base] "
                "[-r rate_limit] [-d] [-p] filename",
    .help = "Write what an image has into its backing file, and empty the image.\n"
            "\n"
            "  -b base        into that one of those below it; implies -d\n"
            "  -d             do not empty the image: it is to be removed\n"
            "  -r rate_limit  bytes a second\n"
            "  -t cache       cache mode: writeback, none, writethrough, directsync or unsafe\n"
            "  -p             show progress\n",
};
