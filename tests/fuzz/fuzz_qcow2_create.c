/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New images, with any options, and requests on them (the input: hostile_image.h, but what stands
 * for the image are the options). On a host that does what it is told a new image is right, and
 * stays so.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/create.h"
#include "tests/lib/block/hostile_image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OPTIONS_LEN 6u
#define BASE_LEN (96u << 10)

/* Bits of the first byte. */
enum {
    VERSION_2 = 1 << 0,
    LAZY = 1 << 1,
    EXTENDED_L2 = 1 << 2,
    ZSTD = 1 << 3,
    DATA_FILE = 1 << 4,
    DATA_FILE_RAW = 1 << 5,
    BACKING = 1 << 6,
    RAW = 1 << 7,
};

static struct block_create_options read_options(const uint8_t *bytes)
{
    return (struct block_create_options){
        .path = "image",
        .format = bytes[0] & RAW ? BLOCK_FORMAT_RAW : BLOCK_FORMAT_QCOW2,
        .version = bytes[0] & VERSION_2 ? 2 : 0,
        .lazy_refcounts = bytes[0] & LAZY,
        .extended_l2 = bytes[0] & EXTENDED_L2,
        .zstd = bytes[0] & ZSTD,
        .data_file = bytes[0] & DATA_FILE ? "data" : NULL,
        .data_file_raw = bytes[0] & DATA_FILE_RAW,
        .backing_file = bytes[0] & BACKING ? "base" : NULL,
        .backing_format = bytes[0] & BACKING ? BLOCK_FORMAT_RAW : BLOCK_FORMAT_PROBE,
        .backing_unchecked = bytes[1] & 0x80,
        .cluster_size = bytes[1] & 0x40 ? 0 : 1u << (8 + bytes[1] % 16),
        .refcount_bits = bytes[2] % 8 == 7 ? 0 : 1u << bytes[2] % 8,
        .prealloc = (enum block_prealloc)(bytes[3] % 4),
        .len = bytes[3] & 0x80 ? BLOCK_LEN_BACKING : (uint64_t)load_be16(bytes + 4) << bytes[2] / 8,
    };
}

static void ignore_line(struct block_check_report *report, const char *text)
{
}

static void expect_right(struct hostile_image *image)
{
    struct block_check_report report = {.line = ignore_line};
    struct block_check_result result;
    struct err err;
    int r;

    if (!hostile_image_open(image, true))
        abort();
    r = block_check(image->block, 0, &report, &result, &err);
    if (r < 0 || result.corruptions + result.leaks + result.check_errors > 0)
        abort();
    hostile_image_close(image);
}

static void run_steps(struct hostile_image *image, enum block_format format)
{
    const struct block_options options = {
        .path = "image", .format = format, .discard = true, .aio = BLOCK_AIO_THREADS};

    if (!hostile_image_open_with(image, &options)) {
        if (image->choices.n == 0)
            abort();
        return;
    }
    for (unsigned i = 0; i < image->nsteps; i++)
        hostile_image_request(image, image->steps + (size_t)i * HOSTILE_STEP_LEN);
    hostile_image_close(image);
    if (image->choices.n == 0 && format == BLOCK_FORMAT_QCOW2)
        expect_right(image);
}

static void make_and_use(struct hostile_image *image)
{
    uint8_t bytes[OPTIONS_LEN];
    struct block_create_options options;
    struct err err;

    memcpy(bytes, image->disk.data, sizeof(bytes));
    options = read_options(bytes);
    if (block_create_in(&image->env.env, &options, &err) == 0)
        run_steps(image, options.format);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hostile_image image;
    struct mem_disk base;

    if (!hostile_image_init(&image, data, size))
        return 0;
    mem_disk_init(&base, "base");
    base.len = BASE_LEN;
    memset(base.data, 'b', BASE_LEN);
    mem_env_add(&image.env, &base);
    if (image.disk.len >= OPTIONS_LEN)
        make_and_use(&image);
    hostile_image_done(&image);
    mem_disk_done(&base);
    return 0;
}
