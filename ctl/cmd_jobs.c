/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minivmm-ctl NAME jobs: jobs on disks, and how they end.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "ctl/amount.h"
#include "ctl/answer.h"
#include "ctl/command.h"
#include "ctl/message.h"
#include "ctl/table.h"
#include "ctl/target.h"

#define INTERVAL_MS 1000u

struct jobs {
    const struct args *args;
    struct link *link;
    struct err failure; /* the first of a job; code 0: none */
    struct err err;     /* what went wrong here */
};

/* "-" if there is nothing to do that could be counted. */
static void add_progress(struct table *table, const json_t *job)
{
    uint64_t done = answer_number(job, "offset");
    uint64_t all = answer_number(job, "len");

    if (all > 0)
        table_add(table, "%.0f %%", 100.0 * (double)done / (double)all);
    else
        table_add(table, "-");
}

static void add_limit(struct table *table, const json_t *job)
{
    uint64_t speed = answer_number(job, "speed");
    char buf[AMOUNT_MAX];

    table_add(table, "%s", speed > 0 ? amount_size(speed, buf) : "-");
}

static void print_jobs(const struct jobs *jobs, const json_t *list)
{
    struct table table;
    char buf[AMOUNT_MAX];
    const json_t *job;
    size_t i;

    if (jobs->args->json) {
        answer_print(list, stdout);
        return;
    }
    if (json_array_size(list) == 0)
        return;
    table_init(&table, 7, "JOB TYPE STATE >PROGRESS >DONE >OF >LIMIT/s");
    json_array_foreach(list, i, job)
    {
        table_add(&table, "%s", answer_shown(job, "device"));
        table_add(&table, "%s", answer_shown(job, "type"));
        table_add(&table, "%s", answer_shown(job, "status"));
        add_progress(&table, job);
        table_add(&table, "%s", amount_size(answer_number(job, "offset"), buf));
        table_add(&table, "%s", amount_size(answer_number(job, "len"), buf));
        add_limit(&table, job);
    }
    table_print(&table, 0, stdout);
    table_done(&table);
}

/* ---- their ends ------------------------------------------------------------------------------ */

static void note_failure(struct jobs *jobs, const char *name, const char *why)
{
    if (jobs->failure.code == 0)
        err_set(&jobs->failure, CTL_REMOTE_ERROR, "%s: %s", name, why);
}

/* Whoever asked for the job has chosen its name. */
static void print_done(const char *name)
{
    char *safe = text_escaped(name, false);

    printf("%s: done\n", safe ? safe : "-");
    free(safe);
}

/* Is it the end of a job? It is printed then. */
static bool take_event(struct jobs *jobs, const json_t *event)
{
    const char *kind = answer_text(event, "event");
    const json_t *data = json_object_get(event, "data");
    const char *name = answer_shown(data, "device");
    const char *error = answer_text(data, "error");
    bool cancelled = kind && strcmp(kind, "BLOCK_JOB_CANCELLED") == 0;

    if (!cancelled && (!kind || strcmp(kind, "BLOCK_JOB_COMPLETED") != 0))
        return false;
    if (jobs->args->json)
        answer_print(event, stdout);
    else if (!cancelled && !error)
        print_done(name);
    if (cancelled)
        note_failure(jobs, name, "cancelled");
    else if (error)
        note_failure(jobs, name, error);
    return true;
}

/* 0; -ETIMEDOUT: there is none so far; or another negative errno. */
static int take_next(struct jobs *jobs, unsigned timeout_ms, bool *ret_ended)
{
    json_t *event = NULL;
    int r;

    link_set_timeout(jobs->link, timeout_ms);
    r = link_next_event(jobs->link, &event, &jobs->err);
    if (r == 0)
        *ret_ended = take_event(jobs, event);
    json_decref(event);
    return r;
}

/* Until a job ends, or for as long as the interval is. 0, or a negative errno. */
static int wait_for_an_end(struct jobs *jobs, unsigned interval_ms)
{
    uint64_t deadline_ns = monotonic_ns() + interval_ms * NS_PER_MS;
    bool ended = false;
    int r = 0;

    while (r == 0 && !ended) {
        uint64_t now = monotonic_ns();

        if (now >= deadline_ns)
            return 0;
        r = take_next(jobs, (unsigned)((deadline_ns - now) / NS_PER_MS) + 1, &ended);
    }
    return r == -ETIMEDOUT ? 0 : r;
}

/* All that were told of by the last answer: no time is needed to hear of them. */
static int take_the_rest(struct jobs *jobs)
{
    bool ended;
    int r;

    do {
        r = take_next(jobs, 0, &ended);
    } while (r == 0);
    return r == -ETIMEDOUT ? 0 : r;
}

/* One that is ready ends when somebody says so, which may be never. */
static bool has_unfinished(const json_t *list)
{
    const json_t *job;
    size_t i;

    json_array_foreach(list, i, job)
    {
        if (!json_is_true(json_object_get(job, "ready")))
            return true;
    }
    return false;
}

static int ask(struct jobs *jobs, json_t **ret_list)
{
    const struct args *args = jobs->args;

    link_set_timeout(jobs->link, args->timeout_ms ? args->timeout_ms : ANSWER_MS);
    return link_ask(jobs->link, "query-block-jobs", NULL, ret_list, &jobs->err);
}

static int follow(struct jobs *jobs)
{
    unsigned interval_ms = jobs->args->interval_ms ? jobs->args->interval_ms : INTERVAL_MS;
    bool unfinished = true;
    int r = 0;

    while (r == 0 && unfinished) {
        json_t *list = NULL;

        r = ask(jobs, &list);
        unfinished = has_unfinished(list);
        if (r == 0)
            print_jobs(jobs, list);
        (void)fflush(stdout);
        json_decref(list);
        if (r == 0 && unfinished)
            r = wait_for_an_end(jobs, interval_ms);
    }
    if (r == 0)
        r = take_the_rest(jobs);
    if (r == 0 && jobs->failure.code != 0) {
        jobs->err = jobs->failure;
        r = jobs->err.code;
    }
    return r;
}

static int show(struct jobs *jobs)
{
    json_t *list = NULL;
    int r = ask(jobs, &list);

    if (r == 0)
        print_jobs(jobs, list);
    json_decref(list);
    return r;
}

static int run(const struct args *args)
{
    struct jobs jobs = {.args = args};
    int r = target_open(args->target, args->timeout_ms ? args->timeout_ms : ANSWER_MS, &jobs.link,
                        &jobs.err);

    if (r < 0)
        return ctl_fail(&jobs.err);
    r = args->options & OPTION_FOLLOW ? follow(&jobs) : show(&jobs);
    link_close(jobs.link);
    if (r == 0)
        return CTL_OK;
    err_prefix(&jobs.err, "%s", args->target);
    return ctl_fail(&jobs.err);
}

const struct command command_jobs = {
    .name = "jobs",
    .run = run,
    .options = OPTION_FOLLOW | OPTION_INTERVAL,
    .synopsis = "[--follow [--interval SECONDS]]",
    .help = "jobs on disks, such as block-commit; with --follow until they have ended:\n"
            "      exit status 1 if one failed or was cancelled",
};
