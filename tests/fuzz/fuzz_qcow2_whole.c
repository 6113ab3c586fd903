/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations on whole hostile qcow2 images: longer and shorter disks, another version of the
 * format, other counts, what is where, writing them into their backing file if that is "base", with
 * requests between (the input: hostile_image.h). Then the same to the read-only image, which must
 * not change.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/image.h"
#include "block/luks.h"
#include "tests/lib/block/hostile_image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Longest disk that is asked for: preallocating takes time that is no fault. */
#define LEN_MAX (8u << 20)
#define STATUS_MAX 64u

/* How to look at what is where. */
enum { HOW_OWN = 1 << 0, HOW_HOST = 1 << 1, HOW_IDLE = 1 << 2, HOW_CHECK = 1 << 3 };

#define BASE_LEN (768u << 10)
#define COMMIT_MAX (1u << 20)

static void resize(struct block *block, const uint8_t *step)
{
    struct block_resize_options options = {
        .len = (uint64_t)load_be16(step + 1) * LEN_MAX >> 16,
        .prealloc = (enum block_prealloc)(step[3] % 4),
        .shrink = !(step[3] & 0x80),
    };
    struct err err;

    if (options.len < block->len && !(step[3] & 0x40))
        options.prealloc = BLOCK_PREALLOC_OFF;
    if (block_resize(block, &options, &err) < 0)
        return;
}

static int get_status(struct block *block, uint64_t off, unsigned how, struct block_status *ret)
{
    if (how & HOW_HOST)
        return block_get_host_status(block, off, block->len - off, how & HOW_OWN, ret);
    return block_get_status(block, off, block->len - off, how & HOW_OWN, ret);
}

/* What is open for reading only must not be repaired. */
static void check(struct block *block)
{
    unsigned fix = block->writable ? 0 : BLOCK_FIX_LEAKS;
    struct block_check_result result;
    struct err err;

    if (block_check(block, fix, NULL, &result, &err) < 0)
        return;
}

static void look(struct block *block, unsigned how)
{
    struct block_details details;
    struct block_info info;
    uint64_t off = 0;

    for (unsigned i = 0; i < STATUS_MAX && off < block->len; i++) {
        struct block_status status;

        if (get_status(block, off, how, &status) < 0)
            return;
        off += status.len;
    }
    block_get_info(block, &info);
    block_get_details(block, &details);
    (void)block_get_stats(block);
    (void)block_uses_file(block, (const uint64_t[]){0, 0});
    if (how & HOW_CHECK)
        check(block);
    if (how & HOW_IDLE && block->driver->trim)
        block->driver->trim(block); /* as block.c does after a while */
}

static void commit(struct block *block, const uint8_t *step)
{
    const struct block_commit_options options = {.keep = step[1] & 1};
    struct err err;

    if (block->len > COMMIT_MAX || block_commit(block, &options, &err) < 0)
        return;
}

static void change_backing(struct block *block, const uint8_t *step)
{
    static const char *const names[] = {NULL, "base", "none",
                                        "../a/longer/name/of/a/file/than/before"};
    struct err err;

    if (block_change_backing(block, names[step[2] % ARRAY_SIZE(names)], step[3] & 1 ? "raw" : NULL,
                             &err) < 0)
        return;
}

static void amend(struct block *block, const uint8_t *step)
{
    static const unsigned versions[] = {0, 2, 3};
    const struct block_amend_options options = {
        .version = versions[step[1] % ARRAY_SIZE(versions)],
        .refcount_bits = step[2] & 8 ? 1u << step[2] % 8 : 0,
        .set_lazy = step[3] & 1,
        .lazy_refcounts = step[3] & 2,
        .set_data_raw = step[3] & 4,
        .data_file_raw = step[3] & 8,
        .data_file = step[3] & 16 ? "data" : NULL,
        .set_len = step[3] & 32,
        .len = (uint64_t)step[1] << 12,
    };
    struct err err;

    if (block_amend(block, &options, &err) < 0)
        return;
}

static void run_step(struct hostile_image *image, const uint8_t *step)
{
    switch (step[0] % 8) {
    case 0:
        resize(hostile_image_alone(image), step);
        break;
    case 1:
        look(hostile_image_alone(image), step[1]);
        break;
    case 2:
        if (step[1] & 2)
            change_backing(hostile_image_alone(image), step);
        else
            commit(hostile_image_alone(image), step);
        break;
    case 3:
        amend(hostile_image_alone(image), step);
        break;
    default:
        hostile_image_request(image, step);
        break;
    }
}

/* With its backing file to be written, or as it is. */
static bool open_image(struct hostile_image *image)
{
    const struct block_options options = {
        .path = "image", .discard = true, .aio = BLOCK_AIO_THREADS, .write_backing = 1};

    return hostile_image_open_with(image, &options) || hostile_image_open(image, false);
}

static void run_steps(struct hostile_image *image)
{
    for (unsigned i = 0; i < image->nsteps; i++)
        run_step(image, image->steps + (size_t)i * HOSTILE_STEP_LEN);
    hostile_image_close(image);
}

/* With everything that it names near it, as far as names count in memory. */
static void look_only(struct hostile_image *image)
{
    static const char *const places[] = {".", "/"};
    const struct block_options options = {.path = "image",
                                          .readonly = true,
                                          .aio = BLOCK_AIO_THREADS,
                                          .confined = true,
                                          .allowed = places + image->nsteps % 2,
                                          .nallowed = 1};
    unsigned writes = image->disk.counts[FILE_WRITE] + image->disk.counts[MEM_TRUNCATE];

    if (hostile_image_open_with(image, &options))
        run_steps(image);
    if (image->disk.counts[FILE_WRITE] + image->disk.counts[MEM_TRUNCATE] != writes)
        abort();
}

/* Of an encrypted image only what it says about that can be read. */
static void look_at_encryption(struct hostile_image *image)
{
    const struct block_options options = {
        .path = "image", .readonly = true, .flags = BLOCK_OPEN_ALONE | BLOCK_OPEN_ENCRYPTED};
    struct luks luks;
    struct err err;

    if (!hostile_image_open_with(image, &options))
        return;
    if (block_get_luks(image->block, &luks, &err) == 0)
        look(image->block, HOW_OWN);
    hostile_image_close(image);
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
    hostile_image_share_host(&image, &base);
    if (open_image(&image))
        run_steps(&image);
    look_only(&image);
    look_at_encryption(&image);
    hostile_image_done(&image);
    mem_disk_done(&base);
    return 0;
}
