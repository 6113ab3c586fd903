/*
 * Requests on hostile qcow2 images (the input: hostile_image.h).
 */
#include "tests/lib/hostile_image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run_image(struct hostile_image *image, bool readonly)
{
    struct block *block = hostile_image_open(image, readonly);

    if (!block)
        return;
    for (unsigned i = 0; i < image->nsteps; i++)
        hostile_image_request(block, image->steps + (size_t)i * HOSTILE_STEP_LEN);
    (void)block_close(block); /* what the image makes of it is its own business */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hostile_image image;

    if (!hostile_image_init(&image, data, size))
        return 0;
    run_image(&image, true);
    run_image(&image, false);
    run_image(&image, true); /* what the writes have made of it */
    hostile_image_done(&image);
    return 0;
}
