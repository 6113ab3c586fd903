/*
 * -p: how much of a subcommand's work is done.
 */
#ifndef MINIVMM_IMG_PROGRESS_H
#define MINIVMM_IMG_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool on;
    unsigned shown; /* hundredths of a percent */
};

void progress_start(struct progress *progress, bool on);

/* `done` of `len` bytes; `opaque` is the struct progress. */
void progress_report(void *opaque, uint64_t done, uint64_t len);

/* No more comes; was all of it done? */
void progress_end(struct progress *progress, bool all);

#endif
