/* SPDX-License-Identifier: Apache-2.0 */
#include "img/rate.h"

#include <time.h>

#include "base/clock.h"

void rate_start(struct rate *rate, uint64_t bytes_per_s)
{
    rate->bytes_per_s = bytes_per_s;
    rate->start_ns = monotonic_ns();
}

void rate_wait(const struct rate *rate, uint64_t done)
{
    uint64_t passed = monotonic_ns() - rate->start_ns;
    double due = rate->bytes_per_s ? (double)done / (double)rate->bytes_per_s * 1e9 : 0;
    struct timespec pause;
    uint64_t wait;

    if (due <= (double)passed)
        return;
    wait = (uint64_t)(due - (double)passed);
    pause.tv_sec = (time_t)(wait / NS_PER_S);
    pause.tv_nsec = (long)(wait % NS_PER_S);
    (void)nanosleep(&pause, NULL); /* shorter if a signal comes: the next call makes up for it */
}
