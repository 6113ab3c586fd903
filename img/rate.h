/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -r: no more than so many bytes a second.
 */
#ifndef MINIVMM_IMG_RATE_H
#define MINIVMM_IMG_RATE_H

#include <stdint.h>

struct rate {
    uint64_t bytes_per_s; /* 0: no limit */
    uint64_t start_ns;
};

void rate_start(struct rate *rate, uint64_t bytes_per_s);

/* `done` bytes were moved since the start: wait until they may have been. */
void rate_wait(const struct rate *rate, uint64_t done);

#endif
