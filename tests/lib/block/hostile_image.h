/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a fuzzer's input says to do, and the image to do it to.
 *
 * Input: the number of steps, four bytes for each (kind and flags, offset as a fraction of the disk
 * in 16 bits, length in sectors), and the image. Files live in memory, so whatever an image names,
 * no file of the host is opened. The number is taken modulo HOSTILE_STEPS_MAX + 1; what it is
 * divided by that says what files are like: buffered, or direct with blocks of 512 or 4096 bytes.
 *
 * With bit 7 of the first byte the image is attached to a loop as in the machine, with up to
 * HOSTILE_IN_FLIGHT requests at once. Then a byte with a number follows it, and so many choices: in
 * what order the operations of files finish, and which of them fail (mem_disk.h).
 */
#ifndef MINIVMM_TESTS_HOSTILE_IMAGE_H
#define MINIVMM_TESTS_HOSTILE_IMAGE_H

#include "tests/lib/block/mem_env.h"

#define HOSTILE_STEP_LEN 4u
#define HOSTILE_STEPS_MAX 48u
#define HOSTILE_IN_FLIGHT 8u

struct hostile_image {
    const uint8_t *steps;
    unsigned nsteps;
    bool attach;    /* for requests */
    uint32_t align; /* of files */
    struct mem_choices choices;
    struct mem_disk disk;
    struct mem_disk data; /* for images that keep their data in the file "data" */
    struct mem_env env;
    struct block *block; /* NULL: it is not open */
};

/* False if the input is too short. Otherwise to be freed with hostile_image_done. */
bool hostile_image_init(struct hostile_image *image, const uint8_t *data, size_t size);
void hostile_image_done(struct hostile_image *image);

/* `disk` is on the same host: alignment, order, and what fails are what the input says. */
void hostile_image_share_host(struct hostile_image *image, struct mem_disk *disk);

/* False if the image is refused. Otherwise to be closed with hostile_image_close. */
bool hostile_image_open(struct hostile_image *image, bool readonly);
bool hostile_image_open_with(struct hostile_image *image, const struct block_options *options);
void hostile_image_close(struct hostile_image *image);

/* The image, with no request in flight and not attached. */
struct block *hostile_image_alone(struct hostile_image *image);

/*
 * The request that a step stands for; any result will do, what counts is how it gets there. It may
 * still be in flight when this returns, unless HOSTILE_WAIT is in the step's first byte.
 */
#define HOSTILE_WAIT 0x20u
void hostile_image_request(struct hostile_image *image, const uint8_t *step);

#endif
