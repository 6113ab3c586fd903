/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/check/report.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/qcow2/check/check_state.h"
#include "block/qcow2/format/counts.h"
#include "block/qcow2/switch/ledger.h"

#define LINE_MAX_LEN 256u

/* The most bytes of lines that are kept; further lines are reported at once. */
#define LATE_MAX (1u << 20)

static void say_line(struct qcow2_check *check, const char *text)
{
    check->report->line(check->report, text);
}

static void PRINTF_LIKE(2, 0) say(struct qcow2_check *check, const char *fmt, va_list args)
{
    char text[LINE_MAX_LEN];

    if (!check->report)
        return;
    (void)vsnprintf(text, sizeof(text), fmt, args); /* cut at the end if need be */
    say_line(check, text);
}

void qcow2_check_say(struct qcow2_check *check, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    say(check, fmt, args);
    va_end(args);
}

void qcow2_check_error(struct qcow2_check *check, uint64_t n, const char *fmt, ...)
{
    va_list args;

    if (check->repaired || n == 0)
        return;
    check->result.corruptions += n;
    va_start(args, fmt);
    say(check, fmt, args);
    va_end(args);
}

/* Keep a line until qcow2_check_say_rest is called. */
static void keep_line(struct qcow2_check *check, const char *text)
{
    size_t len = strlen(text) + 1;
    char *late =
        check->late_len + len > LATE_MAX ? NULL : realloc(check->late, check->late_len + len);

    if (!late) {
        say_line(check, text);
        return;
    }
    memcpy(late + check->late_len, text, len);
    check->late = late;
    check->late_len += len;
}

void qcow2_check_wrong_copied(struct qcow2_check *check, uint64_t n, const char *fmt, ...)
{
    char text[LINE_MAX_LEN];
    va_list args;

    if (check->repaired || n == 0)
        return;
    check->wrong_flags += n;
    if (!check->report)
        return;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    keep_line(check, text);
}

void qcow2_check_say_rest(struct qcow2_check *check)
{
    for (size_t at = 0; at < check->late_len; at += strlen(check->late + at) + 1)
        say_line(check, check->late + at);
    free(check->late);
    check->late = NULL;
    check->late_len = 0;
}

/* Report a line for each of the clusters [first, end) that has a wrong refcount. */
static void say_counts(struct qcow2_check *check, uint64_t first, uint64_t end, const char *verb)
{
    const struct qcow2_ledger *ledger = check->ledger;

    if (!check->report)
        return;
    for (uint64_t c = qcow2_counts_differ(&ledger->was, &ledger->now, first, end); c < end;
         c = qcow2_counts_differ(&ledger->was, &ledger->now, c + 1, end)) {
        uint64_t was = qcow2_counts_get(&ledger->was, c);
        uint64_t now = qcow2_counts_get(&ledger->now, c);
        const char *word = verb ? verb : was > now ? "Leaked" : "ERROR";

        qcow2_check_say(check, "%s cluster %" PRIu64 " refcount=%" PRIu64 " reference=%" PRIu64,
                        word, c, was, now);
    }
}

void qcow2_check_say_counts(struct qcow2_check *check, uint64_t first, uint64_t end)
{
    say_counts(check, first, end, NULL);
}

void qcow2_check_say_repair(struct qcow2_check *check)
{
    if (check->rebuild)
        qcow2_check_say(check, "Rebuilding refcount structure");
    else
        say_counts(check, 0, check->nclusters, "Repairing");
}
