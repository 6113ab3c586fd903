/*
 * Requests on hostile qcow2 images (the input: hostile_image.h).
 */
#include "tests/lib/hostile_image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run_image(struct hostile_image *image, bool readonly)
{
    if (!hostile_image_open(image, readonly))
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
    run_image(&image, true);
    run_image(&image, false);
    run_image(&image, true); /* what the writes have made of it */
    hostile_image_done(&image);
    return 0;
}
