/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minivmm-ctl NAME power-off, pause, resume, reset: whether a VM runs.
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/clock.h"
#include "ctl/answer.h"
#include "ctl/command.h"
#include "ctl/message.h"
#include "ctl/target.h"

/* How long a guest may take to shut down. */
#define POWER_OFF_MS 90000u

/* The end of the connection says that the disks are closed: soon after the guest's end, mostly. */
#define CLOSE_MS 10000u

/* Ask for what returns nothing. */
static int simple(const struct args *args, const char *command)
{
    unsigned timeout_ms = args->timeout_ms ? args->timeout_ms : WORK_MS;
    struct link *link;
    struct err err;
    int r = target_open(args->target, timeout_ms, &link, &err);

    if (r < 0)
        return ctl_fail(&err);
    r = link_ask(link, command, NULL, NULL, &err);
    link_close(link);
    if (r < 0) {
        err_prefix(&err, "%s", args->target);
        return ctl_fail(&err);
    }
    if (args->json)
        puts("{}");
    return CTL_OK;
}

static int run_pause(const struct args *args)
{
    return simple(args, "stop");
}

static int run_resume(const struct args *args)
{
    return simple(args, "cont");
}

static int run_reset(const struct args *args)
{
    return simple(args, "system_reset");
}

/* ---- power-off ------------------------------------------------------------------------------- */

/* How it ended. */
struct end {
    bool is_over;    /* the guest is */
    bool is_closed;  /* the connection is */
    char reason[64]; /* why, in the VM's words */
};

static void note_event(const json_t *event, struct end *end)
{
    const char *name = answer_text(event, "event");
    const char *reason = answer_text(json_object_get(event, "data"), "reason");

    if (!name || strcmp(name, "SHUTDOWN") != 0)
        return;
    end->is_over = true;
    (void)snprintf(end->reason, sizeof(end->reason), "%s", reason ? reason : "");
}

static int not_in_time(const struct args *args, unsigned timeout_ms, struct err *err)
{
    double seconds = timeout_ms / 1000.0;

    if (args->options & OPTION_FORCE)
        return err_set(err, -ETIMEDOUT, "the VM has not ended within %g s", seconds);
    return err_set(err, -ETIMEDOUT,
                   "the guest has not powered off within %g s: --timeout waits longer, --force "
                   "ends it",
                   seconds);
}

/* Wait until the VM is gone. 0, or -ETIMEDOUT or the like with *err filled. */
static int wait_for_end(struct link *link, const struct args *args, struct end *end,
                        struct err *err)
{
    unsigned timeout_ms = args->timeout_ms ? args->timeout_ms : POWER_OFF_MS;
    uint64_t deadline_ns = monotonic_ns() + timeout_ms * NS_PER_MS;

    for (;;) {
        uint64_t now = monotonic_ns();
        json_t *event = NULL;
        int r;

        if (now >= deadline_ns)
            return end->is_over ? 0 : not_in_time(args, timeout_ms, err);
        link_set_timeout(link, (unsigned)((deadline_ns - now) / NS_PER_MS) + 1);
        r = link_next_event(link, &event, err);
        if (r == -ECONNRESET) {
            end->is_closed = true;
            return 0;
        }
        if (r < 0 && r != -ETIMEDOUT)
            return r;
        if (r == 0 && !end->is_over) {
            note_event(event, end);
            if (end->is_over)
                deadline_ns = monotonic_ns() + CLOSE_MS * NS_PER_MS;
        }
        json_decref(event);
    }
}

/* Told to quit, it may be gone before it answers. */
static int quit(struct link *link, struct end *end, struct err *err)
{
    int r = link_ask(link, "quit", NULL, NULL, err);

    end->is_closed = r == -ECONNRESET;
    return end->is_closed ? 0 : r;
}

/* It may be held by somebody else as well, or fail again. Whether it has ended shows later. */
static int check_goes_on(struct link *link, struct err *err)
{
    json_t *status = NULL;
    int r = link_ask(link, "query-status", NULL, &status, err);

    if (r == -ECONNRESET)
        r = 0;
    if (json_is_false(json_object_get(status, "running")) &&
        strcmp(answer_shown(status, "status"), "shutdown") != 0)
        r = err_set(err, CTL_REMOTE_ERROR,
                    "the button is pressed, but the guest does not go on (%s)",
                    answer_shown(status, "status"));
    json_decref(status);
    return r;
}

static int go_on(struct link *link, const struct args *args, const char *state, struct err *err)
{
    int r = link_ask(link, "cont", NULL, NULL, err);

    if (r < 0) {
        err_prefix(err, "the button is pressed, but the guest stands still (%s)", state);
        return r;
    }
    r = check_goes_on(link, err);
    if (r == 0)
        ctl_note("%s: the guest stood still (%s): it goes on, so that it can power off",
                 args->target, state);
    return r;
}

/* A guest that stands still sees no button, so it goes on. Without one it stays as it is. */
static int press_button(struct link *link, const struct args *args, struct err *err)
{
    json_t *status = NULL;
    bool stands_still;
    int r = link_ask(link, "query-status", NULL, &status, err);

    stands_still = json_is_false(json_object_get(status, "running"));
    if (r == 0)
        r = link_ask(link, "system_powerdown", NULL, NULL, err);
    if (r == 0 && stands_still)
        r = go_on(link, args, answer_shown(status, "status"), err);
    json_decref(status);
    return r;
}

static int power_off(struct link *link, const struct args *args, struct end *end, struct err *err)
{
    int r = args->options & OPTION_FORCE ? quit(link, end, err) : press_button(link, args, err);

    if (r < 0 || end->is_closed)
        return r;
    return wait_for_end(link, args, end, err);
}

static void report(const struct args *args, const struct end *end)
{
    if (args->json) {
        json_t *value = json_pack("{s:o,s:b}", "reason",
                                  end->reason[0] ? json_string(end->reason) : json_null(), "closed",
                                  end->is_closed);

        answer_print(value, stdout);
        json_decref(value);
    } else if (!end->is_closed) {
        ctl_note("%s: the guest has ended, and the VM still has its disks open", args->target);
    }
}

static int run_power_off(const struct args *args)
{
    struct end end = {0};
    struct link *link;
    struct err err;
    int r = target_open(args->target, ANSWER_MS, &link, &err);

    if (r < 0)
        return ctl_fail(&err);
    r = power_off(link, args, &end, &err);
    link_close(link);
    if (r < 0) {
        err_prefix(&err, "%s", args->target);
        return ctl_fail(&err);
    }
    report(args, &end);
    return CTL_OK;
}

const struct command command_power_off = {
    .name = "power-off",
    .run = run_power_off,
    .options = OPTION_FORCE,
    .synopsis = "[--force]",
    .help = "press the power button, and wait until the VM has ended; --force: end it at once",
};

const struct command command_pause = {
    .name = "pause",
    .run = run_pause,
    .synopsis = "",
    .help = "stop all CPUs, when disk requests are done",
};

const struct command command_resume = {
    .name = "resume",
    .run = run_resume,
    .synopsis = "",
    .help = "go on after a pause",
};

const struct command command_reset = {
    .name = "reset",
    .run = run_reset,
    .synopsis = "",
    .help = "start the guest again, without asking it",
};
