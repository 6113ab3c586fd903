/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dirty bitmaps of hostile qcow2 images: listed, added, removed, changed and merged, followed by
 * writes and other lengths of the disk (the input: hostile_image.h).
 */
#include <stdio.h>

#include "base/bytes.h"
#include "block/image.h"
#include "tests/lib/block/hostile_image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Bits of a new bitmap, and the longest disk that is asked for: what takes long is no fault. */
#define BITS_MAX (1u << 20)
#define LEN_MAX (8u << 20)

#define NAME_MAX_LEN 1100u

/* Bytes of a step that stand for names which no bitmap may have, and for no granularity. */
#define NAME_EMPTY 0xfeu
#define NAME_LONG 0xffu
#define GRANULARITY_DEFAULT 0xfeu
#define GRANULARITY_ODD 0xffu

/* One of the image's bitmaps, or a name it need not have. */
static void pick_name(struct block *block, unsigned which, char *buf, size_t len)
{
    struct block_bitmap *list;
    struct err err;
    unsigned n;

    snprintf(buf, len, "new%u", which % 4);
    if (which == NAME_EMPTY)
        buf[0] = '\0';
    if (which == NAME_LONG)
        snprintf(buf, len, "%01030d", 0);
    if (which == NAME_EMPTY || which == NAME_LONG)
        return;
    if (block_bitmap_list(block, &list, &n, &err) < 0)
        return;
    if (n > 0 && which % 8 < 6)
        snprintf(buf, len, "%s", list[which / 8 % n].name);
    block_bitmap_list_free(list, n);
}

static uint32_t pick_granularity(const struct block *block, unsigned which)
{
    unsigned bits = 8 + which % 24;

    if (which == GRANULARITY_DEFAULT || which == GRANULARITY_ODD)
        return which == GRANULARITY_ODD ? 3000 : 0;
    while (bits < 31 && block->len >> bits > BITS_MAX)
        bits++;
    return 1u << bits;
}

static void edit(struct block *block, const uint8_t *step)
{
    char name[NAME_MAX_LEN];
    char source[NAME_MAX_LEN];
    struct block_bitmap_edit what = {
        .op = (enum block_bitmap_op)(step[1] % 6),
        .name = name,
        .granularity = pick_granularity(block, step[3]),
        .disabled = step[1] & 0x80,
    };
    struct err err;

    pick_name(block, step[2], name, sizeof(name));
    pick_name(block, step[3], source, sizeof(source));
    if (what.op == BLOCK_BITMAP_MERGE || (what.op == BLOCK_BITMAP_ADD && step[1] & 0x40))
        what.source_name = source;
    if (block_bitmap_edit(block, &what, &err) < 0)
        return;
}

static void resize(struct block *block, const uint8_t *step)
{
    const struct block_resize_options options = {
        .len = (uint64_t)load_be16(step + 1) * LEN_MAX >> 16, .shrink = true};
    struct err err;

    if (block_resize(block, &options, &err) < 0)
        return;
}

static void run_step(struct hostile_image *image, const uint8_t *step)
{
    switch (step[0] % 8) {
    case 0:
    case 1:
    case 2:
        edit(hostile_image_alone(image), step);
        break;
    case 3:
        resize(hostile_image_alone(image), step);
        break;
    default:
        hostile_image_request(image, step);
        break;
    }
}

/* Half of the steps, the others when it was closed and opened again, and none that may write. */
static void run_session(struct hostile_image *image, unsigned first, unsigned end, bool readonly)
{
    if (!hostile_image_open(image, readonly))
        return;
    for (unsigned i = first; i < end; i++)
        run_step(image, image->steps + (size_t)i * HOSTILE_STEP_LEN);
    hostile_image_close(image);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hostile_image image;

    if (!hostile_image_init(&image, data, size))
        return 0;
    run_session(&image, 0, image.nsteps / 2, false);
    run_session(&image, image.nsteps / 2, image.nsteps, false);
    run_session(&image, 0, image.nsteps, true);
    hostile_image_done(&image);
    return 0;
}
