/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minivmm-ctl NAME top: what a VM does, again and again.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/clock.h"
#include "ctl/answer.h"
#include "ctl/command.h"
#include "ctl/keys.h"
#include "ctl/message.h"
#include "ctl/sample.h"
#include "ctl/target.h"
#include "ctl/top_view.h"

#define INTERVAL_MS 1000u

/* Of a terminal: from its upper left corner on, erasing what was there. */
#define HOME "\x1b[H"
#define ERASE_LINE "\x1b[K"
#define ERASE_BELOW "\x1b[J"

struct top {
    const struct args *args;
    struct link *link;
    struct sample before;
    bool screen; /* drawn over, on a terminal */
    struct keys keys;
    struct err err;
};

static void find_size(unsigned *ret_width, unsigned *ret_height)
{
    struct winsize size;

    *ret_width = 0;
    *ret_height = 0;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0) {
        *ret_width = size.ws_col;
        *ret_height = size.ws_row;
    }
}

/* The page, drawn over the last one without a moment in which the terminal is empty. */
static void draw(const struct top *top, const json_t *rates)
{
    unsigned width, height;
    char *page = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&page, &len);

    if (!f)
        return;
    find_size(&width, &height);
    /* The cursor stays in the line below. */
    top_view_print(top->args->target, rates, width, height > 1 ? height - 1 : 0, f);
    if (fclose(f) != 0)
        return;
    fputs(HOME, stdout);
    for (const char *p = page; *p; p++) {
        if (*p == '\n')
            fputs(ERASE_LINE, stdout);
        fputc(*p, stdout);
    }
    fputs(ERASE_BELOW, stdout);
    free(page);
}

static void show(const struct top *top, const json_t *rates)
{
    if (top->args->json)
        answer_print(rates, stdout);
    else if (top->screen)
        draw(top, rates);
    else
        top_view_print(top->args->target, rates, 0, 0, stdout);
    (void)fflush(stdout);
}

/* One interval, and what happened in it. 1: that was all; 0; or -errno with top->err filled. */
static int round_of(struct top *top)
{
    unsigned interval_ms = top->args->interval_ms ? top->args->interval_ms : INTERVAL_MS;
    struct sample after;
    json_t *rates;
    int r;

    if (keys_wait_for_quit(&top->keys, interval_ms))
        return 1;
    r = sample_take(top->link, &after, &top->err);
    if (r < 0)
        return r;
    rates = sample_rates(&top->before, &after);
    show(top, rates);
    json_decref(rates);
    sample_done(&top->before);
    top->before = after;
    return 0;
}

static int rounds(struct top *top)
{
    unsigned count = top->args->count;
    int r = 0;

    if (count == 0 && !top->screen)
        count = 1;
    for (unsigned i = 0; r == 0 && (count == 0 || i < count); i++)
        r = round_of(top);
    return r < 0 ? r : 0;
}

static int run(const struct args *args)
{
    struct top top = {.args = args, .screen = !args->json && isatty(STDOUT_FILENO)};
    int r = target_open(args->target, args->timeout_ms ? args->timeout_ms : ANSWER_MS, &top.link,
                        &top.err);

    if (r < 0)
        return ctl_fail(&top.err);
    r = sample_take(top.link, &top.before, &top.err);
    if (r == 0) {
        keys_begin(&top.keys, top.screen);
        if (top.screen)
            fputs(HOME ERASE_BELOW, stdout);
        r = rounds(&top);
        keys_end(&top.keys);
    }
    sample_done(&top.before);
    link_close(top.link);
    if (r == 0)
        return CTL_OK;
    err_prefix(&top.err, "%s", args->target);
    return ctl_fail(&top.err);
}

const struct command command_top = {
    .name = "top",
    .run = run,
    .options = OPTION_INTERVAL | OPTION_COUNT,
    .synopsis = "[--interval SECONDS] [--count N]",
    .help = "exits of each CPU, disk I/O and memory, per second; q ends it",
};
