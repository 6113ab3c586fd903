/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that resets again and again, soon after its start, is started again at longer and longer
 * intervals: it could keep a host busy, and fill its log, otherwise.
 */
#ifndef MINIVMM_PROCESS_RESTARTS_H
#define MINIVMM_PROCESS_RESTARTS_H

#include <stdint.h>

/* Who ran for so long was not in a loop. */
#define RESTARTS_LONG_ENOUGH_NS 10000000000ull

/* So many in a row cost nothing: installers and first boots reset several times. */
#define RESTARTS_FREE 5u

/* Then the first pause, doubled each time. */
#define RESTARTS_PAUSE_S 1u
#define RESTARTS_PAUSE_MAX_S 60u

/* All zero at the start. */
struct restarts {
    unsigned nquick;  /* in a row */
    unsigned pause_s; /* the last one */
};

/* A guest that ran for `lived_ns` has reset: how many seconds to wait before it starts again? */
unsigned restarts_next_pause_s(struct restarts *restarts, uint64_t lived_ns);

#endif
