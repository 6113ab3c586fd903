/* SPDX-License-Identifier: Apache-2.0 */
#include "img/progress.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"

#define REDRAW_NS 100000000ull

/* Percent from one line for scripts to the next. */
#define STEP 1.0

/* Text beside the bar: "100.00%  1023.9 MiB/s  99:59:59 left" and brackets. */
#define TEXT_MAX 48u
#define BAR_MAX 60u

static volatile sig_atomic_t asked;

/* What is on the terminal. */
static struct progress *drawn;

static void on_usr1(int signal)
{
    asked = 1;
}

void progress_start(struct progress *progress, bool on)
{
    struct sigaction action = {.sa_handler = on_usr1, .sa_flags = SA_RESTART};

    *progress = (struct progress){
        .on = on,
        .terminal = on && isatty(STDOUT_FILENO),
        .shown = -1,
        .begun = monotonic_ns(),
    };
    drawn = progress->terminal ? progress : NULL;
    (void)sigaction(SIGUSR1, &action, NULL); /* cannot fail for a signal that exists */
    progress_report(progress, 0, 1);         /* "0%" at once */
}

/* ---- on a terminal --------------------------------------------------------------------------- */

static unsigned columns(void)
{
    struct winsize size;

    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

static void append(char *line, size_t max, const char *text)
{
    size_t len = strlen(line);

    (void)snprintf(line + len, max - len, "%s", text); /* a long line is cut */
}

static void append_time(char *line, size_t max, double seconds)
{
    unsigned long long s = seconds < 359999 ? (unsigned long long)(seconds + 0.5) : 359999;
    char text[32];

    if (s >= 3600)
        (void)snprintf(text, sizeof(text), "  %llu:%02llu:%02llu left", s / 3600, s / 60 % 60,
                       s % 60);
    else
        (void)snprintf(text, sizeof(text), "  %llu:%02llu left", s / 60, s % 60);
    append(line, max, text);
}

static void append_bar(char *line, size_t max, double percent)
{
    unsigned width = columns() > TEXT_MAX ? columns() - TEXT_MAX : 0;
    char bar[BAR_MAX + 4];
    unsigned full;

    width = width > BAR_MAX ? BAR_MAX : width;
    full = (unsigned)(percent / 100 * width);
    if (width < 10)
        return;
    bar[0] = '[';
    memset(bar + 1, '#', full);
    memset(bar + 1 + full, '-', width - full);
    memcpy(bar + 1 + width, "] ", 3);
    append(line, max, bar);
}

static void draw(struct progress *progress, double percent)
{
    double done = (double)progress->done;
    double rest = (double)progress->len - done;
    uint64_t now = monotonic_ns();
    double seconds = (double)(now - progress->begun) / 1e9;
    char line[256] = "";
    char text[64];

    if (progress->shown >= 0 && percent < 100 && now - progress->drawn < REDRAW_NS)
        return;
    append_bar(line, sizeof(line), percent);
    (void)snprintf(text, sizeof(text), "%.2f%%", percent);
    append(line, sizeof(line), text);
    if (seconds > 0.5 && done > 0) {
        (void)snprintf(text, sizeof(text), "  %.1f MiB/s", done / seconds / (1 << 20));
        append(line, sizeof(line), text);
        if (rest > 0)
            append_time(line, sizeof(line), seconds / done * rest);
    }
    printf("\r%s%*s", line,
           progress->width > strlen(line) ? (int)(progress->width - strlen(line)) : 0, "");
    (void)fflush(stdout); /* nobody misses a picture of progress */
    progress->width = (unsigned)strlen(line);
    progress->drawn = now;
    progress->shown = percent;
}

/* Text that is not part of it gets a line of its own. */
void progress_break(void)
{
    if (!drawn || drawn->width == 0)
        return;
    printf("\n");
    (void)fflush(stdout);
    drawn->width = 0;
    drawn->shown = -1; /* it is drawn again with the next report */
}

/* ---- for scripts ----------------------------------------------------------------------------- */

static void print(struct progress *progress, double percent)
{
    printf("    (%3.2f/100%%)\r", percent);
    (void)fflush(stdout);
    progress->shown = percent;
}

static bool is_step(const struct progress *progress, double percent)
{
    return progress->shown < 0 || percent >= progress->shown + STEP ||
           (percent >= 100 && progress->shown < 100);
}

void progress_report(void *opaque, uint64_t done, uint64_t len)
{
    struct progress *progress = opaque;
    double percent = len > 0 ? 100.0 * (double)done / (double)len : 100;

    percent = percent > 100 ? 100 : percent;
    progress->done = done;
    progress->len = len;
    if (asked && !progress->on) {
        asked = 0;
        fprintf(stderr, "    (%3.2f/100%%)\n", percent);
    }
    if (progress->on && progress->terminal)
        draw(progress, percent);
    else if (progress->on && is_step(progress, percent))
        print(progress, percent);
}

void progress_end(struct progress *progress, bool all)
{
    if (!progress->on)
        return;
    if (all && progress->terminal)
        draw(progress, 100);
    else if (all)
        print(progress, 100);
    if (!progress->terminal || progress->width > 0)
        printf("\n");
    (void)fflush(stdout);
    progress->on = false;
    drawn = NULL;
}
