/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minivmm-img map: what is where.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/image.h"
#include "img/args.h"
#include "img/command.h"
#include "img/message.h"
#include "img/open.h"
#include "img/shown.h"
#include "img/size.h"

/* A range all of which is the same, and goes on in the file where it begins. */
struct extent {
    uint64_t off;
    uint64_t len;
    struct block_status status;
};

struct map {
    struct block *block;
    const char *name;
    bool json;
};

/* ---- output ---------------------------------------------------------------------------------- */

static const char *word(unsigned flags)
{
    return flags ? "true" : "false";
}

static void print_json(const struct extent *extent, bool last)
{
    const struct block_status *status = &extent->status;

    printf("{ \"start\": %" PRIu64 ", \"length\": %" PRIu64 ", \"depth\": %u, \"present\": %s, "
           "\"zero\": %s, \"data\": %s",
           extent->off, extent->len, status->depth, word(status->flags & BLOCK_STATUS_ALLOCATED),
           word(status->flags & BLOCK_STATUS_ZERO), word(status->flags & BLOCK_STATUS_DATA));
    if (status->flags & BLOCK_STATUS_OFFSET)
        printf(", \"offset\": %" PRIu64, status->host);
    puts(last ? "}]" : "},");
}

static void print_number(uint64_t value)
{
    int len = value ? printf("0x%" PRIx64, value) : printf("0");

    printf("%*s", len < 16 ? 16 - len : 0, "");
}

static int print_human(const struct extent *extent)
{
    unsigned flags = extent->status.flags;
    struct block_details details;

    if (!(flags & BLOCK_STATUS_DATA))
        return 0;
    if (!(flags & BLOCK_STATUS_OFFSET)) {
        img_error("File contains external, encrypted or compressed clusters.");
        return -1;
    }
    if (flags & BLOCK_STATUS_ZERO)
        return 0;
    block_get_details(extent->status.layer, &details);
    print_number(extent->off);
    print_number(extent->len);
    print_number(extent->status.host);
    puts(shown(stdout, details.data_path ? details.data_path : details.path));
    return 0;
}

static int print(const struct map *map, const struct extent *extent, bool last)
{
    if (!map->json)
        return print_human(extent);
    print_json(extent, last);
    return 0;
}

/* ---- extents --------------------------------------------------------------------------------- */

static bool continues(const struct extent *extent, const struct extent *next)
{
    const struct block_status *a = &extent->status;
    const struct block_status *b = &next->status;

    if (extent->len == 0 || a->flags != b->flags || a->depth != b->depth)
        return false;
    return !(a->flags & BLOCK_STATUS_OFFSET) || a->host + extent->len == b->host;
}

/* Make `next` part of what is to be printed, or print that and go on with it. */
static int add(const struct map *map, struct extent *extent, const struct extent *next)
{
    if (next->len == 0)
        return 0;
    if (continues(extent, next)) {
        extent->len += next->len;
        return 0;
    }
    if (extent->len > 0 && print(map, extent, false) < 0)
        return -1;
    *extent = *next;
    return 0;
}

/* Where a file ends inside of a sector, the rest of that is zeroes. Takes it from `extent`. */
static struct extent take_beyond(struct extent *extent)
{
    uint32_t beyond = extent->status.beyond;
    struct extent rest = *extent;

    extent->len -= beyond;
    rest.off += extent->len;
    rest.len = beyond;
    rest.status.host += extent->len;
    rest.status.flags &= ~(unsigned)BLOCK_STATUS_DATA;
    rest.status.flags |= BLOCK_STATUS_ZERO;
    return rest;
}

/* Where in its file a raw image begins; in other formats offsets count from there, as with QEMU. */
static uint64_t begin_of(const struct block *layer)
{
    struct block_details details;

    block_get_details(layer, &details);
    return details.version ? 0 : details.part.off;
}

static int print_extents(const struct map *map, uint64_t off, uint64_t end)
{
    struct extent extent = {.off = off};

    while (off < end) {
        struct extent next = {.off = off};
        struct extent beyond;
        int r = block_get_host_status(map->block, off, end - off, false, &next.status);

        if (r < 0) {
            img_error("Failed to read image metadata: %s", strerror(-r));
            return EXIT_FAILURE;
        }
        next.len = next.status.len;
        off += next.len;
        next.status.host += begin_of(next.status.layer);
        beyond = take_beyond(&next);
        if (add(map, &extent, &next) < 0 || add(map, &extent, &beyond) < 0)
            return EXIT_FAILURE;
    }
    return print(map, &extent, true) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int print_map(const struct map *map, uint64_t off, uint64_t max_len)
{
    struct block_info info;

    if (map->json)
        putchar('[');
    else
        printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
    block_get_info(map->block, &info);
    return print_extents(map, off,
                         max_len < info.len && off < info.len - max_len ? off + max_len : info.len);
}

static int run(struct args *args)
{
    struct map map = {0};
    struct img_open_options open;
    uint64_t off = 0;
    uint64_t max_len = UINT64_MAX;
    int opt;

    while ((opt = args_next(args)) > 0) {
        if (opt == 's' && size_arg("start offset", args->value, 0, INT64_MAX, &off) < 0)
            return EXIT_FAILURE;
        if (opt == 'l' && size_arg("max length", args->value, 0, INT64_MAX, &max_len) < 0)
            return EXIT_FAILURE;
    }
    if (opt < 0)
        return args->status;

    open = args_open_options(args, args->operands[0], 0);
    map.name = open.name;
    map.json = args->json;
    map.block = img_open(&open);
    if (!map.block)
        return EXIT_FAILURE;
    return img_close(map.block, map.name, print_map(&map, off, max_len));
}

static const struct option longs[] = {
    ARGS_LONGS_TELL,
    {"start-offset", required_argument, NULL, 's'},
    {"max-length", required_argument, NULL, 'l'},
    ARGS_LONG_END,
};

const struct img_command img_map = {
    .name = "map",
    .run = run,
    .shorts = "f:s:l:hU",
    .one_image = true,
    .longs = longs,
    .synopsis = "[--object objectdef] [--image-opts] [-f fmt] [--start-offset=offset] "
                "[--max-length=len] [--output=ofmt] [-U] filename",
    .help = "Show which parts of the disk are where: in the image, in one below it, or nowhere.\n"
            "\n"
            "  -s offset      begin there\n"
            "  -l len         look at that much only\n"
            "  --output=ofmt  human: what is data and can be read in a file as it is;\n"
            "                 json: everything\n",
};
