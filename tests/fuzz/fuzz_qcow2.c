/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests on hostile qcow2 images (the input: hostile_image.h).
 */
#include "tests/lib/block/hostile_image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define WITHOUT_ALL (BLOCK_WITHOUT_ZERO_COW | BLOCK_WITHOUT_MERGE_COW | BLOCK_WITHOUT_MERGE_REQS)

static void run_image(struct hostile_image *image, bool readonly, unsigned without)
{
    const struct block_options options = {.path = "image",
                                          .readonly = readonly,
                                          .discard = true,
                                          .aio = BLOCK_AIO_THREADS,
                                          .without = without};

    if (!hostile_image_open_with(image, &options))
        return;
    for (unsigned i = 0; i < image->nsteps; i++)
        hostile_image_request(image, image->steps + (size_t)i * HOSTILE_STEP_LEN);
    hostile_image_close(image);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hostile_image image;

    if (!hostile_image_init(&image, data, size))
        return 0;
    run_image(&image, true, 0);
    run_image(&image, false, 0);
    run_image(&image, false, WITHOUT_ALL); /* what the writes have made of it */
    run_image(&image, true, 0);
    hostile_image_done(&image);
    return 0;
}
