/* SPDX-License-Identifier: Apache-2.0 */
#include "img/bitmaps.h"
#include "img/message.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

void bitmaps_print_hint(const struct err *err)
{
    if (err->code == -ESTALE)
        fputs("Try block-dirty-bitmap-remove to delete this bitmap from disk\n", stderr);
}

static bool can_have_bitmaps(const struct block *block)
{
    struct block_details details;

    block_get_details(block, &details);
    return details.version >= 3; /* of qcow2; there is no other format */
}

static int list(struct block *block, struct block_bitmap **ret_list, unsigned *ret_n)
{
    struct err err;

    if (block_bitmap_list(block, ret_list, ret_n, &err) == 0)
        return EXIT_SUCCESS;
    img_error("%s", err.msg);
    return EXIT_FAILURE;
}

/* qemu-img looks at the last one first. */
int bitmaps_check_source(struct block *source, bool skip_broken)
{
    struct block_bitmap *bitmaps;
    int status = EXIT_SUCCESS;
    unsigned n;

    if (!can_have_bitmaps(source)) {
        img_error("Source lacks bitmap support");
        return EXIT_FAILURE;
    }
    if (list(source, &bitmaps, &n) != EXIT_SUCCESS)
        return EXIT_FAILURE;
    for (unsigned i = n; i > 0 && status == EXIT_SUCCESS && !skip_broken; i--) {
        if (!bitmaps[i - 1].in_use)
            continue;
        img_error("Cannot copy inconsistent bitmap '%s'", bitmaps[i - 1].name);
        fputs("Try --skip-broken-bitmaps, or use 'qemu-img bitmap --remove' to delete it\n",
              stderr);
        status = EXIT_FAILURE;
    }
    block_bitmap_list_free(bitmaps, n);
    return status;
}

int bitmaps_check_target(const struct block *target)
{
    struct block_info info;

    if (can_have_bitmaps(target))
        return EXIT_SUCCESS;
    block_get_info(target, &info);
    img_error("Format driver '%s' does not support bitmaps", info.format);
    return EXIT_FAILURE;
}

static int copy_one(struct block *source, struct block *target, const struct block_bitmap *bitmap)
{
    const struct block_bitmap_edit edit = {
        .op = BLOCK_BITMAP_ADD,
        .name = bitmap->name,
        .granularity = bitmap->granularity,
        .disabled = !bitmap->follows,
        .source = source,
        .source_name = bitmap->name,
    };
    struct err err;
    int r = block_bitmap_edit(target, &edit, &err);

    if (r == 0)
        return EXIT_SUCCESS;
    img_error("Failed to %s bitmap %s: %s", r == -ERANGE ? "populate" : "create", bitmap->name,
              err.msg);
    return EXIT_FAILURE;
}

int bitmaps_copy(struct block *source, struct block *target, bool skip_broken)
{
    struct block_bitmap *bitmaps;
    int status;
    unsigned n;

    if (list(source, &bitmaps, &n) != EXIT_SUCCESS)
        return EXIT_FAILURE;
    for (unsigned i = n; i > 0 && skip_broken; i--)
        if (bitmaps[i - 1].in_use)
            img_warn("Skipping inconsistent bitmap '%s'", bitmaps[i - 1].name);
    status = EXIT_SUCCESS;
    for (unsigned i = 0; i < n && status == EXIT_SUCCESS; i++)
        if (!bitmaps[i].in_use)
            status = copy_one(source, target, &bitmaps[i]);
    block_bitmap_list_free(bitmaps, n);
    return status;
}
