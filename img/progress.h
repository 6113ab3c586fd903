/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -p: how much of a subcommand's work is done. Where scripts read it, it is said as qemu-img does;
 * on a terminal there is a bar with throughput and time left. Without -p, SIGUSR1 is answered once,
 * on stderr.
 */
#ifndef MINIVMM_IMG_PROGRESS_H
#define MINIVMM_IMG_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool on;
    bool terminal;
    double shown;  /* percent; < 0: nothing yet */
    uint64_t done; /* bytes */
    uint64_t len;
    uint64_t begun; /* ns */
    uint64_t drawn; /* ns */
    unsigned width; /* of what is drawn, to be drawn over */
};

void progress_start(struct progress *progress, bool on);

/* `done` of `len` bytes; `opaque` is the struct progress. */
void progress_report(void *opaque, uint64_t done, uint64_t len);

/* Before anything else is printed: what is drawn on a terminal stays, and ends its line. */
void progress_break(void);

/*
 * No more comes; was all of it done? Before the subcommand says how it went. A second call does
 * nothing.
 */
void progress_end(struct progress *progress, bool all);

#endif
