/*
 * What a fuzzer's input says to do, and the image to do it to.
 *
 * Input: the number of steps, four bytes for each (kind, offset as a fraction of the disk in 16
 * bits, length in sectors), and the image. Files live in memory, so whatever an image names, no
 * file of the host is opened.
 */
#ifndef MINIVMM_TESTS_HOSTILE_IMAGE_H
#define MINIVMM_TESTS_HOSTILE_IMAGE_H

#include "tests/lib/mem_file.h"

#define HOSTILE_STEP_LEN 4u
#define HOSTILE_STEPS_MAX 48u

struct hostile_image {
    const uint8_t *steps;
    unsigned nsteps;
    struct mem_disk disk;
    struct mem_disk data; /* for images that keep their data in the file "data" */
    struct mem_env env;
};

/* False if the input is too short. Otherwise to be freed with hostile_image_done. */
bool hostile_image_init(struct hostile_image *image, const uint8_t *data, size_t size);
void hostile_image_done(struct hostile_image *image);

/* NULL if the image is refused. */
struct block *hostile_image_open(struct hostile_image *image, bool readonly);

/* The request that a step stands for; any result will do, what counts is how it gets there. */
void hostile_image_request(struct block *block, const uint8_t *step);

#endif
