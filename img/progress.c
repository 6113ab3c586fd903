#include "img/progress.h"

#include <stdio.h>

/* In hundredths of a percent: what is printed, and the least step that is worth it. */
#define ALL 10000u

static void show(struct progress *progress, unsigned now)
{
    if (!progress->on || now == progress->shown)
        return;
    progress->shown = now;
    printf("    (%3.2f/100%%)\r", now / 100.0);
    fflush(stdout);
}

void progress_start(struct progress *progress, bool on)
{
    *progress = (struct progress){.on = on, .shown = ALL + 1};
    show(progress, 0);
}

void progress_report(void *opaque, uint64_t done, uint64_t len)
{
    show(opaque, len ? (unsigned)((double)done / (double)len * ALL) : ALL);
}

void progress_end(struct progress *progress, bool all)
{
    if (all)
        show(progress, ALL);
    if (progress->on)
        putchar('\n');
}
