/*
 * Operations on whole hostile qcow2 images: longer and shorter disks, another version of the
 * format, other counts, what is where, writing them into their backing file if that is "base", with
 * requests between (the input: hostile_image.h).
 */
#include <string.h>

#include "block/block_ops.h"
#include "tests/lib/hostile_image.h"
#include "vmm/base/bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Longest disk that is asked for: preallocating takes time that is no fault. */
#define LEN_MAX (8u << 20)
#define STATUS_MAX 64u

#define BASE_LEN (96u << 10)
#define COMMIT_MAX (1u << 20)

static void resize(struct block *block, const uint8_t *step)
{
    struct block_resize_options options = {
        .len = (uint64_t)load_be16(step + 1) * LEN_MAX >> 16,
        .prealloc = (enum block_prealloc)(step[3] % 4),
        .shrink = true,
    };
    struct err err;

    if (options.len < block->len)
        options.prealloc = BLOCK_PREALLOC_OFF;
    if (block_resize(block, &options, &err) < 0)
        return;
}

static void look(struct block *block, bool own_layer)
{
    uint64_t off = 0;

    for (unsigned i = 0; i < STATUS_MAX && off < block->len; i++) {
        struct block_status status;

        if (block_get_status(block, off, block->len - off, own_layer, &status) < 0)
            return;
        off += status.len;
    }
}

static void commit(struct block *block, const uint8_t *step)
{
    const struct block_commit_options options = {.keep = step[1] & 1};
    struct err err;

    if (block->len > COMMIT_MAX || block_commit(block, &options, &err) < 0)
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
        look(hostile_image_alone(image), step[1] & 1);
        break;
    case 2:
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
    hostile_image_share_choices(&image, &base);
    if (open_image(&image)) {
        for (unsigned i = 0; i < image.nsteps; i++)
            run_step(&image, image.steps + (size_t)i * HOSTILE_STEP_LEN);
        hostile_image_close(&image);
    }
    hostile_image_done(&image);
    mem_disk_done(&base);
    return 0;
}
