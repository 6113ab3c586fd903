/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Converting hostile images, and comparing them with what came out (the input: hostile_image.h; its
 * first step says how to copy). What could be copied has to be the same.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "img/compare.h"
#include "img/copy.h"
#include "tests/lib/block/hostile_image.h"
#include "tests/lib/block/qcow2/qcow2_image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Longer disks would fill the memory that the target is in. */
#define LEN_MAX (32u << 20)

enum {
    TO_QCOW2 = 1 << 0,
    COMPRESS = 1 << 1,
    OUT_OF_ORDER = 1 << 2,
    SALVAGE = 1 << 3,
    WRITE_ZEROES = 1 << 4,
    OFFLOAD = 1 << 5,
    ZSTD = 1 << 6,
};

static struct block *new_target(struct hostile_image *image, struct mem_disk *target, uint64_t len,
                                const uint8_t *step)
{
    bool qcow2 = step[0] & TO_QCOW2;

    mem_disk_init(target, "target");
    hostile_image_share_host(image, target);
    mem_env_add(&image->env, target);
    if (qcow2)
        qcow2_image_make(
            target, &(struct qcow2_image_options){.refcount_order = 4,
                                                  .size = len,
                                                  .zstd = step[0] & ZSTD,
                                                  .cluster_bits = step[2] ? 9 + step[2] % 8 : 0});
    else
        target->len = len;
    return mem_env_open(&image->env, "target", qcow2 ? BLOCK_FORMAT_QCOW2 : BLOCK_FORMAT_RAW,
                        false);
}

/* What cannot be read at the second time was taken away by the host, if that fails at all. */
static void expect_equal(struct block *source, struct block *target, uint64_t len, bool host_fails)
{
    struct progress progress = {0};
    struct compare_options options = {
        .blocks = {source, target}, .to = len, .progress = &progress, .progress_len = len};
    struct compare_result result;
    struct err err;

    if (compare_run(&options, &result, &err) < 0)
        return;
    if (result.outcome != COMPARE_EQUAL && (!host_fails || result.outcome == COMPARE_CONTENT))
        abort();
}

/* Old data, all of which has to go. */
static void fill(struct block *target)
{
    static uint8_t data[64 << 10];

    memset(data, 0xee, sizeof(data));
    for (uint64_t off = 0; off < target->len; off += sizeof(data))
        if (mem_block_write(target, off, data, min_u64(target->len - off, sizeof(data))) < 0)
            return;
}

static void copy(struct hostile_image *image, struct block *source, const uint8_t *step)
{
    uint64_t len = min_u64(source->len, LEN_MAX);
    struct copy_source part = {.block = source, .len = len};
    struct copy_options options = {
        .sources = &part,
        .nsources = 1,
        .min_zeroes = step[0] & WRITE_ZEROES ? 0 : COPY_MIN_ZEROES,
        .target_is_zero = !(step[3] & 1),
        .compress = (step[0] & TO_QCOW2) && (step[0] & COMPRESS),
        .out_of_order = step[0] & OUT_OF_ORDER,
        .requests = 1 + step[1] % 16,
        .salvage = step[0] & SALVAGE,
        .offload = (step[0] & OFFLOAD) && !(step[0] & (COMPRESS | SALVAGE)),
    };
    struct mem_disk target;
    struct err err;

    options.target = new_target(image, &target, len, step);
    if (!options.target_is_zero)
        fill(options.target);
    if (copy_run(&options, &err) == 0 && !options.salvage)
        expect_equal(source, options.target, len, image->choices.n > 0);
    if (block_close(options.target) < 0 && image->choices.n == 0)
        abort();
    mem_disk_done(&target);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hostile_image image;

    if (!hostile_image_init(&image, data, size))
        return 0;
    if (hostile_image_open(&image, true) && image.nsteps > 0 && image.block->len > 0)
        copy(&image, image.block, image.steps);
    hostile_image_close(&image);
    hostile_image_done(&image);
    return 0;
}
