/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CLOCK_MONOTONIC: the time that passes, whatever the host's date is set to. Any thread.
 */
#ifndef MINIVMM_BASE_CLOCK_H
#define MINIVMM_BASE_CLOCK_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

#define NS_PER_MS 1000000ull
#define NS_PER_S 1000000000ull

uint64_t monotonic_ns(void);

/* A condition variable for which pthread_cond_timedwait takes what clock_deadline returns. */
void clock_cond_init(pthread_cond_t *cond);

/* The time that it will be after `timeout_ms`. */
struct timespec clock_deadline(unsigned timeout_ms);

#endif
